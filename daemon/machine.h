/* SPDX-License-Identifier: MIT */
/*
 * The virtual machines of the service: one that distributions share, and one for each running
 * distribution whose configuration says isolation=vm. A machine exists from its VM's start (or
 * adoption) to its VM's end.
 */
#ifndef WSLX_DAEMON_MACHINE_H
#define WSLX_DAEMON_MACHINE_H

#include "daemon/service.h"

struct distro_conf;

struct machine {
	struct machine *next;
	struct service *s;
	char owner[37]; /* the distribution it is for; "": shared */
	uint64_t serial;
	struct vm *vm;	     /* never NULL */
	struct settings set; /* as of its start */
	struct loop_src *idle;
	bool was_idle;
};

/* NULL: no such machine runs. */
struct machine *machine_find(const struct service *s, const char *owner);
/* The one that has this distribution's disk; NULL. */
struct machine *machine_with_disk(const struct service *s, const char *id);

/* Starts the machine of owner, by wslx.conf as it is now; conf: what it says of that distribution. */
int machine_start(struct service *s, const char *owner, const struct distro_conf *conf,
	struct machine **ret, struct err *e);
/* Finds those that an earlier service left running. */
void machine_adopt_all(struct service *s);
/* Lets go of them all without ending them. */
void machine_free_all(struct service *s);

#endif
