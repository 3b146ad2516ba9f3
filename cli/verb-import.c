/* SPDX-License-Identifier: MIT */
/* wslx --import NAME DIR FILE|-: a new distribution from a root file system archive. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "cli/cli.h"
#include "lib/base/cleanup.h"
#include "lib/conf/conf.h"

struct progress {
	bool show, shown;
	unsigned long long total; /* bytes of the archive; 0: unknown */
};

static void show(void *ctx, struct json_object *event)
{
	struct progress *p = ctx;
	unsigned long long n = js_u64(event, "bytes", 0);

	if (!p->show)
		return;
	p->shown = true;
	if (p->total)
		fprintf(stderr, "\rimporting: %llu %%", n >= p->total ? 100 : n * 100 / p->total);
	else
		fprintf(stderr, "\rimporting: %llu MiB", n >> 20);
}

static int absolute(const char *path, char *buf, size_t cap)
{
	char cwd[PATH_MAX];
	int n;

	if (path[0] == '/')
		n = snprintf(buf, cap, "%s", path);
	else if (!getcwd(cwd, sizeof(cwd)))
		return -errno;
	else
		n = snprintf(buf, cap, "%s/%s", cwd, path);
	return n < 0 || (size_t)n >= cap ? -ENAMETOOLONG : 0;
}

static int open_archive(const char *file, struct progress *p, struct err *e)
{
	cleanup_close int fd = strcmp(file, "-") == 0 ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3)
						      : open(file, O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_sys(e, -errno, "open %s", file);
	if (S_ISDIR(st.st_mode))
		return err_set(e, -EISDIR, "%s is a folder, not an archive", file);
	if (isatty(fd))
		return err_set(e, -EINVAL, "the archive cannot be typed in");
	if (S_ISREG(st.st_mode))
		p->total = (unsigned long long)st.st_size;
	return take_fd(fd);
}

int verb_import(int argc, char **argv)
{
	cleanup(ctl_client_freep) struct ctl_client *c = NULL;
	cleanup_close int fd = -EBADF;
	struct progress p = {.show = isatty(STDERR_FILENO)};
	struct json_object *params;
	uint64_t size = 0;
	char dir[PATH_MAX];
	struct err e = {0};
	int r;

	/* Accepted because scripts for WSL say so: there is only this version. */
	if (argc == 6 && !strcmp(argv[4], "--version") && !strcmp(argv[5], "2"))
		argc = 4;
	if (argc == 6 && !strcmp(argv[4], "--size")) {
		if (conf_size(argv[5], &size) < 0 || size == 0)
			return usage_error("--import: bad size '%s'", argv[5]);
		argc = 4;
	}
	if (argc != 4)
		return usage_error("--import needs a name, a folder and an archive");
	if (absolute(argv[2], dir, sizeof(dir)) < 0)
		return fail("import: %s: path too long", argv[2]);
	fd = open_archive(argv[3], &p, &e);
	if (fd < 0)
		return fail("import %s: %s", argv[1], e.text);
	if (service_connect(&c, &e) < 0)
		return fail("import %s: %s", argv[1], e.text);
	params = js_set_str(js_set_str(js_object(), "name", argv[1]), "dir", dir);
	if (size)
		js_set_u64(params, "size", size);
	struct ctl_req req = {.method = "import",
		.params = params,
		.fds = &fd,
		.nfds = 1,
		.on_event = show,
		.ctx = &p};
	r = ctl_call(c, &req, NULL, &e);
	if (p.shown)
		fputs(r < 0 ? "\n" : "\rimporting: done \n", stderr);
	return r < 0 ? fail("%s", e.text) : 0;
}
