/* SPDX-License-Identifier: MIT */
#include "guest/fs-work.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/btrfs.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>
#include "guest/copy-tree.h"
#include "guest/guest.h"
#include "guest/worker.h"
#include "lib/base/cleanup.h"
#include "lib/base/io.h"
#include "lib/base/log.h"
#include "lib/base/loop.h"

#define FROM "/run/fs-work/from"
#define TO   "/run/fs-work/to"

enum { DISK_MS = 20000, PROGRESS_MS = 200, FILES_MAX = 1 << 16, TEXT_MAX = 64 << 10 };

struct fs_task {
	const struct wire_msg *m;
	uint64_t told;
	struct wire_w *reply;
};

static void progress(void *ctx, uint64_t done, uint64_t total)
{
	struct fs_task *t = ctx;
	uint8_t small[64];
	struct wire_w w;

	if (loop_now() - t->told < PROGRESS_MS * 1000000ull)
		return;
	t->told = loop_now();
	wire_begin(&w, small, sizeof(small), WSLX_PROGRESS, 0, 0, 0);
	wire_u64(&w, WSLX_A_DONE, done);
	wire_u64(&w, WSLX_A_TOTAL, total);
	worker_tell(&w);
}

/* Only what is known to bring its own limits; a name must not become a path or an option. */
static const char *options_of(const char *type)
{
	static const struct {
		const char *type, *options;
	} known[] = {{"ext4", "noinit_itable"}, {"xfs", "nouuid"}, {"btrfs", ""}};

	for (size_t i = 0; i < ARRAY_LEN(known); i++)
		if (!strcmp(type, known[i].type))
			return known[i].options;
	return NULL;
}

static int mount_lun(struct fs_task *t, enum wslx_tag lun, enum wslx_tag fstype, const char *where,
	unsigned long flags, struct err *e)
{
	char type[16], dev[64];
	const char *options;
	int r;

	if (wire_get_str(t->m, fstype, type, sizeof(type)) <= 0 || !(options = options_of(type)))
		return err_set(e, -EINVAL, "a request with an unknown type of file system");
	r = disk_wait(wire_get_u32(t->m, lun, UINT32_MAX), DISK_MS, dev, sizeof(dev), e);
	return r < 0 ? r
		     : mount_at(dev, where, type, flags | MS_NOSUID | MS_NODEV | MS_NOATIME,
			       options, e);
}

static int copy(struct fs_task *t, struct err *e)
{
	cleanup_close int from = -EBADF, to = -EBADF;
	const struct rlimit files = {FILES_MAX, FILES_MAX};
	int r = mount_lun(t, WSLX_A_LUN, WSLX_A_FSTYPE, FROM, MS_RDONLY, e);

	if (r == 0)
		r = mount_lun(t, WSLX_A_TO_LUN, WSLX_A_TO_FSTYPE, TO, 0, e);
	if (r < 0)
		return r;
	setrlimit(RLIMIT_NOFILE, &files); /* a folder takes two of them while it is looked into */
	from = open(FROM, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	to = open(TO, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (from < 0 || to < 0)
		return err_sys(e, -errno, "open the file systems");
	r = copy_tree(from, to, progress, t, e);
	if (r == 0 && syncfs(to) < 0)
		r = err_sys(e, -errno, "bring the files to stable storage");
	return r;
}

/* fs/xfs/libxfs/xfs_fs.h, which is no header for programs: the size in blocks, and the part that may be inodes. */
struct xfs_growfs_data {
	uint64_t new_blocks;
	uint32_t inode_percent, pad;
};
_Static_assert(sizeof(struct xfs_growfs_data) == 16, "kernel's structure");
#define GROW_XFS _IOW('X', 110, struct xfs_growfs_data)
enum { XFS_INODE_PERCENT = 25 }; /* mkfs.xfs's, below 1 TiB */

static int resize_xfs(int fd, uint64_t size, struct err *e)
{
	struct xfs_growfs_data g = {.inode_percent = XFS_INODE_PERCENT};
	struct statfs st;

	if (fstatfs(fd, &st) < 0 || st.f_bsize <= 0)
		return err_sys(e, -errno, "ask for its size");
	g.new_blocks = size / (uint64_t)st.f_bsize;
	return ioctl(fd, GROW_XFS, &g) < 0 ? err_sys(e, -errno, "grow the xfs file system") : 0;
}

static int resize_btrfs(int fd, uint64_t size, struct err *e)
{
	struct btrfs_ioctl_vol_args a = {0};

	snprintf(a.name, sizeof(a.name), "1:%llu", (unsigned long long)size);
	if (ioctl(fd, BTRFS_IOC_RESIZE, &a) == 0)
		return 0;
	return errno == ENOSPC ? err_set(e, -ENOSPC, "its files need more than that")
			       : err_sys(e, -errno, "resize the btrfs file system");
}

static int resize(struct fs_task *t, struct err *e)
{
	uint64_t size = wire_get_u64(t->m, WSLX_A_SIZE, 0);
	cleanup_close int fd = -EBADF;
	char type[16];
	int r = mount_lun(t, WSLX_A_LUN, WSLX_A_FSTYPE, FROM, 0, e);

	if (r < 0)
		return r;
	wire_get_str(t->m, WSLX_A_FSTYPE, type, sizeof(type));
	fd = open(FROM, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_sys(e, -errno, "open the file system");
	if (!strcmp(type, "xfs"))
		r = resize_xfs(fd, size, e);
	else if (!strcmp(type, "btrfs"))
		r = resize_btrfs(fd, size, e);
	else
		return err_set(e, -EOPNOTSUPP, "%s is not resized here", type);
	if (r == 0 && syncfs(fd) < 0)
		r = err_sys(e, -errno, "bring the new size to stable storage");
	return r;
}

static int trim(struct fs_task *t, struct err *e)
{
	struct fstrim_range all = {.len = UINT64_MAX};
	cleanup_close int fd = -EBADF;
	int r = mount_lun(t, WSLX_A_LUN, WSLX_A_FSTYPE, FROM, 0, e);

	if (r < 0)
		return r;
	fd = open(FROM, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || ioctl(fd, FITRIM, &all) < 0)
		return err_sys(e, -errno, "discard what it does not use");
	return 0;
}

/* Its links lead no further than its own root. */
static int open_inside(int root, const char *path, int flags)
{
	const struct open_how how = {.flags = (uint64_t)(flags | O_CLOEXEC),
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};

	return (int)syscall(SYS_openat2, root, path, &how, sizeof(how));
}

static void add_text(struct fs_task *t, int root, enum wslx_tag tag, const char *const *paths)
{
	cleanup_free char *text = malloc(TEXT_MAX);
	cleanup_close int fd = -EBADF;
	size_t len = 0;
	ssize_t n = 0;

	while (fd < 0 && *paths)
		fd = open_inside(root, *paths++, O_RDONLY | O_NONBLOCK);
	while (fd >= 0 && text && len < TEXT_MAX && (n = read(fd, text + len, TEXT_MAX - len)) > 0)
		len += (size_t)n;
	if (fd >= 0 && text && n >= 0)
		wire_bytes(t->reply, tag, text, len);
}

static int examine(struct fs_task *t, struct err *e)
{
	static const char *const release[] = {"etc/os-release", "usr/lib/os-release", NULL};
	static const char *const distribution[] = {"etc/wsl-distribution.conf", NULL};
	cleanup_close int root = -EBADF, etc = -EBADF, sh = -EBADF;
	int r = mount_lun(t, WSLX_A_LUN, WSLX_A_FSTYPE, FROM, MS_RDONLY, e);

	if (r < 0)
		return r;
	root = open(FROM, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return err_sys(e, -errno, "open the file system");
	etc = open_inside(root, "etc", O_PATH | O_DIRECTORY);
	sh = open_inside(root, "bin/sh", O_PATH);
	if (etc < 0 && sh < 0)
		return err_set(
			e, -EINVAL, "not a root file system: there is neither /etc nor /bin/sh");
	add_text(t, root, WSLX_A_OS_RELEASE, release);
	add_text(t, root, WSLX_A_DISTRIBUTION_CONF, distribution);
	return 0;
}

/* What is written back now may fail, too. */
static int unmount(const char *where, struct err *e)
{
	if (umount(where) == 0 || errno == EINVAL || errno == ENOENT)
		return 0;
	return err_sys(e, -errno, "unmount its file system");
}

static int run(struct fs_task *t, struct err *e)
{
	switch (t->m->type) {
	case WSLX_COPY_TREE: return copy(t, e);
	case WSLX_FS_RESIZE: return resize(t, e);
	case WSLX_FS_TRIM: return trim(t, e);
	case WSLX_FS_EXAMINE: return examine(t, e);
	default: return err_set(e, -ENOSYS, "unknown request");
	}
}

int fs_work(const struct wire_msg *m, struct wire_w *w, struct err *e)
{
	struct fs_task t = {.m = m, .reply = w};
	struct err late = {0};
	int r = run(&t, e);

	if (unmount(TO, &late) < 0 || unmount(FROM, &late) < 0)
		r = r < 0 ? r : err_set(e, late.code, "%s", late.text);
	return r;
}
