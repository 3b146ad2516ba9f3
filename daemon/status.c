/* SPDX-License-Identifier: MIT */
#include "daemon/status.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>
#include "daemon/distro.h"
#include "daemon/machine.h"
#include "daemon/service.h"
#include "daemon/volume.h"
#include "lib/base/io.h"
#include "lib/base/proc.h"

struct status {
	struct service *s;
	struct ctl_call *call;
	struct json_object *o;
	/* "wslx-vmm --probe", when no VM runs that could tell */
	pid_t pid;
	int out;
	struct loop_src *out_src, *child;
	char text[600];
	size_t len;
};

static void finish(struct status *st)
{
	ctl_reply(st->call, st->o, NULL);
	loop_src_free(st->out_src);
	loop_src_free(st->child);
	if (st->out >= 0)
		close(st->out);
	st->s->jobs--;
	idle_check(st->s);
	free(st);
}

static void set_engine(struct status *st, const char *name, const char *reason)
{
	struct json_object *o = js_set_str(js_object(), "name", name);

	js_set(st->o, "engine", js_set_str(o, "reason", reason));
}

static void probe_ended(void *ctx, pid_t pid, int wait_status)
{
	struct status *st = ctx;
	char *colon, *end;

	st->text[st->len] = '\0';
	end = strchr(st->text, '\n');
	if (end)
		*end = '\0';
	colon = strstr(st->text, ": ");
	if (wait_status == 0 && colon) {
		*colon = '\0';
		set_engine(st, st->text, colon + 2);
	} else {
		/* "wslx-vmm: why not" */
		set_engine(st, "none", colon ? colon + 2 : "wslx-vmm --probe failed");
	}
	finish(st);
}

static void probe_says(void *ctx, int fd, uint32_t revents)
{
	struct status *st = ctx;
	char rest[256];
	bool full = st->len == sizeof(st->text) - 1;
	ssize_t n = full ? read(fd, rest, sizeof(rest))
			 : read(fd, st->text + st->len, sizeof(st->text) - 1 - st->len);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0) {
		st->len += full ? 0 : (size_t)n;
		return;
	}
	st->out_src = loop_src_free(st->out_src);
	if (loop_child(st->s->loop, st->pid, probe_ended, st, &st->child) < 0)
		abort();
}

static int start_probe(struct status *st, int engine, struct err *e)
{
	cleanup_close int wr = -EBADF;
	char prog[PATH_MAX];
	int p[2], r = proc_find("wslx-vmm", "vmm", "WSLX_VMM", prog, sizeof(prog), e);

	if (r < 0)
		return r;
	if (pipe2(p, O_CLOEXEC) < 0)
		return err_sys(e, -errno, "start wslx-vmm");
	st->out = p[0];
	wr = p[1];
	io_set_nonblock(st->out, true);

	const char *argv[] = {prog, "--probe", "--engine", settings_engine_name(engine), NULL};
	struct proc_spawn sp = {.argv = argv, .std = {-1, wr, wr}, .keep = -1};

	st->pid = proc_start(&sp, e);
	if (st->pid < 0)
		return st->pid;
	if (loop_io(st->s->loop, st->out, EPOLLIN, probe_says, st, &st->out_src) < 0)
		abort();
	return 0;
}

static void vmm_said(void *ctx, struct json_object *result)
{
	struct status *st = ctx;
	struct json_object *vm = js_get(st->o, "vm");

	if (result) {
		set_engine(st, js_str(result, "engine", "unknown"), js_str(result, "reason", ""));
		if (vm)
			js_set(vm, "vmm", json_object_get(result));
	} else {
		set_engine(st, "unknown", "wslx-vmm does not answer");
	}
	finish(st);
}

static const char *state_name(const struct vm *vm)
{
	switch (vm_state(vm)) {
	case VM_STARTING: return "Starting";
	case VM_UP: return "Running";
	case VM_STOPPING: return "Stopping";
	}
	return "?";
}

void status_method(void *service, struct ctl_call *call, struct json_object *params)
{
	struct service *s = service;
	const struct reg_entry *def = registry_default(s->reg);
	const struct machine *m = machine_find(s, "") ? machine_find(s, "") : s->machines;
	struct status *st = calloc(1, sizeof(*st));
	struct settings set;
	struct err e = {0};
	int engine = ENGINE_AUTO;

	if (!st)
		abort();
	*st = (struct status){.s = s, .call = call, .out = -EBADF, .o = js_object()};
	s->jobs++;
	js_set_str(st->o, "version", WSLX_VERSION);
	js_set_u64(st->o, "pid", (uint64_t)getpid());
	js_set_u64(st->o, "distributions", registry_count(s->reg));
	if (def)
		js_set_str(st->o, "default", def->name);
	js_set_str(st->o, "data", s->data_dir);
	js_set_str(st->o, "config", s->config);
	if (settings_load(s->config, &set, &e) == 0) {
		struct vm_plan plan;

		engine = set.engine;
		if (settings_plan(&set, s->data_dir, &plan, &e) == 0) {
			js_set_str(st->o, "kernel", plan.kernel);
			js_set_u64(st->o, "memory", plan.memory);
			js_set_u64(st->o, "processors", plan.processors);
		}
		js_set(st->o, "warnings", json_object_get(set.warnings));
		settings_done(&set);
	}
	if (e.code)
		js_set_str(st->o, "problem", e.text);
	js_set(st->o, "mounts", volumes_json(s->volumes));
	if (s->nends)
		js_set_str(st->o, "last_end", s->ends[(s->nends - 1) % SERVICE_ENDS].why);
	if (m) {
		struct json_object *vm = js_set_str(js_object(), "state", state_name(m->vm));

		js_set_u64(vm, "pid", (uint64_t)vm_pid(m->vm));
		js_set_str(vm, "kernel", vm_kernel_release(m->vm));
		js_set(st->o, "vm", vm);
		vm_query(m->vm, vmm_said, st);
		return;
	}
	if (start_probe(st, engine, &e) < 0) {
		set_engine(st, "none", e.text);
		finish(st);
	}
}
