/* SPDX-License-Identifier: MIT */
/*
 * wslxd's state and who does what with it:
 *
 *	registry.c  which distributions exist       settings.c  what wslx.conf says
 *	vm.c        the virtual machine             distro.c    distributions running in it
 *	session.c   connections for clients         import.c    new distributions
 *	methods.c   what clients can ask            idle.c      stopping what nobody uses
 */
#ifndef WSLX_DAEMON_SERVICE_H
#define WSLX_DAEMON_SERVICE_H

#include "daemon/registry.h"
#include "daemon/settings.h"
#include "daemon/vm.h"
#include "lib/base/loop.h"
#include "lib/ctl/server.h"

struct distro;

struct service {
	struct loop *loop;
	char runtime_dir[4000], data_dir[4000], config[4096];
	struct registry *reg;
	struct settings set; /* as of the VM's start */
	struct ctl_server *srv;

	struct vm *vm;			 /* NULL: none runs */
	char last_end[512];		 /* why the last VM ended; "" */
	struct distro *distros;		 /* those that are not stopped, or wanted */
	struct shutdown_wait *shutdowns; /* calls that wait for the VM's end */
	unsigned jobs;			 /* imports and the like under way */

	struct loop_src *vm_idle, *service_idle;
	bool vm_was_idle, service_was_idle;
	bool visited; /* by a client, ever */
};

/* methods.c */
void service_vm_ended(struct service *s); /* answers those who wait for it */
extern const struct ctl_method service_methods[];
extern const unsigned service_nmethods;

/* idle.c: look again whether something may stop. */
int idle_init(struct service *s);
void idle_check(void *service);

/* distro.c: VM callbacks */
extern const struct vm_ops service_vm_ops;
struct vm_env service_vm_env(struct service *s);

/* session.c, import.c */
void session_open(void *service, struct ctl_call *call, struct json_object *params);
void import_method(void *service, struct ctl_call *call, struct json_object *params);

#endif
