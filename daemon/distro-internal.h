/* SPDX-License-Identifier: MIT */
/* What distro.c (states, wants, stops) and distro-start.c (the way up) share; nobody else includes it. */
#ifndef WSLX_DAEMON_DISTRO_INTERNAL_H
#define WSLX_DAEMON_DISTRO_INTERNAL_H

#include "daemon/distro-conf.h"
#include "daemon/distro.h"
#include "daemon/machine.h"

struct distro {
	struct distro *next;
	struct service *s;
	char id[37];
	enum distro_state state;
	struct machine *m;	 /* it is in, or waits for; NULL: none */
	struct distro_conf conf; /* as of its start */
	uint32_t port;
	bool busy;		      /* the guest says that programs run in it */
	bool services;		      /* ... and that services do */
	struct json_object *warnings; /* of its last start; NULL: none, or told already */
	unsigned holds;
	bool stop_asked;      /* while it was starting */
	const char *reserved; /* static; NULL: it is not */
	struct distro_want *wants;
	struct stop_wait *stops;
	struct loop_src *timer;	 /* idle while RUNNING; start and stop deadlines */
	struct interop *interop; /* from its START on; NULL: not allowed */
};

/* Callbacks of requests name the distribution by id: it may be gone when they come. */
struct distro_request {
	struct service *s;
	char id[37];
};

struct distro_request *distro_request(struct distro *d);
/* Takes the request back; NULL when its distribution is gone, or no longer in that state. */
struct distro *distro_answered(void *ctx, enum distro_state in);

struct distro *distro_find(const struct service *s, const char *id);
/* What the registry says of it; NULL when it has just been unregistered. */
const struct reg_entry *distro_entry(const struct distro *d);
const char *distro_name(const struct distro *d);
/* Its one timer; ms < 0: off. */
void distro_arm(struct distro *d, int64_t ms);
void distro_watch_idle(struct distro *d);
void distro_finish_wants(struct distro *d, const struct err *e);
/* Starting it came to nothing at that step: those who want it now are told, and it stops. */
void distro_failed(struct distro *d, const struct err *e, const char *step);

/* Its disk into its machine, which is up; then START. */
void distro_attach(struct distro *d, const struct reg_entry *reg);
void distro_send_start(struct distro *d, const struct reg_entry *reg);

#endif
