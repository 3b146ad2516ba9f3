/* SPDX-License-Identifier: MIT */
/*
 * A resize moves blocks about and cannot be taken up again where it was killed: it is done to a copy,
 * which takes the disk's place when it is whole. Where the host's file system shares blocks between
 * files, the copy costs nothing.
 *
 * What a guest wrote on the disk is understood by other people's programs only in a sandbox
 * (lib/sandbox/tool.h).
 */
#include "daemon/disk-work.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "lib/base/cleanup.h"
#include "lib/image/job.h"
#include "lib/sandbox/tool.h"
#include "lib/vhdx/vhdx.h"

enum { E2FSCK_CORRECTED = 1 };

/* What Linux 6.1 can mount, where mkfs.xfs is newer than the guest's kernel. Some packages' file is unusable. */
#define XFS_DEFAULTS "/usr/share/xfsprogs/mkfs/lts_6.1.conf"

/* Its exit status must be at most ok; what: the intent. */
static int run(const char *const *argv, const char *package, int file, int ok, const char *what,
	struct err *e)
{
	const struct sandbox_tool t = {argv, package, file};
	char said[SANDBOX_TOOL_SAID];
	int r = sandbox_tool_run(&t, said, e);

	return r <= ok ? MIN(r, 0) : err_set(e, -EIO, "%s: %s", what, sandbox_tool_last_line(said));
}

static int make_fn(const void *opts, const struct job_report *to, struct err *e)
{
	static const char *const ext4[] = {"mke2fs", "-q", "-F", "-t", "ext4", "-m", "0", "-i",
		"4096", "-E", "nodiscard,lazy_itable_init=1,lazy_journal_init=1", SANDBOX_TOOL_FILE,
		NULL};
	static const char *const xfs[] = {"mkfs.xfs", "-q", "-f", "-K", SANDBOX_TOOL_FILE, NULL};
	static const char *const xfs_like[] = {"mkfs.xfs", "-q", "-f", "-K", "-c",
		"options=" XFS_DEFAULTS, SANDBOX_TOOL_FILE, NULL};
	static const char *const btrfs[] = {
		"mkfs.btrfs", "-q", "-f", "-K", SANDBOX_TOOL_FILE, NULL};
	const struct disk_work *w = opts;

	if (ftruncate(w->out, (off_t)w->size) < 0)
		return err_sys(e, -errno, "make the disk %" PRIu64 " MiB large", w->size >> 20);
	if (!strcmp(w->fs, "xfs")) {
		struct err ignored = {0};

		if (access(XFS_DEFAULTS, R_OK) == 0 &&
			run(xfs_like, "xfsprogs", w->out, 0, "xfs", &ignored) == 0)
			return 0;
		return run(xfs, "xfsprogs", w->out, 0, "make an xfs file system", e);
	}
	if (!strcmp(w->fs, "btrfs"))
		return run(btrfs, "btrfs-progs", w->out, 0, "make a btrfs file system", e);
	return run(ext4, "e2fsprogs", w->out, 0, "make an ext4 file system", e);
}

static int clone_fn(const void *opts, const struct job_report *to, struct err *e)
{
	static const char *const new_id[] = {"btrfstune", "-f", "-m", SANDBOX_TOOL_FILE, NULL};
	const struct disk_work *w = opts;
	int r = w->vhdx ? vhdx_recover(w->in, e) : 0;

	if (r == 0)
		r = w->vhdx ? job_from_vhdx(w->in, w->out, to, e) : job_copy(w->in, w->out, to, e);
	if (r < 0 || strcmp(w->fs, "btrfs") != 0)
		return r;
	r = run(new_id, "btrfs-progs", w->out, 0, "give the copy an identity of its own", e);
	return r == 0 && fsync(w->out) < 0 ? err_sys(e, -errno, "copy the disk") : r;
}

static int check(int file, bool discard, struct err *e)
{
	const char *const argv[] = {"e2fsck", "-f", "-y", "-E", discard ? "discard" : "nodiscard",
		SANDBOX_TOOL_FILE, NULL};

	return run(argv, "e2fsprogs", file, E2FSCK_CORRECTED, "the file system is damaged", e);
}

static int compact_fn(const void *opts, const struct job_report *to, struct err *e)
{
	return check(((const struct disk_work *)opts)->in, true, e);
}

static int set_size(const struct disk_work *w, struct err *e)
{
	char size[32];
	const char *const argv[] = {"resize2fs", SANDBOX_TOOL_FILE, size, NULL};
	struct image_info info;
	int r;

	snprintf(size, sizeof(size), "%" PRIu64 "K", w->size >> 10);
	r = run(argv, "e2fsprogs", w->out, 0, "resize2fs", e);
	if (r < 0)
		return r == -EIO ? err_wrap(e, -ENOSPC, "it cannot have that size") : r;
	r = image_probe(w->out, &info);
	if (r < 0 || info.kind != IMAGE_EXT4 || info.size > w->size)
		return err_set(e, -EIO, "resize2fs left another size behind");
	return 0;
}

static int resize_fn(const void *opts, const struct job_report *to, struct err *e)
{
	const struct disk_work *w = opts;
	bool ext4 = !strcmp(w->fs, "ext4");
	struct stat st;
	int r = job_copy(w->in, w->out, to, e);

	if (r == 0 && ext4)
		r = check(w->out, false, e);
	if (r < 0)
		return r;
	if (fstat(w->out, &st) < 0)
		return err_sys(e, -errno, "the disk");
	if ((uint64_t)st.st_size < w->size && ftruncate(w->out, (off_t)w->size) < 0)
		return err_sys(e, -errno, "enlarge the disk");
	if (!ext4)
		return 0;
	r = set_size(w, e);
	if (r == 0 && (ftruncate(w->out, (off_t)w->size) < 0 || fsync(w->out) < 0))
		r = err_sys(e, -errno, "the disk");
	return r;
}

static int start(struct image_job **ret, const struct disk_work *w, struct err *e,
	int (*fn)(const void *opts, const struct job_report *to, struct err *e))
{
	/* What only copies runs no tool, and needs nothing but its files. */
	bool copies = fn == clone_fn && strcmp(w->fs, "btrfs") != 0;
	const struct job_work work = {.who = "process",
		.profile = copies ? &sandbox_exporter : NULL,
		.fds = {w->in, w->out, -1},
		.fn = fn,
		.opts = w};

	return job_start(ret, &work, e);
}

int disk_make_start(struct image_job **ret, const struct disk_work *w, struct err *e)
{
	return start(ret, w, e, make_fn);
}

int disk_clone_start(struct image_job **ret, const struct disk_work *w, struct err *e)
{
	return start(ret, w, e, clone_fn);
}

int disk_resize_start(struct image_job **ret, const struct disk_work *w, struct err *e)
{
	return start(ret, w, e, resize_fn);
}

int disk_compact_start(struct image_job **ret, const struct disk_work *w, struct err *e)
{
	return start(ret, w, e, compact_fn);
}
