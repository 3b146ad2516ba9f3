/* SPDX-License-Identifier: MIT */
/*
 * Life of a VM's process. The folder vm-ID in the runtime folder holds:
 *
 *	state.json   pid and start time of wslx-vmm, disks attached; written before wslx-vmm runs
 *	vsock        wslx-vmm's socket towards the guest; vsock_50000 is ours, init connects to it
 *	control      wslx-vmm's control socket
 */
#include "daemon/vm.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "daemon/net.h"
#include "daemon/share.h"
#include "daemon/upkeep.h"
#include "daemon/vm-internal.h"
#include "daemon/vmlog.h"
#include "daemon/vmopts.h"
#include "lib/base/io.h"
#include "lib/base/log.h"
#include "lib/base/proc.h"
#include "lib/ctl/client.h"

enum {
	RECONNECT_MS = 30000, /* init has this long to say HELLO again */
	SHUTDOWN_MS = 10000,  /* for processes to end after SIGTERM */
	POWEROFF_MS =
		90000, /* and for the VM to be off: systemd takes its time on a slow machine */
};

struct vm {
	struct vm_env env;
	enum vm_state state;
	char dir[PATH_MAX - 64];
	pid_t pid;
	uint64_t start_time;
	int pidfd;
	struct loop_src *exit_src;
	bool child; /* ours to reap */

	int listen_fd;
	struct loop_src *listen_src;
	struct guestlink *guest;
	struct ctl_async *ctl;
	struct upkeep *upkeep;
	struct net *net; /* NULL: none */
	struct loop_src *deadline;
	char release[65];
	char disks[VM_LUNS][37]; /* distribution id by LUN; "" free */
	char why[512];		 /* of an end that we caused */
	char console[PATH_MAX];
	uint64_t marks[VM_MARKS], boot_us;
	bool planned;
	bool shutdown_asked; /* while init was on its way back to us */
};

static void run_path(const struct vm *vm, const char *name, char *buf, size_t cap)
{
	snprintf(buf, cap, "%s/%s", vm->dir, name);
}

/* Where its logs are, which stay when it has gone. */
static void log_path(const struct vm *vm, char *buf, size_t cap)
{
	snprintf(buf, cap, "%s/log%s%s", vm->env.data_dir, vm->env.owner[0] ? "/" : "",
		vm->env.owner);
}

static int save_state(const struct vm *vm)
{
	cleanup_js struct json_object *o = js_object();
	struct json_object *disks = js_array(), *marks = js_array();
	char path[PATH_MAX];
	const char *text;

	js_set_u64(o, "pid", (uint64_t)vm->pid);
	js_set_u64(o, "start_time", vm->start_time);
	js_set_str(o, "owner", vm->env.owner);
	js_set_str(o, "console", vm->console);
	js_set_u64(o, "boot_us", vm->boot_us);
	for (unsigned i = 0; i < VM_MARKS; i++)
		js_push(marks, json_object_new_uint64(vm->marks[i]));
	js_set(o, "marks", marks);
	js_set(o, "disks", disks);
	for (unsigned i = 0; i < VM_LUNS; i++)
		if (vm->disks[i][0])
			js_push(disks,
				js_set_u64(js_set_str(js_object(), "id", vm->disks[i]), "lun", i));
	text = js_text(o);
	run_path(vm, "state.json", path, sizeof(path));
	return io_replace_file(path, text, strlen(text), 0600);
}

static void remove_dir(const char *dir)
{
	struct dirent *de;
	DIR *d = opendir(dir);

	while (d && (de = readdir(d)))
		if (strcmp(de->d_name, ".") && strcmp(de->d_name, ".."))
			unlinkat(dirfd(d), de->d_name, 0);
	if (d)
		closedir(d);
	rmdir(dir);
}

static void stop_listening(struct vm *vm)
{
	vm->listen_src = loop_src_free(vm->listen_src);
	if (vm->listen_fd >= 0)
		close(take_fd(vm->listen_fd));
}

static void release_links(struct vm *vm)
{
	vm->guest = guestlink_free(vm->guest);
	vm->ctl = ctl_async_free(vm->ctl);
	vm->upkeep = upkeep_free(vm->upkeep);
	vm->net = net_free(vm->net);
	stop_listening(vm);
}

void vm_free(struct vm *vm)
{
	if (!vm)
		return;
	release_links(vm);
	loop_src_free(vm->exit_src);
	loop_src_free(vm->deadline);
	if (vm->pidfd >= 0)
		close(vm->pidfd);
	free(vm);
}

/* The process is gone: tell, and clean up. */
static void vm_exited(void *ctx, int fd, uint32_t revents)
{
	struct vm *vm = ctx;
	char why[512], logs[PATH_MAX - 64];
	int status = 0;

	if (vm->child && waitpid(vm->pid, &status, WNOHANG) != vm->pid)
		status = 0;
	if (vm->why[0]) {
		snprintf(why, sizeof(why), "%s", vm->why);
	} else {
		log_path(vm, logs, sizeof(logs));
		vmlog_reason(logs, vm->console, vm->child, status, why, sizeof(why));
	}
	vm->exit_src = loop_src_free(vm->exit_src);
	release_links(vm);
	remove_dir(vm->dir);
	vm->env.ops->on_end(vm->env.ctx, why, vm->planned);
	vm_free(vm);
}

static void send_signal(struct vm *vm, int signo)
{
	if (syscall(SYS_pidfd_send_signal, vm->pidfd, signo, NULL, 0) < 0 && errno != ESRCH)
		log_warn("vm", "signal %d: %s", signo, strerror(errno));
}

void vm_kill(struct vm *vm, const char *why)
{
	if (!vm->why[0] || vm->planned)
		snprintf(vm->why, sizeof(vm->why), "%s", why);
	vm->planned = false;
	vm->state = VM_STOPPING;
	send_signal(vm, SIGKILL);
}

static void arm(struct vm *vm, int64_t ms)
{
	loop_timer_arm(vm->deadline, ms < 0 ? 0 : loop_now() + (uint64_t)ms * 1000000u);
}

static void deadline(void *ctx)
{
	struct vm *vm = ctx;

	if (vm->state == VM_STOPPING)
		vm_kill(vm, "it did not power off in time and was ended");
	else if (vm->release[0])
		vm_kill(vm, "its init does not answer any more");
	else
		vm_kill(vm, "the guest did not start in time (kernelBootTimeout)");
}

static void connect_control(struct vm *vm)
{
	char path[PATH_MAX];
	int fd;

	if (vm->ctl)
		return;
	run_path(vm, "control", path, sizeof(path));
	fd = io_unix_connect(path);
	if (fd < 0 || ctl_async_new(vm->env.loop, fd, &vm->ctl) < 0)
		log_warn("vm", "control socket %s: %s", path, strerror(fd < 0 ? -fd : ENOMEM));
}

static void on_hello(void *ctx, const struct wire_msg *m)
{
	struct vm *vm = ctx;

	if (wire_get_str(m, WSLX_A_TEXT, vm->release, sizeof(vm->release)) <= 0)
		strcpy(vm->release, "unknown");
	connect_control(vm);
	vm->boot_us = wire_get_u64(m, WSLX_A_BOOT_US, 0);
	vm_mark(vm, VM_MARK_HELLO);
	if (vm->state == VM_STOPPING)
		return;
	arm(vm, -1);
	vm->state = VM_UP;
	upkeep_up(vm->upkeep);
	net_up(vm->net);
	if (vm->shutdown_asked) {
		vm_shutdown(vm);
		return;
	}
	vm->env.ops->on_up(vm->env.ctx, m);
}

static void on_event(void *ctx, const struct wire_msg *m)
{
	struct vm *vm = ctx;

	if (m->type == WSLX_LISTENERS)
		net_listeners(vm->net, m);
	else
		vm->env.ops->on_event(vm->env.ctx, m);
}

static int listen_guest(struct vm *vm);

static void on_link_end(void *ctx)
{
	struct vm *vm = ctx;
	int r;

	vm->guest = guestlink_free(vm->guest);
	r = listen_guest(vm);
	if (r < 0) {
		log_err("vm", "listen for the guest: %s", strerror(-r));
		vm_kill(vm, "its init could not connect again");
	} else if (vm->state == VM_UP) {
		log_debug("vm", "init's connection ended; waiting for it to come back");
		vm->state = VM_STARTING;
		arm(vm, RECONNECT_MS);
	}
}

static const struct guestlink_ops link_ops = {on_hello, on_event, on_link_end};

static void accept_guest(void *ctx, int fd, uint32_t revents)
{
	struct vm *vm = ctx;
	int conn = accept4(fd, NULL, NULL, SOCK_CLOEXEC);

	if (conn < 0)
		return;
	if (ctl_check_peer(conn, NULL) < 0) {
		close(conn);
		return;
	}
	if (guestlink_new(vm->env.loop, conn, &link_ops, vm, &vm->guest) < 0) {
		vm->guest = NULL;
		return;
	}
	/* While init's connection lasts, no other process of the guest can pose as init. */
	stop_listening(vm);
}

static int listen_guest(struct vm *vm)
{
	char path[PATH_MAX];
	int r;

	snprintf(path, sizeof(path), "%s/vsock_%d", vm->dir, WSLX_PORT_CONTROL);
	vm->listen_fd = io_unix_listen(path, 8);
	if (vm->listen_fd < 0)
		return vm->listen_fd;
	r = io_set_nonblock(vm->listen_fd, true);
	return r < 0 ? r
		     : loop_io(vm->env.loop, vm->listen_fd, EPOLLIN, accept_guest, vm,
			       &vm->listen_src);
}

/* What it gets beside distributions. swap: bytes that it is still to get; fresh: it is yet to start. */
static void start_upkeep(struct vm *vm, uint64_t swap, bool fresh)
{
	vm->net = net_new(vm->env.loop, vm, vm->env.set, vm->dir, fresh);
	vm->upkeep = upkeep_new(vm, &vm->env, swap, vm->dir);
}

static int vm_new(const struct vm_env *env, const char *dir, struct vm **ret)
{
	struct vm *vm = calloc(1, sizeof(*vm));
	int r;

	if (!vm)
		return -ENOMEM;
	*vm = (struct vm){.env = *env, .pidfd = -EBADF, .listen_fd = -EBADF};
	snprintf(vm->dir, sizeof(vm->dir), "%s", dir);
	r = loop_timer(env->loop, deadline, vm, &vm->deadline);
	if (r < 0) {
		vm_free(vm);
		return r;
	}
	*ret = vm;
	return 0;
}
DEFINE_CLEANUP(struct vm, vm_free)

static int watch_process(struct vm *vm)
{
	vm->pidfd = proc_pidfd(vm->pid);
	if (vm->pidfd < 0)
		return vm->pidfd;
	/* The pid may have gone to another process before we held on to it. */
	if (proc_start_time(vm->pid) != vm->start_time)
		return -ESRCH;
	return loop_io(vm->env.loop, vm->pidfd, EPOLLIN, vm_exited, vm, &vm->exit_src);
}

/* Starts wslx-vmm, which begins only after its state has been written down. */
static int spawn(struct vm *vm, const struct vm_plan *plan, struct err *e)
{
	const struct settings *set = vm->env.set;
	char prog[PATH_MAX], vsock[PATH_MAX], control[PATH_MAX], serial[PATH_MAX + 8];
	char logs[PATH_MAX - 64], mem[24], cpus[16], cmdline[4600], modules[PATH_MAX + 8];
	char net[PATH_MAX + 64];
	cleanup_close int log = -EBADF, gate = -EBADF;
	int r = proc_find("wslx-vmm", "vmm", "WSLX_VMM", prog, sizeof(prog), e);

	if (r < 0)
		return r;
	r = vmopts_cmdline(set, cmdline, sizeof(cmdline), e);
	if (r < 0)
		return r;
	log_path(vm, logs, sizeof(logs));
	/* A file can be one machine's only. */
	log = vmlog_open(logs, vm->env.owner[0] ? NULL : set->console_log, vm->console,
		sizeof(vm->console), e);
	if (log < 0)
		return log;
	snprintf(serial, sizeof(serial), "file:%s", vm->console);
	snprintf(modules, sizeof(modules), "%s,ro", set->modules ? set->modules : "");
	run_path(vm, "vsock", vsock, sizeof(vsock));
	run_path(vm, "control", control, sizeof(control));
	snprintf(mem, sizeof(mem), "%llu", (unsigned long long)(plan->memory >> 20));
	snprintf(cpus, sizeof(cpus), "%u", plan->processors);

	char share_text[SHARE_DEVICE_LEN];
	const char *share = share_device(set, vm->env.owner, share_text);
	const char *argv[32] = {prog, "--kernel", plan->kernel, "--initrd", plan->initrd,
		"--cmdline", cmdline, "--memory", mem, "--cpus", cpus, "--engine",
		settings_engine_name(set->engine), "--serial", serial, "--vsock", vsock,
		"--control", control, "--balloon"};
	unsigned n = 0;

	while (argv[n])
		n++;
	if (set->modules) {
		argv[n++] = "--disk";
		argv[n++] = modules;
	}
	if (share) {
		argv[n++] = "--vhost-user";
		argv[n++] = share;
	}
	if (vm->net) {
		net_option(vm->net, net, sizeof(net));
		argv[n++] = "--vhost-user";
		argv[n++] = net;
	}
	struct proc_spawn s = {.argv = argv,
		.std = {-1, log, log},
		.keep = -1,
		.detach = true,
		.bound = vm->env.bound,
		.gated = true,
		.ret_gate = &gate};
	vm->pid = proc_start(&s, e);
	if (vm->pid < 0)
		return vm->pid;
	vm->child = true;
	if (set->modules)
		strcpy(vm->disks[VMOPTS_MODULES_LUN], UPKEEP_MODULES_DISK);
	vm->start_time = proc_start_time(vm->pid);
	r = watch_process(vm);
	if (r == 0)
		r = save_state(vm);
	if (r < 0) {
		close(take_fd(gate)); /* it ends without having begun */
		waitpid(vm->pid, NULL, 0);
		return err_sys(e, r, "write down its state");
	}
	return write(gate, "", 1) == 1 ? 0 : err_sys(e, -errno, "start wslx-vmm");
}

int vm_start(const struct vm_env *env, const struct vm_plan *plan, struct vm **ret, struct err *e)
{
	cleanup(vm_freep) struct vm *vm = NULL;
	char dir[PATH_MAX];
	int r;

	snprintf(dir, sizeof(dir), "%s/vm-XXXXXX", env->runtime_dir);
	if (!mkdtemp(dir))
		return err_sys(e, -errno, "make %s", dir);
	r = vm_new(env, dir, &vm);
	if (r == 0)
		r = listen_guest(vm);
	if (r < 0)
		err_sys(e, r, "listen for the guest in %s", dir);
	if (r == 0) {
		vm->marks[VM_MARK_ASKED] = loop_now();
		start_upkeep(vm, plan->swap, true);
		r = spawn(vm, plan, e);
	}
	if (r < 0) {
		remove_dir(dir);
		return r;
	}
	arm(vm, env->set->boot_timeout_ms);
	*ret = take_ptr(vm);
	return 0;
}

static int adopt(const struct vm_env *env, const char *dir,
	bool (*accept)(void *ctx, const char *owner), struct vm **ret)
{
	cleanup(vm_freep) struct vm *vm = NULL;
	cleanup_js struct json_object *o = NULL;
	cleanup_free char *text = NULL;
	struct json_object *disks, *marks;
	char path[PATH_MAX];
	size_t len;
	int r = vm_new(env, dir, &vm);

	if (r < 0)
		return r;
	run_path(vm, "state.json", path, sizeof(path));
	r = io_read_file(path, 1 << 16, &text, &len);
	if (r == 0)
		r = js_parse(text, len, &o);
	if (r < 0)
		return r;
	vm->pid = (pid_t)js_u64(o, "pid", 0);
	vm->start_time = js_u64(o, "start_time", 0);
	if (vm->pid <= 0 || !vm->start_time || proc_start_time(vm->pid) != vm->start_time)
		return -ESRCH;
	snprintf(vm->console, sizeof(vm->console), "%s", js_str(o, "console", ""));
	vm->boot_us = js_u64(o, "boot_us", 0);
	marks = js_get(o, "marks");
	for (size_t i = 0; marks && i < VM_MARKS && i < json_object_array_length(marks); i++)
		vm->marks[i] = json_object_get_uint64(json_object_array_get_idx(marks, i));
	disks = js_get(o, "disks");
	for (size_t i = 0; disks && i < json_object_array_length(disks); i++) {
		struct json_object *d = json_object_array_get_idx(disks, i);
		uint64_t lun = js_u64(d, "lun", VM_LUNS);

		if (lun < VM_LUNS)
			snprintf(vm->disks[lun], sizeof(vm->disks[lun]), "%s", js_str(d, "id", ""));
	}
	r = watch_process(vm);
	if (r < 0)
		return r;
	/* From here on the process is certainly the one: what cannot be used is ended. */
	r = accept(env->ctx, js_str(o, "owner", "")) ? listen_guest(vm) : -EBUSY;
	if (r < 0) {
		send_signal(vm, SIGKILL);
		return r;
	}
	start_upkeep(vm, 0, false);
	arm(vm, RECONNECT_MS);
	*ret = take_ptr(vm);
	return 0;
}

int vm_adopt(const struct vm_env *env, const char *dir,
	bool (*accept)(void *ctx, const char *owner), struct vm **ret)
{
	int r = adopt(env, dir, accept, ret);

	if (r < 0)
		remove_dir(dir);
	return r;
}

enum vm_state vm_state(const struct vm *vm)
{
	return vm->state;
}

pid_t vm_pid(const struct vm *vm)
{
	return vm->pid;
}

const char *vm_kernel_release(const struct vm *vm)
{
	return vm->release;
}

const char *vm_id(const struct vm *vm)
{
	return strrchr(vm->dir, '/') + strlen("/vm-");
}

const char *vm_console(const struct vm *vm)
{
	return vm->console;
}

void vm_mark(struct vm *vm, enum vm_mark mark)
{
	if (vm->marks[mark])
		return;
	vm->marks[mark] = loop_now();
	if (mark == VM_MARK_SESSION)
		save_state(vm); /* the others with it */
}

uint64_t vm_marked(const struct vm *vm, enum vm_mark mark)
{
	return vm->marks[mark];
}

uint64_t vm_boot_us(const struct vm *vm)
{
	return vm->boot_us;
}

bool vm_has_files(const struct vm *vm)
{
	return upkeep_has_files(vm->upkeep);
}

const struct net *vm_net(const struct vm *vm)
{
	return vm->net;
}

struct guestlink *vm_guest(struct vm *vm)
{
	return vm->guest;
}

int vm_lun(const struct vm *vm, const char *id)
{
	for (int i = 0; i < VM_LUNS; i++)
		if (strcmp(vm->disks[i], id) == 0)
			return i;
	return -1;
}

const char *vm_lun_id(const struct vm *vm, int lun)
{
	return vm->disks[lun];
}

int vm_listen(const struct vm *vm, uint32_t port)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/vsock_%u", vm->dir, port);
	return io_unix_listen(path, 64);
}

struct pending {
	vm_done done;
	void *ctx;
};

static void ctl_done(void *ctx, struct json_object *result, const struct err *e)
{
	struct pending *p = ctx;

	p->done(p->ctx, e);
	free(p);
}

static void control_call(struct vm *vm, const char *method, struct json_object *params,
	struct ctl_fds *f, vm_done done, void *ctx)
{
	struct pending *p = malloc(sizeof(*p));
	struct err e = {0};

	connect_control(vm);
	if (!p || !vm->ctl) {
		free(p);
		js_free(params);
		if (f)
			ctl_fds_close(f);
		err_set(&e, -EPIPE, "wslx-vmm does not answer on its control socket");
		done(ctx, &e);
		return;
	}
	*p = (struct pending){done, ctx};
	ctl_async_call(vm->ctl, method, params, f, ctl_done, p);
}

int vm_attach(struct vm *vm, const char *id, const struct vm_disk *disk, vm_done done, void *ctx)
{
	struct ctl_fds f = {.fd = {disk->fd}, .n = 1};
	struct json_object *params;
	int lun = vm_lun(vm, "");

	if (lun < 0) {
		close(disk->fd);
		return -ENOSPC;
	}
	snprintf(vm->disks[lun], sizeof(vm->disks[lun]), "%s", id);
	if (save_state(vm) < 0)
		log_warn("vm", "cannot write down the state of the virtual machine");
	params = js_set_bool(js_set_u64(js_object(), "lun", (uint64_t)lun), "ro", disk->ro);
	if (disk->format)
		js_set_str(params, "format", disk->format);
	control_call(vm, "disk-attach", params, &f, done, ctx);
	return lun;
}

struct detaching {
	struct vm *vm;
	int lun;
	vm_done done;
	void *ctx;
};

static void detached(void *ctx, const struct err *e)
{
	struct detaching *d = ctx;

	/* The LUN is free when the disk has left, not before: another disk would meet it there. */
	if (!e || e->code == -ENOENT) {
		d->vm->disks[d->lun][0] = '\0';
		save_state(d->vm);
	}
	d->done(d->ctx, e);
	free(d);
}

void vm_detach(struct vm *vm, int lun, vm_done done, void *ctx)
{
	struct detaching *d = malloc(sizeof(*d));

	if (!d)
		abort();
	*d = (struct detaching){vm, lun, done, ctx};
	control_call(vm, "disk-detach", js_set_u64(js_object(), "lun", (uint64_t)lun), NULL,
		detached, d);
}

static void shutdown_done(void *ctx, const struct wire_msg *m, const struct err *e)
{
	/* The process's end is what counts. */
}

void vm_shutdown(struct vm *vm)
{
	struct wire_w w;

	if (vm->state == VM_STOPPING)
		return;
	/*
	 * One that another wslxd started, or whose init has said HELLO before, has distributions with
	 * unwritten data: init is back in a moment, and the deadline for that is armed.
	 */
	if (vm->state == VM_STARTING && (!vm->child || vm->release[0])) {
		vm->shutdown_asked = true;
		return;
	}
	if (!vm->guest || vm->state != VM_UP) {
		vm_kill(vm, "it was shut down before it was up");
		return;
	}
	vm->state = VM_STOPPING;
	vm->planned = true;
	snprintf(vm->why, sizeof(vm->why), "it was shut down");
	arm(vm, SHUTDOWN_MS + POWEROFF_MS);
	guestlink_begin(vm->guest, &w, WSLX_SHUTDOWN);
	wire_u32(&w, WSLX_A_TIMEOUT_MS, SHUTDOWN_MS);
	guestlink_send(vm->guest, &w, shutdown_done, NULL);
}

void vm_call(struct vm *vm, const char *method, struct json_object *params, struct ctl_fds *f,
	ctl_done_fn done, void *ctx)
{
	struct err e = {0};

	if (vm->state == VM_UP)
		connect_control(vm);
	if (vm->ctl) {
		ctl_async_call(vm->ctl, method, params, f, done, ctx);
		return;
	}
	js_free(params);
	if (f)
		ctl_fds_close(f);
	err_set(&e, -EPIPE, "wslx-vmm does not answer on its control socket");
	done(ctx, NULL, &e);
}

struct query {
	void (*fn)(void *ctx, struct json_object *result);
	void *ctx;
};

static void query_done(void *ctx, struct json_object *result, const struct err *e)
{
	struct query *q = ctx;

	q->fn(q->ctx, result);
	free(q);
}

void vm_query(struct vm *vm, void (*fn)(void *ctx, struct json_object *result), void *ctx)
{
	struct query *q = malloc(sizeof(*q));

	if (!q)
		abort();
	*q = (struct query){fn, ctx};
	vm_call(vm, "status", NULL, NULL, query_done, q);
}

struct loop *vm_loop(struct vm *vm)
{
	return vm->env.loop;
}

int vm_dial(struct vm *vm)
{
	char path[PATH_MAX];

	run_path(vm, "vsock", path, sizeof(path));
	return io_unix_connect(path);
}
