/* SPDX-License-Identifier: MIT */
/*
 * wslx --install [NAME] [OPTION...]: a distribution from the list (wslx --list --online), or from a
 * file; then a first shell in it.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>
#include "cli/catalogue.h"
#include "cli/cli.h"
#include "cli/fetch.h"
#include "cli/progress.h"
#include "cli/session.h"
#include "lib/base/cleanup.h"
#include "lib/conf/conf.h"

struct args {
	const char *what, *file, *name, *dir, *fs;
	uint64_t size;
	bool no_launch, nothing, fixed;
};

/* What scripts for WSL say, and what has no meaning or is always so here. */
static bool ignored(const char *s)
{
	static const char *const names[] = {"--enable-wsl1", "--legacy", "--web-download",
		"--pre-release", "--prompt-before-exit", "--inbox"};

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (!strcmp(s, names[i]))
			return true;
	return false;
}

static bool is(const char *s, const char *longname, const char *shortname)
{
	return !strcmp(s, longname) || (shortname && !strcmp(s, shortname));
}

static int value_option(const char *s, const char *value, struct args *a)
{
	const char **to = is(s, "--distribution", "-d")	 ? &a->what
			  : is(s, "--from-file", "-f")	 ? &a->file
			  : is(s, "--name", NULL)	 ? &a->name
			  : is(s, "--location", "-l")	 ? &a->dir
			  : is(s, "--file-system", NULL) ? &a->fs
							 : NULL;

	if (to) {
		*to = value;
		return 0;
	}
	if (is(s, "--vhd-size", NULL))
		return conf_size(value, &a->size) < 0 || a->size == 0
			       ? usage_error("--install: bad size '%s'", value)
			       : 0;
	if (is(s, "--version", NULL))
		return strcmp(value, "2")
			       ? usage_error(
					 "--install: version '%s' is not supported; 2 is", value)
			       : 0;
	return usage_error("--install: unknown option '%s'", s);
}

static int parse(int argc, char **argv, struct args *a)
{
	for (int i = 1; i < argc; i++) {
		const char *s = argv[i];
		int r;

		if (is(s, "--no-launch", "-n")) {
			a->no_launch = true;
		} else if (is(s, "--no-distribution", NULL)) {
			a->nothing = true;
		} else if (is(s, "--fixed-vhd", NULL)) {
			a->fixed = true;
		} else if (s[0] == '-' && s[1]) {
			if (ignored(s))
				continue;
			if (i + 1 == argc)
				return usage_error(
					"--install: %s needs an argument, or is unknown", s);
			r = value_option(s, argv[++i], a);
			if (r)
				return r;
		} else if (a->what) {
			return usage_error("--install: one distribution at a time");
		} else {
			a->what = s;
		}
	}
	if (a->what && a->file)
		return usage_error(
			"--install: a distribution's name and --from-file exclude each other");
	if (a->fixed && !a->size)
		return usage_error("--install: --fixed-vhd needs --vhd-size");
	return 0;
}

/* A name for what comes from a file: the file's, up to the first dot. */
static void name_of(const char *file, char *buf, size_t cap)
{
	const char *base = strrchr(file, '/') ? strrchr(file, '/') + 1 : file;
	size_t n = 0;

	for (; *base && *base != '.' && n < cap - 1; base++)
		if (isalnum((unsigned char)*base) || (n && strchr("_-", *base)))
			buf[n++] = *base;
	buf[n] = '\0';
	if (!n)
		snprintf(buf, cap, "distribution");
}

static int import(struct ctl_client *c, const char *name, const struct args *a, int fd,
	struct json_object **ret)
{
	struct json_object *params = js_set_str(js_object(), "name", name);
	char dir[PATH_MAX];
	struct err e = {0};
	int r;

	if (a->dir) {
		if (absolute_path(a->dir, dir, sizeof(dir)) < 0) {
			js_free(params);
			return fail("install %s: %s: path too long", name, a->dir);
		}
		js_set_str(params, "dir", dir);
	}
	if (a->size)
		js_set_u64(params, "size", a->size);
	if (a->fs)
		js_set_str(params, "fs", a->fs);
	r = progress_call(c, "installing", "import", params, fd, ret, &e);
	return r < 0 ? fail("install %s: %s", name, e.text) : 0;
}

static int open_file(const char *file, struct err *e)
{
	int fd = strcmp(file, "-") ? open(file, O_RDONLY | O_CLOEXEC)
				   : fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);

	return fd < 0 ? err_sys(e, -errno, "%s", file) : fd;
}

/* Before much is fetched for it. */
static int check_name_is_free(const char *name)
{
	cleanup_js struct json_object *reply = NULL;
	struct json_object *list;
	int r = service_call("install a distribution", "list", NULL, &reply);

	if (r)
		return r;
	list = js_get(reply, "distributions");
	for (size_t i = 0; list && i < json_object_array_length(list); i++)
		if (!strcasecmp(js_str(json_object_array_get_idx(list, i), "name", ""), name))
			return fail(
				"install %s: a distribution of this name exists already; --name gives it another",
				name);
	return 0;
}

/* Its archive, and the name it will have; negative: what went wrong has been said. */
static int obtain(const struct args *a, char *name, size_t cap)
{
	cleanup(catalogue_freep) struct catalogue *list = NULL;
	const struct catalogue_entry *en;
	struct err e = {0};
	int fd;

	if (a->file) {
		if (a->name)
			snprintf(name, cap, "%s", a->name);
		else
			name_of(a->file, name, cap);
		fd = open_file(a->file, &e);
		if (fd < 0)
			fail("install %s: %s", name, e.text);
		return fd;
	}
	if (catalogue_load(&list, &e) < 0) {
		fail("install: %s", e.text);
		return -1;
	}
	en = catalogue_find(list, a->what);
	if (!en) {
		fail("install: there is no distribution '%s' in the list; 'wslx --list "
		     "--online' shows all",
			a->what ? a->what : "");
		return -1;
	}
	snprintf(name, cap, "%s", a->name ? a->name : en->name);
	if (check_name_is_free(name))
		return -1;
	fprintf(stderr, "%s %s...\n", en->url ? "Downloading" : "Making", en->friendly);
	fd = fetch_archive(en, &e);
	if (fd < 0)
		fail("install %s: %s", name, e.text);
	return fd;
}

/* What the archive calls itself, unless that is taken or no name. */
static void take_default_name(struct json_object *reply, char *name, size_t cap)
{
	const char *own = js_str(reply, "default_name", "");
	cleanup(ctl_client_freep) struct ctl_client *c = NULL;
	struct json_object *params;

	if (!*own || !strcasecmp(own, name) || service_connect(&c, NULL) < 0)
		return;
	params = js_set_str(js_set_str(js_object(), "name", name), "new_name", own);
	struct ctl_req req = {.method = "rename", .params = params};

	if (ctl_call(c, &req, NULL, NULL) == 0)
		snprintf(name, cap, "%s", own);
}

int verb_install(int argc, char **argv)
{
	cleanup(ctl_client_freep) struct ctl_client *c = NULL;
	cleanup_js struct json_object *reply = NULL;
	cleanup_close int fd = -EBADF;
	struct args a = {0};
	char name[128], *none[] = {NULL};
	struct err e = {0};
	int r = parse(argc, argv, &a);

	if (r || a.nothing)
		return r;
	if (a.fixed)
		warning("disks of wslx are sparse always: --fixed-vhd is ignored");
	fd = obtain(&a, name, sizeof(name));
	if (fd < 0)
		return EX_OURS;
	if (service_connect(&c, &e) < 0)
		return fail("install %s: %s", name, e.text);
	r = import(c, name, &a, fd, &reply);
	if (r)
		return r;
	if (a.file && !a.name)
		take_default_name(reply, name, sizeof(name));
	fprintf(stderr, "Distribution %s is installed; 'wslx -d %s' starts it.\n", name, name);
	if (a.no_launch || !isatty(STDIN_FILENO))
		return 0;

	const struct session_spec spec = {.distribution = name, .args = none};

	return session_run(&spec);
}
