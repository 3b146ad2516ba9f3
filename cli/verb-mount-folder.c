/* SPDX-License-Identifier: MIT */
/*
 * wslx mount --enable [--user NAME] [--no-start] [FOLDER] | --disable | --status [--json]: distributions' files in a folder of
 * this host, ~/wslx, served by wslx-mount. Where the user has a systemd, it is a unit of that, started with the session;
 * elsewhere it runs until it is disabled, or the host is shut down.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "cli/cli.h"
#include "lib/base/cleanup.h"
#include "lib/base/io.h"
#include "lib/base/proc.h"
#include "lib/base/xdg.h"

#define UNIT "wslx-mount.service"

struct args {
	const char *user, *folder;
	bool no_start, enable, disable, status, json;
};

/* "wslx mount" without one of these is a command of the default distribution's. */
bool mount_folder_wants(int argc, char **argv)
{
	static const char *const words[] = {"--enable", "--disable", "--status"};

	for (size_t i = 0; argc > 1 && i < ARRAY_LEN(words); i++)
		if (!strcmp(argv[1], words[i]))
			return true;
	return false;
}

static int parse(int argc, char **argv, struct args *a)
{
	a->enable = !strcmp(argv[1], "--enable");
	a->disable = !strcmp(argv[1], "--disable");
	a->status = !strcmp(argv[1], "--status");
	for (int i = 2; i < argc; i++) {
		const char *s = argv[i];

		if (a->enable && (!strcmp(s, "--user") || !strcmp(s, "-u")) && i + 1 < argc)
			a->user = argv[++i];
		else if (a->enable && !strcmp(s, "--no-start"))
			a->no_start = true;
		else if (a->status && !strcmp(s, "--json"))
			a->json = true;
		else if (a->enable && s[0] != '-' && !a->folder)
			a->folder = s;
		else
			return usage_error("mount %s: unexpected argument '%s'", argv[1], s);
	}
	return 0;
}

/* --- what runs --- */

/* One line of the kernel's list: a folder that wslx-mount serves for us. Spaces are "\040" there. */
static bool is_ours(char *line, char folder[PATH_MAX])
{
	char *what = strtok(line, " "), *where = strtok(NULL, " "), *type = strtok(NULL, " ");
	char *options = strtok(NULL, " "), mine[32];
	size_t n = 0;

	snprintf(mine, sizeof(mine), "user_id=%u,", (unsigned)getuid());
	if (!options || strcmp(what, "wslx") || strcmp(type, "fuse.wslx") || !strstr(options, mine))
		return false;
	for (const char *p = where; *p && n < PATH_MAX - 1; n++) {
		unsigned c;

		if (*p == '\\' && sscanf(p + 1, "%3o", &c) == 1) {
			folder[n] = (char)c;
			p += 4;
		} else {
			folder[n] = *p++;
		}
	}
	folder[n] = '\0';
	return true;
}

static bool is_mounted(const char *wanted)
{
	cleanup_fclose FILE *f = fopen("/proc/self/mounts", "re");
	char line[2 * PATH_MAX], folder[PATH_MAX];
	bool found = false;

	while (f && !found && fgets(line, sizeof(line), f))
		found = is_ours(line, folder) && !strcmp(folder, wanted);
	return found;
}

/* The folder of this user's wslxd: wslx-mount leaves a link to it beside that one's socket. */
static bool find_mount(char folder[PATH_MAX])
{
	char dir[PATH_MAX - 16], path[PATH_MAX];
	struct err e = {0};
	ssize_t n;

	if (xdg_runtime(dir, sizeof(dir), &e) < 0)
		return false;
	snprintf(path, sizeof(path), "%s/mnt", dir);
	n = readlink(path, folder, PATH_MAX - 1);
	folder[n < 0 ? 0 : n] = '\0';
	return n > 0 && is_mounted(folder);
}

static int run(const char *const *argv)
{
	struct proc_spawn s = {.argv = argv, .std = {-1, -1, -1}, .keep = -1};
	struct err e = {0};
	pid_t pid = proc_start(&s, &e);
	int status;

	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* --- the unit --- */

static int unit_path(char *buf, size_t cap)
{
	const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
	int n;

	if (config && config[0] == '/')
		n = snprintf(buf, cap, "%s/systemd/user/" UNIT, config);
	else
		n = snprintf(buf, cap, "%s/.config/systemd/user/" UNIT, home ? home : "");
	return n >= (int)cap || buf[0] != '/' ? -ENAMETOOLONG : 0;
}

static bool has_systemd(void)
{
	static const char *const argv[] = {
		"/bin/sh", "-c", "exec systemctl --user show-environment", NULL};

	return access("/run/systemd/system", F_OK) == 0 && run(argv) == 0;
}

/* A word of a unit's command line: nothing in it means anything to systemd. */
static void put_word(FILE *f, const char *s)
{
	fputs(" \"", f);
	for (; *s; s++) {
		if (*s == '"' || *s == '\\')
			fputc('\\', f);
		if (*s == '%' || *s == '$')
			fputc(*s, f);
		fputc(*s, f);
	}
	fputc('"', f);
}

static int write_unit(const char *path, const char *const *argv, struct err *e)
{
	cleanup_free char *text = NULL;
	char dir[PATH_MAX];
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);
	int r;

	if (!f)
		return err_sys(e, -errno, "write %s", path);
	fputs("[Unit]\nDescription=wslx: files of distributions\nDocumentation=man:wslx-mount(1)\n\n"
	      "[Service]\nType=notify\nExecStart=",
		f);
	for (; *argv; argv++)
		put_word(f, *argv);
	fputs("\nRestart=on-failure\n\n[Install]\nWantedBy=default.target\n", f);
	if (fclose(f) != 0)
		return err_sys(e, -ENOMEM, "write %s", path);
	snprintf(dir, sizeof(dir), "%s", path);
	*strrchr(dir, '/') = '\0';
	r = io_mkdir_p(dir, 0755);
	if (r == 0 || r == -EEXIST)
		r = io_replace_file(path, text, len, 0644);
	return r < 0 ? err_sys(e, r, "write %s", path) : 0;
}

static int enable_unit(const char *const *argv, struct err *e)
{
	static const char *const reload[] = {
		"/bin/sh", "-c", "systemctl --user daemon-reload", NULL};
	static const char *const start[] = {"/bin/sh", "-c",
		"systemctl --user enable " UNIT " && systemctl --user restart " UNIT, NULL};
	char path[PATH_MAX];
	int r = unit_path(path, sizeof(path));

	r = r < 0 ? err_sys(e, r, "find the folder of units") : write_unit(path, argv, e);
	if (r < 0)
		return r;
	if (run(reload) != 0 || run(start) != 0)
		return err_set(e, -EIO,
			"systemd does not start it: 'systemctl --user status " UNIT "' says why");
	return 0;
}

/* --- without systemd --- */

static int start_alone(const char *const *argv, struct err *e)
{
	char line[8];
	struct proc_spawn s = {.argv = argv, .std = {-1, -1, STDERR_FILENO}, .detach = true};
	cleanup_close int ready = -EBADF;
	int p[2];
	pid_t pid;

	if (pipe2(p, O_CLOEXEC) < 0)
		return err_sys(e, -errno, "start wslx-mount");
	ready = p[0];
	s.keep = p[1];
	pid = proc_start(&s, e);
	close(p[1]);
	if (pid < 0)
		return pid;
	/* It says so when the folder is mounted; what went wrong it said itself. */
	return read(ready, line, sizeof(line)) > 0 ? 0 : err_set(e, -EIO, "wslx-mount has ended");
}

static int enable(const struct args *a, const char *folder)
{
	char prog[PATH_MAX], other[PATH_MAX];
	const char *argv[9] = {prog};
	struct err e = {0};
	unsigned n = 1;
	bool unit = has_systemd();
	int r = proc_find("wslx-mount", "mount", "WSLX_MOUNT", prog, sizeof(prog), &e);

	if (r < 0)
		return fail("mount: %s", e.text);
	if (find_mount(other))
		return fail("mount: %s is served already; 'wslx mount --disable' ends that", other);
	if (a->user) {
		argv[n++] = "--user";
		argv[n++] = a->user;
	}
	if (a->no_start)
		argv[n++] = "--no-start";
	if (!unit) {
		argv[n++] = "--ready-fd";
		argv[n++] = "3";
	}
	argv[n++] = folder;
	r = unit ? enable_unit(argv, &e) : start_alone(argv, &e);
	if (r < 0)
		return fail("mount: %s", e.text);
	printf("%s\n", folder);
	return finish_output();
}

static int disable(void)
{
	static const char *const stop[] = {
		"/bin/sh", "-c", "systemctl --user disable --now " UNIT, NULL};
	char path[PATH_MAX], folder[PATH_MAX];

	if (unit_path(path, sizeof(path)) == 0 && access(path, F_OK) == 0) {
		if (has_systemd())
			run(stop);
		if (unlink(path) < 0)
			return fail("mount: remove %s: %m", path);
	}
	/* What is in use yet goes when it is not any more. */
	while (find_mount(folder)) {
		const char *argv[] = {
			"/bin/sh", "-c", "exec fusermount3 -u -z \"$0\"", folder, NULL};

		if (run(argv) != 0)
			return fail("mount: fusermount3 does not unmount %s", folder);
	}
	return 0;
}

static int status(const struct args *a)
{
	cleanup_js struct json_object *o = js_object();
	char path[PATH_MAX], folder[PATH_MAX];
	bool mounted = find_mount(folder);
	bool unit = unit_path(path, sizeof(path)) == 0 && access(path, F_OK) == 0;

	if (a->json) {
		js_set_bool(js_set_bool(o, "mounted", mounted), "unit", unit);
		if (mounted)
			js_set_str(o, "folder", folder);
		printf("%s\n", json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY));
	} else if (mounted) {
		printf("The files of distributions are in %s%s.\n", folder,
			unit ? ", also after the next login" : "");
	} else {
		printf("The files of distributions are in no folder; 'wslx mount --enable' changes that.\n");
	}
	return finish_output();
}

int verb_mount_folder(int argc, char **argv)
{
	const char *home = getenv("HOME");
	char folder[PATH_MAX];
	struct args a = {0};
	int r = parse(argc, argv, &a);

	if (r)
		return r;
	if (a.status)
		return status(&a);
	if (a.disable)
		return disable();
	if (a.folder)
		r = absolute_path(a.folder, folder, sizeof(folder));
	else if (!home || home[0] != '/')
		return fail("mount: where your home is, HOME does not say; name a folder");
	else
		r = snprintf(folder, sizeof(folder), "%s/wslx", home) >= (int)sizeof(folder)
			    ? -ENAMETOOLONG
			    : 0;
	return r < 0 ? fail("mount: the folder's path is too long") : enable(&a, folder);
}
