/* SPDX-License-Identifier: MIT */
/*
 * "move", "resize", "compact", "clone", "rename", "set-user": changes to a distribution that exists.
 *
 * What makes a new file makes it under a partial name, noted in pending/; then it gets its name, then
 * the registry says so, then what it replaced is removed. Killed at any point, the distribution has
 * the old disk or the new one, and registry_recover() removes the other.
 */
#include "daemon/distro.h"
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
#include "daemon/fswork.h"
#include "daemon/work.h"
#include "lib/base/io.h"
#include "lib/image/image.h"

enum kind { MOVE, RESIZE, COMPACT, CLONE };

static const struct {
	const char *intent, *state;
} kinds[] = {
	[MOVE] = {"move", "Moving"},
	[RESIZE] = {"resize", "Resizing"},
	[COMPACT] = {"compact", "Compacting"},
	[CLONE] = {"clone", "Cloning"},
};

struct manage {
	struct service *s;
	struct ctl_call *call;
	enum kind kind;
	char name[REG_NAME_MAX + 1]; /* of the distribution */
	struct reg_entry old, entry; /* as it was, and as it will be; each owns its dir */
	char note[37],
		old_note[37];	/* in pending/: of the new disk, of the one a move leaves; "" */
	bool reserved, renamed; /* renamed: the new disk has its name */
	struct disk_work disk;
	struct work *work;
	struct fswork *fswork;
};

static void manage_free(struct manage *g)
{
	struct service *s = g->s;

	work_free(g->work);
	fswork_free(g->fswork);
	if (g->disk.in >= 0)
		close(g->disk.in);
	if (g->disk.out >= 0)
		close(g->disk.out);
	if (g->reserved)
		distro_unreserve(s, g->old.id);
	free(g->old.dir);
	free(g->old.disk); /* the new entry's, too */
	free(g->entry.dir);
	free(g);
	s->jobs--;
	idle_check(s);
}

/* Notes that the disk of an entry comes or goes, under a name of its own. */
static int note(struct manage *g, const struct reg_entry *of, char id[37], struct err *e)
{
	struct reg_entry noted = *of;
	int r;

	registry_new_id(noted.id);
	r = registry_pending(g->s->reg, &noted, e);
	if (r == 0)
		strcpy(id, noted.id);
	return r;
}

static void settle(struct manage *g, char id[37])
{
	if (id[0])
		registry_settled(g->s->reg, id);
	id[0] = '\0';
}

/* The disk it had stays as it is; what was made goes. */
static void undo(struct manage *g)
{
	struct err ignored = {0};

	/* A resize makes its disk in the folder of the old one, which must not go. */
	if (g->note[0] &&
		registry_remove_files(&g->entry, g->kind == RESIZE || !g->renamed, &ignored) == 0)
		settle(g, g->note);
	settle(g, g->old_note);
}

static void manage_fail(struct manage *g, const struct err *e)
{
	struct err wrapped = *e;

	g->work = work_free(g->work); /* nobody writes any more */
	g->fswork = fswork_free(g->fswork);
	undo(g);
	err_wrap(&wrapped, e->code, "%s %s", kinds[g->kind].intent, g->name);
	ctl_fail(g->call, &wrapped);
	manage_free(g);
}

static void tell(struct manage *g, uint64_t done, uint64_t total)
{
	struct json_object *o = js_set_u64(js_object(), "bytes", done);

	ctl_event(g->call, js_set_u64(o, "total", total));
}

static void progress(void *ctx, const struct image_progress *p)
{
	tell(ctx, p->read, p->total);
}

static void fs_progress(void *ctx, uint64_t done, uint64_t total)
{
	tell(ctx, done, total);
}

/* The partial file gets its name; replace: another of that name goes. */
static int give_name(struct manage *g, bool replace, struct err *e)
{
	char part[PATH_MAX], disk[PATH_MAX];
	cleanup_close int dir = open(g->entry.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = registry_disk(&g->entry, true, part, sizeof(part));

	if (r == 0)
		r = registry_disk(&g->entry, false, disk, sizeof(disk));
	if (r == 0 && (dir < 0 || renameat2(AT_FDCWD, part, AT_FDCWD, disk,
					  replace ? 0 : RENAME_NOREPLACE) < 0))
		r = -errno;
	g->renamed = r == 0;
	if (r == 0 && fsync(dir) < 0)
		r = -errno;
	return r < 0 ? err_sys(e, r, "%s", g->entry.dir) : 0;
}

static int publish(struct manage *g, struct err *e)
{
	int r = g->kind == COMPACT ? 0 : give_name(g, g->kind == RESIZE, e);

	if (r == 0 && g->kind == CLONE)
		r = registry_add(g->s->reg, &g->entry, e);
	if (r == 0 && g->kind == MOVE)
		r = registry_update(g->s->reg, &g->entry, e);
	if (r < 0)
		return r;
	settle(g, g->note);
	/* What cannot be removed now is when the service starts again. */
	if (g->kind == MOVE && registry_remove_files(&g->old, false, NULL) == 0)
		settle(g, g->old_note);
	return 0;
}

static void conclude(struct manage *g, const struct err *error)
{
	struct err e = error ? *error : (struct err){0};

	if (!e.code)
		publish(g, &e);
	if (e.code) {
		manage_fail(g, &e);
		return;
	}
	ctl_reply(g->call, js_set_str(js_object(), "id", g->entry.id), NULL);
	manage_free(g);
}

static void fs_ended(void *ctx, const struct wire_msg *m, const struct err *error)
{
	struct manage *g = ctx;
	struct err e = {0};
	int fd = g->disk.out < 0 ? g->disk.in : g->disk.out;

	g->fswork = fswork_free(g->fswork);
	if (!error &&
		((g->kind == RESIZE && ftruncate(fd, (off_t)g->disk.size) < 0) || fsync(fd) < 0)) {
		err_sys(&e, -errno, "the disk");
		error = &e;
	}
	conclude(g, error);
}

static const struct fswork_ops fs_ops = {fs_progress, fs_ended};

static int start_fs_work(struct manage *g, struct err *e)
{
	const struct fswork_task t = {.type = g->kind == RESIZE ? WSLX_FS_RESIZE : WSLX_FS_TRIM,
		.disk = g->kind == RESIZE ? g->disk.out : g->disk.in,
		.fs = g->disk.fs,
		.to = -1,
		.size = g->kind == RESIZE ? g->disk.size : 0};

	return fswork_start(g->s, &t, &fs_ops, g, &g->fswork, e);
}

/* What only a kernel can do to its file system. */
static bool needs_kernel(const struct manage *g)
{
	return strcmp(g->disk.fs, "ext4") != 0 && (g->kind == RESIZE || g->kind == COMPACT);
}

static void ended(void *ctx, const struct image_facts *f, const struct err *error)
{
	struct manage *g = ctx;
	struct err e = {0};

	g->work = work_free(g->work);
	if (!error && needs_kernel(g)) {
		if (start_fs_work(g, &e) == 0)
			return;
		error = &e;
	}
	conclude(g, error);
}

static const struct work_ops work_ops = {progress, ended};

static void client_gone(void *ctx)
{
	struct err e = {0};

	err_set(&e, -ECANCELED, "the client went away");
	manage_fail(ctx, &e);
}

/* The folder the new disk will be in, and the partial file. */
static int make_place(struct manage *g, struct err *e)
{
	char disk[PATH_MAX], part[PATH_MAX];
	int r = registry_disk(&g->entry, true, part, sizeof(part));

	if (r == 0)
		r = registry_disk(&g->entry, false, disk, sizeof(disk));
	if (r < 0)
		return err_set(e, r, "'%.80s' is too long a path", g->entry.dir);
	if (g->kind != RESIZE && faccessat(AT_FDCWD, disk, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return err_set(e, -EEXIST, "%s holds a disk already", g->entry.dir);
	if (faccessat(AT_FDCWD, part, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return err_set(
			e, -EEXIST, "something else is made in %s at the moment", g->entry.dir);
	r = note(g, &g->entry, g->note, e);
	if (r == 0 && g->kind == MOVE)
		r = note(g, &g->old, g->old_note, e);
	if (r == 0)
		r = service_make_dir(g->entry.dir, e);
	if (r < 0)
		return r;
	g->disk.out = open(part, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (g->disk.out < 0)
		return err_sys(e, -errno, "make a disk in %s", g->entry.dir);
	return 0;
}

/* xfs(5): it grows only. */
static int check_size(const struct manage *g, struct err *e)
{
	struct image_info info;
	int r = image_probe(g->disk.in, &info);

	if (r < 0)
		return err_sys(e, r, "read the disk");
	if (info.kind == IMAGE_XFS && g->disk.size < info.size)
		return err_set(e, -EOPNOTSUPP,
			"an xfs file system cannot shrink: it is %llu MiB large; export it and "
			"import the archive with --size",
			(unsigned long long)(info.size >> 20));
	return 0;
}

static int start_work(struct manage *g, struct err *e)
{
	struct image_job *job;
	int r;

	if (g->kind == COMPACT && needs_kernel(g))
		return start_fs_work(g, e);
	r = g->kind == RESIZE	 ? disk_resize_start(&job, &g->disk, e)
	    : g->kind == COMPACT ? disk_compact_start(&job, &g->disk, e)
	    : g->kind == CLONE || g->disk.vhdx
		    ? disk_clone_start(&job, &g->disk, e)
		    : image_copy_start(&job,
			      &(struct image_copy_opts){.in_fd = g->disk.in, .out_fd = g->disk.out},
			      e);
	return r < 0 ? r : work_watch(g->s->loop, job, &work_ops, g, &g->work, e);
}

static int start(struct manage *g, struct err *e)
{
	int r;

	r = distro_reserve(g->s, g->old.id, kinds[g->kind].state, e);
	if (r < 0)
		return r;
	g->reserved = true;
	g->disk.in = distro_open_disk(&g->old, e);
	if (g->disk.in < 0)
		return g->disk.in;
	r = g->kind == RESIZE ? check_size(g, e) : 0;
	if (r == 0 && g->kind != COMPACT)
		r = make_place(g, e);
	return r < 0 ? r : start_work(g, e);
}

static void set_dir(struct reg_entry *entry, const char *dir)
{
	free(entry->dir);
	entry->dir = strdup(dir);
	if (!entry->dir)
		abort();
	for (size_t n = strlen(entry->dir); n > 1 && entry->dir[n - 1] == '/'; n--)
		entry->dir[n - 1] = '\0';
	entry->own_dir = access(entry->dir, F_OK) < 0;
}

/* What is asked, checked before anything is touched. */
static int plan(struct manage *g, struct json_object *params, struct err *e)
{
	const char *dir = js_str(params, "dir", NULL), *name = js_str(params, "new_name", "");
	char made[4000];

	if (g->kind == CLONE) {
		if (!registry_name_ok(name))
			return err_set(e, -EINVAL,
				"'%.80s' is no name for a distribution (letters, digits, . _ -)",
				name);
		if (registry_find(g->s->reg, name))
			return err_set(
				e, -EEXIST, "a distribution named '%s' exists already", name);
		registry_new_id(g->entry.id);
		strcpy(g->entry.name, name);
		if (!dir) {
			settings_new_dir(
				g->s->config, g->s->data_dir, g->entry.id, made, sizeof(made));
			dir = made;
		}
	}
	if (g->old.vhdx && (g->kind == RESIZE || g->kind == COMPACT))
		return err_set(e, -EOPNOTSUPP,
			"its disk is a VHDX file, used where it is; 'wslx --manage %s --move DIR' makes it a raw disk, which can be",
			g->name);
	if (dir && dir[0] != '/')
		return err_set(e, -EINVAL, "'%.80s' is not an absolute path", dir);
	if (g->kind == MOVE && !dir)
		return err_set(e, -EINVAL, "parameter 'dir' is missing");
	if (dir && g->kind != COMPACT && g->kind != RESIZE)
		set_dir(&g->entry, dir);
	g->disk.size = ALIGN_DOWN(js_u64(params, "size", 0), 1 << 20);
	if (g->kind == RESIZE && g->disk.size == 0)
		return err_set(e, -EINVAL, "parameter 'size': 1 MiB at least");
	return 0;
}

static void begin(
	struct service *s, struct ctl_call *call, struct json_object *params, enum kind kind)
{
	const struct reg_entry *reg = service_named(s, call, params);
	struct manage *g;
	struct err e = {0};

	if (!reg)
		return;
	g = calloc(1, sizeof(*g));
	if (!g)
		abort();
	*g = (struct manage){.s = s, .call = call, .kind = kind, .old = *reg, .entry = *reg};
	g->old.dir = strdup(reg->dir);
	g->entry.dir = strdup(reg->dir);
	g->old.disk = reg->disk ? strdup(reg->disk) : NULL;
	if (!g->old.dir || !g->entry.dir || (reg->disk && !g->old.disk))
		abort();
	/* The copy of a disk that was registered where it is, is ours. */
	g->entry.disk = kind == MOVE || kind == CLONE ? NULL : g->old.disk;
	g->entry.vhdx = kind != MOVE && kind != CLONE && g->old.vhdx;
	g->disk.vhdx = g->old.vhdx;
	g->disk.in = g->disk.out = -EBADF;
	g->disk.fs = registry_fs(&g->entry);
	strcpy(g->name, reg->name);
	s->jobs++;
	if (plan(g, params, &e) < 0 || start(g, &e) < 0)
		manage_fail(g, &e);
	else
		ctl_call_on_close(call, client_gone, g);
}

void move_method(void *service, struct ctl_call *call, struct json_object *params)
{
	begin(service, call, params, MOVE);
}

void resize_method(void *service, struct ctl_call *call, struct json_object *params)
{
	begin(service, call, params, RESIZE);
}

void compact_method(void *service, struct ctl_call *call, struct json_object *params)
{
	begin(service, call, params, COMPACT);
}

void clone_method(void *service, struct ctl_call *call, struct json_object *params)
{
	begin(service, call, params, CLONE);
}

/* New values for what the registry says; copy is a shallow copy of the entry. */
static void update(struct service *s, struct ctl_call *call, const struct reg_entry *copy)
{
	struct err e = {0};

	if (registry_update(s->reg, copy, &e) < 0)
		ctl_fail(call, &e);
	else
		ctl_reply(call, NULL, NULL);
}

void rename_method(void *service, struct ctl_call *call, struct json_object *params)
{
	struct service *s = service;
	const struct reg_entry *reg = service_named(s, call, params);
	const char *name = js_str(params, "new_name", "");
	struct err e = {0};

	if (!reg)
		return;
	if (!registry_name_ok(name)) {
		err_set(&e, -EINVAL,
			"'%.80s' is no name for a distribution (letters, digits, . _ -)", name);
		ctl_fail(call, &e);
		return;
	}
	struct reg_entry copy = *reg;

	strcpy(copy.name, name);
	update(s, call, &copy);
}

void set_user_method(void *service, struct ctl_call *call, struct json_object *params)
{
	struct service *s = service;
	const struct reg_entry *reg = service_named(s, call, params);

	if (!reg)
		return;
	struct reg_entry copy = *reg;

	copy.uid = (uint32_t)js_u64(params, "uid", 0);
	update(s, call, &copy);
}
