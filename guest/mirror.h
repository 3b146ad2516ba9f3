/* SPDX-License-Identifier: MIT */
/*
 * The host's localhost and a distribution's.
 *
 * networkingMode=mirrored: what a distribution's program finds nobody for at its localhost, it finds at the host's. Nothing
 * listens for that, and no table of the host's ports is kept: a program in the kernel looks, at each connect(2) and each datagram without,
 * whether anybody here has the port, and if not makes the destination the address at which the host's localhost is reached. What such a
 * socket receives from there comes from localhost.
 */
#ifndef WSLX_GUEST_MIRROR_H
#define WSLX_GUEST_MIRROR_H

#include <stdint.h>
#include "guest/net.h"

enum { MIRROR_IGNORED = 64 };

struct mirror {
	struct net_addr host4, host6;	  /* family 0: not of this one */
	uint16_t ignored[MIRROR_IGNORED]; /* ports that are the guest's alone */
	unsigned n_ignored;
};

/* The host's addresses of a NETWORK, and its IGNORED_PORTS. */
void mirror_parse(const struct wire_msg *m, const struct net_plan *plan, struct mirror *ret);
/* For processes of this cgroup and those below it, from now on; TCP and UDP. */
int mirror_attach(const struct mirror *m, const char *cgroup, struct err *e);

/*
 * For the same processes: who connects from this address (IPv4) is told as 127.0.0.1 by accept(2) and getpeername(2). It is where clients
 * at the host's localhost appear that come by the network device.
 */
int mirror_clients(const struct net_addr *from, const char *cgroup, struct err *e);

#endif
