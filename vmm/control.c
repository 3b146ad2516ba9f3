/* SPDX-License-Identifier: MIT */
#include "vmm/control.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "lib/base/io.h"
#include "lib/base/loop.h"
#include "lib/ctl/server.h"
#include "lib/os/mem.h"
#include "vmm/chip/power.h"
#include "vmm/dump.h"
#include "vmm/registers.h"
#include "vmm/scsi/scsi.h"
#include "vmm/snapshot.h"
#include "vmm/virtio/balloon.h"
#include "vmm/virtio/vhost.h"

enum { PAGES_PER_MIB = (1 << 20) / GMEM_PAGE_SIZE };

struct control {
	struct machine *m;
	struct ctl_server *server;
	const char *reason;
};

static void answer(struct ctl_call *call, int r, const char *what)
{
	struct err e = {0};

	if (r < 0) {
		err_sys(&e, r, "%s", what);
		ctl_fail(call, &e);
	} else {
		ctl_reply(call, NULL, NULL);
	}
}

static void do_status(void *ctx, struct ctl_call *call, struct json_object *params)
{
	static const char *const states[] = {[VM_BUILDING] = "building",
		[VM_RUNNING] = "running",
		[VM_PAUSED] = "paused",
		[VM_STOPPED] = "stopped"};
	struct control *c = ctx;
	struct vm *vm = c->m->vm;
	struct json_object *o = js_object(), *luns = js_array(), *servers = js_object();

	js_set_str(o, "state", states[vm_state(vm)]);
	js_set_str(o, "engine", vm_cpu_ops(vm)->name);
	js_set_str(o, "reason", c->reason);
	js_set_u64(o, "memory_mib", gmem_ram_size(vm_gmem(vm)) >> 20);
	js_set_u64(o, "cpus", vm_vcpus(vm));
	for (unsigned i = 0; i < SCSI_MAX_LUNS; i++)
		if (scsi_lun_exists(c->m->scsi, i))
			js_push(luns, json_object_new_int64(i));
	js_set(o, "luns", luns);
	for (unsigned i = 0; i < c->m->nvhost; i++)
		js_set_bool(servers, vhost_name(c->m->vhost[i]), vhost_connected(c->m->vhost[i]));
	js_set(o, "servers", servers);
	js_set_u64(o, "memory_used", os_memobj_used(gmem_object(vm_gmem(vm))));
	js_set_u64(o, "began", c->m->began);
	js_set_u64(o, "entered", c->m->entered);
	if (c->m->balloon) {
		js_set_u64(o, "balloon_mib", balloon_actual(c->m->balloon) / PAGES_PER_MIB);
		js_set_u64(o, "reported_mib", balloon_reported(c->m->balloon) >> 20);
	}
	ctl_reply(call, o, NULL);
}

/* How much memory the guest shall give up; it does so as far and as fast as it can. */
static void do_balloon(void *ctx, struct ctl_call *call, struct json_object *params)
{
	struct control *c = ctx;

	if (c->m->balloon)
		balloon_set_target(
			c->m->balloon, (uint32_t)(js_u64(params, "mib", 0) * PAGES_PER_MIB));
	answer(call, c->m->balloon ? 0 : -ENODEV, "set the balloon");
}

static void do_pause(void *ctx, struct ctl_call *call, struct json_object *params)
{
	struct control *c = ctx;

	answer(call, vm_pause(c->m->vm), "pause the virtual machine");
}

static void do_resume(void *ctx, struct ctl_call *call, struct json_object *params)
{
	struct control *c = ctx;

	answer(call, vm_resume(c->m->vm), "resume the virtual machine");
}

static void do_stop(void *ctx, struct ctl_call *call, struct json_object *params)
{
	struct control *c = ctx;

	vm_stop(c->m->vm, VM_END_KILLED);
	ctl_reply(call, NULL, NULL);
}

static void do_power_button(void *ctx, struct ctl_call *call, struct json_object *params)
{
	struct control *c = ctx;

	power_button(c->m->power);
	ctl_reply(call, NULL, NULL);
}

static void do_disk_attach(void *ctx, struct ctl_call *call, struct json_object *params)
{
	struct control *c = ctx;
	uint64_t lun = js_u64(params, "lun", UINT64_MAX);
	const char *format = js_str(params, "format", "raw");
	struct machine_disk disk = {
		.readonly = js_bool(params, "ro", false), .serial = js_str(params, "serial", NULL)};
	struct err e = {0};
	int r = lun == UINT64_MAX ? scsi_free_lun(c->m->scsi) : (int)lun;

	if (r < 0) {
		err_sys(&e, r, "find a free LUN");
	} else if (disk_format_parse(format, &disk.format) < 0) {
		r = err_set(&e, -EINVAL, "disk format %s: raw or vhdx is needed", format);
	} else {
		disk.fd = ctl_call_take_fd(call, 0);
		r = machine_attach_disk(c->m, r, &disk, &e);
	}
	if (r < 0)
		ctl_fail(call, &e);
	else
		ctl_reply(call, js_set_u64(js_object(), "lun", r), NULL);
}

static void do_disk_detach(void *ctx, struct ctl_call *call, struct json_object *params)
{
	struct control *c = ctx;

	answer(call, scsi_detach(c->m->scsi, js_u64(params, "lun", 0)), "detach the disk");
}

static void do_vhost_user_attach(void *ctx, struct ctl_call *call, struct json_object *params)
{
	struct control *c = ctx;
	struct err e = {0};
	int fd = ctl_call_take_fd(call, 0);

	if (machine_attach_server(c->m, js_str(params, "device", ""), fd, &e) < 0)
		ctl_fail(call, &e);
	else
		ctl_reply(call, NULL, NULL);
}

static void do_save(void *ctx, struct ctl_call *call, struct json_object *params)
{
	struct control *c = ctx;
	cleanup_close int fd = ctl_call_take_fd(call, 0);
	struct err e = {0};

	if (machine_can_save(c->m, &e) < 0 || snapshot_save(c->m->vm, fd, &e) < 0)
		ctl_fail(call, &e);
	else
		ctl_reply(call, NULL, NULL);
}

/* Pauses it for what reads its state; *ret_was_running: to be resumed. */
static int hold_still(struct vm *vm, bool *ret_was_running)
{
	*ret_was_running = vm_state(vm) == VM_RUNNING;
	return vm_pause(vm);
}

static void do_registers(void *ctx, struct ctl_call *call, struct json_object *params)
{
	struct control *c = ctx;
	struct vm *vm = c->m->vm;
	uint64_t vcpu = js_u64(params, "vcpu", UINT64_MAX);
	struct json_object *list = NULL;
	struct err e = {0};
	bool running = false;
	int r = 0;

	if (vcpu != UINT64_MAX && vcpu >= vm_vcpus(vm))
		r = err_set(&e, -ENOENT, "there is no vCPU %llu: it has %u",
			(unsigned long long)vcpu, vm_vcpus(vm));
	else if ((r = hold_still(vm, &running)) < 0)
		err_sys(&e, r, "pause the virtual machine");
	if (r == 0) {
		/* All MSRs of many vCPUs are more than fits one answer. */
		if (vcpu == UINT64_MAX)
			r = registers_json(vm, 0, CPU_MAX_VCPUS, false, &list);
		else
			r = registers_json(vm, (unsigned)vcpu, 1, true, &list);
		if (running)
			vm_resume(vm);
		if (r < 0)
			err_sys(&e, r, "read the registers");
	}
	if (r < 0)
		ctl_fail(call, &e);
	else
		ctl_reply(call, js_set(js_object(), "vcpus", list), NULL);
}

static void do_dump(void *ctx, struct ctl_call *call, struct json_object *params)
{
	struct control *c = ctx;
	cleanup_close int fd = ctl_call_take_fd(call, 0);
	struct err e = {0};
	bool running;
	int r = hold_still(c->m->vm, &running);

	if (r < 0) {
		err_sys(&e, r, "pause the virtual machine");
	} else {
		r = dump_write(c->m->vm, fd, &e);
		if (running)
			vm_resume(c->m->vm);
	}
	if (r < 0)
		ctl_fail(call, &e);
	else
		ctl_reply(call, NULL, NULL);
}

static const struct js_field attach_fields[] = {{"lun", JS_U64, .max = SCSI_MAX_LUNS - 1},
	{"ro", JS_BOOL}, {"serial", JS_STR, .max = 32}, {"format", JS_STR, .max = 8}};
static const struct js_field detach_fields[] = {
	{"lun", JS_U64, .required = true, .max = SCSI_MAX_LUNS - 1}};

static const struct js_field server_fields[] = {{"device", JS_STR, .required = true, .max = 16}};

static const struct js_field balloon_fields[] = {
	{"mib", JS_U64, .required = true, .max = UINT32_MAX / PAGES_PER_MIB}};

static const struct js_field registers_fields[] = {{"vcpu", JS_U64}};

static const struct ctl_method methods[] = {
	{"status", do_status},
	{"balloon", do_balloon, balloon_fields, ARRAY_LEN(balloon_fields)},
	{"pause", do_pause},
	{"resume", do_resume},
	{"stop", do_stop},
	{"power-button", do_power_button},
	{"disk-attach", do_disk_attach, attach_fields, ARRAY_LEN(attach_fields), .nfds = 1},
	{"disk-detach", do_disk_detach, detach_fields, ARRAY_LEN(detach_fields)},
	{"vhost-user-attach", do_vhost_user_attach, server_fields, ARRAY_LEN(server_fields),
		.nfds = 1},
	{"save", do_save, .nfds = 1},
	{"registers", do_registers, registers_fields, ARRAY_LEN(registers_fields)},
	{"dump", do_dump, .nfds = 1},
};

int control_new(struct control **ret, struct machine *m, const char *path, const char *reason,
	struct err *e)
{
	struct control *c = calloc(1, sizeof(*c));
	int fd, r;

	if (!c)
		abort();
	c->m = m;
	c->reason = reason;
	fd = io_unix_listen(path, 8);
	if (fd < 0) {
		free(c);
		return err_sys(e, fd, "listen at %s", path);
	}
	r = ctl_server_new(m->loop, fd, methods, ARRAY_LEN(methods), c, &c->server);
	if (r < 0) {
		close(fd);
		control_free(c);
		return err_sys(e, r, "serve control calls at %s", path);
	}
	*ret = c;
	return 0;
}

void control_free(struct control *c)
{
	if (!c)
		return;
	if (c->server)
		ctl_server_free(c->server);
	free(c);
}
