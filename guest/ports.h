/* SPDX-License-Identifier: MIT */
/*
 * Listeners of the guest for the host's localhost. A process of its own hears from the kernel when sockets begin and cease
 * to listen, tells the host what there is (LISTENERS), and joins connections that the host sends (FORWARD) to them.
 */
#ifndef WSLX_GUEST_PORTS_H
#define WSLX_GUEST_PORTS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "lib/base/loop.h"
#include "lib/wire/msg.h"

enum { LISTENERS_MAX = 1024, LISTENER_TEXT = 120 };

struct listener {
	bool udp;
	int family;
	uint16_t port;
	uint8_t addr[16];
	char distro[40]; /* whose network it is on; "": the machine's, which distributions share */
};

/* ports.c. In init: a distribution is up, with this supervisor, or has gone (0). */
void ports_distro(const char *id, pid_t supervisor);

/* In the process: goes into the network of this distribution; "", and one that has none of its own: the machine's. */
void ports_enter(const char *distro);

/*
 * In init: the vsock port for FORWARDs, with the process running; negative errno. send: a LISTENERS for the host; the first comes soon,
 * also when the process runs already. began: it knows of nothing, and has to be told of the distributions; also when it has died and
 * another one runs.
 */
int ports_start(
	struct loop *l, void (*send)(struct wire_w *w), void (*began)(void), uint32_t *ret_port);

/* sock-diag.c: those that are to be reached at localhost, of the caller's network, which is distro's, in a fixed order; how
 * many, or a negative errno. */
int listeners_dump(const char *distro, struct listener *ret, unsigned cap);
/* "tcp 127.0.0.1 8080", with the distribution's id behind it if it is there */
void listener_text(const struct listener *li, char *buf, size_t cap);
bool listener_parse(const char *text, struct listener *ret);

/* listen-events.c: fn(ctx) whenever sockets may have begun or ceased to listen. */
struct listen_events;
int listen_events_new(struct listen_events **ret, struct loop *l, loop_fn fn, void *ctx);

/* udp-bound.c: a UDP socket was bound to this port by its number; was it, or is it no port for clients; all networks have been
 * looked at since the last time. */
void udp_bound(uint16_t port);
bool udp_was_bound(uint16_t port);
void udp_looked(void);

/* forward.c: serves FORWARDs on this vsock listener. */
int forward_serve(struct loop *l, int fd);

#endif
