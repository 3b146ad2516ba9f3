/* SPDX-License-Identifier: MIT */
/* NETWORK, checked and copied. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "guest/net.h"

bool net_addr_parse(const char *text, bool prefix, struct net_addr *ret)
{
	char buf[64], *slash, *end;
	unsigned long bits;

	*ret = (struct net_addr){0};
	if (snprintf(buf, sizeof(buf), "%s", text) >= (int)sizeof(buf))
		return false;
	slash = strchr(buf, '/');
	if (prefix != (slash != NULL))
		return false;
	if (slash)
		*slash = '\0';
	ret->family = strchr(buf, ':') ? AF_INET6 : AF_INET;
	if (inet_pton(ret->family, buf, ret->addr) != 1)
		return false;
	if (!slash)
		return true;
	bits = strtoul(slash + 1, &end, 10);
	ret->prefix = (unsigned)bits;
	return end != slash + 1 && !*end && bits >= 1 &&
	       bits <= (ret->family == AF_INET ? 32 : 128);
}

static int add(
	const struct wire_attr *a, bool prefix, struct net_addr *list, unsigned *n, struct err *e)
{
	char text[64];

	if (a->len >= sizeof(text) || *n == NET_ADDRESSES)
		return err_set(e, -EINVAL, "NETWORK with too much in it");
	memcpy(text, a->data, a->len);
	text[a->len] = '\0';
	if (!net_addr_parse(text, prefix, &list[*n]))
		return err_set(e, -EINVAL, "NETWORK: '%s' is no address", text);
	(*n)++;
	return 0;
}

int net_plan_parse(const struct wire_msg *m, struct net_plan *ret, struct err *e)
{
	struct wire_attr a;
	int r = 0;

	*ret = (struct net_plan){.mtu = wire_get_u32(m, WSLX_A_MTU, 0),
		.autoconf = wire_get_u32(m, WSLX_A_AUTOCONF, 0) == 1};
	for (size_t pos = 0; r == 0 && wire_next(m, &pos, &a);) {
		if (a.tag == WSLX_A_ADDRESS)
			r = add(&a, true, ret->addr, &ret->n_addr, e);
		else if (a.tag == WSLX_A_GATEWAY)
			r = add(&a, false, ret->gateway, &ret->n_gateway, e);
	}
	if (r == 0 && ret->mtu && (ret->mtu < 68 || ret->mtu > 65535))
		r = err_set(e, -EINVAL, "NETWORK: MTU %u", ret->mtu);
	return r;
}
