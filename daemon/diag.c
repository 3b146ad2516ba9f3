/* SPDX-License-Identifier: MIT */
#include "daemon/diag.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "daemon/machine.h"
#include "lib/base/io.h"

/* The one meant; NULL: the call has failed. */
static struct vm *named(struct service *s, struct ctl_call *call, struct json_object *params)
{
	const char *id = js_str(params, "vm", "");
	struct vm *found = NULL;
	struct err e = {0};

	for (struct machine *m = s->machines; m; m = m->next) {
		if (*id && strcmp(vm_id(m->vm), id) != 0)
			continue;
		if (found) {
			err_set(&e, -EINVAL,
				"several virtual machines run; 'wslx diag list' shows them");
			break;
		}
		found = m->vm;
	}
	if (!e.code && !found && *id)
		err_set(&e, -ENOENT, "there is no virtual machine '%s'; 'wslx diag list' shows all",
			id);
	else if (!e.code && !found)
		err_set(&e, -ENOENT, "no virtual machine runs");
	if (e.code)
		ctl_fail(call, &e);
	return e.code ? NULL : found;
}

/* --- list --- */

/* utime and stime of a process, ms: fields 14 and 15 of proc(5)'s stat. */
static uint64_t process_cpu_ms(long pid)
{
	cleanup_free char *text = NULL;
	uint64_t user, sys;
	char path[64], *p;

	snprintf(path, sizeof(path), "/proc/%ld/stat", pid);
	if (io_read_file(path, 4096, &text, NULL) < 0 || !(p = strrchr(text, ')')) ||
		sscanf(p + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %" SCNu64 " %" SCNu64,
			&user, &sys) != 2)
		return 0;
	return (user + sys) * 1000 / (uint64_t)sysconf(_SC_CLK_TCK);
}

/* With the processes in which wslx-vmm executes user code directly. */
static uint64_t vmm_cpu_ms(pid_t pid)
{
	cleanup_free char *children = NULL;
	uint64_t ms = process_cpu_ms(pid);
	char path[64], *p, *end;
	long child;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", pid, pid);
	if (io_read_file(path, 1 << 16, &children, NULL) < 0)
		return ms;
	for (p = children; (child = strtol(p, &end, 10)) > 0 && end != p; p = end)
		ms += process_cpu_ms(child);
	return ms;
}

struct listing {
	struct ctl_call *call;
	struct json_object *machines;
	unsigned waiting;
};

/* A VM's line, until its VMM has answered. */
struct line {
	struct listing *l;
	struct json_object *o; /* borrowed from the listing */
};

static void listed(struct listing *l)
{
	if (--l->waiting)
		return;
	ctl_reply(l->call, js_set(js_object(), "machines", l->machines), NULL);
	free(l);
}

static void vmm_said(void *ctx, struct json_object *result)
{
	struct line *line = ctx;
	uint64_t began = js_u64(result, "began", 0);

	if (result) {
		js_set_str(line->o, "engine", js_str(result, "engine", "unknown"));
		js_set_str(line->o, "reason", js_str(result, "reason", ""));
		js_set_u64(line->o, "cpus", js_u64(result, "cpus", 0));
		js_set_u64(line->o, "memory", js_u64(result, "memory_mib", 0) << 20);
		js_set_u64(line->o, "memory_used", js_u64(result, "memory_used", 0));
		if (began)
			js_set_u64(line->o, "uptime_ms", (loop_now() - began) / 1000000);
	}
	listed(line->l);
	free(line);
}

static struct json_object *distributions(struct service *s, const struct vm *vm)
{
	struct json_object *list = js_array();

	for (int lun = 0; lun < VM_LUNS; lun++) {
		const char *id = vm_lun_id(vm, lun);
		const struct reg_entry *reg = *id && *id != '.' ? registry_by_id(s->reg, id) : NULL;

		if (reg)
			js_push(list, json_object_new_string(reg->name));
	}
	return list;
}

static const char *state_name(const struct vm *vm)
{
	static const char *const names[] = {
		[VM_STARTING] = "Starting", [VM_UP] = "Running", [VM_STOPPING] = "Stopping"};

	return names[vm_state(vm)];
}

void diag_list(void *service, struct ctl_call *call, struct json_object *params)
{
	struct service *s = service;
	struct listing *l = malloc(sizeof(*l));

	if (!l)
		abort();
	*l = (struct listing){.call = call, .machines = js_array(), .waiting = 1};
	for (struct machine *m = s->machines; m; m = m->next) {
		struct json_object *o = js_set_str(js_object(), "id", vm_id(m->vm));
		struct vm *vm = m->vm;
		struct line *line = malloc(sizeof(*line));

		if (!line)
			abort();
		*line = (struct line){l, o};
		js_set_u64(o, "pid", (uint64_t)vm_pid(vm));
		js_set_str(o, "state", state_name(vm));
		js_set_str(o, "kernel", vm_kernel_release(vm));
		js_set_str(o, "console", vm_console(vm));
		js_set_u64(o, "cpu_ms", vmm_cpu_ms(vm_pid(vm)));
		js_set(o, "distributions", distributions(s, vm));
		js_push(l->machines, o);
		l->waiting++;
		vm_query(vm, vmm_said, line);
	}
	listed(l);
}

/* --- the others --- */

struct asked {
	struct ctl_call *call;
	char id[32];
	uint64_t asked, hello, boot_us, distro, session; /* of a timeline */
};

static struct asked *asked(struct ctl_call *call, const struct vm *vm)
{
	struct asked *a = calloc(1, sizeof(*a));

	if (!a)
		abort();
	a->call = call;
	snprintf(a->id, sizeof(a->id), "%s", vm_id(vm));
	return a;
}

/* wslx-vmm's answer with the VM's id. */
static void pass_on(void *ctx, struct json_object *result, const struct err *e)
{
	struct asked *a = ctx;

	if (e)
		ctl_fail(a->call, e);
	else
		ctl_reply(a->call, js_set_str(json_object_get(result), "id", a->id), NULL);
	free(a);
}

void diag_registers(void *service, struct ctl_call *call, struct json_object *params)
{
	struct vm *vm = named(service, call, params);
	struct json_object *vcpu = js_get(params, "vcpu"), *p = js_object();

	if (vm && vcpu)
		js_set(p, "vcpu", json_object_get(vcpu));
	if (vm)
		vm_call(vm, "registers", p, NULL, pass_on, asked(call, vm));
	else
		js_free(p);
}

void diag_dump(void *service, struct ctl_call *call, struct json_object *params)
{
	struct vm *vm = named(service, call, params);
	struct ctl_fds f = {.n = 1};

	if (!vm)
		return;
	f.fd[0] = ctl_call_take_fd(call, 0);
	vm_call(vm, "dump", NULL, &f, pass_on, asked(call, vm));
}

static void reclaimed(void *ctx, const struct wire_msg *m, const struct err *e)
{
	struct asked *a = ctx;
	struct json_object *o;

	if (e) {
		ctl_fail(a->call, e);
	} else {
		o = js_set_str(js_object(), "id", a->id);
		js_set_u64(o, "total_kib", wire_get_u64(m, WSLX_A_MEM_TOTAL, 0));
		js_set_u64(o, "free_kib", wire_get_u64(m, WSLX_A_MEM_FREE, 0));
		ctl_reply(a->call, o, NULL);
	}
	free(a);
}

void diag_reclaim(void *service, struct ctl_call *call, struct json_object *params)
{
	struct vm *vm = named(service, call, params);
	struct guestlink *g = vm ? vm_guest(vm) : NULL;
	struct err e = {0};
	struct wire_w w;

	if (vm && (!g || vm_state(vm) != VM_UP)) {
		err_set(&e, -EAGAIN, "the virtual machine is starting or stopping");
		ctl_fail(call, &e);
	} else if (vm) {
		guestlink_begin(g, &w, WSLX_RECLAIM);
		guestlink_send(g, &w, reclaimed, asked(call, vm));
	}
}

void diag_kill(void *service, struct ctl_call *call, struct json_object *params)
{
	struct vm *vm = named(service, call, params);

	if (!vm)
		return;
	service_wait_vm_end(service, call, vm_pid(vm));
	vm_kill(vm, "it was killed by 'wslx diag kill'");
}

static void stage(struct json_object *list, const struct asked *a, const char *name, uint64_t at)
{
	struct json_object *o;

	if (at < a->asked)
		return; /* not reached, or not known */
	o = js_set_str(js_object(), "stage", name);
	js_set(o, "ms", json_object_new_double((double)((at - a->asked) / 1000) / 1000));
	js_push(list, o);
}

static void times_known(void *ctx, struct json_object *result, const struct err *e)
{
	struct asked *a = ctx;
	struct json_object *list = js_array(), *o = js_set_str(js_object(), "id", a->id);
	uint64_t entered = js_u64(result, "entered", 0);

	stage(list, a, "asked for", a->asked);
	stage(list, a, "wslx-vmm", js_u64(result, "began", 0));
	stage(list, a, "kernel", entered);
	if (entered && a->boot_us)
		stage(list, a, "init", entered + a->boot_us * 1000);
	stage(list, a, "init connected", a->hello);
	stage(list, a, "distribution", a->distro);
	stage(list, a, "session", a->session);
	ctl_reply(a->call, js_set(o, "stages", list), NULL);
	free(a);
}

void diag_timeline(void *service, struct ctl_call *call, struct json_object *params)
{
	struct vm *vm = named(service, call, params);
	struct asked *a;

	if (!vm)
		return;
	a = asked(call, vm);
	a->asked = vm_marked(vm, VM_MARK_ASKED);
	a->hello = vm_marked(vm, VM_MARK_HELLO);
	a->distro = vm_marked(vm, VM_MARK_DISTRO);
	a->session = vm_marked(vm, VM_MARK_SESSION);
	a->boot_us = vm_boot_us(vm);
	vm_call(vm, "status", NULL, NULL, times_known, a);
}
