/* SPDX-License-Identifier: MIT */
/*
 * wslx --export NAME FILE|- [--format FORMAT] [--vhd]: a distribution's files as an archive, or its disk. The file gets
 * its name when it is complete; until then it has none, so nothing is left of it when somebody is killed.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>
#include "cli/cli.h"
#include "cli/progress.h"
#include "lib/base/cleanup.h"

static const struct {
	const char *suffix, *format;
} suffixes[] = {
	{".tar.gz", "tar.gz"},
	{".tgz", "tar.gz"},
	{".wsl", "tar.gz"},
	{".tar.xz", "tar.xz"},
	{".txz", "tar.xz"},
	{".tar.zst", "tar.zst"},
	{".tzst", "tar.zst"},
	{".img", "raw"},
	{".raw", "raw"},
	{".vhdx", "vhdx"},
};

static const char *const formats[] = {"tar", "tar.gz", "tar.xz", "tar.zst", "raw", "vhdx"};

struct args {
	const char *name, *file, *format;
	bool vhd;
};

static int parse(int argc, char **argv, struct args *a)
{
	bool known = false;

	for (int i = 1; i < argc; i++) {
		const char *s = argv[i];

		if (!strcmp(s, "--vhd"))
			a->vhd = true;
		else if (!strcmp(s, "--format") && i + 1 < argc)
			a->format = argv[++i];
		else if (s[0] == '-' && s[1] == '-')
			return usage_error("--export: unexpected argument '%s'", s);
		else if (!a->name)
			a->name = s;
		else if (!a->file)
			a->file = s;
		else
			return usage_error("--export: unexpected argument '%s'", s);
	}
	if (!a->file)
		return usage_error("--export needs the name of a distribution and a file");
	if (a->format && !strcmp(a->format, "vhd"))
		a->format = "vhdx"; /* WSL's name for it */
	for (unsigned i = 0; i < ARRAY_LEN(formats); i++)
		known |= a->format && !strcmp(a->format, formats[i]);
	if (a->format && !known)
		return usage_error("--export: unknown format '%s'", a->format);
	if (a->vhd && a->format && strcmp(a->format, "vhdx") != 0)
		return usage_error("--export: --vhd and --format %s exclude each other", a->format);
	if (a->vhd)
		a->format = "vhdx";
	return 0;
}

static const char *format_of(const char *file)
{
	size_t n = strlen(file);

	for (unsigned i = 0; i < ARRAY_LEN(suffixes); i++) {
		size_t k = strlen(suffixes[i].suffix);

		if (n > k && !strcasecmp(file + n - k, suffixes[i].suffix))
			return suffixes[i].format;
	}
	return "tar";
}

struct target {
	int fd;
	const char *path;    /* the name it gets at the end; NULL: it has one */
	char part[PATH_MAX]; /* where files without names are not supported: its name until then */
};

static char part_path[PATH_MAX]; /* for the signal handler */

static void on_signal(int signo)
{
	unlink(part_path);
	signal(signo, SIG_DFL);
	raise(signo);
}

static int make_part(struct target *t, struct err *e)
{
	static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};

	if (snprintf(t->part, sizeof(t->part), "%s.part", t->path) >= (int)sizeof(t->part))
		return err_set(e, -ENAMETOOLONG, "%s: path too long", t->path);
	t->fd = open(t->part, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	if (t->fd < 0) {
		err_sys(e, -errno, "create %s", t->part);
		t->part[0] = '\0';
		return e->code;
	}
	strcpy(part_path, t->part);
	for (unsigned i = 0; i < ARRAY_LEN(signals); i++)
		signal(signals[i], on_signal);
	return 0;
}

static int make_file(struct target *t, const char *path, struct err *e)
{
	char copy[PATH_MAX];

	t->path = path;
	if (snprintf(copy, sizeof(copy), "%s", path) >= (int)sizeof(copy))
		return err_set(e, -ENAMETOOLONG, "%s: path too long", path);
	t->fd = open(dirname(copy), O_TMPFILE | O_RDWR | O_CLOEXEC, 0666);
	if (t->fd >= 0)
		return 0;
	if (errno == EOPNOTSUPP || errno == EISDIR)
		return make_part(t, e);
	return err_sys(e, -errno, "create %s", path);
}

static int open_target(struct target *t, const char *file, struct err *e)
{
	struct stat st;

	if (!strcmp(file, "-")) {
		t->fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
		if (t->fd < 0)
			return err_sys(e, -errno, "write to standard output");
		if (isatty(t->fd))
			return err_set(
				e, -EINVAL, "an archive would upset the terminal; redirect it");
		return 0;
	}
	if (stat(file, &st) < 0)
		return errno == ENOENT ? make_file(t, file, e)
				       : err_sys(e, -errno, "create %s", file);
	if (S_ISREG(st.st_mode))
		return err_set(e, -EEXIST, "%s exists already", file);
	if (S_ISDIR(st.st_mode))
		return err_set(e, -EISDIR, "%s is a folder", file);
	t->fd = open(file, O_WRONLY | O_CLOEXEC | O_NOCTTY);
	return t->fd < 0 ? err_sys(e, -errno, "open %s", file) : 0;
}

/* The file is complete: now it gets its name, unless that was taken meanwhile. */
static int publish(struct target *t, struct err *e)
{
	cleanup_close int dir = -EBADF;
	char copy[PATH_MAX];
	int r;

	if (!t->path)
		return 0;
	if (t->part[0]) {
		r = renameat2(AT_FDCWD, t->part, AT_FDCWD, t->path, RENAME_NOREPLACE);
		if (r < 0 && (errno == EINVAL || errno == ENOSYS))
			r = link(t->part, t->path);
	} else {
		snprintf(copy, sizeof(copy), "/proc/self/fd/%d", t->fd);
		r = linkat(AT_FDCWD, copy, AT_FDCWD, t->path, AT_SYMLINK_FOLLOW);
	}
	if (r < 0)
		return err_sys(e, -errno, "create %s", t->path);
	strcpy(copy, t->path);
	dir = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return dir >= 0 && fsync(dir) < 0 && errno != EINVAL
		       ? err_sys(e, -errno, "bring %s to stable storage", t->path)
		       : 0;
}

static void close_target(struct target *t)
{
	if (t->part[0])
		unlink(t->part);
	if (t->fd >= 0)
		close(t->fd);
}

static int export_to(const struct args *a, struct target *t, uint64_t *ret_skipped, struct err *e)
{
	cleanup(ctl_client_freep) struct ctl_client *c = NULL;
	cleanup_js struct json_object *reply = NULL;
	struct json_object *params;
	int r = service_connect(&c, e);

	if (r == 0)
		r = open_target(t, a->file, e);
	if (r < 0)
		return err_wrap(e, r, "export %s", a->name);
	params = js_set_str(js_set_str(js_object(), "name", a->name), "format", a->format);
	r = progress_call(c, "exporting", "export", params, t->fd, &reply, e);
	if (r == 0) {
		r = publish(t, e);
		if (r < 0)
			err_wrap(e, r, "export %s", a->name);
	}
	*ret_skipped = js_u64(reply, "skipped", 0);
	return r;
}

int verb_export(int argc, char **argv)
{
	struct target t = {.fd = -EBADF};
	struct args a = {0};
	uint64_t skipped = 0;
	struct err e = {0};
	int r = parse(argc, argv, &a);

	if (r)
		return r;
	if (!a.format)
		a.format = format_of(a.file);
	r = export_to(&a, &t, &skipped, &e);
	close_target(&t);
	if (r < 0)
		return fail("%s", e.text);
	if (skipped)
		warning("%llu sockets were left out: no archive can hold them",
			(unsigned long long)skipped);
	return 0;
}
