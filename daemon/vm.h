/* SPDX-License-Identifier: MIT */
/*
 * One virtual machine as seen by the service: its wslx-vmm process, its control socket and the
 * connection to its init. A VM outlives the service: its folder in the runtime folder says how to
 * find it again.
 *
 * States: STARTING -> UP -> STOPPING -> gone; from each of them it may end at any moment, which
 * on_end tells, after which the vm is freed.
 */
#ifndef WSLX_DAEMON_VM_H
#define WSLX_DAEMON_VM_H

#include "daemon/guestlink.h"
#include "daemon/settings.h"
#include "lib/base/loop.h"
#include "lib/ctl/client.h"

struct vm;

enum vm_state { VM_STARTING, VM_UP, VM_STOPPING };
enum { VM_LUNS = 64 };

struct vm_ops {
	/* Init said HELLO, for the first time or again; m lists what runs. */
	void (*on_up)(void *ctx, const struct wire_msg *m);
	void (*on_event)(void *ctx, const struct wire_msg *m);
	/* The VM is gone; why: one line, outermost cause first; planned: vm_shutdown() worked. */
	void (*on_end)(void *ctx, const char *why, bool planned);
};

struct vm_env {
	struct loop *loop;
	const char *runtime_dir, *data_dir; /* borrowed */
	const struct settings *set;	    /* borrowed; of this VM */
	const char *owner;		    /* borrowed; the distribution it is for, "": shared */
	bool bound; /* ends with this process, and is not for the next one to go on with */
	const struct vm_ops *ops;
	void *ctx;
};

/* Starts a VM by env's settings. */
int vm_start(const struct vm_env *env, const struct vm_plan *plan, struct vm **ret, struct err *e);
/* The VM that an earlier service left in this folder, STARTING. When it is gone, or accept says no
 * to its owner, what is left of it is ended and removed. */
int vm_adopt(const struct vm_env *env, const char *dir,
	bool (*accept)(void *ctx, const char *owner), struct vm **ret);
/* Lets go of it without ending it. */
void vm_free(struct vm *vm);

enum vm_state vm_state(const struct vm *vm);
pid_t vm_pid(const struct vm *vm);
const char *vm_kernel_release(const struct vm *vm); /* "" before HELLO */

typedef void (*vm_done)(void *ctx, const struct err *e); /* e NULL: done */

struct vm_disk {
	int fd; /* taken over */
	bool ro;
	const char *format; /* "vhdx"; NULL: raw */
};

/* The disk of distribution id becomes a new LUN. Negative: no LUN is free. */
int vm_attach(struct vm *vm, const char *id, const struct vm_disk *disk, vm_done done, void *ctx);
void vm_detach(struct vm *vm, int lun, vm_done done, void *ctx);
/* LUN of this distribution's disk, also after an adoption; -1. */
int vm_lun(const struct vm *vm, const char *id);
/* The distribution whose disk is this LUN; "". */
const char *vm_lun_id(const struct vm *vm, int lun);

/* Where connections from the guest to this port arrive: a listening socket, or a negative errno. */
int vm_listen(const struct vm *vm, uint32_t port);

/* The guest can mount files of the host. */
bool vm_has_files(const struct vm *vm);
struct net;
/* NULL: it has no network. */
const struct net *vm_net(const struct vm *vm);

/* Requests to init: guestlink_begin() and _send() on this. NULL when it is not connected. */
struct guestlink *vm_guest(struct vm *vm);

/* A connection to a port of the guest: fd, or a negative errno. May call back at once. */
typedef void (*vm_connected)(void *ctx, int fd);
struct vm_connect;
int vm_connect(struct vm *vm, uint32_t port, vm_connected fn, void *ctx, struct vm_connect **ret);
/* fn will not be called. */
void vm_connect_cancel(struct vm_connect *c);

/* Asks init to stop everything and power off; when that takes too long, the VM is killed. */
void vm_shutdown(struct vm *vm);
/* Ends it at once; why is what on_end will say. */
void vm_kill(struct vm *vm, const char *why);

/* What names it to users, as long as it lives: letters and digits. */
const char *vm_id(const struct vm *vm);
/* The file with what its console says. */
const char *vm_console(const struct vm *vm);

/* When a VM first got so far: CLOCK_MONOTONIC, ns; 0: not yet. */
enum vm_mark { VM_MARK_ASKED, VM_MARK_HELLO, VM_MARK_DISTRO, VM_MARK_SESSION, VM_MARKS };
void vm_mark(struct vm *vm, enum vm_mark mark); /* now, unless it was there before */
uint64_t vm_marked(const struct vm *vm, enum vm_mark mark);
uint64_t vm_boot_us(const struct vm *vm); /* from the kernel's start to init, as init says */

/* A control call to wslx-vmm (vmm/control.h). params and f are taken over; both may be NULL. */
void vm_call(struct vm *vm, const char *method, struct json_object *params, struct ctl_fds *f,
	ctl_done_fn done, void *ctx);
/* The VMM's own "status", as its control method answers; result NULL when it does not. */
void vm_query(struct vm *vm, void (*fn)(void *ctx, struct json_object *result), void *ctx);

#endif
