/* SPDX-License-Identifier: MIT */
/* wslpath(1): a file's name on the other side. */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "guest/info.h"
#include "guest/tools.h"

static const char usage[] = "usage: wslpath [-a] [-u | -w | -m] PATH\n"
			    "\n"
			    "Translates a file's name between the host and this distribution.\n"
			    "\n"
			    "  -u      from the host's to the distribution's (default)\n"
			    "  -w, -m  from the distribution's to the host's\n"
			    "  -a      make it absolute\n"
			    "  --help\n";

static int to_guest(const struct info *in, const char *path, bool absolute, char *buf, size_t cap)
{
	struct wslpath_map map = info_map(in);
	char cwd[PATH_MAX];
	int n;

	if (path[0] == '/' || wslpath_foreign(path))
		return wslpath_to_guest(&map, path, buf, cap);
	if (!*path)
		return -EINVAL;
	/* A relative name is the same on both sides. */
	if (!absolute)
		n = snprintf(buf, cap, "%s", path);
	else if (getcwd(cwd, sizeof(cwd)))
		n = snprintf(buf, cap, "%s/%s", strcmp(cwd, "/") ? cwd : "", path);
	else
		return -errno;
	return n < (int)cap ? 0 : -ENAMETOOLONG;
}

/* What of path is below dir, "." for itself; NULL: it is not in there. */
static const char *relative(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	while (n && dir[n - 1] == '/')
		n--;
	if (strncmp(path, dir, n) != 0 || (path[n] && path[n] != '/'))
		return NULL;
	path += n;
	while (*path == '/')
		path++;
	return *path ? path : ".";
}

static int to_host(const struct info *in, const char *path, bool absolute, char *buf, size_t cap)
{
	char here[PATH_MAX];
	const char *rest;
	int r = info_to_host(in, path, buf, cap);

	if (r < 0 || absolute || path[0] == '/')
		return r;
	/* Relative in, relative out, unless a link leads elsewhere. */
	if (info_to_host(in, ".", here, sizeof(here)) < 0)
		return 0;
	rest = relative(buf, here);
	if (rest)
		memmove(buf, rest, strlen(rest) + 1);
	return 0;
}

int wslpath_main(int argc, char **argv)
{
	static const struct option longopts[] = {{"help", no_argument, NULL, 'h'}, {0}};
	bool absolute = false, host = false;
	char buf[2 * PATH_MAX];
	struct info in = {0};
	struct err e = {0};
	int c, r;

	while ((c = getopt_long(argc, argv, "auwm", longopts, NULL)) != -1) {
		switch (c) {
		case 'a': absolute = true; break;
		case 'u': host = false; break;
		case 'w':
		case 'm': host = true; break;
		case 'h': fputs(usage, stdout); return 0;
		default: fputs(usage, stderr); return 1;
		}
	}
	if (optind != argc - 1) {
		fputs(usage, stderr);
		return 1;
	}
	if (info_load(&in, &e) < 0) {
		fprintf(stderr, "wslpath: %s\n", e.text);
		return 1;
	}
	r = (host ? to_host : to_guest)(&in, argv[optind], absolute, buf, sizeof(buf));
	info_done(&in);
	if (r < 0) {
		fprintf(stderr, "wslpath: %s: %s\n", argv[optind], strerror(-r));
		return 1;
	}
	printf("%s\n", buf);
	return fflush(stdout) == 0 ? 0 : 1;
}
