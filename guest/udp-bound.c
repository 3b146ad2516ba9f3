/* SPDX-License-Identifier: MIT */
/*
 * Which UDP ports, of those that the kernel gives to clients, were asked for by their number: sock_diag(7) shows no
 * difference. The events of bind(2) do, some time before the socket is in the tables; and what nobody has any more is
 * forgotten, since the kernel may choose the same port for a client later.
 */
#include <stdbool.h>
#include "guest/ports.h"

/* Where ip_local_port_range begins unless somebody changed it. */
enum { EPHEMERAL = 32768, BOUND_MAX = 1024 };
#define SOON_NS 2000000000ull

static struct {
	uint16_t port;
	bool seen;
	uint64_t since;
} bound[BOUND_MAX];
static unsigned n_bound;

void udp_bound(uint16_t port)
{
	unsigned i = 0;

	if (port < EPHEMERAL)
		return;
	while (i < n_bound && bound[i].port != port)
		i++;
	if (i == BOUND_MAX)
		return;
	if (i == n_bound)
		n_bound++;
	bound[i].port = port;
	bound[i].since = loop_now();
}

bool udp_was_bound(uint16_t port)
{
	if (port < EPHEMERAL)
		return true;
	for (unsigned i = 0; i < n_bound; i++)
		if (bound[i].port == port) {
			bound[i].seen = true;
			return true;
		}
	return false;
}

void udp_looked(void)
{
	uint64_t now = loop_now();
	unsigned n = 0;

	for (unsigned i = 0; i < n_bound; i++) {
		if (!bound[i].seen && now - bound[i].since > SOON_NS)
			continue;
		bound[n] = bound[i];
		bound[n++].seen = false;
	}
	n_bound = n;
}
