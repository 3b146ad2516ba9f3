/* SPDX-License-Identifier: MIT */
/* The machine's network, as the host's NETWORK request says it is: interfaces, addresses, routes. */
#ifndef WSLX_GUEST_NET_H
#define WSLX_GUEST_NET_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include "lib/base/err.h"
#include "lib/wire/msg.h"

enum { NET_ADDRESSES = 8 };

struct net_addr {
	int family;
	unsigned prefix; /* bits; of a gateway: 0 */
	uint8_t addr[16];
};

struct net_plan {
	struct net_addr addr[NET_ADDRESSES], gateway[NET_ADDRESSES];
	unsigned n_addr, n_gateway;
	unsigned mtu;  /* 0: the device's own */
	bool autoconf; /* IPv6 addresses as routers say, besides */
};

/* Reads and checks a NETWORK. */
int net_plan_parse(const struct wire_msg *m, struct net_plan *ret, struct err *e);
/* "10.0.2.2/24", or without "/" when a prefix is not wanted. */
bool net_addr_parse(const char *text, bool prefix, struct net_addr *ret);

/* The loopback interface of the caller's network namespace comes up. */
void net_loopback_up(void);
/*
 * The caller goes into a network namespace of its own, with a device of this name on the same network as the machine's device
 * of this name, beside it, and with these addresses.
 */
int net_isolate(const char *name, const struct net_plan *plan, struct err *e);
/* The device called name gets exactly this; before: what it has got so far, without which nothing is taken from it. */
int net_configure(const char *name, const struct net_plan *plan, const struct net_plan *before,
	struct err *e);

#endif
