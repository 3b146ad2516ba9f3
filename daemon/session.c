/* SPDX-License-Identifier: MIT */
/*
 * "open": a client wants connections to a distribution's init. The distribution is started if need
 * be, the connections are made and passed on; what travels on them is between client and guest. The
 * distribution is not idle for as long as the client's own connection to us lives. "debug-shell": the same
 * to the machine itself, which the distribution lends its programs.
 */
#include "daemon/distro.h"
#include "daemon/machine.h"
#include "daemon/net.h"
#include "daemon/service.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_CONNECTIONS = 4 };

struct hold {
	struct service *s;
	char id[37];
};

struct opening;

/* Context of connection i. */
struct slot {
	struct opening *o;
	unsigned i;
};

struct opening {
	struct service *s;
	struct ctl_call *call;
	char id[37], name[REG_NAME_MAX + 1];
	bool boots; /* its VM did not run when it began */
	bool shell; /* in the machine itself */
	bool asked; /* the machine for that: its answer comes, whatever happens */
	bool ended; /* meanwhile */
	struct json_object *result;
	unsigned want, have;
	struct distro_want *distro;
	struct vm_connect *conn[MAX_CONNECTIONS];
	struct slot slot[MAX_CONNECTIONS];
	int fd[MAX_CONNECTIONS];
};

static void hold_ended(void *ctx)
{
	struct hold *h = ctx;

	distro_release(h->s, h->id);
	idle_check(h->s);
	free(h);
}

static void hold(struct service *s, struct ctl_call *call, const char *id)
{
	struct hold *h = malloc(sizeof(*h));

	if (!h)
		abort();
	h->s = s;
	strcpy(h->id, id);
	distro_hold(s, id);
	if (ctl_call_on_disconnect(call, hold_ended, h) < 0)
		hold_ended(h);
}

static void opening_free(struct opening *o)
{
	o->ended = true;
	if (o->asked)
		return;
	distro_want_cancel(o->distro);
	for (unsigned i = 0; i < MAX_CONNECTIONS; i++) {
		vm_connect_cancel(o->conn[i]);
		if (o->fd[i] >= 0)
			close(o->fd[i]);
	}
	js_free(o->result);
	free(o);
}

static void opening_fail(struct opening *o, const struct err *e)
{
	struct err wrapped = *e;

	err_wrap(&wrapped, e->code, "start %s", o->name);
	ctl_fail(o->call, &wrapped);
	opening_free(o);
}

/* To those that are there; more is freed. */
static void add_warnings(struct json_object *result, struct json_object *more)
{
	struct json_object *all = js_array(), *have = js_get(result, "warnings");

	for (size_t i = 0; have && i < json_object_array_length(have); i++)
		js_push(all, json_object_get(json_object_array_get_idx(have, i)));
	for (size_t i = 0; more && i < json_object_array_length(more); i++)
		js_push(all, json_object_get(json_object_array_get_idx(more, i)));
	if (json_object_array_length(all))
		js_set(result, "warnings", all);
	else
		js_free(all);
	js_free(more);
}

static void opening_done(struct opening *o)
{
	struct machine *m = machine_with_disk(o->s, o->id);
	struct ctl_fds f = {.n = o->want};

	add_warnings(o->result, distro_take_warnings(o->s, o->id));
	for (unsigned i = 0; i < o->want; i++)
		f.fd[i] = take_fd(o->fd[i]);
	if (m)
		vm_mark(m->vm, VM_MARK_SESSION);
	ctl_reply(o->call, take_ptr(o->result), &f);
	opening_free(o);
}

static void connected(void *ctx, int fd)
{
	struct slot *slot = ctx;
	struct opening *o = slot->o;
	struct err e = {0};

	o->conn[slot->i] = NULL;
	if (fd < 0) {
		err_sys(&e, fd, "connect to its init");
		opening_fail(o, &e);
		return;
	}
	o->fd[o->have++] = fd;
	if (o->have == o->want)
		opening_done(o);
}

/* autoProxy: where this host is, seen from the guest, and what proxies our own environment has. */
static struct json_object *proxies(const struct settings *set)
{
	static const char *const suffix = "_proxy";
	struct json_object *env = js_array();
	struct json_object *o = js_set_str(js_object(), "host",
		set->net == NET_MIRRORED			 ? "localhost"
		: set->net == NET_BRIDGED || set->net == NET_TAP ? ""
								 : NET_HOST_NAME);

	for (char **e = environ; *e; e++) {
		size_t n = strcspn(*e, "=");

		if (n > strlen(suffix) && n < 12 &&
			!strncasecmp(*e + n - strlen(suffix), suffix, strlen(suffix)))
			js_push(env, json_object_new_string(*e));
	}
	return js_set(o, "environment", env);
}

static struct json_object *describe(
	const struct opening *o, const struct machine *m, const struct reg_entry *reg)
{
	struct json_object *result = js_set_str(js_object(), "name", o->name);

	js_set_str(result, "id", o->id);
	js_set_u64(result, "uid", reg->uid);
	js_set_bool(result, "run_oobe", reg->run_oobe);
	js_set_u64(result, "vm", (uint64_t)vm_pid(m->vm));
	if (m->set.auto_proxy && m->set.net != NET_NONE && !o->shell)
		js_set(result, "proxy", proxies(&m->set));
	if (o->boots && json_object_array_length(m->set.warnings))
		js_set(result, "warnings", json_object_get(m->set.warnings));
	return result;
}

static void connect_all(struct opening *o, struct machine *m, uint32_t port)
{
	struct err lost = {0};

	for (unsigned i = 0; i < o->want; i++) {
		int r;

		o->slot[i] = (struct slot){o, i};
		r = vm_connect(m->vm, port, connected, &o->slot[i], &o->conn[i]);
		if (r < 0) {
			err_sys(&lost, r, "connect to its init");
			opening_fail(o, &lost);
			return;
		}
	}
}

static void shell_ready(void *ctx, const struct wire_msg *msg, const struct err *e)
{
	struct opening *o = ctx;
	struct machine *m = machine_with_disk(o->s, o->id);
	struct err gone = {0};

	o->asked = false;
	if (o->ended) {
		opening_free(o);
		return;
	}
	if (!e && !m)
		err_set(&gone, -EPIPE, "the virtual machine went away");
	else if (e)
		gone = *e;
	if (gone.code) {
		err_wrap(&gone, gone.code, "start a shell in its virtual machine");
		opening_fail(o, &gone);
	} else {
		connect_all(o, m, wire_get_u32(msg, WSLX_A_PORT, 0));
	}
}

static void ask_for_shell(struct opening *o, struct machine *m)
{
	struct guestlink *g = vm_guest(m->vm);
	struct err e = {0};
	struct wire_w w;

	if (!g) {
		err_set(&e, -EPIPE, "the virtual machine went away");
		opening_fail(o, &e);
		return;
	}
	o->asked = true;
	guestlink_begin(g, &w, WSLX_SHELL);
	wire_str(&w, WSLX_A_DISTRO, o->id);
	guestlink_send(g, &w, shell_ready, o);
}

static void ready(void *ctx, uint32_t port, const struct err *e)
{
	struct opening *o = ctx;
	const struct reg_entry *reg = registry_by_id(o->s->reg, o->id);
	struct machine *m = reg ? distro_machine(o->s, reg) : NULL;
	struct err lost = {0};

	o->distro = NULL;
	if (!e && !m) {
		err_set(&lost, -ENOENT, "it was unregistered meanwhile");
		e = &lost;
	}
	if (e) {
		opening_fail(o, e);
		return;
	}
	o->result = describe(o, m, reg);
	if (o->shell)
		ask_for_shell(o, m);
	else
		connect_all(o, m, port);
}

static void client_gone(void *ctx)
{
	struct opening *o = ctx;
	struct err e = {0};

	err_set(&e, -ECANCELED, "the client went away");
	opening_fail(o, &e);
}

static const struct reg_entry *wanted(
	const struct service *s, struct json_object *params, struct err *e)
{
	const char *name = js_str(params, "distribution", NULL), *id = js_str(params, "id", NULL);
	const struct reg_entry *reg = id     ? registry_by_id(s->reg, id)
				      : name ? registry_find(s->reg, name)
					     : registry_default(s->reg);

	if (!reg && id)
		err_set(e, -ENOENT,
			"there is no distribution with id %s; 'wslx --list --json' shows all", id);
	else if (!reg && name)
		err_set(e, -ENOENT, "there is no distribution '%s'; 'wslx --list' shows all", name);
	else if (!reg)
		err_set(e, -ENOENT, "no distribution is installed; 'wslx --import' adds one");
	return reg;
}

static void open_to(
	struct service *s, struct ctl_call *call, struct json_object *params, bool shell)
{
	struct err e = {0};
	const struct reg_entry *reg = wanted(s, params, &e);
	struct opening *o;

	if (js_u64(params, "connections", 0) == 0) {
		err_set(&e, -EINVAL, "parameter 'connections': 1 at least");
		ctl_fail(call, &e);
		return;
	}
	if (reg && ctl_call_is_crowded(call)) {
		err_set(&e, -EUSERS, "too many programs run in distributions");
		reg = NULL;
	}
	if (!reg) {
		ctl_fail(call, &e);
		return;
	}
	o = calloc(1, sizeof(*o));
	if (!o)
		abort();
	o->s = s;
	o->call = call;
	o->shell = shell;
	o->want = (unsigned)js_u64(params, "connections", 1);
	o->boots = !distro_machine(s, reg);
	strcpy(o->id, reg->id);
	strcpy(o->name, reg->name);
	for (unsigned i = 0; i < MAX_CONNECTIONS; i++)
		o->fd[i] = -EBADF;
	ctl_call_on_close(call, client_gone, o);
	hold(s, call, o->id);
	distro_want(s, reg, ready, o, &o->distro);
}

void session_open(void *service, struct ctl_call *call, struct json_object *params)
{
	open_to(service, call, params, false);
}

void session_open_shell(void *service, struct ctl_call *call, struct json_object *params)
{
	open_to(service, call, params, true);
}
