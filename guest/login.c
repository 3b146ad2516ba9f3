/* SPDX-License-Identifier: MIT */
#include "guest/login.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "guest/files.h"
#include "guest/systemd.h"
#include "lib/base/cleanup.h"

enum { LOGIN_MS = 20000 };

static bool has_env(const struct exec_plan *p, const char *name)
{
	size_t n = strlen(name);

	for (char **v = p->envp; *v; v++)
		if (!strncmp(*v, name, n) && (*v)[n] == '=')
			return true;
	return false;
}

/* The distribution's language, where the host's was not passed. */
static int set_language(struct exec_plan *p)
{
	static const char *const files[] = {"etc/default/locale", "etc/locale.conf"};
	cleanup_close int root = -EBADF;
	char lang[64];

	if (has_env(p, "LANG"))
		return 0;
	root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	for (size_t i = 0; i < ARRAY_LEN(files); i++)
		if (files_variable(root, files[i], "LANG", lang, sizeof(lang)))
			return exec_env_default(p, "LANG", lang);
	return 0;
}

/* Without a login manager that does it, the folder is ours to make. */
static int set_runtime_dir(const struct login *l, struct exec_plan *p)
{
	char dir[64], bus[96];
	struct stat st;
	int r;

	snprintf(dir, sizeof(dir), "/run/user/%u", (unsigned)p->user.uid);
	if (!l->systemd && mkdir(dir, 0700) == 0 && lchown(dir, p->user.uid, p->user.gid) < 0)
		rmdir(dir);
	if (lstat(dir, &st) < 0 || !S_ISDIR(st.st_mode) || st.st_uid != p->user.uid)
		return 0;
	r = exec_env_default(p, "XDG_RUNTIME_DIR", dir);
	snprintf(bus, sizeof(bus), "%s/bus", dir);
	if (r < 0 || stat(bus, &st) < 0 || !S_ISSOCK(st.st_mode))
		return r;
	snprintf(bus, sizeof(bus), "unix:path=%s/bus", dir);
	return exec_env_default(p, "DBUS_SESSION_BUS_ADDRESS", bus);
}

/* The set-up may have made the user that it names. */
static const char *set_up_first(struct login *l, struct exec_plan *p)
{
	struct oobe_result res = oobe_run(p, l->spec->name, l->result);
	struct exec_policy policy = p->policy;
	struct wire_msg m = {.type = WSLX_EXEC, .attrs = p->request, .len = p->request_len};
	struct exec_plan fresh;
	struct err e = {0};
	int r;

	policy.default_uid = res.has_uid ? res.uid : l->uid;
	r = exec_plan(&m, &policy, &fresh, &e);
	if (r < 0) {
		fprintf(stderr, "wslx: %s\n", e.text);
		errno = -r;
		return "plan the session anew";
	}
	*p = fresh; /* what the old one held goes with the process image */
	return NULL;
}

const char *login_prepare(void *ctx, struct exec_plan *p)
{
	struct login *l = ctx;
	const char *step = p->oobe ? set_up_first(l, p) : NULL;
	int r;

	if (step)
		return step;
	if (l->systemd)
		systemd_login(p->user.uid, LOGIN_MS * l->spec->slow);
	r = exec_env_default(p, "NAME", l->hostname);
	if (r == 0)
		r = set_language(p);
	if (r == 0)
		r = set_runtime_dir(l, p);
	errno = -r;
	return r < 0 ? "set the environment" : NULL;
}
