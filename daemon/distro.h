/* SPDX-License-Identifier: MIT */
/*
 * A distribution at run time. It starts when somebody wants it, with its disk attached to the VM
 * (started too, if need be), and stops when told to or when idle.
 *
 *	STOPPED --want--> (VM up) --> ATTACHING -> STARTING -> RUNNING
 *	   ^                                                      |
 *	   +------------- DETACHING <------------ STOPPING <------+
 *
 * The VM's end makes it STOPPED from any state. Wants that come while it stops are served after.
 */
#ifndef WSLX_DAEMON_DISTRO_H
#define WSLX_DAEMON_DISTRO_H

#include "daemon/service.h"

enum distro_state {
	DISTRO_STOPPED,
	DISTRO_ATTACHING,
	DISTRO_STARTING,
	DISTRO_RUNNING,
	DISTRO_STOPPING,
	DISTRO_DETACHING,
};

struct distro;
struct distro_want;

/* e NULL: it runs, and serves sessions on this port of the VM. */
typedef void (*distro_ready)(void *ctx, uint32_t port, const struct err *e);
typedef void (*distro_stopped)(void *ctx, const struct err *e);

/* Wants a registered distribution to run. fn is called once, perhaps before this returns; until
 * then *ret (NULL after the call) can be cancelled. */
void distro_want(struct service *s, const struct reg_entry *entry, distro_ready fn, void *ctx,
	struct distro_want **ret);
void distro_want_cancel(struct distro_want *w);

/* Stops it if it runs. fn is called once, perhaps before this returns. */
void distro_stop(struct service *s, const char *id, distro_stopped fn, void *ctx);

/* While held, it is not idle. */
void distro_hold(struct service *s, const char *id);
void distro_release(struct service *s, const char *id);

enum distro_state distro_state(const struct service *s, const char *id);
const char *distro_state_name(enum distro_state st);
/* Does any distribution run, start, stop, or wait to be started? */
bool distro_any(const struct service *s);

#endif
