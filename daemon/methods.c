/* SPDX-License-Identifier: MIT */
/* What clients can ask of wslxd (lib/ctl). Names of distributions do not mind case. */
#include "daemon/distro.h"
#include "daemon/service.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "daemon/status.h"

static void m_hello(void *ctx, struct ctl_call *call, struct json_object *params)
{
	struct json_object *o = js_set_str(js_object(), "version", WSLX_VERSION);

	ctl_reply(call, js_set_u64(o, "pid", (uint64_t)getpid()), NULL);
}

static const struct reg_entry *named(
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

	for (unsigned i = 0; i < registry_count(s->reg); i++) {
		const struct reg_entry *reg = registry_at(s->reg, i);
		struct json_object *o = js_set_str(js_object(), "name", reg->name);

		js_set_str(o, "id", reg->id);
		js_set_str(o, "state", distro_state_name(distro_state(s, reg->id)));
		js_set_bool(o, "default", reg == def);
		js_set_str(o, "dir", reg->dir);
		js_set_u64(o, "uid", reg->uid);
		js_push(list, o);
	}
	ctl_reply(call, js_set(js_object(), "distributions", list), NULL);
}

static void m_set_default(void *ctx, struct ctl_call *call, struct json_object *params)
{
	struct service *s = ctx;
	const struct reg_entry *reg = named(s, call, params);
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
	const struct reg_entry *reg = named(s, call, params);

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

	if (!e.code && !reg)
		err_set(&e, -ENOENT, "it was unregistered by somebody else meanwhile");
	if (e.code) {
		waiting_end(w, &e);
		return;
	}
	gone = *reg;
	gone.dir = strdup(reg->dir);
	if (!gone.dir)
		abort();
	if (registry_pending(s->reg, &gone, &e) == 0) {
		if (registry_remove(s->reg, gone.id, &e) == 0)
			registry_remove_files(&gone, false, &e);
		if (!e.code)
			registry_settled(s->reg, gone.id);
	}
	if (e.code)
		err_wrap(&e, e.code, "unregister %s", gone.name);
	free(gone.dir);
	waiting_end(w, &e);
}

static void m_unregister(void *ctx, struct ctl_call *call, struct json_object *params)
{
	struct service *s = ctx;
	const struct reg_entry *reg = named(s, call, params);

	if (reg)
		distro_stop(s, reg->id, unregister, waiting(s, call, reg->id));
}

struct shutdown_wait {
	struct shutdown_wait *next;
	struct ctl_call *call;
};

void service_vm_ended(struct service *s)
{
	while (s->shutdowns) {
		struct shutdown_wait *w = s->shutdowns;

		s->shutdowns = w->next;
		ctl_reply(w->call, NULL, NULL);
		free(w);
	}
}

static void m_shutdown(void *ctx, struct ctl_call *call, struct json_object *params)
{
	struct service *s = ctx;
	struct shutdown_wait *w;

	if (!s->vm) {
		ctl_reply(call, NULL, NULL);
		return;
	}
	w = malloc(sizeof(*w));
	if (!w)
		abort();
	*w = (struct shutdown_wait){s->shutdowns, call};
	s->shutdowns = w;
	if (js_bool(params, "force", false))
		vm_kill(s->vm, "it was ended by force");
	else
		vm_shutdown(s->vm);
}

/* A client lost its session: is the VM with this process gone, and why? */
static void m_vm_end(void *ctx, struct ctl_call *call, struct json_object *params)
{
	struct service *s = ctx;
	bool running = s->vm && (uint64_t)vm_pid(s->vm) == js_u64(params, "pid", 0);
	struct json_object *o = js_set_bool(js_object(), "running", running);

	ctl_reply(call, js_set_str(o, "why", s->last_end), NULL);
}

static const struct js_field f_name[] = {{"name", JS_STR, .required = true, .max = 255}};
static const struct js_field f_hello[] = {{"version", JS_STR, .max = 64}};
static const struct js_field f_open[] = {
	{"distribution", JS_STR, .max = 255}, {"connections", JS_U64, .required = true, .max = 4}};
static const struct js_field f_import[] = {{"name", JS_STR, .required = true, .max = 255},
	{"dir", JS_STR, .required = true, .max = 3800}, {"uid", JS_U64, .max = UINT32_MAX - 1},
	{"size", JS_U64, .max = 1ull << 44}};
static const struct js_field f_pid[] = {{"pid", JS_U64, .required = true}};
static const struct js_field f_shutdown[] = {{"force", JS_BOOL}};

#define METHOD(...)                                                                                \
	{                                                                                          \
		__VA_ARGS__                                                                        \
	}
#define FIELDS(f) .fields = (f), .nfields = ARRAY_LEN(f)

const struct ctl_method service_methods[] = {
	METHOD("hello", m_hello, FIELDS(f_hello)),
	METHOD("open", session_open, FIELDS(f_open)),
	METHOD("list", m_list),
	METHOD("import", import_method, FIELDS(f_import), .nfds = 1),
	METHOD("unregister", m_unregister, FIELDS(f_name)),
	METHOD("terminate", m_terminate, FIELDS(f_name)),
	METHOD("set-default", m_set_default, FIELDS(f_name)),
	METHOD("shutdown", m_shutdown, FIELDS(f_shutdown)),
	METHOD("status", status_method),
	METHOD("vm-end", m_vm_end, FIELDS(f_pid)),
};
const unsigned service_nmethods = ARRAY_LEN(service_methods);
