/* SPDX-License-Identifier: MIT */
/*
 * wslxd's state and who does what with it:
 *
 *	registry.c  which distributions exist       settings.c  what wslx.conf says
 *	machine.c   which virtual machines run      vm.c        one of them
 *	distro.c    distributions running in them   distro-conf.c   what wslx.conf says of each
 *	session.c   connections for clients         import.c    new distributions
 *	fswork.c    work on file systems in machines of its own
 *	manage.c    changes to them                 export.c    archives and disks of them
 *	methods.c   what clients can ask            idle.c      stopping what nobody uses
 *	volume.c    disks mounted beside them
 */
#ifndef WSLX_DAEMON_SERVICE_H
#define WSLX_DAEMON_SERVICE_H

#include "daemon/registry.h"
#include "daemon/settings.h"
#include "daemon/vm.h"
#include "lib/base/loop.h"
#include "lib/ctl/server.h"

struct distro;
struct fswork;
struct machine;
struct volumes;

/* Why the last virtual machines ended, for clients that lost theirs. */
struct service_end {
	pid_t pid;
	char why[512];
};
enum { SERVICE_ENDS = 8 };

struct service {
	struct loop *loop;
	char runtime_dir[4000], data_dir[4000], config[4096];
	struct registry *reg;
	int64_t service_idle_ms;
	struct ctl_server *srv;

	struct machine *machines;
	uint64_t machine_serial;
	struct service_end ends[SERVICE_ENDS]; /* the last one at (nends - 1) % SERVICE_ENDS */
	unsigned nends;
	struct fswork *fsworks; /* work on file systems under way (fswork.h) */
	struct distro *distros; /* those that are not stopped, or wanted */
	struct volumes *volumes;
	struct shutdown_wait *shutdowns; /* calls that wait for VMs to end */
	unsigned jobs;			 /* imports and the like under way */

	struct loop_src *service_idle;
	bool service_was_idle;
	bool visited; /* by a client, ever */
};

/* methods.c */
void service_vm_ended(struct service *s); /* answers those who waited for it */
/* Answers call when the VM of this process has ended; 0: all that run now. */
void service_wait_vm_end(struct service *s, struct ctl_call *call, pid_t pid);
extern const struct ctl_method service_methods[];
extern const unsigned service_nmethods;

/* idle.c: look again whether something may stop. */
int idle_init(struct service *s);
int idle_watch(struct machine *m);
void idle_check(void *service);

/* The entry that the parameter "name" names; NULL: there is none, and the call has failed. */
const struct reg_entry *service_named(
	struct service *s, struct ctl_call *call, struct json_object *params);

/* manage.c */
void move_method(void *service, struct ctl_call *call, struct json_object *params);
void resize_method(void *service, struct ctl_call *call, struct json_object *params);
void compact_method(void *service, struct ctl_call *call, struct json_object *params);
void clone_method(void *service, struct ctl_call *call, struct json_object *params);
void rename_method(void *service, struct ctl_call *call, struct json_object *params);
void set_user_method(void *service, struct ctl_call *call, struct json_object *params);

/* import.c: a distribution's folder, if it is missing; an existing one is used as it is. */
int service_make_dir(const char *dir, struct err *e);

/* session.c, import.c */
void session_open(void *service, struct ctl_call *call, struct json_object *params);
void session_open_shell(void *service, struct ctl_call *call, struct json_object *params);
void import_method(void *service, struct ctl_call *call, struct json_object *params);
void import_in_place_method(void *service, struct ctl_call *call, struct json_object *params);

/* export.c */
void export_method(void *service, struct ctl_call *call, struct json_object *params);

#endif
