/* SPDX-License-Identifier: MIT */
/*
 * "import": a new distribution from a root file system archive, which arrives as a descriptor.
 * lib/image makes the disk, in a process of its own; the note in pending/, the rename and the
 * registry, in this order, see to it that a crash leaves all of it or nothing.
 */
#include "daemon/service.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>
#include "lib/base/io.h"
#include "lib/image/image.h"

/* Sparse: a disk takes the space of what is in it. */
#define DEFAULT_SIZE ((uint64_t)1 << 40)

struct import {
	struct service *s;
	struct ctl_call *call;
	struct reg_entry entry; /* dir is owned */
	int archive, disk;
	struct image_job *job;
	struct loop_src *news;
	bool renamed; /* the disk in dir is ours */
};

static void import_free(struct import *im)
{
	im->s->jobs--;
	idle_check(im->s);
	loop_src_free(im->news);
	image_job_free(im->job);
	if (im->archive >= 0)
		close(im->archive);
	if (im->disk >= 0)
		close(im->disk);
	free(im->entry.dir);
	free(im);
}

static void import_fail(struct import *im, const struct err *e)
{
	struct err wrapped = *e, ignored = {0};

	err_wrap(&wrapped, e->code, "import %s", im->entry.name);
	im->news = loop_src_free(im->news);
	image_job_free(im->job); /* nobody writes to the disk from here on */
	im->job = NULL;
	if (registry_remove_files(&im->entry, !im->renamed, &ignored) == 0)
		registry_settled(im->s->reg, im->entry.id);
	ctl_fail(im->call, &wrapped);
	import_free(im);
}

/* The disk is whole: give it its name, then register it. */
static int publish(struct import *im, struct err *e)
{
	char part[PATH_MAX], disk[PATH_MAX];
	cleanup_close int dir = open(im->entry.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = registry_disk(&im->entry, true, part, sizeof(part));

	if (r == 0)
		r = registry_disk(&im->entry, false, disk, sizeof(disk));
	if (r == 0 && (dir < 0 || renameat2(AT_FDCWD, part, AT_FDCWD, disk, RENAME_NOREPLACE) < 0))
		r = -errno;
	im->renamed = r == 0;
	if (r == 0 && fsync(dir) < 0)
		r = -errno;
	if (r < 0)
		return err_sys(e, r, "%s", im->entry.dir);
	return registry_add(im->s->reg, &im->entry, e);
}

static void job_news(void *ctx, int fd, uint32_t revents)
{
	struct import *im = ctx;
	struct image_progress p = {0};
	struct err e = {0};
	int r = image_job_read(im->job, &p, &e);

	if (r == 0) {
		struct json_object *o = js_set_u64(js_object(), "bytes", p.read);

		ctl_event(im->call, js_set_u64(o, "files", p.files));
		return;
	}
	if (r > 0)
		r = publish(im, &e);
	if (r < 0) {
		import_fail(im, &e);
		return;
	}
	registry_settled(im->s->reg, im->entry.id);
	ctl_reply(im->call, js_set_str(js_object(), "id", im->entry.id), NULL);
	import_free(im);
}

static void client_gone(void *ctx)
{
	struct import *im = ctx;
	struct err e = {0};

	err_set(&e, -ECANCELED, "the client went away");
	import_fail(im, &e);
}

/* Makes the folder if it is missing; an existing one is used as it is. */
static int prepare_dir(struct import *im, struct err *e)
{
	char parent[PATH_MAX];
	struct stat st;
	int r;

	if (mkdir(im->entry.dir, 0700) == 0)
		return 0;
	if (errno == ENOENT) {
		snprintf(parent, sizeof(parent), "%s", im->entry.dir);
		*strrchr(parent, '/') = '\0';
		r = io_mkdir_p(parent, 0700);
		if (r < 0)
			return err_sys(e, r, "make %s", parent);
		if (mkdir(im->entry.dir, 0700) == 0)
			return 0;
	}
	if (errno != EEXIST)
		return err_sys(e, -errno, "make %s", im->entry.dir);
	if (stat(im->entry.dir, &st) < 0)
		return err_sys(e, -errno, "%s", im->entry.dir);
	return S_ISDIR(st.st_mode) ? 0 : err_set(e, -ENOTDIR, "%s is not a folder", im->entry.dir);
}

static int start_job(struct import *im, uint64_t size, struct err *e)
{
	char part[PATH_MAX];
	int r = registry_disk(&im->entry, true, part, sizeof(part));

	if (r == 0) {
		im->disk = open(part, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		r = im->disk < 0 ? -errno : 0;
	}
	if (r < 0)
		return err_sys(e, r, "make a disk in %s", im->entry.dir);
	const struct image_import_opts o = {.in_fd = im->archive, .out_fd = im->disk, .size = size};

	r = image_job_start(&im->job, &o, e);
	if (r < 0)
		return r;
	r = loop_io(im->s->loop, image_job_fd(im->job), EPOLLIN, job_news, im, &im->news);
	return r < 0 ? err_sys(e, r, "watch the import") : 0;
}

void import_method(void *service, struct ctl_call *call, struct json_object *params)
{
	struct service *s = service;
	const char *name = js_str(params, "name", ""), *dir = js_str(params, "dir", "");
	struct import *im = calloc(1, sizeof(*im));
	char disk[PATH_MAX];
	struct err e = {0};

	if (!im || !(im->entry.dir = strdup(dir)))
		abort();
	im->s = s;
	im->call = call;
	im->archive = ctl_call_take_fd(call, 0);
	im->disk = -EBADF;
	s->jobs++;
	registry_new_id(im->entry.id);
	snprintf(im->entry.name, sizeof(im->entry.name), "%s", name);
	im->entry.uid = (uint32_t)js_u64(params, "uid", 0);
	for (size_t n = strlen(im->entry.dir); n > 1 && im->entry.dir[n - 1] == '/'; n--)
		im->entry.dir[n - 1] = '\0';

	/* Nothing is touched before all of this holds. */
	if (!registry_name_ok(name))
		err_set(&e, -EINVAL,
			"'%.80s' is no name for a distribution (letters, digits, . _ -)", name);
	else if (registry_find(s->reg, name))
		err_set(&e, -EEXIST, "a distribution named '%s' exists already", name);
	else if (dir[0] != '/' || registry_disk(&im->entry, true, disk, sizeof(disk)) < 0)
		err_set(&e, -EINVAL, "'%.80s' is not an absolute path", dir);
	else if (registry_disk(&im->entry, false, disk, sizeof(disk)) == 0 &&
		 faccessat(AT_FDCWD, disk, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		err_set(&e, -EEXIST, "%s holds a disk already", dir);
	else if (registry_disk(&im->entry, true, disk, sizeof(disk)) == 0 &&
		 faccessat(AT_FDCWD, disk, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		err_set(&e, -EEXIST, "another import into %s is under way", dir);
	if (e.code) {
		err_wrap(&e, e.code, "import");
		ctl_fail(call, &e);
		import_free(im);
		return;
	}
	im->entry.own_dir = access(im->entry.dir, F_OK) < 0;
	if (registry_pending(s->reg, &im->entry, &e) < 0 || prepare_dir(im, &e) < 0 ||
		start_job(im, js_u64(params, "size", DEFAULT_SIZE), &e) < 0) {
		import_fail(im, &e);
		return;
	}
	ctl_call_on_close(call, client_gone, im);
}
