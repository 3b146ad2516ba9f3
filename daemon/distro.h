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

/* Starts those whose configuration says autostart. */
void distro_autostart(struct service *s);

/* Stops it if it runs. fn is called once, perhaps before this returns. */
void distro_stop(struct service *s, const char *id, distro_stopped fn, void *ctx);

/* While held, it is not idle. */
void distro_hold(struct service *s, const char *id);
void distro_release(struct service *s, const char *id);

/*
 * While reserved, a distribution does not start: wants fail and say why. state: static, "Moving".
 * -EBUSY: it is not stopped, or reserved already.
 */
int distro_reserve(struct service *s, const char *id, const char *state, struct err *e);
void distro_unreserve(struct service *s, const char *id);
/* Its disk, locked for as long as anybody has it open. */
int distro_open_disk(const struct reg_entry *entry, struct err *e);

enum distro_state distro_state(const struct service *s, const char *id);
/* "Stopped", "Starting", "Running", "Stopping", or what it is reserved for. */
const char *distro_state_text(const struct service *s, const char *id);
/* Does it run, start, stop, or wait to be started? */
bool distro_active(const struct service *s, const char *id);
/* Do programs run in it, or does anybody hold it? */
bool distro_in_use(const struct service *s, const char *id);
/* While it runs: the connection to its machine's init, for requests about it; NULL. */
struct guestlink *distro_guest(const struct service *s, const char *id);
/* Does any distribution run, start, stop, or wait to be started, in this machine (NULL: in any)? */
bool distro_any(const struct service *s, const struct machine *m);
/* The machine it is in, or would be in by wslx.conf as it is now; NULL: that one does not run. */
struct machine *distro_machine(struct service *s, const struct reg_entry *entry);

/* What became of a machine (machine.c): its init said HELLO or something else, or it has ended. */
void distro_vm_up(struct machine *m, const struct wire_msg *msg);
void distro_vm_event(struct machine *machine, const struct wire_msg *m);
void distro_vm_gone(struct machine *m, const char *why, bool was_up, bool planned);
/* Looks what each one waits for. */
void distro_kick_all(struct service *s);

/* What its last start had to say to its user, an array of strings to free; once a start. NULL: nothing. */
struct json_object *distro_take_warnings(struct service *s, const char *id);

#endif
