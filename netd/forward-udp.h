/* SPDX-License-Identifier: MIT */
#ifndef WSLX_NETD_FORWARD_UDP_H
#define WSLX_NETD_FORWARD_UDP_H

#include <stdint.h>
#include "lib/base/loop.h"

struct udp_port;

/* fd: a bound socket, not blocking, taken over, also on failure. The others are borrowed: where datagrams go may change. */
int udp_port_new(struct udp_port **ret, struct loop *l, int fd, const char *vsock,
	const uint32_t *vsock_port, const char *to);
struct udp_port *udp_port_free(struct udp_port *u);

#endif
