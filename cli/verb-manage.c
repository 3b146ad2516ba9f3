/* SPDX-License-Identifier: MIT */
/* wslx --manage NAME OPTION: changes a distribution that exists. Exactly one option a call. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include "cli/cli.h"
#include "cli/progress.h"
#include "lib/base/cleanup.h"
#include "lib/conf/conf.h"
#include "lib/wire/msg.h"

/* A call that takes its time. */
static int long_call(const char *what, const char *method, struct json_object *params)
{
	cleanup(ctl_client_freep) struct ctl_client *c = NULL;
	struct err e = {0};

	if (service_connect(&c, &e) < 0) {
		js_free(params);
		return fail("%s: %s", what, e.text);
	}
	return progress_call(c, what, method, params, -1, NULL, &e) < 0 ? fail("%s", e.text) : 0;
}

static struct json_object *named(const char *name)
{
	return js_set_str(js_object(), "name", name);
}

static int move(const char *name, const char *dir)
{
	char path[PATH_MAX];

	if (absolute_path(dir, path, sizeof(path)) < 0)
		return fail("move %s: %s: path too long", name, dir);
	return long_call("move", "move", js_set_str(named(name), "dir", path));
}

static int resize(const char *name, const char *text)
{
	uint64_t size;

	if (conf_size(text, &size) < 0 || size < 1 << 20)
		return usage_error("--manage: bad size '%s'", text);
	return long_call("resize", "resize", js_set_u64(named(name), "size", size));
}

/* Disks are sparse always; what they no longer need goes back to the host now. */
static int set_sparse(const char *name, const char *text)
{
	bool on;

	if (conf_bool(text, &on) < 0)
		return usage_error("--set-sparse needs true or false, not '%s'", text);
	if (!on)
		return fail(
			"set-sparse %s: disks of wslx are sparse always: one that takes all its "
			"space at once is not made",
			name);
	return long_call("compact", "compact", named(name));
}

static int clone(const char *name, const char *new_name, const char *dir)
{
	struct json_object *params = js_set_str(named(name), "new_name", new_name);
	char path[PATH_MAX];

	if (dir) {
		if (absolute_path(dir, path, sizeof(path)) < 0) {
			js_free(params);
			return fail("clone %s: %s: path too long", name, dir);
		}
		js_set_str(params, "dir", path);
	}
	return long_call("clone", "clone", params);
}

/* Who this is, only the distribution knows. */
static int find_user(const char *name, const char *user, uint32_t *ret_uid, struct err *e)
{
	cleanup(ctl_client_freep) struct ctl_client *c = NULL;
	struct ctl_fds conn = {.n = 0};
	struct json_object *params = js_set_str(js_object(), "distribution", name);
	struct ctl_req req = {
		.method = "open", .params = js_set_u64(params, "connections", 1), .ret_fds = &conn};
	uint8_t buf[512];
	struct wire_msg m;
	struct wire_w w;
	int r = service_connect(&c, e);

	if (r < 0) {
		js_free(params);
		return r;
	}
	r = ctl_call(c, &req, NULL, e);
	if (r < 0)
		return r;
	wire_begin(&w, buf, sizeof(buf), WSLX_FIND_USER, 0, 1, 0);
	wire_str(&w, WSLX_A_USER, user);
	r = conn.n == 1 ? wire_send(&w, conn.fd[0]) : -EPROTO;
	if (r == 0)
		r = wire_recv(conn.fd[0], buf, sizeof(buf), &m);
	ctl_fds_close(&conn);
	if (r < 0)
		return err_sys(e, r, "ask the distribution for user '%s'", user);
	if (m.error)
		return err_set(e, -ENOENT, "user '%s' does not exist in the distribution", user);
	*ret_uid = wire_get_u32(&m, WSLX_A_UID, 0);
	return 0;
}

static int set_default_user(const char *name, const char *user)
{
	struct err e = {0};
	uint32_t uid = 0;

	if (find_user(name, user, &uid, &e) < 0)
		return fail("set the default user of %s: %s", name, e.text);
	return service_call(
		"set the default user", "set-user", js_set_u64(named(name), "uid", uid), NULL);
}

int verb_manage(int argc, char **argv)
{
	const char *name, *option, *value;

	if (argc < 3)
		return usage_error("--manage needs a distribution and what to do with it");
	name = argv[1];
	option = argv[2];
	value = argc > 3 ? argv[3] : NULL;
	if (!strcmp(option, "--compact")) {
		if (argc > 3)
			return usage_error("--manage: one option at a time");
		return long_call("compact", "compact", named(name));
	}
	if (!value)
		return usage_error("--manage: %s needs an argument, or is unknown", option);
	if (!strcmp(option, "--clone") && argc == 6 && !strcmp(argv[4], "--location"))
		return clone(name, value, argv[5]);
	/* Accepted because scripts for WSL say so: there is nothing unsafe about it here. */
	if ((!strcmp(option, "-s") || !strcmp(option, "--set-sparse")) && argc == 5 &&
		!strcmp(argv[4], "--allow-unsafe"))
		argc = 4;
	if (argc != 4)
		return usage_error("--manage: one option at a time");
	if (!strcmp(option, "-m") || !strcmp(option, "--move"))
		return move(name, value);
	if (!strcmp(option, "-r") || !strcmp(option, "--resize"))
		return resize(name, value);
	if (!strcmp(option, "-s") || !strcmp(option, "--set-sparse"))
		return set_sparse(name, value);
	if (!strcmp(option, "--set-default-user"))
		return set_default_user(name, value);
	if (!strcmp(option, "--rename"))
		return service_call(
			"rename", "rename", js_set_str(named(name), "new_name", value), NULL);
	if (!strcmp(option, "--clone"))
		return clone(name, value, NULL);
	return usage_error("--manage: unknown option '%s'", option);
}
