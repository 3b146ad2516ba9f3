/* SPDX-License-Identifier: MIT */
/*
 * "import": a new distribution from a root file system archive, a container image or a disk image,
 * which arrives as a descriptor. lib/image makes the disk, in a process of its own; the note in
 * pending/, the rename and the registry, in this order, see to it that a crash leaves all of it or
 * nothing. "import-in-place": a disk image becomes a distribution where it is.
 *
 * lib/image writes ext4. For another file system, that disk is a file without a name, from which a
 * kernel copies all files to the one that stays (fswork.h); and only a kernel looks into such a disk.
 *
 *	folder:		PACK -> READ ...
 *	archive:	READ -> [MAKE -> FILL]
 *	disk:		READ, or where it is not ext4: READ -> EXAMINE -> PARSE
 */
#include "daemon/service.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include "daemon/disk-work.h"
#include "daemon/distro-conf.h"
#include "daemon/fswork.h"
#include "daemon/work.h"
#include "lib/base/io.h"
#include "lib/image/image.h"

enum step { PACK, READ, MAKE, FILL, EXAMINE, PARSE };

struct import {
	struct service *s;
	struct ctl_call *call;
	struct reg_entry entry; /* dir is owned */
	int archive, disk, spool;
	int ext4; /* what lib/image writes to, when the disk's file system is another one */
	uint64_t size;
	bool uid_given, vhd;
	bool is_disk; /* what is imported is a disk, which keeps its file system */
	enum step step;
	struct work *work;
	struct fswork *fswork;
	struct image_facts facts;
	bool renamed; /* the disk in dir is ours */
};

static void import_free(struct import *im)
{
	im->s->jobs--;
	idle_check(im->s);
	work_free(im->work);
	fswork_free(im->fswork);
	if (im->ext4 >= 0)
		close(im->ext4);
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
	im->work = work_free(im->work); /* nobody writes to the disk from here on */
	im->fswork = fswork_free(im->fswork);
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

static void done(struct import *im)
{
	const struct image_facts *f = &im->facts;
	struct json_object *o = js_set_str(js_object(), "id", im->entry.id);

	js_set_str(o, "flavor", f->flavor);
	js_set_str(o, "os_version", f->version);
	js_set_str(o, "default_name", f->name);
	js_set_bool(o, "run_oobe", f->oobe);
	registry_settled(im->s->reg, im->entry.id);
	ctl_reply(im->call, o, NULL);
	import_free(im);
}

static void progress(void *ctx, const struct image_progress *p)
{
	struct import *im = ctx;
	struct json_object *o = js_set_u64(js_object(), "bytes", p->read);

	js_set_u64(o, "total", p->total);
	ctl_event(im->call, js_set_u64(o, "files", p->files));
}

static void fs_progress(void *ctx, uint64_t bytes, uint64_t total)
{
	const struct image_progress p = {.read = bytes, .total = total};

	progress(ctx, &p);
}

static void step_done(struct import *im, const struct wire_msg *m, const struct err *error);

static void work_ended(void *ctx, const struct image_facts *f, const struct err *e)
{
	struct import *im = ctx;

	if (im->step == READ || im->step == PARSE)
		im->facts = *f;
	im->work = work_free(im->work);
	step_done(im, NULL, e);
}

static const struct work_ops work_ops = {progress, work_ended};

static void fs_ended(void *ctx, const struct wire_msg *m, const struct err *e)
{
	step_done(ctx, m, e);
}

static const struct fswork_ops fs_ops = {fs_progress, fs_ended};

static int watch(struct import *im, enum step step, struct image_job *job, struct err *e)
{
	im->step = step;
	return work_watch(im->s->loop, job, &work_ops, im, &im->work, e);
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

/* For an archive of layers, which is read more than once; or for a disk that does not stay. */
static int make_nameless(struct import *im, int *ret_fd, struct err *e)
{
	char path[PATH_MAX];

	*ret_fd = open(im->entry.dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (*ret_fd >= 0)
		return 0;
	if (snprintf(path, sizeof(path), "%s/import.XXXXXX", im->entry.dir) < (int)sizeof(path))
		*ret_fd = mkostemp(path, O_CLOEXEC);
	if (*ret_fd < 0)
		return err_sys(e, -errno, "make a file in %s", im->entry.dir);
	unlink(path);
	return 0;
}

static int start_read(struct import *im, struct err *e)
{
	bool packed = im->spool >= 0 && im->archive < 0;
	const struct image_import_opts o = {.in_fd = packed ? im->spool : im->archive,
		.out_fd = im->ext4 < 0 ? im->disk : im->ext4,
		.spool_fd = packed ? -1 : im->spool,
		.size = im->size};
	struct image_job *job;
	int r = image_job_start(&job, &o, e);

	return r < 0 ? r : watch(im, READ, job, e);
}

static bool is_ext4(const struct import *im)
{
	return !strcmp(registry_fs(&im->entry), "ext4");
}

static int start_copy(struct import *im, struct err *e)
{
	const struct image_copy_opts o = {
		.in_fd = im->archive, .out_fd = im->disk, .vhdx = im->vhd, .examine = is_ext4(im)};
	const struct disk_work clone = {im->archive, im->disk, registry_fs(&im->entry), 0};
	struct image_job *job;
	int r = is_ext4(im) ? image_copy_start(&job, &o, e) : disk_clone_start(&job, &clone, e);

	return r < 0 ? r : watch(im, READ, job, e);
}

static int start_pack(struct import *im, struct err *e)
{
	struct image_job *job;
	int r = make_nameless(im, &im->spool, e);

	if (r == 0)
		r = image_pack_start(&job, im->archive, im->spool, e);
	if (r < 0)
		return r;
	close(take_fd(im->archive));
	return watch(im, PACK, job, e);
}

static int start_make(struct import *im, struct err *e)
{
	const struct disk_work w = {-1, im->disk, registry_fs(&im->entry), im->size};
	struct image_job *job;
	int r = disk_make_start(&job, &w, e);

	return r < 0 ? r : watch(im, MAKE, job, e);
}

static int start_fs_work(struct import *im, enum step step, struct err *e)
{
	const char *fs = registry_fs(&im->entry);
	const struct fswork_task fill = {WSLX_COPY_TREE, im->ext4, "ext4", im->disk, fs, 0};
	const struct fswork_task examine = {WSLX_FS_EXAMINE, im->disk, fs, -1, NULL, 0};

	im->step = step;
	return fswork_start(im->s, step == FILL ? &fill : &examine, &fs_ops, im, &im->fswork, e);
}

static int start_parse(struct import *im, const struct wire_msg *m, struct err *e)
{
	struct wire_attr release = {0}, conf = {0};
	struct image_job *job;
	int r;

	wire_find(m, WSLX_A_OS_RELEASE, &release);
	wire_find(m, WSLX_A_DISTRIBUTION_CONF, &conf);
	const struct image_texts t = {
		(const char *)release.data, release.len, (const char *)conf.data, conf.len};
	r = image_facts_start(&job, &t, e);
	return r < 0 ? r : watch(im, PARSE, job, e);
}

/* A disk in a container shows only now what it is. */
static int look_again(struct import *im, struct err *e)
{
	struct image_info info;
	int r = image_probe(im->disk, &info);

	if (r < 0)
		return err_sys(e, r, "read the disk");
	if (!image_fs(info.kind) || strcmp(image_fs(info.kind), registry_fs(&im->entry)) == 0)
		return 0;
	strcpy(im->entry.fs, image_fs(info.kind));
	return registry_pending(im->s->reg, &im->entry, e);
}

/* 1: that was the last one. */
static int next_step(struct import *im, const struct wire_msg *m, struct err *e)
{
	int r = 0;

	switch (im->step) {
	case PACK: return start_read(im, e);
	case READ:
		if (!im->is_disk)
			return is_ext4(im) ? 1 : start_make(im, e);
		if (im->vhd)
			r = look_again(im, e);
		return r < 0 ? r : is_ext4(im) ? 1 : start_fs_work(im, EXAMINE, e);
	case MAKE: return start_fs_work(im, FILL, e);
	case EXAMINE: return start_parse(im, m, e);
	case FILL:
		if (fsync(im->disk) < 0)
			return err_sys(e, -errno, "bring the disk to stable storage");
		return 1;
	case PARSE: return 1;
	}
	return 1;
}

static void step_done(struct import *im, const struct wire_msg *m, const struct err *error)
{
	struct err e = error ? *error : (struct err){0};
	struct fswork *old = im->fswork;
	int r = e.code;

	im->fswork = NULL;
	if (r == 0)
		r = next_step(im, m, &e);
	fswork_free(old); /* m was its */
	if (r > 0) {
		take_facts(im, &im->facts);
		r = publish(im, &e);
		if (r == 0) {
			done(im);
			return;
		}
	}
	if (r < 0)
		import_fail(im, &e);
}

/* An archive may have anything at the place where a disk's superblock is. */
static bool is_tar(int fd)
{
	char magic[5];

	return pread(fd, magic, 5, 257) == 5 && !memcmp(magic, "ustar", 5);
}

/* What is it? An archive is for the importer to understand, in its sandbox. */
static int look(struct import *im, struct err *e)
{
	struct image_info info;
	struct stat st;
	int r;

	if (fstat(im->archive, &st) < 0)
		return err_sys(e, -errno, "read the archive");
	if (!S_ISREG(st.st_mode))
		return 0;
	r = image_probe(im->archive, &info);
	if (r < 0)
		return err_sys(e, r, "read the archive");
	/* Whoever asks says that it is one: a raw disk can be made to look like it from inside. */
	im->is_disk = im->vhd;
	if (im->vhd || info.kind == IMAGE_UNKNOWN || info.kind == IMAGE_EMPTY || info.archive ||
		is_tar(im->archive))
		return 0;
	if (!image_fs(info.kind))
		return err_set(e, -EINVAL,
			"it holds %s; archives and disks with one whole file system, ext4, xfs or "
			"btrfs, can be imported",
			info.what);
	if (im->entry.fs[0] && strcmp(im->entry.fs, image_fs(info.kind)) != 0)
		return err_set(e, -EINVAL, "a disk image keeps its file system, which is %s",
			image_fs(info.kind));
	im->is_disk = true;
	strcpy(im->entry.fs, image_fs(info.kind));
	return 0;
}

static int start_job(struct import *im, struct err *e)
{
	char part[PATH_MAX];
	struct stat st;
	int r = registry_disk(&im->entry, true, part, sizeof(part));

	if (r == 0) {
		im->disk = open(part, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		r = im->disk < 0 ? -errno : 0;
	}
	if (r < 0)
		return err_sys(e, r, "make a disk in %s", im->entry.dir);
	if (im->is_disk)
		return im->size ? err_set(e, -EINVAL, "a disk image keeps its size")
				: start_copy(im, e);
	if (!im->size)
		im->size = settings_disk_size(im->s->config);
	if (!is_ext4(im))
		r = make_nameless(im, &im->ext4, e);
	if (r == 0 && fstat(im->archive, &st) < 0)
		r = err_sys(e, -errno, "read the archive");
	if (r < 0)
		return r;
	if (S_ISDIR(st.st_mode))
		return start_pack(im, e);
	r = S_ISREG(st.st_mode) ? 0 : make_nameless(im, &im->spool, e);
	return r < 0 ? r : start_read(im, e);
}

/* Asked for, or by wslx.conf; a disk has what it has. */
static int choose_fs(struct import *im, const char *asked, struct err *e)
{
	struct distro_conf c;

	if (asked && !registry_fs_ok(asked))
		return err_set(
			e, -EINVAL, "unknown file system '%.16s'; ext4, xfs or btrfs", asked);
	if (asked)
		strcpy(im->entry.fs, asked);
	if (look(im, e) < 0)
		return e->code;
	if (im->vhd && asked)
		return err_set(e, -EINVAL, "a disk image keeps its file system");
	if (!im->is_disk && !asked) {
		distro_conf_load(im->s->config, im->entry.name, &c, NULL, NULL);
		strcpy(im->entry.fs, distro_fs_names[c.file_system]);
	}
	return 0;
}

/* Makes an import of the call, answers it if the name cannot be. NULL: it was answered. */
static struct import *import_new(
	struct service *s, struct ctl_call *call, const char *name, struct json_object *params)
{
	struct import *im = calloc(1, sizeof(*im));
	struct err e = {0};

	if (!im)
		abort();
	*im = (struct import){.s = s,
		.call = call,
		.archive = -EBADF,
		.disk = -EBADF,
		.spool = -EBADF,
		.ext4 = -EBADF};
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
	if (choose_fs(im, js_str(params, "fs", NULL), &e) < 0)
		;
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
	struct image_info info;
	struct image_job *job;
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
	r = image_probe(im->disk, &info);
	if (r < 0)
		return err_sys(e, r, "%s", path);
	im->is_disk = true;
	strcpy(im->entry.fs, image_fs(info.kind) ? image_fs(info.kind) : "ext4");
	if (!is_ext4(im))
		return start_fs_work(im, EXAMINE, e);
	o.in_fd = im->disk;
	r = image_copy_start(&job, &o, e);
	return r < 0 ? r : watch(im, READ, job, e);
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
