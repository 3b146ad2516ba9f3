/* SPDX-License-Identifier: MIT */
/*
 * wslx --mount DISK [--vhd] [--bare] [-n|--name NAME] [-t|--type TYPE] [-o|--options LIST] [-p|--partition N]
 * wslx --mount FOLDER [-n|--name NAME] [-o|--options LIST]
 * wslx --unmount [DISK|FOLDER]
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
#include "lib/base/cleanup.h"

struct args {
	const char *disk, *name, *type, *options, *partition;
	bool vhd, bare;
};

static int parse(int argc, char **argv, struct args *a)
{
	const struct {
		const char *name, *alias;
		const char **value;
	} with_value[] = {{"--name", "-n", &a->name}, {"--type", "-t", &a->type},
		{"--options", "-o", &a->options}, {"--partition", "-p", &a->partition}};

	for (int i = 1; i < argc; i++) {
		const char *s = argv[i];
		bool taken = true;

		if (!strcmp(s, "--vhd"))
			a->vhd = true;
		else if (!strcmp(s, "--bare"))
			a->bare = true;
		else
			taken = false;
		for (size_t k = 0; !taken && k < ARRAY_LEN(with_value); k++) {
			if (strcmp(s, with_value[k].name) && strcmp(s, with_value[k].alias))
				continue;
			if (i + 1 == argc || !argv[i + 1][0])
				return usage_error("--mount: %s needs an argument", s);
			*with_value[k].value = argv[++i];
			taken = true;
		}
		if (!taken && (s[0] == '-' || a->disk))
			return usage_error("--mount: unexpected argument '%s'", s);
		if (!taken)
			a->disk = s;
	}
	if (!a->disk)
		return usage_error("--mount needs a disk or a folder");
	if (a->bare && (a->name || a->type || a->options || a->partition))
		return usage_error(
			"--mount: --bare excludes --name, --type, --options and --partition");
	return 0;
}

static int partition_number(const char *text, unsigned long *ret)
{
	char *end;

	*ret = strtoul(text, &end, 10);
	return *text < '0' || *text > '9' || *end || *ret < 1 || *ret > 255
		       ? usage_error(
				 "--mount: --partition '%s': a number from 1 on is needed", text)
		       : 0;
}

/* For writing where that may be, and, a device, for nobody else meanwhile. */
static int open_disk(const char *path, struct err *e)
{
	int fd, flags = O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
	struct stat st;

	if (stat(path, &st) < 0)
		return err_sys(e, -errno, "%s", path);
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return err_set(
			e, -EINVAL, "%s is neither a folder, a file nor a block device", path);
	if (S_ISBLK(st.st_mode))
		flags |= O_EXCL;
	fd = open(path, O_RDWR | flags);
	if (fd < 0 && (errno == EACCES || errno == EROFS || errno == EPERM))
		fd = open(path, O_RDONLY | flags);
	if (fd < 0 && errno == EBUSY)
		return err_set(e, -EBUSY,
			"%s is in use by this host: mounted, or part of something", path);
	return fd < 0 ? err_sys(e, -errno, "%s", path) : fd;
}

/* For what may be listed, so that who may not is told here and not by an empty mount. */
static int open_folder(const struct args *a, struct err *e)
{
	int fd;

	if (a->vhd || a->bare || a->type || a->partition)
		return err_set(e, -EISDIR, "%s is a folder: %s is for disks", a->disk,
			a->vhd	  ? "--vhd"
			: a->bare ? "--bare"
			: a->type ? "--type"
				  : "--partition");
	fd = open(a->disk, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_sys(e, -errno, "%s", a->disk);
	if (faccessat(fd, ".", X_OK, AT_EACCESS) < 0) {
		close(fd);
		return err_sys(e, -EACCES, "%s", a->disk);
	}
	return fd;
}

static bool is_folder(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* In which format? Only who names the disk says so: what a raw one holds, a guest may have written. */
static int check_format(const struct args *a, int fd, bool *ret_vhdx, struct err *e)
{
	*ret_vhdx = is_vhdx(fd) && a->vhd;
	if (a->vhd && !*ret_vhdx && (ends_in(a->disk, ".vhdx") || ends_in(a->disk, ".vhd")))
		return err_set(e, -EINVAL, "%s is not a VHDX file", a->disk);
	if (!a->vhd && (ends_in(a->disk, ".vhdx") || ends_in(a->disk, ".vhd")))
		return err_set(e, -EINVAL, "%s is a virtual disk; mount it with --vhd", a->disk);
	return 0;
}

static struct json_object *describe(const struct args *a, const char *path, unsigned long partition)
{
	struct json_object *o = js_set_str(js_object(), "disk", path);

	js_set_bool(o, "bare", a->bare);
	if (a->name)
		js_set_str(o, "name", a->name);
	if (a->type)
		js_set_str(o, "type", a->type);
	if (a->options)
		js_set_str(o, "options", a->options);
	return partition ? js_set_u64(o, "partition", partition) : o;
}

int verb_mount(int argc, char **argv)
{
	cleanup(ctl_client_freep) struct ctl_client *c = NULL;
	cleanup_js struct json_object *reply = NULL;
	cleanup_free char *path = NULL;
	cleanup_close int fd = -EBADF;
	struct ctl_req req = {.method = "mount", .nfds = 1};
	unsigned long partition = 0;
	struct args a = {0};
	struct err e = {0};
	bool vhdx = false, folder;
	int r = parse(argc, argv, &a);

	if (r == 0 && a.partition)
		r = partition_number(a.partition, &partition);
	if (r)
		return r;
	folder = is_folder(a.disk);
	fd = folder ? open_folder(&a, &e) : open_disk(a.disk, &e);
	if (fd < 0 || (!folder && check_format(&a, fd, &vhdx, &e) < 0))
		return fail("mount: %s", e.text);
	path = realpath(a.disk, NULL);
	if (!path)
		return fail("mount: %s: %m", a.disk);
	if (service_connect(&c, &e) < 0)
		return fail("mount %s: %s", a.disk, e.text);
	req.params = js_set_bool(describe(&a, path, partition), "vhdx", vhdx);
	req.fds = &fd;
	if (ctl_call(c, &req, &reply, &e) < 0)
		return fail("%s", e.text);
	if (a.bare)
		printf("/dev/%s\n", js_str(reply, "device", ""));
	else
		printf("/mnt/wsl/%s\n", js_str(reply, "name", ""));
	return finish_output();
}

int verb_unmount(int argc, char **argv)
{
	cleanup_free char *real = NULL;
	struct json_object *params;
	char path[PATH_MAX];

	if (argc > 2 || (argc == 2 && argv[1][0] == '-'))
		return usage_error("--unmount: unexpected argument '%s'", argv[argc - 1]);
	params = js_object();
	if (argc == 2) {
		real = realpath(argv[1], NULL);
		if (!real && absolute_path(argv[1], path, sizeof(path)) < 0) {
			js_free(params);
			return fail("unmount: %s: path too long", argv[1]);
		}
		js_set_str(params, "disk", real ? real : path);
	}
	return service_call("unmount", "unmount", params, NULL);
}
