/* SPDX-License-Identifier: MIT */
/* What clients can ask of wslxd (lib/ctl). Names of distributions do not mind case. */
#include "daemon/distro.h"
#include "daemon/machine.h"
#include "daemon/service.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "daemon/diag.h"
#include "daemon/net-methods.h"
#include "daemon/status.h"
#include "daemon/volume.h"

static void m_hello(void *ctx, struct ctl_call *call, struct json_object *params)
{
	struct json_object *o = js_set_str(js_object(), "version", WSLX_VERSION);

	ctl_reply(call, js_set_u64(o, "pid", (uint64_t)getpid()), NULL);
}

const struct reg_entry *service_named(
	struct service *s, struct ctl_call *call, struct json_object *params)
{
	const char *name = js_str(params, "name", "");
	const struct reg_entry *reg = registry_find(s->reg, name);
	struct err e = {0};

	if (!reg) {
		err_set(&e, -ENOENT, "there is no distribution '%s'; 'wslx --list' shows all",
			name);
		ctl_fail(call, &e);
	}
	return reg;
}

static void m_list(void *ctx, struct ctl_call *call, struct json_object *params)
{
	struct service *s = ctx;
	const struct reg_entry *def = registry_default(s->reg);
	struct json_object *list = js_array();
	char disk[PATH_MAX];

	for (unsigned i = 0; i < registry_count(s->reg); i++) {
		const struct reg_entry *reg = registry_at(s->reg, i);
		struct json_object *o = js_set_str(js_object(), "name", reg->name);

		js_set_str(o, "id", reg->id);
		js_set_str(o, "state", distro_state_text(s, reg->id));
		js_set_bool(o, "default", reg == def);
		js_set_str(o, "dir", reg->dir);
		js_set_u64(o, "uid", reg->uid);
		if (registry_disk(reg, false, disk, sizeof(disk)) == 0)
			js_set_str(o, "disk", disk);
		js_set_str(o, "fs", registry_fs(reg));
		js_set_str(o, "format", reg->vhdx ? "vhdx" : "raw");
		js_set_str(o, "flavor", reg->flavor);
		js_set_str(o, "os_version", reg->version);
		js_push(list, o);
	}
	ctl_reply(call, js_set(js_object(), "distributions", list), NULL);
}

static void m_set_default(void *ctx, struct ctl_call *call, struct json_object *params)
{
	struct service *s = ctx;
	const struct reg_entry *reg = service_named(s, call, params);
	struct err e = {0};

	if (!reg)
		return;
	if (registry_set_default(s->reg, reg->id, &e) < 0)
		ctl_fail(call, &e);
	else
		ctl_reply(call, NULL, NULL);
}

/* A call that waits for a distribution to stop. */
struct waiting {
	struct service *s;
	struct ctl_call *call;
	char id[37];
};

static struct waiting *waiting(struct service *s, struct ctl_call *call, const char *id)
{
	struct waiting *w = malloc(sizeof(*w));

	if (!w)
		abort();
	*w = (struct waiting){.s = s, .call = call};
	strcpy(w->id, id);
	s->jobs++;
	return w;
}

static void waiting_end(struct waiting *w, const struct err *e)
{
	if (e && e->code)
		ctl_fail(w->call, e);
	else
		ctl_reply(w->call, NULL, NULL);
	w->s->jobs--;
	idle_check(w->s);
	free(w);
}

static void terminated(void *ctx, const struct err *e)
{
	waiting_end(ctx, e);
}

static void m_terminate(void *ctx, struct ctl_call *call, struct json_object *params)
{
	struct service *s = ctx;
	const struct reg_entry *reg = service_named(s, call, params);

	if (reg)
		distro_stop(s, reg->id, terminated, waiting(s, call, reg->id));
}

/* It has stopped: note what goes, let it go from the registry, then remove its files. */
static void unregister(void *ctx, const struct err *stop_error)
{
	struct waiting *w = ctx;
	struct service *s = w->s;
	const struct reg_entry *reg = registry_by_id(s->reg, w->id);
	struct err e = stop_error ? *stop_error : (struct err){0};
	struct reg_entry gone;

	if (!e.code && reg)
		distro_reserve(s, reg->id, "Uninstalling", &e);
	if (!e.code && !reg)
		err_set(&e, -ENOENT, "it was unregistered by somebody else meanwhile");
	if (e.code) {
		waiting_end(w, &e);
		return;
	}
	gone = *reg;
	gone.dir = strdup(reg->dir);
	gone.disk = reg->disk ? strdup(reg->disk) : NULL;
	if (!gone.dir || (reg->disk && !gone.disk))
		abort();
	if (registry_pending(s->reg, &gone, &e) == 0) {
		if (registry_remove(s->reg, gone.id, &e) == 0 && !gone.disk)
			/* of one registered where it is, nothing is ours */
			registry_remove_files(&gone, false, &e);
		if (!e.code)
			registry_settled(s->reg, gone.id);
	}
	distro_unreserve(s, gone.id);
	if (e.code)
		err_wrap(&e, e.code, "unregister %s", gone.name);
	free(gone.dir);
	free(gone.disk);
	waiting_end(w, &e);
}

static void m_unregister(void *ctx, struct ctl_call *call, struct json_object *params)
{
	struct service *s = ctx;
	const struct reg_entry *reg = service_named(s, call, params);

	if (reg)
		distro_stop(s, reg->id, unregister, waiting(s, call, reg->id));
}

struct shutdown_wait {
	struct shutdown_wait *next;
	struct ctl_call *call;
	uint64_t last; /* of the machines whose end it waits for */
	pid_t pid;     /* or the process of the one */
};

void service_vm_ended(struct service *s)
{
	for (struct shutdown_wait **p = &s->shutdowns, *w; (w = *p);) {
		bool lives = false;

		for (struct machine *m = s->machines; m; m = m->next)
			lives |= w->pid ? vm_pid(m->vm) == w->pid : m->serial <= w->last;
		if (lives) {
			p = &w->next;
			continue;
		}
		*p = w->next;
		ctl_reply(w->call, NULL, NULL);
		free(w);
	}
}

void service_wait_vm_end(struct service *s, struct ctl_call *call, pid_t pid)
{
	struct shutdown_wait *w = malloc(sizeof(*w));

	if (!w)
		abort();
	*w = (struct shutdown_wait){s->shutdowns, call, s->machine_serial, pid};
	s->shutdowns = w;
}

static void m_shutdown(void *ctx, struct ctl_call *call, struct json_object *params)
{
	struct service *s = ctx;

	if (!s->machines) {
		ctl_reply(call, NULL, NULL);
		return;
	}
	service_wait_vm_end(s, call, 0);
	for (struct machine *m = s->machines; m; m = m->next) {
		if (js_bool(params, "force", false))
			vm_kill(m->vm, "it was ended by force");
		else
			vm_shutdown(m->vm);
	}
}

/* A client lost its session: is the VM with this process gone, and why? */
static void m_vm_end(void *ctx, struct ctl_call *call, struct json_object *params)
{
	struct service *s = ctx;
	uint64_t pid = js_u64(params, "pid", 0);
	const char *why = "";
	bool running = false;

	for (struct machine *m = s->machines; m; m = m->next)
		running |= (uint64_t)vm_pid(m->vm) == pid;
	for (unsigned i = 0; i < SERVICE_ENDS; i++)
		if ((uint64_t)s->ends[i].pid == pid)
			why = s->ends[i].why;
	ctl_reply(call, js_set_str(js_set_bool(js_object(), "running", running), "why", why), NULL);
}

static const struct js_field f_name[] = {{"name", JS_STR, .required = true, .max = 255}};
static const struct js_field f_hello[] = {{"version", JS_STR, .max = 64}};
static const struct js_field f_open[] = {{"distribution", JS_STR, .max = 255},
	{"id", JS_STR, .max = 64}, {"connections", JS_U64, .required = true, .max = 4}};
static const struct js_field f_import[] = {{"name", JS_STR, .required = true, .max = 255},
	{"dir", JS_STR, .max = 3800}, {"uid", JS_U64, .max = UINT32_MAX - 1},
	{"size", JS_U64, .max = 1ull << 44}, {"vhd", JS_BOOL}, {"fs", JS_STR, .max = 16}};
static const struct js_field f_move[] = {{"name", JS_STR, .required = true, .max = 255},
	{"dir", JS_STR, .required = true, .max = 3800}};
static const struct js_field f_resize[] = {{"name", JS_STR, .required = true, .max = 255},
	{"size", JS_U64, .required = true, .max = 1ull << 44}};
static const struct js_field f_clone[] = {{"name", JS_STR, .required = true, .max = 255},
	{"new_name", JS_STR, .required = true, .max = 255}, {"dir", JS_STR, .max = 3800}};
static const struct js_field f_rename[] = {{"name", JS_STR, .required = true, .max = 255},
	{"new_name", JS_STR, .required = true, .max = 255}};
static const struct js_field f_set_user[] = {{"name", JS_STR, .required = true, .max = 255},
	{"uid", JS_U64, .required = true, .max = UINT32_MAX - 1}};
static const struct js_field f_in_place[] = {{"name", JS_STR, .required = true, .max = 255},
	{"disk", JS_STR, .required = true, .max = 3800}, {"uid", JS_U64, .max = UINT32_MAX - 1},
	{"vhd", JS_BOOL}};
static const struct js_field f_mount[] = {{"disk", JS_STR, .required = true, .max = 3800},
	{"vhdx", JS_BOOL}, {"bare", JS_BOOL}, {"name", JS_STR, .max = 255},
	{"type", JS_STR, .max = VOLUME_TYPE_MAX}, {"options", JS_STR, .max = VOLUME_OPTIONS_MAX},
	{"partition", JS_U64, .max = 255}};
static const struct js_field f_unmount[] = {{"disk", JS_STR, .max = 3800}};
static const struct js_field f_export[] = {{"name", JS_STR, .required = true, .max = 255},
	{"format", JS_STR, .required = true, .max = 16}};
static const struct js_field f_port_add[] = {{"distribution", JS_STR, .max = 255},
	{"listen", JS_STR, .required = true, .max = 79},
	{"to", JS_STR, .required = true, .max = 79}};
static const struct js_field f_port_remove[] = {
	{"distribution", JS_STR, .max = 255}, {"listen", JS_STR, .required = true, .max = 79}};
static const struct js_field f_pid[] = {{"pid", JS_U64, .required = true}};
static const struct js_field f_shutdown[] = {{"force", JS_BOOL}};
static const struct js_field f_vm[] = {{"vm", JS_STR, .max = 32}};
static const struct js_field f_vcpu[] = {{"vm", JS_STR, .max = 32}, {"vcpu", JS_U64, .max = 1023}};

#define METHOD(...)                                                                                \
	{                                                                                          \
		__VA_ARGS__                                                                        \
	}
#define FIELDS(f) .fields = (f), .nfields = ARRAY_LEN(f)

const struct ctl_method service_methods[] = {
	METHOD("hello", m_hello, FIELDS(f_hello)),
	METHOD("open", session_open, FIELDS(f_open)),
	METHOD("debug-shell", session_open_shell, FIELDS(f_open)),
	METHOD("list", m_list),
	METHOD("import", import_method, FIELDS(f_import), .nfds = 1),
	METHOD("move", move_method, FIELDS(f_move)),
	METHOD("resize", resize_method, FIELDS(f_resize)),
	METHOD("compact", compact_method, FIELDS(f_name)),
	METHOD("clone", clone_method, FIELDS(f_clone)),
	METHOD("rename", rename_method, FIELDS(f_rename)),
	METHOD("set-user", set_user_method, FIELDS(f_set_user)),
	METHOD("import-in-place", import_in_place_method, FIELDS(f_in_place)),
	METHOD("export", export_method, FIELDS(f_export), .nfds = 1),
	METHOD("mount", volume_mount_method, FIELDS(f_mount), .nfds = 1),
	METHOD("unmount", volume_unmount_method, FIELDS(f_unmount)),
	METHOD("unregister", m_unregister, FIELDS(f_name)),
	METHOD("terminate", m_terminate, FIELDS(f_name)),
	METHOD("set-default", m_set_default, FIELDS(f_name)),
	METHOD("shutdown", m_shutdown, FIELDS(f_shutdown)),
	METHOD("status", status_method),
	METHOD("vm-end", m_vm_end, FIELDS(f_pid)),
	METHOD("network", network_method),
	METHOD("port-list", port_list_method),
	METHOD("port-add", port_add_method, FIELDS(f_port_add)),
	METHOD("port-remove", port_remove_method, FIELDS(f_port_remove)),
	METHOD("diag-list", diag_list),
	METHOD("diag-timeline", diag_timeline, FIELDS(f_vm)),
	METHOD("diag-registers", diag_registers, FIELDS(f_vcpu)),
	METHOD("diag-dump", diag_dump, FIELDS(f_vm), .nfds = 1),
	METHOD("diag-reclaim", diag_reclaim, FIELDS(f_vm)),
	METHOD("diag-kill", diag_kill, FIELDS(f_vm)),
};
const unsigned service_nmethods = ARRAY_LEN(service_methods);
