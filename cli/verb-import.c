/* SPDX-License-Identifier: MIT */
/*
 * wslx --import NAME DIR FILE|-: a new distribution from a root file system archive, a container image or a disk image.
 * wslx --import-in-place NAME FILE [--vhd]: from a disk image, which stays where it is.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>
#include "cli/cli.h"
#include "cli/progress.h"
#include "lib/base/cleanup.h"
#include "lib/conf/conf.h"

/* A folder can only be a container image. */
static bool is_layout(int dir)
{
	return faccessat(dir, "oci-layout", F_OK, 0) == 0;
}

static int open_archive(const char *file, struct err *e)
{
	cleanup_close int fd = strcmp(file, "-") == 0 ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3)
						      : open(file, O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_sys(e, -errno, "open %s", file);
	if (S_ISDIR(st.st_mode) && !is_layout(fd))
		return err_set(e, -EISDIR,
			"%s is a folder, not an archive, and not an OCI image layout either", file);
	if (isatty(fd))
		return err_set(e, -EINVAL, "the archive cannot be typed in");
	return take_fd(fd);
}

struct args {
	const char *pos[3]; /* name, folder, file */
	const char *fs;	    /* NULL: the default */
	uint64_t size;
	bool vhd;
};

static int parse(int argc, char **argv, struct args *a)
{
	unsigned n = 0;

	for (int i = 1; i < argc; i++) {
		const char *s = argv[i], *value = i + 1 < argc ? argv[i + 1] : "";

		if (!strcmp(s, "--vhd")) {
			a->vhd = true;
		} else if (i + 1 == argc && (!strcmp(s, "--version") || !strcmp(s, "--size"))) {
			return usage_error("--import: %s needs an argument", s);
		} else if (!strcmp(s, "--version")) {
			/* Accepted because scripts for WSL say so: there is only this version. */
			if (strcmp(value, "2") != 0)
				return usage_error(
					"--import: version '%s' is not supported; 2 is", value);
			i++;
		} else if (!strcmp(s, "--size")) {
			if (conf_size(value, &a->size) < 0 || a->size == 0)
				return usage_error("--import: bad size '%s'", value);
			i++;
		} else if (!strcmp(s, "--file-system")) {
			if (!*value)
				return usage_error(
					"--import: --file-system needs ext4, xfs or btrfs");
			a->fs = value;
			i++;
		} else if ((s[0] == '-' && s[1] == '-') || n == 3) {
			return usage_error("--import: unexpected argument '%s'", s);
		} else {
			a->pos[n++] = s;
		}
	}
	if (n != 3)
		return usage_error("--import needs a name, a folder and an archive");
	return 0;
}

int verb_import(int argc, char **argv)
{
	cleanup(ctl_client_freep) struct ctl_client *c = NULL;
	cleanup_close int fd = -EBADF;
	struct json_object *params;
	struct args a = {0};
	char dir[PATH_MAX];
	struct err e = {0};
	int r = parse(argc, argv, &a);

	if (r)
		return r;
	/* As WSL has it: a disk is imported as a disk only when told so. */
	if (!a.vhd && (ends_in(a.pos[2], ".vhdx") || ends_in(a.pos[2], ".vhd")))
		return fail("import %s: %s is a virtual disk; import it with --vhd", a.pos[0],
			a.pos[2]);
	if (absolute_path(a.pos[1], dir, sizeof(dir)) < 0)
		return fail("import: %s: path too long", a.pos[1]);
	fd = open_archive(a.pos[2], &e);
	if (fd < 0)
		return fail("import %s: %s", a.pos[0], e.text);
	if (service_connect(&c, &e) < 0)
		return fail("import %s: %s", a.pos[0], e.text);
	params = js_set_str(js_set_str(js_object(), "name", a.pos[0]), "dir", dir);
	if (a.size)
		js_set_u64(params, "size", a.size);
	if (a.fs)
		js_set_str(params, "fs", a.fs);
	if (a.vhd && is_vhdx(fd))
		js_set_bool(params, "vhd", true);
	r = progress_call(c, "importing", "import", params, fd, NULL, &e);
	return r < 0 ? fail("%s", e.text) : 0;
}

/* As with --import, a virtual disk is one only when told so: by its name, or by --vhd. */
static int in_place_format(const char *what, const char *path, bool vhd, bool *ret_vhd)
{
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return fail("%s: %s: %m", what, path);
	*ret_vhd = (vhd || ends_in(path, ".vhdx")) && is_vhdx(fd);
	if (!*ret_vhd && (ends_in(path, ".vhdx") || ends_in(path, ".vhd")))
		return fail("%s: %s is not a VHDX file", what, path);
	return 0;
}

int verb_import_in_place(int argc, char **argv)
{
	cleanup_free char *path = NULL;
	cleanup(ctl_client_freep) struct ctl_client *c = NULL;
	bool vhd = argc == 4 && !strcmp(argv[3], "--vhd");
	struct err e = {0};
	struct json_object *params;
	char what[512];

	if (argc != 3 && !vhd)
		return usage_error("--import-in-place needs a name and a disk image");
	snprintf(what, sizeof(what), "import %s", argv[1]);
	path = realpath(argv[2], NULL);
	if (!path)
		return fail("%s: %s: %s", what, argv[2], strerror(errno));
	if (in_place_format(what, path, vhd, &vhd))
		return EX_OURS;
	params = js_set_str(js_set_str(js_object(), "name", argv[1]), "disk", path);
	js_set_bool(params, "vhd", vhd);
	if (service_connect(&c, &e) < 0) {
		js_free(params);
		return fail("%s: %s", what, e.text);
	}
	return progress_call(c, "importing", "import-in-place", params, -1, NULL, &e) < 0
		       ? fail("%s", e.text)
		       : 0;
}
