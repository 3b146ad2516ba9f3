/* SPDX-License-Identifier: MIT */
/*
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

#endif
