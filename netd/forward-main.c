/* SPDX-License-Identifier: MIT */
/*
 * wslx-forward: ports of this host that lead into one virtual machine. Started by wslxd; descriptor 3 is the socket where
 * wslxd connects:
 *
 *	add     {"listen":"tcp 127.0.0.1 8080","to":"tcp 0.0.0.0 8080","port":N,"added":BOOL} -> {}
 *	remove  {"listen":...} -> {}
 *	list    {} -> {"ports":[{"listen","to","added","connections"}, ...]}
 *
 * It moves bytes and looks at none of them. Lives as long as the machine, also without wslxd.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "lib/base/log.h"
#include "lib/ctl/server.h"
#include "lib/sandbox/sandbox.h"
#include "netd/forward.h"

enum { CONTROL = 3, LOOK_MS = 5000 };

static struct {
	struct loop *loop;
	struct forwards *f;
	struct ctl_server *ctl;
	struct loop_src *timer;
} me;

static void m_add(void *ctx, struct ctl_call *call, struct json_object *params)
{
	const struct forward_config c = {.listen = js_str(params, "listen", ""),
		.to = js_str(params, "to", ""),
		.port = (uint32_t)js_u64(params, "port", 0),
		.added = js_bool(params, "added", false)};
	struct err e = {0};

	if (forwards_add(me.f, &c, &e) < 0)
		ctl_fail(call, &e);
	else
		ctl_reply(call, NULL, NULL);
}

static void m_remove(void *ctx, struct ctl_call *call, struct json_object *params)
{
	const char *listen_at = js_str(params, "listen", "");
	struct err e = {0};

	if (forwards_remove(me.f, listen_at) < 0) {
		err_set(&e, -ENOENT, "%s is not forwarded", listen_at);
		ctl_fail(call, &e);
	} else {
		ctl_reply(call, NULL, NULL);
	}
}

static void m_list(void *ctx, struct ctl_call *call, struct json_object *params)
{
	ctl_reply(call, js_set(js_object(), "ports", forwards_list(me.f)), NULL);
}

static const struct js_field f_add[] = {
	{"listen", JS_STR, .required = true, .max = FORWARD_TEXT - 1},
	{"to", JS_STR, .required = true, .max = FORWARD_TEXT - 1},
	{"port", JS_U64, .required = true, .max = UINT32_MAX}, {"added", JS_BOOL}};
static const struct js_field f_remove[] = {
	{"listen", JS_STR, .required = true, .max = FORWARD_TEXT - 1}};
static const struct ctl_method methods[] = {
	{"add", m_add, f_add, ARRAY_LEN(f_add)},
	{"remove", m_remove, f_remove, ARRAY_LEN(f_remove)},
	{"list", m_list},
};

/* Without wslxd, nobody else tells that the machine has gone. */
static void look(void *ctx)
{
	if (ctl_server_connections(me.ctl) > 0)
		return;
	if (!forwards_alive(me.f))
		loop_quit(me.loop, 0);
	loop_timer_arm(me.timer, loop_now() + LOOK_MS * 1000000ull);
}

static int set_up(const char *folder, struct err *e)
{
	struct sandbox_opts opts = {.debug = getenv("WSLX_SANDBOX_DEBUG") != NULL};
	char path[64];
	int dir = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC), r;

	if (dir < 0)
		return err_sys(e, -errno, "%s", folder);
	/* Of any length, and after nothing can be opened any more. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d/vsock", dir);
	r = loop_new(&me.loop);
	if (r == 0)
		r = forwards_new(&me.f, me.loop, path);
	if (r == 0)
		r = loop_timer(me.loop, look, NULL, &me.timer);
	if (r == 0)
		r = ctl_server_new(me.loop, CONTROL, methods, ARRAY_LEN(methods), NULL, &me.ctl);
	if (r < 0)
		return err_sys(e, r, "forward ports");
	ctl_server_on_change(me.ctl, look, NULL);
	loop_timer_arm(me.timer, loop_now() + LOOK_MS * 1000000ull);
	return sandbox_enter(&sandbox_forward, &opts, e);
}

int main(int argc, char **argv)
{
	struct err e = {0};
	int r;

	log_init("wslx-forward", LOG_LVL_INFO);
	if (argc != 2) {
		fprintf(stderr,
			"usage: wslx-forward FOLDER\n\n"
			"Ports of this host that lead into a virtual machine. Started by wslxd, not by hand.\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	r = set_up(argv[1], &e);
	if (r == 0)
		r = loop_run(me.loop);
	if (r < 0)
		log_err(NULL, "%s", e.code ? e.text : strerror(-r));
	return r < 0;
}
