/* SPDX-License-Identifier: MIT */
/* Connections for a session, by wslxd; what is said when they break. lib/session/client does the rest. */
#include "cli/session.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "cli/proxy.h"
#include "lib/session/client.h"
#include "lib/wslpath/env.h"

enum { PROXY_VARS = 16 };

struct session {
	const struct session_spec *spec;
	struct ctl_client *service;
	struct ctl_fds conn; /* 0: control; the others in the order of the streams */
	char name[65];	     /* the distribution's */
	uint64_t vm;	     /* process id of its VM */
	uint32_t uid;	     /* its default user */
	bool oobe;	     /* first-run set-up comes first */
	char *proxy_host;    /* what the guest calls this host; NULL: it gets no proxies */
	char *service_env[PROXY_VARS + 1];
};

static bool wanted_env(const char *e)
{
	return !strncmp(e, "LANG=", 5) || !strncmp(e, "LC_", 3) || !strncmp(e, "LANGUAGE=", 9) ||
	       !strncmp(e, "COLORTERM=", 10);
}

/* autoProxy: what the service's own environment says counts where the user's says nothing. */
static void take_proxies(struct session *s, struct json_object *proxy)
{
	struct json_object *env = js_get(proxy, "environment");

	if (!proxy)
		return;
	s->proxy_host = strdup(js_str(proxy, "host", ""));
	for (size_t i = 0; env && i < json_object_array_length(env) && i < PROXY_VARS; i++)
		s->service_env[i] =
			strdup(json_object_get_string(json_object_array_get_idx(env, i)));
}

static int open_connections(struct session *s, const struct client_streams *st, struct err *e)
{
	cleanup_js struct json_object *reply = NULL;
	struct json_object *params = js_object(), *warnings;
	struct ctl_req req = {.method = s->spec->debug ? "debug-shell" : "open",
		.params = params,
		.ret_fds = &s->conn};
	int r;

	js_set_u64(params, "connections", st->n + 1);
	if (s->spec->distribution)
		js_set_str(params, "distribution", s->spec->distribution);
	if (s->spec->id)
		js_set_str(params, "id", s->spec->id);
	r = service_connect(&s->service, e);
	if (r < 0) {
		js_free(params);
		return r;
	}
	r = ctl_call(s->service, &req, &reply, e);
	if (r < 0)
		return r;
	if (s->conn.n != st->n + 1)
		return err_set(e, -EPROTO, "wslxd sent %u connections instead of %u", s->conn.n,
			st->n + 1);
	snprintf(s->name, sizeof(s->name), "%s", js_str(reply, "name", "?"));
	s->vm = js_u64(reply, "vm", 0);
	s->uid = (uint32_t)js_u64(reply, "uid", 0);
	/* Only where somebody sits, and wants nothing else. */
	s->oobe = st->tty && !s->spec->args[0] && !s->spec->debug &&
		  js_bool(reply, "run_oobe", false);
	take_proxies(s, js_get(reply, "proxy"));
	warnings = js_get(reply, "warnings");
	for (size_t i = 0; warnings && i < json_object_array_length(warnings); i++)
		warning("%s", json_object_get_string(json_object_array_get_idx(warnings, i)));
	return 0;
}

struct proxies {
	struct wire_w *w;
	const char *wslenv;
};

static void add_proxy(void *ctx, const char *var)
{
	struct proxies *p = ctx;

	/* The user said what becomes of it. */
	if (!wslenv_names(p->wslenv, var, WSLENV_TO_GUEST))
		wire_str(p->w, WSLX_A_ENV, var);
}

static void request(void *ctx, struct wire_w *w)
{
	struct session *s = ctx;
	const struct session_spec *spec = s->spec;
	unsigned flags = 0;

	if (spec->args[0] && !spec->exec)
		flags |= WSLX_EXEC_SHELL;
	if (!spec->args[0] || spec->login)
		flags |= WSLX_EXEC_LOGIN;
	if (s->oobe)
		flags |= WSLX_EXEC_OOBE;
	if (spec->cwd) {
		flags |= WSLX_EXEC_CWD_MUST;
		wire_str(w, WSLX_A_CWD, spec->cwd);
	}
	if (spec->user)
		wire_str(w, WSLX_A_USER, spec->user);
	else
		wire_u32(w, WSLX_A_UID, spec->debug ? 0 : s->uid);
	wire_u32(w, WSLX_A_FLAGS, flags);
	for (char **e = environ; *e; e++)
		if (wanted_env(*e) || wslenv_names(getenv("WSLENV"), *e, WSLENV_TO_GUEST))
			wire_str(w, WSLX_A_ENV, *e);
	if (s->proxy_host && proxy_env(environ, s->service_env, s->proxy_host, add_proxy,
				     &(struct proxies){w, getenv("WSLENV")}))
		warning("a proxy at this host's localhost cannot be reached from the distribution (autoProxy in wslx.conf)");
	for (char **a = spec->args; *a; a++)
		wire_str(w, WSLX_A_ARG, *a);
}

/* The session's connection broke off: why? wslxd may hear of it a moment later than we do. */
static int lost(void *ctx)
{
	struct session *s = ctx;
	const struct timespec pause = {.tv_nsec = 50000000};

	for (int i = 0; i < 40; i++) {
		cleanup_js struct json_object *o = NULL;
		struct ctl_req req = {
			.method = "vm-end", .params = js_set_u64(js_object(), "pid", s->vm)};

		if (ctl_call(s->service, &req, &o, NULL) < 0)
			return fail("run a command in %s: the connection to it was lost, and "
				    "wslxd is gone; try again",
				s->name);
		if (!js_bool(o, "running", true))
			return fail("run a command in %s: its virtual machine ended: %s", s->name,
				js_str(o, "why", "unknown"));
		nanosleep(&pause, NULL);
	}
	return fail("run a command in %s: the distribution was stopped", s->name);
}

int session_run(const struct session_spec *spec)
{
	static struct session s;
	static struct client_streams st;
	char intent[96];
	struct client c = {.intent = intent,
		.fail = fail,
		.warning = warning,
		.request = request,
		.lost = lost,
		.ctx = &s};
	struct err e = {0};

	s.spec = spec;
	client_streams(&st);
	if (open_connections(&s, &st, &e) < 0)
		return fail("run a command: %s", e.text);
	snprintf(intent, sizeof(intent), "run a command in %s", s.name);
	return client_run(&c, &st, s.conn.fd);
}
