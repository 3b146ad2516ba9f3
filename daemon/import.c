/* SPDX-License-Identifier: MIT */
/*
 * "import": a new distribution from a root file system archive, a container image or a disk image,
 * which arrives as a descriptor. lib/image makes the disk, in a process of its own; the note in
 * pending/, the rename and the registry, in this order, see to it that a crash leaves all of it or
 * nothing. "import-in-place": a disk image becomes a distribution where it is.
 */
#include "daemon/service.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include "lib/base/io.h"
#include "lib/image/image.h"

struct import {
	struct service *s;
	struct ctl_call *call;
	struct reg_entry entry; /* dir is owned */
	int archive, disk, spool;
	uint64_t size;
	bool uid_given, vhd;
	struct image_job *job;
	struct loop_src *news;
	bool packing; /* the job makes an archive of a folder; the import follows */
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
	if (im->spool >= 0)
		close(im->spool);
	free(im->entry.dir);
	free(im->entry.disk);
	free(im);
}

static void import_fail(struct import *im, const struct err *e)
{
	struct err wrapped = *e, ignored = {0};

	err_wrap(&wrapped, e->code, "import %s", im->entry.name);
	im->news = loop_src_free(im->news);
	image_job_free(im->job); /* nobody writes to the disk from here on */
	im->job = NULL;
	if (!im->entry.disk && registry_remove_files(&im->entry, !im->renamed, &ignored) == 0)
		registry_settled(im->s->reg, im->entry.id);
	ctl_fail(im->call, &wrapped);
	import_free(im);
}

/* The disk is whole: give it its name, then register it. */
static int publish(struct import *im, struct err *e)
{
	char part[PATH_MAX], disk[PATH_MAX];
	cleanup_close int dir = open(im->entry.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r;

	if (im->entry.disk) /* it is where it is */
		return registry_add(im->s->reg, &im->entry, e);
	r = registry_disk(&im->entry, true, part, sizeof(part));
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

static int start_import(struct import *im, struct err *e);

/* What the root file system says of itself. Its default user may be one that oobe.command makes. */
static void take_facts(struct import *im, const struct image_facts *f)
{
	struct reg_entry *entry = &im->entry;

	strcpy(entry->flavor, f->flavor);
	strcpy(entry->version, f->version);
	entry->run_oobe = f->oobe;
	if (!im->uid_given && f->has_uid && !f->oobe)
		entry->uid = f->uid;
}

static void done(struct import *im, const struct image_facts *f)
{
	struct json_object *o = js_set_str(js_object(), "id", im->entry.id);

	js_set_str(o, "flavor", f->flavor);
	js_set_str(o, "os_version", f->version);
	js_set_str(o, "default_name", f->name);
	js_set_bool(o, "run_oobe", f->oobe);
	registry_settled(im->s->reg, im->entry.id);
	ctl_reply(im->call, o, NULL);
	import_free(im);
}

static void job_news(void *ctx, int fd, uint32_t revents)
{
	struct import *im = ctx;
	struct image_progress p = {0};
	struct image_facts facts;
	struct err e = {0};
	int r = image_job_read(im->job, &p, &e);

	if (r == 0) {
		struct json_object *o = js_set_u64(js_object(), "bytes", p.read);

		js_set_u64(o, "total", p.total);
		ctl_event(im->call, js_set_u64(o, "files", p.files));
		return;
	}
	if (r > 0 && im->packing) {
		im->packing = false;
		im->news = loop_src_free(im->news);
		image_job_free(im->job);
		im->job = NULL;
		r = start_import(im, &e);
		if (r == 0)
			return;
	}
	if (r > 0) {
		facts = *image_job_facts(im->job);
		take_facts(im, &facts);
		r = publish(im, &e);
	}
	if (r < 0)
		import_fail(im, &e);
	else
		done(im, &facts);
}

static void client_gone(void *ctx)
{
	struct import *im = ctx;
	struct err e = {0};

	err_set(&e, -ECANCELED, "the client went away");
	import_fail(im, &e);
}

int service_make_dir(const char *dir, struct err *e)
{
	char parent[PATH_MAX];
	struct stat st;
	int r;

	if (mkdir(dir, 0700) == 0)
		return 0;
	if (errno == ENOENT) {
		snprintf(parent, sizeof(parent), "%s", dir);
		*strrchr(parent, '/') = '\0';
		r = io_mkdir_p(parent, 0700);
		if (r < 0)
			return err_sys(e, r, "make %s", parent);
		if (mkdir(dir, 0700) == 0)
			return 0;
	}
	if (errno != EEXIST)
		return err_sys(e, -errno, "make %s", dir);
	if (stat(dir, &st) < 0)
		return err_sys(e, -errno, "%s", dir);
	return S_ISDIR(st.st_mode) ? 0 : err_set(e, -ENOTDIR, "%s is not a folder", dir);
}

static int watch(struct import *im, struct err *e)
{
	int r = loop_io(im->s->loop, image_job_fd(im->job), EPOLLIN, job_news, im, &im->news);

	return r < 0 ? err_sys(e, r, "watch the import") : 0;
}

/* For an archive of layers, which is read more than once. */
static int make_spool(struct import *im, struct err *e)
{
	char path[PATH_MAX];

	im->spool = open(im->entry.dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (im->spool >= 0)
		return 0;
	if (snprintf(path, sizeof(path), "%s/import.XXXXXX", im->entry.dir) < (int)sizeof(path))
		im->spool = mkostemp(path, O_CLOEXEC);
	if (im->spool < 0)
		return err_sys(e, -errno, "make a file in %s", im->entry.dir);
	unlink(path);
	return 0;
}

static int start_import(struct import *im, struct err *e)
{
	bool packed = im->spool >= 0 && im->archive < 0;
	const struct image_import_opts o = {.in_fd = packed ? im->spool : im->archive,
		.out_fd = im->disk,
		.spool_fd = packed ? -1 : im->spool,
		.size = im->size ? im->size : settings_disk_size(im->s->config)};
	int r = image_job_start(&im->job, &o, e);

	return r < 0 ? r : watch(im, e);
}

static int start_copy(struct import *im, struct err *e)
{
	const struct image_copy_opts o = {
		.in_fd = im->archive, .out_fd = im->disk, .vhdx = im->vhd, .examine = true};
	int r;

	if (im->size)
		return err_set(e, -EINVAL, "a disk image keeps its size");
	r = image_copy_start(&im->job, &o, e);
	return r < 0 ? r : watch(im, e);
}

static int start_pack(struct import *im, struct err *e)
{
	int r = make_spool(im, e);

	if (r == 0)
		r = image_pack_start(&im->job, im->archive, im->spool, e);
	if (r < 0)
		return r;
	close(take_fd(im->archive));
	im->packing = true;
	return watch(im, e);
}

/* An archive may have anything at the place where a disk's superblock is. */
static bool is_tar(int fd)
{
	char magic[5];

	return pread(fd, magic, 5, 257) == 5 && !memcmp(magic, "ustar", 5);
}

/* What is it? An archive is for the importer to understand, in its sandbox. */
static int start_job(struct import *im, struct err *e)
{
	struct image_info info;
	char part[PATH_MAX];
	struct stat st;
	int r = registry_disk(&im->entry, true, part, sizeof(part));

	if (r == 0) {
		im->disk = open(part, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		r = im->disk < 0 ? -errno : 0;
	}
	if (r < 0)
		return err_sys(e, r, "make a disk in %s", im->entry.dir);
	if (fstat(im->archive, &st) < 0)
		return err_sys(e, -errno, "read the archive");
	if (S_ISDIR(st.st_mode))
		return start_pack(im, e);
	if (!S_ISREG(st.st_mode)) {
		r = make_spool(im, e);
		return r < 0 ? r : start_import(im, e);
	}
	r = image_probe(im->archive, &info);
	if (r < 0)
		return err_sys(e, r, "read the archive");
	/* Whoever asks says that it is one: a raw disk can be made to look like it from inside. */
	if (im->vhd)
		return start_copy(im, e);
	if (info.kind == IMAGE_UNKNOWN || info.kind == IMAGE_EMPTY || info.archive ||
		is_tar(im->archive))
		return start_import(im, e);
	if (info.kind == IMAGE_EXT4)
		return start_copy(im, e);
	return err_set(e, -EINVAL,
		"it holds %s; archives and disks with one whole ext4 file system can be imported",
		info.what);
}

/* Makes an import of the call, answers it if the name cannot be. NULL: it was answered. */
static struct import *import_new(
	struct service *s, struct ctl_call *call, const char *name, struct json_object *params)
{
	struct import *im = calloc(1, sizeof(*im));
	struct err e = {0};

	if (!im)
		abort();
	*im = (struct import){
		.s = s, .call = call, .archive = -EBADF, .disk = -EBADF, .spool = -EBADF};
	im->archive = ctl_call_take_fd(call, 0);
	im->uid_given = js_get(params, "uid") != NULL;
	im->entry.uid = (uint32_t)js_u64(params, "uid", 0);
	im->size = js_u64(params, "size", 0);
	im->vhd = js_bool(params, "vhd", false);
	s->jobs++;
	registry_new_id(im->entry.id);
	snprintf(im->entry.name, sizeof(im->entry.name), "%s", name);
	if (!registry_name_ok(name))
		err_set(&e, -EINVAL,
			"'%.80s' is no name for a distribution (letters, digits, . _ -)", name);
	else if (registry_find(s->reg, name))
		err_set(&e, -EEXIST, "a distribution named '%s' exists already", name);
	if (!e.code)
		return im;
	err_wrap(&e, e.code, "import");
	ctl_fail(call, &e);
	import_free(im);
	return NULL;
}

void import_method(void *service, struct ctl_call *call, struct json_object *params)
{
	const char *dir = js_str(params, "dir", NULL);
	struct import *im = import_new(service, call, js_str(params, "name", ""), params);
	struct service *s = service;
	char disk[PATH_MAX], made[4000];
	struct err e = {0};

	if (!im)
		return;
	if (!dir) {
		settings_new_dir(s->config, s->data_dir, im->entry.id, made, sizeof(made));
		dir = made;
	}
	im->entry.dir = strdup(dir);
	if (!im->entry.dir)
		abort();
	for (size_t n = strlen(im->entry.dir); n > 1 && im->entry.dir[n - 1] == '/'; n--)
		im->entry.dir[n - 1] = '\0';

	/* Nothing is touched before all of this holds. */
	if (dir[0] != '/' || registry_disk(&im->entry, true, disk, sizeof(disk)) < 0)
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
	if (registry_pending(s->reg, &im->entry, &e) < 0 ||
		service_make_dir(im->entry.dir, &e) < 0 || start_job(im, &e) < 0) {
		import_fail(im, &e);
		return;
	}
	ctl_call_on_close(call, client_gone, im);
}

static bool is_registered(const struct service *s, const struct stat *st)
{
	char path[PATH_MAX];
	struct stat other;

	for (unsigned i = 0; i < registry_count(s->reg); i++)
		if (registry_disk(registry_at(s->reg, i), false, path, sizeof(path)) == 0 &&
			stat(path, &other) == 0 && other.st_dev == st->st_dev &&
			other.st_ino == st->st_ino)
			return true;
	return false;
}

static int open_in_place(struct import *im, const char *path, struct err *e)
{
	struct image_copy_opts o = {.out_fd = -1, .examine = true};
	struct stat st;
	int r;

	if (path[0] != '/')
		return err_set(e, -EINVAL, "'%.80s' is not an absolute path", path);
	im->disk = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
	if (im->disk < 0 || fstat(im->disk, &st) < 0)
		return err_sys(e, -errno, "%s", path);
	if (!S_ISREG(st.st_mode))
		return err_set(e, -EINVAL, "%s is not a disk image", path);
	if (is_registered(im->s, &st))
		return err_set(e, -EEXIST, "%s is a distribution's disk already", path);
	if (flock(im->disk, LOCK_SH | LOCK_NB) < 0)
		return err_set(e, -EBUSY, "%s is in use by another program", path);
	/* In a virtual disk the child looks. */
	o.vhdx = im->entry.vhdx = im->vhd;
	r = im->vhd ? 0 : image_check(im->disk, path, e);
	if (r < 0)
		return r;
	o.in_fd = im->disk;
	r = image_copy_start(&im->job, &o, e);
	return r < 0 ? r : watch(im, e);
}

void import_in_place_method(void *service, struct ctl_call *call, struct json_object *params)
{
	const char *path = js_str(params, "disk", "");
	struct import *im = import_new(service, call, js_str(params, "name", ""), params);
	struct err e = {0};

	if (!im)
		return;
	im->entry.disk = strdup(path);
	im->entry.dir = strdup(path);
	if (!im->entry.disk || !im->entry.dir)
		abort();
	if (strrchr(im->entry.dir, '/') > im->entry.dir)
		*strrchr(im->entry.dir, '/') = '\0';
	else
		strcpy(im->entry.dir, "/");
	if (open_in_place(im, path, &e) < 0) {
		import_fail(im, &e);
		return;
	}
	ctl_call_on_close(call, client_gone, im);
}
