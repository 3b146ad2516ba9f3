/* SPDX-License-Identifier: MIT */
/*
 * "export": a distribution's files become an archive, or its disk is copied, into a descriptor of the
 * client's. lib/image does it, in a process of its own.
 *
 *	stopped:	reserve it -> write
 *	running:	FREEZE -> copy its disk -> THAW -> write from the copy
 *	not cleanly unmounted: start and stop it, so that its kernel replays the journal; then as above
 *	an archive of what is not ext4: before it is written, a kernel copies all files from the disk (or
 *		its copy) to an ext4 disk (fswork.h), which is all that lib/image reads
 *
 * Copies have no name, so nothing is left of it whoever dies; a freeze ends by itself when it is not
 * renewed.
 */
#include "daemon/distro.h"

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
#include "lib/base/log.h"
#include "lib/image/image.h"

enum { FREEZE_MS = 15000, RENEW_MS = 4000, THREADS_MAX = 8, EXT4_MORE = 256 << 20 };

struct exporting {
	struct service *s;
	struct ctl_call *call; /* NULL: the client has been answered */
	char id[37], name[REG_NAME_MAX + 1];
	char fs[8]; /* of the disk */
	int out, disk;
	int ext4; /* the same files there, when the disk's file system is another one */
	enum image_format format;
	enum image_compression compression;
	struct distro_want *want;
	bool reserved;	/* it cannot start */
	bool held;	/* it is kept from being idle */
	bool recovered; /* it was started once for its journal's sake */
	bool frozen;
	bool vhdx; /* its disk is a VHDX file */
	uint64_t cookie;
	struct image_progress progress;
	unsigned pending; /* callbacks that will come whatever happens */
	struct work *work;
	struct fswork *fswork;
	void (*work_done)(struct exporting *x);
	struct loop_src *renew;
};

static void begin(struct exporting *x);
static void recover(struct exporting *x, const struct reg_entry *reg);

/* --- its end --- */

static void ignore_answer(void *ctx, const struct wire_msg *m, const struct err *e)
{
}

static void release(struct exporting *x)
{
	struct wire_w w;
	struct guestlink *g = x->frozen ? distro_guest(x->s, x->id) : NULL;

	if (g) {
		guestlink_begin(g, &w, WSLX_THAW);
		wire_str(&w, WSLX_A_DISTRO, x->id);
		wire_u64(&w, WSLX_A_COOKIE, x->cookie);
		guestlink_send(g, &w, ignore_answer, NULL);
	}
	x->frozen = false;
	if (x->reserved)
		distro_unreserve(x->s, x->id);
	x->reserved = false;
	distro_want_cancel(x->want);
	x->want = NULL;
	if (x->held)
		distro_release(x->s, x->id);
	x->held = false;
	x->renew = loop_src_free(x->renew);
	x->work = work_free(x->work);
	x->fswork = fswork_free(x->fswork);
	if (x->ext4 >= 0)
		close(take_fd(x->ext4));
	if (x->disk >= 0)
		close(take_fd(x->disk));
	if (x->out >= 0)
		close(take_fd(x->out));
}

/* After the client was answered: frees it, or leaves that to the last callback. */
static void finish(struct exporting *x)
{
	struct service *s = x->s;

	x->call = NULL;
	release(x);
	if (x->pending)
		return;
	free(x);
	s->jobs--;
	idle_check(s);
}

static void fail(struct exporting *x, const struct err *e)
{
	struct err wrapped = *e;

	err_wrap(&wrapped, e->code, "export %s", x->name);
	ctl_fail(x->call, &wrapped);
	finish(x);
}

/* In a callback that was counted in pending: false when the export is over. */
static bool goes_on(struct exporting *x)
{
	x->pending--;
	if (x->call)
		return true;
	finish(x);
	return false;
}

static void client_gone(void *ctx)
{
	struct exporting *x = ctx;
	struct err e = {0};

	err_set(&e, -ECANCELED, "the client went away");
	fail(x, &e);
}

/* --- the work --- */

static struct json_object *progress_json(const struct exporting *x)
{
	struct json_object *o = js_set_u64(js_object(), "bytes", x->progress.read);

	js_set_u64(o, "total", x->progress.total);
	js_set_u64(o, "skipped", x->progress.skipped);
	return js_set_u64(o, "files", x->progress.files);
}

static void progress(void *ctx, const struct image_progress *p)
{
	struct exporting *x = ctx;

	x->progress = *p;
	ctl_event(x->call, progress_json(x));
}

static void work_ended(void *ctx, const struct image_facts *f, const struct err *e)
{
	struct exporting *x = ctx;
	const struct reg_entry *reg = registry_by_id(x->s->reg, x->id);

	/* That its journal is not empty only the child sees in a virtual disk. */
	if (e && (e->code != -EUCLEAN || !x->vhdx || !x->reserved || x->recovered || !reg)) {
		fail(x, e);
		return;
	}
	x->work = work_free(x->work);
	if (e)
		recover(x, reg);
	else
		x->work_done(x);
}

static const struct work_ops work_ops = {progress, work_ended};

static int watch(struct exporting *x, struct image_job *job, void (*done)(struct exporting *x),
	struct err *e)
{
	x->work_done = done;
	return work_watch(x->s->loop, job, &work_ops, x, &x->work, e);
}

static void written(struct exporting *x)
{
	ctl_reply(x->call, progress_json(x), NULL);
	finish(x);
}

/* Reads x->disk, or x->ext4 if there is one. */
static void write_files(struct exporting *x)
{
	const struct image_export_opts o = {.in_fd = x->ext4 < 0 ? x->disk : x->ext4,
		.out_fd = x->out,
		.format = x->format,
		.vhdx = x->vhdx,
		.compression = x->compression,
		.threads = (unsigned)MIN(sysconf(_SC_NPROCESSORS_ONLN), THREADS_MAX)};
	struct image_job *job;
	struct err e = {0};

	if (image_export_start(&job, &o, &e) < 0 || watch(x, job, written, &e) < 0)
		fail(x, &e);
}

static void fs_progress(void *ctx, uint64_t done, uint64_t total)
{
	const struct image_progress p = {.read = done, .total = total};

	progress(ctx, &p);
}

static void filled(void *ctx, const struct wire_msg *m, const struct err *e)
{
	struct exporting *x = ctx;

	if (e) {
		fail(x, e);
		return;
	}
	x->fswork = fswork_free(x->fswork);
	write_files(x);
}

static const struct fswork_ops fs_ops = {fs_progress, filled};

static void made(struct exporting *x)
{
	const struct fswork_task t = {WSLX_COPY_TREE, x->disk, x->fs, x->ext4, "ext4", 0};
	struct err e = {0};

	if (fswork_start(x->s, &t, &fs_ops, x, &x->fswork, &e) < 0)
		fail(x, &e);
}

static int unnamed_file(const char *dir, struct err *e);

/* Room for its files and for what ext4 needs more; sparse. */
static int make_ext4(struct exporting *x, struct err *e)
{
	const struct reg_entry *reg = registry_by_id(x->s->reg, x->id);
	struct disk_work w = {.in = -1, .fs = "ext4"};
	struct image_job *job;
	struct stat st;
	int r;

	if (!reg)
		return err_set(e, -ENOENT, "it was unregistered meanwhile");
	x->ext4 = unnamed_file(reg->dir, e);
	if (x->ext4 < 0)
		return x->ext4;
	if (fstat(x->disk, &st) < 0)
		return err_sys(e, -errno, "its disk");
	w.out = x->ext4;
	w.size = (uint64_t)st.st_size + (uint64_t)st.st_size / 4 + EXT4_MORE;
	r = disk_make_start(&job, &w, e);
	return r < 0 ? r : watch(x, job, made, e);
}

/* From x->disk, to which nobody else writes. */
static void write_out(struct exporting *x)
{
	struct err e = {0};

	if (x->format != IMAGE_TAR || !strcmp(x->fs, "ext4"))
		write_files(x);
	else if (make_ext4(x, &e) < 0)
		fail(x, &e);
}

/* --- while it runs --- */

static void send_freeze(struct exporting *x, guestlink_done done)
{
	struct guestlink *g = distro_guest(x->s, x->id);
	struct err e = {0};
	struct wire_w w;

	if (!g) {
		err_set(&e, -EPIPE, "it stopped meanwhile");
		fail(x, &e);
		return;
	}
	guestlink_begin(g, &w, WSLX_FREEZE);
	wire_str(&w, WSLX_A_DISTRO, x->id);
	wire_u32(&w, WSLX_A_TIMEOUT_MS, FREEZE_MS);
	if (x->frozen)
		wire_u64(&w, WSLX_A_COOKIE, x->cookie);
	x->pending++;
	guestlink_send(g, &w, done, x);
}

static void thawed(void *ctx, const struct wire_msg *m, const struct err *e)
{
	struct exporting *x = ctx;
	struct err wrapped;

	if (!goes_on(x))
		return;
	if (e) {
		wrapped = *e;
		err_wrap(&wrapped, e->code, "its disk changed while it was copied");
		fail(x, &wrapped);
		return;
	}
	distro_release(x->s, x->id);
	x->held = false;
	if (x->format == IMAGE_RAW && !x->vhdx)
		written(x); /* the copy was what is wanted */
	else
		write_out(x);
}

static void copied(struct exporting *x)
{
	struct guestlink *g = distro_guest(x->s, x->id);
	struct err e = {0};
	struct wire_w w;

	x->renew = loop_src_free(x->renew);
	x->frozen = false;
	if (!g) {
		err_set(&e, -EPIPE, "it stopped while its disk was copied");
		fail(x, &e);
		return;
	}
	guestlink_begin(g, &w, WSLX_THAW);
	wire_str(&w, WSLX_A_DISTRO, x->id);
	wire_u64(&w, WSLX_A_COOKIE, x->cookie);
	x->pending++;
	guestlink_send(g, &w, thawed, x);
}

static void renewed(void *ctx, const struct wire_msg *m, const struct err *e)
{
	struct exporting *x = ctx;
	struct err wrapped;

	if (!goes_on(x) || !e || !x->frozen)
		return;
	wrapped = *e;
	err_wrap(&wrapped, e->code, "keep its disk still while it is copied");
	x->frozen = false;
	fail(x, &wrapped);
}

static void on_renew(void *ctx)
{
	struct exporting *x = ctx;

	loop_timer_arm(x->renew, loop_now() + RENEW_MS * 1000000ull);
	send_freeze(x, renewed);
}

/* A file without a name beside the disk, for the copy. */
static int unnamed_file(const char *dir, struct err *e)
{
	char path[PATH_MAX];
	int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != ENOENT))
		return fd < 0 ? err_sys(e, -errno, "make a copy of its disk in %s", dir) : fd;
	if (snprintf(path, sizeof(path), "%s/export.XXXXXX", dir) >= (int)sizeof(path))
		return err_set(e, -ENAMETOOLONG, "%s: path too long", dir);
	fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0)
		return err_sys(e, -errno, "make a copy of its disk in %s", dir);
	unlink(path);
	return fd;
}

static int open_disk(const struct reg_entry *reg, char path[PATH_MAX], struct err *e)
{
	cleanup_close int fd = -EBADF;
	struct stat st;

	if (registry_disk(reg, false, path, PATH_MAX) < 0)
		return err_set(e, -ENAMETOOLONG, "its disk's path is too long");
	/* A virtual disk has a log of its own, which may have to be replayed. */
	fd = open(path, (reg->vhdx ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_sys(e, -errno, "%s", path);
	if (!S_ISREG(st.st_mode))
		return err_set(e, -EINVAL, "%s is not a disk image", path);
	return take_fd(fd);
}

static int start_copy(struct exporting *x, struct err *e)
{
	const struct reg_entry *reg = registry_by_id(x->s->reg, x->id);
	cleanup_close int from = -EBADF;
	struct image_job *job;
	char path[PATH_MAX];
	int r;

	if (!reg)
		return err_set(e, -ENOENT, "it was unregistered meanwhile");
	from = open_disk(reg, path, e);
	if (from < 0)
		return from;
	x->vhdx = reg->vhdx;
	x->disk = x->format == IMAGE_RAW && !x->vhdx ? fcntl(x->out, F_DUPFD_CLOEXEC, 3)
						     : unnamed_file(reg->dir, e);
	if (x->disk < 0)
		return e->code ? e->code : err_sys(e, -errno, "copy its disk");
	const struct image_copy_opts o = {.in_fd = from, .out_fd = x->disk};

	r = image_copy_start(&job, &o, e);
	return r < 0 ? r : watch(x, job, copied, e);
}

static void froze(void *ctx, const struct wire_msg *m, const struct err *e)
{
	struct exporting *x = ctx;
	struct err wrapped = {0};

	if (!goes_on(x))
		return;
	if (e) {
		wrapped = *e;
		err_wrap(&wrapped, e->code, "freeze its file system");
		fail(x, &wrapped);
		return;
	}
	x->cookie = wire_get_u64(m, WSLX_A_COOKIE, 0);
	x->frozen = true;
	if (loop_timer(x->s->loop, on_renew, x, &x->renew) < 0)
		abort();
	loop_timer_arm(x->renew, loop_now() + RENEW_MS * 1000000ull);
	if (start_copy(x, &wrapped) < 0)
		fail(x, &wrapped);
}

static void runs(void *ctx, uint32_t port, const struct err *e)
{
	struct exporting *x = ctx;

	x->want = NULL;
	if (e)
		fail(x, e);
	else
		send_freeze(x, froze);
}

static void freeze(struct exporting *x, const struct reg_entry *reg)
{
	x->held = true;
	distro_hold(x->s, x->id);
	distro_want(x->s, reg, runs, x, &x->want);
}

/* --- while it is stopped --- */

static void stopped(void *ctx, const struct err *e)
{
	struct exporting *x = ctx;

	if (!goes_on(x))
		return;
	if (e && e->code)
		fail(x, e);
	else
		begin(x);
}

static void stop(struct exporting *x)
{
	x->pending++;
	distro_stop(x->s, x->id, stopped, x);
}

static void started(void *ctx, uint32_t port, const struct err *e)
{
	struct exporting *x = ctx;
	struct err wrapped;

	x->want = NULL;
	if (!e) {
		/* Somebody may have found work for it already. */
		if (distro_in_use(x->s, x->id))
			begin(x);
		else
			stop(x);
		return;
	}
	wrapped = *e;
	err_wrap(&wrapped, e->code,
		"it was not cleanly unmounted, and starting it to repair that failed");
	fail(x, &wrapped);
}

/* Its kernel has to finish what is in the journal. */
static void recover(struct exporting *x, const struct reg_entry *reg)
{
	log_info("export", "%s was not cleanly unmounted: starting and stopping it", x->name);
	x->recovered = true;
	distro_unreserve(x->s, x->id);
	x->reserved = false;
	close(take_fd(x->disk));
	distro_want(x->s, reg, started, x, &x->want);
}

/* Is its journal empty? 1: no. Of a virtual disk the child that exports it finds out. */
static int look(struct exporting *x, const char *path, struct err *e)
{
	struct image_info info;
	int r = image_check(x->disk, path, e);

	if (r < 0)
		return r;
	r = image_probe(x->disk, &info);
	if (r < 0)
		return err_sys(e, r, "read disk %s", path);
	if (info.needs_recovery && x->recovered)
		return err_set(e, -EUCLEAN,
			"%s was not cleanly unmounted, and is not after a start and a stop either",
			path);
	return info.needs_recovery;
}

static void offline(struct exporting *x, const struct reg_entry *reg)
{
	char path[PATH_MAX];
	struct err e = {0};
	int r = distro_reserve(x->s, x->id, "Exporting", &e);

	registry_disk(reg, false, path, sizeof(path));
	x->reserved = r == 0;
	x->vhdx = reg->vhdx;
	if (r == 0) {
		/* A kernel that mounts it replays its log first. */
		x->disk = strcmp(x->fs, "ext4") ? distro_open_disk(reg, &e)
						: open_disk(reg, path, &e);
		r = x->disk < 0 ? x->disk : 0;
	}
	/* Held for as long as anybody has it open. */
	if (r == 0 && !strcmp(x->fs, "ext4") && flock(x->disk, LOCK_SH | LOCK_NB) < 0)
		r = err_set(&e, -EBUSY, "%s is in use by another program", path);
	if (r == 0 && !x->vhdx)
		r = look(x, path, &e);
	if (r < 0)
		fail(x, &e);
	else if (r > 0)
		recover(x, reg);
	else
		write_out(x);
}

static void begin(struct exporting *x)
{
	const struct reg_entry *reg = registry_by_id(x->s->reg, x->id);
	struct err e = {0};

	if (!reg) {
		err_set(&e, -ENOENT, "it was unregistered meanwhile");
		fail(x, &e);
		return;
	}
	switch (distro_state(x->s, x->id)) {
	case DISTRO_STOPPING:
	case DISTRO_DETACHING: stop(x); break;
	case DISTRO_STOPPED:
		if (distro_active(x->s, x->id))
			freeze(x, reg);
		else
			offline(x, reg);
		break;
	default: freeze(x, reg); break;
	}
}

/* --- the call --- */

static const struct {
	const char *name;
	enum image_format format;
	enum image_compression compression;
} formats[] = {
	{"tar", IMAGE_TAR, IMAGE_PLAIN},
	{"tar.gz", IMAGE_TAR, IMAGE_GZIP},
	{"tar.xz", IMAGE_TAR, IMAGE_XZ},
	{"tar.zst", IMAGE_TAR, IMAGE_ZSTD},
	{"raw", IMAGE_RAW, IMAGE_PLAIN},
	{"vhdx", IMAGE_VHDX, IMAGE_PLAIN},
};

static int parse_format(struct exporting *x, const char *name, struct err *e)
{
	struct stat st;

	for (unsigned i = 0; i < ARRAY_LEN(formats); i++) {
		if (strcmp(name, formats[i].name) != 0)
			continue;
		x->format = formats[i].format;
		x->compression = formats[i].compression;
		if (x->format != IMAGE_TAR && (fstat(x->out, &st) < 0 || !S_ISREG(st.st_mode)))
			return err_set(e, -EINVAL, "a disk can only be written to a file");
		return 0;
	}
	return err_set(e, -EINVAL, "unknown format '%s'", name);
}

void export_method(void *service, struct ctl_call *call, struct json_object *params)
{
	struct service *s = service;
	const char *name = js_str(params, "name", "");
	const struct reg_entry *reg = registry_find(s->reg, name);
	struct exporting *x = calloc(1, sizeof(*x));
	struct err e = {0};

	if (!x)
		abort();
	*x = (struct exporting){.s = s, .call = call, .disk = -EBADF, .ext4 = -EBADF};
	x->out = ctl_call_take_fd(call, 0);
	snprintf(x->name, sizeof(x->name), "%s", name);
	s->jobs++;
	if (!reg)
		err_set(&e, -ENOENT, "there is no such distribution; 'wslx --list' shows all");
	else
		parse_format(x, js_str(params, "format", ""), &e);
	if (e.code) {
		fail(x, &e);
		return;
	}
	strcpy(x->id, reg->id);
	strcpy(x->name, reg->name);
	strcpy(x->fs, registry_fs(reg));
	ctl_call_on_close(call, client_gone, x);
	begin(x);
}
