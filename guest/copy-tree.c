/* SPDX-License-Identifier: MIT */
/*
 * A file with several names is kept under one more in a folder of the copy, by its inode's number, until all is done: so
 * the second name finds it however many there are and however deep they lie.
 */
#include "guest/copy-tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>
#include "lib/base/attr.h"
#include "lib/base/cleanup.h"

#define LINKS ".wslx-links"

enum { CHUNK = 1 << 20, XATTR_MAX = 1 << 16, PATH_CAP = 320 };
/* Those that a user sets and any of our file systems may keep; the others say how the file is stored. */
enum { KEPT_FLAGS = FS_SYNC_FL | FS_IMMUTABLE_FL | FS_APPEND_FL | FS_NODUMP_FL | FS_NOATIME_FL };

/* A file with several names that is not to be changed once it has them all. */
struct held {
	char key[40];
	int flags;
};

struct copier {
	int links;
	struct held *held;
	size_t nheld;
	copy_progress_fn progress;
	void *ctx;
	uint64_t done, total;
	char *chunk, *names, *value; /* CHUNK, XATTR_MAX, XATTR_MAX bytes */
};

static int failed(struct err *e, const char *what, const char *name)
{
	return err_sys(e, -errno, "%s of %s", what, name);
}

/* A name in an open folder as a path, for calls that take no folder; a link at its end is not followed by those. */
static void proc_path(char *buf, int dir, const char *name)
{
	snprintf(buf, PATH_CAP, "/proc/self/fd/%d/%s", dir, name);
}

/* How one file system stores what another has under a standard name, or does not have. */
static bool is_private(const char *name)
{
	return !strncmp(name, "btrfs.", 6) || !strncmp(name, "trusted.SGI_ACL_", 16);
}

static int copy_xattrs(struct copier *c, int from, int to, const char *name, struct err *e)
{
	char src[PATH_CAP], dst[PATH_CAP];
	ssize_t len;

	proc_path(src, from, name);
	proc_path(dst, to, name);
	len = llistxattr(src, c->names, XATTR_MAX);
	if (len < 0)
		return errno == EOPNOTSUPP ? 0 : failed(e, "attributes", name);
	for (const char *p = c->names; p < c->names + len; p += strlen(p) + 1) {
		ssize_t n = is_private(p) ? 0 : lgetxattr(src, p, c->value, XATTR_MAX);

		if (is_private(p))
			continue;
		if (n < 0 || lsetxattr(dst, p, c->value, (size_t)n, 0) < 0)
			return err_sys(e, -errno, "attribute %.80s of %s", p, name);
	}
	return 0;
}

/* Owner before mode and attributes: a new owner takes the set-user-id bit and capabilities away. Times come last. */
static int copy_meta(
	struct copier *c, int from, int to, const char *name, const struct stat *st, struct err *e)
{
	const struct timespec times[] = {st->st_atim, st->st_mtim};
	int r;

	if (fchownat(to, name, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW) < 0)
		return failed(e, "owner", name);
	if (!S_ISLNK(st->st_mode) && fchmodat(to, name, st->st_mode & 07777, 0) < 0)
		return failed(e, "mode", name);
	r = copy_xattrs(c, from, to, name, e);
	if (r < 0)
		return r;
	return utimensat(to, name, times, AT_SYMLINK_NOFOLLOW) < 0 ? failed(e, "times", name) : 0;
}

static int set_flags(int fd, int flags, const char *name, struct err *e)
{
	int old;

	if (!flags)
		return 0;
	if (ioctl(fd, FS_IOC_GETFLAGS, &old) < 0)
		return failed(e, "flags", name);
	old |= flags;
	return ioctl(fd, FS_IOC_SETFLAGS, &old) < 0 ? failed(e, "flags", name) : 0;
}

/* After everything else: they may forbid it. */
static int copy_flags(int from, int to, const char *name, struct err *e)
{
	int flags;

	if (ioctl(from, FS_IOC_GETFLAGS, &flags) < 0)
		return 0;
	return set_flags(to, flags & KEPT_FLAGS, name, e);
}

static int hold_flags(struct copier *c, int from, const char *key)
{
	struct held *more;
	int flags;

	if (ioctl(from, FS_IOC_GETFLAGS, &flags) < 0 || !(flags & KEPT_FLAGS))
		return 0;
	more = reallocarray(c->held, c->nheld + 1, sizeof(*more));
	if (!more)
		return -ENOMEM;
	c->held = more;
	more[c->nheld] = (struct held){.flags = flags & KEPT_FLAGS};
	strcpy(more[c->nheld++].key, key);
	return 0;
}

static int write_at(int fd, const char *p, size_t n, off_t at)
{
	while (n) {
		ssize_t k = pwrite(fd, p, n, at);

		if (k < 0)
			return -errno;
		p += k;
		n -= (size_t)k;
		at += k;
	}
	return 0;
}

static int copy_data(
	struct copier *c, int from, int to, off_t size, const char *name, struct err *e)
{
	off_t pos = 0;

	while (pos < size) {
		off_t end, start = lseek(from, pos, SEEK_DATA);

		if (start < 0 && errno == ENXIO)
			break;
		if (start < 0 || (end = lseek(from, start, SEEK_HOLE)) < 0)
			return failed(e, "contents", name);
		for (pos = start; pos < end;) {
			ssize_t n =
				pread(from, c->chunk, (size_t)MIN(end - pos, (off_t)CHUNK), pos);
			int r = n > 0 ? write_at(to, c->chunk, (size_t)n, pos) : 0;

			if (n <= 0 || r < 0)
				return err_sys(e,
					r < 0	? r
					: n < 0 ? -errno
						: -EIO,
					"contents of %s", name);
			pos += n;
			c->done += (uint64_t)n;
			if (c->progress)
				c->progress(c->ctx, c->done, c->total);
		}
	}
	return ftruncate(to, size) < 0 ? failed(e, "size", name) : 0;
}

/* key: it has more names than this, by which it is known; NULL: this one. */
static int copy_file(struct copier *c, int from, int to, const char *name, const struct stat *st,
	const char *key, struct err *e)
{
	cleanup_close int in = openat(from, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	cleanup_close int out =
		openat(to, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	int r;

	if (in < 0 || out < 0)
		return err_sys(e, -errno, "open %s", name);
	r = copy_data(c, in, out, st->st_size, name, e);
	if (r == 0)
		r = copy_meta(c, from, to, name, st, e);
	if (r == 0 && key && (r = hold_flags(c, in, key)) < 0)
		err_sys(e, r, "flags of %s", name);
	return r < 0 || key ? r : copy_flags(in, out, name, e);
}

static int copy_other(
	struct copier *c, int from, int to, const char *name, const struct stat *st, struct err *e)
{
	ssize_t n = 0;

	if (S_ISLNK(st->st_mode)) {
		n = readlinkat(from, name, c->value, XATTR_MAX - 1);
		if (n >= 0)
			c->value[n] = '\0';
		if (n < 0 || symlinkat(c->value, to, name) < 0)
			return failed(e, "link", name);
	} else if (mknodat(to, name, st->st_mode, st->st_rdev) < 0) {
		return failed(e, "node", name);
	}
	return copy_meta(c, from, to, name, st, e);
}

static int copy_dir(struct copier *c, int from, int to, bool top, struct err *e);

static int copy_subdir(
	struct copier *c, int from, int to, const char *name, const struct stat *st, struct err *e)
{
	cleanup_close int in = -EBADF, out = -EBADF;
	int r;

	if (mkdirat(to, name, 0700) < 0)
		return err_sys(e, -errno, "make %s", name);
	in = openat(from, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	out = openat(to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (in < 0 || out < 0)
		return err_sys(e, -errno, "open %s", name);
	r = copy_dir(c, in, out, false, e);
	if (r == 0)
		r = copy_meta(c, from, to, name, st, e);
	return r < 0 ? r : copy_flags(in, out, name, e);
}

static int copy_one(struct copier *c, int from, int to, const char *name, struct err *e)
{
	char first[40];
	struct stat st;
	bool many;
	int r;

	if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_sys(e, -errno, "look at %s", name);
	if (S_ISDIR(st.st_mode))
		return copy_subdir(c, from, to, name, &st, e);
	many = st.st_nlink > 1;
	/* Subvolumes of btrfs number their inodes apart, and say so by a device of their own. */
	snprintf(first, sizeof(first), "%llx.%llx", (unsigned long long)st.st_dev,
		(unsigned long long)st.st_ino);
	if (many && linkat(c->links, first, to, name, 0) == 0)
		return 0;
	if (many && errno != ENOENT)
		return err_sys(e, -errno, "link %s", name);
	r = S_ISREG(st.st_mode) ? copy_file(c, from, to, name, &st, many ? first : NULL, e)
				: copy_other(c, from, to, name, &st, e);
	if (r == 0 && many && linkat(to, name, c->links, first, 0) < 0)
		r = err_sys(e, -errno, "link %s", name);
	return r;
}

static int copy_dir(struct copier *c, int from, int to, bool top, struct err *e)
{
	int fd = dup(from), r = 0;
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *de;

	if (!d) {
		if (fd >= 0)
			close(fd);
		return err_sys(e, -errno, "read a folder");
	}
	while (r == 0 && (errno = 0, de = readdir(d))) {
		if (!strcmp(de->d_name, ".") || !strcmp(de->d_name, ".."))
			continue;
		if (top && !strcmp(de->d_name, "lost+found"))
			continue;
		r = copy_one(c, from, to, de->d_name, e);
	}
	if (r == 0 && errno)
		r = err_sys(e, -errno, "read a folder");
	closedir(d);
	return r;
}

/* Flags could forbid another name, or that one goes. */
static int set_held_flags(struct copier *c, const int *fds, struct err *e)
{
	int r = 0;

	for (size_t i = 0; i < c->nheld && r == 0; i++)
		r = set_flags(fds[i], c->held[i].flags, "a file with several names", e);
	return r;
}

static int remove_links(int to, int links, struct err *e)
{
	/* Opened anew: a folder of btrfs lists what it held when it was opened. */
	int fd = openat(links, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *de;
	int r = d ? 0 : -errno;

	while (r == 0 && (errno = 0, de = readdir(d)))
		if (strcmp(de->d_name, ".") && strcmp(de->d_name, "..") &&
			unlinkat(links, de->d_name, 0) < 0)
			r = -errno;
	if (d)
		closedir(d);
	if (r == 0 && unlinkat(to, LINKS, AT_REMOVEDIR) < 0)
		r = -errno;
	return r < 0 ? err_sys(e, r, "remove " LINKS) : 0;
}

/* The files with several names have them all. */
static int settle_links(struct copier *c, int to, struct err *e)
{
	cleanup_free int *fds = calloc(c->nheld + 1, sizeof(*fds));
	size_t n = 0;
	int r = fds ? 0 : err_sys(e, -ENOMEM, "copy the files");

	for (; n < c->nheld && r == 0; n++) {
		fds[n] = openat(c->links, c->held[n].key, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
		if (fds[n] < 0) {
			r = err_sys(e, -errno, "open a file with several names");
			break;
		}
	}
	if (r == 0)
		r = remove_links(to, c->links, e);
	if (r == 0)
		r = set_held_flags(c, fds, e);
	while (n)
		close(fds[--n]);
	return r;
}

static int copy_all(struct copier *c, int from, int to, struct err *e)
{
	cleanup_close int links = -EBADF;
	struct statvfs vfs;
	struct stat st;
	int r;

	if (!c->chunk || !c->names || !c->value)
		return err_sys(e, -ENOMEM, "copy the files");
	if (fstat(from, &st) < 0 || fstatvfs(from, &vfs) < 0)
		return err_sys(e, -errno, "look at the files");
	c->total = (vfs.f_blocks - vfs.f_bfree) * vfs.f_frsize;
	if (mkdirat(to, LINKS, 0700) < 0)
		return err_sys(e, -errno, "make " LINKS);
	links = openat(to, LINKS, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (links < 0)
		return err_sys(e, -errno, "open " LINKS);
	c->links = links;
	r = copy_dir(c, from, to, true, e);
	if (r == 0)
		r = settle_links(c, to, e);
	if (r == 0)
		r = copy_meta(c, from, to, ".", &st, e);
	return r < 0 ? r : copy_flags(from, to, "/", e);
}

int copy_tree(int from, int to, copy_progress_fn progress, void *ctx, struct err *e)
{
	struct copier c = {.progress = progress,
		.ctx = ctx,
		.chunk = malloc(CHUNK),
		.names = malloc(XATTR_MAX),
		.value = malloc(XATTR_MAX)};
	int r = copy_all(&c, from, to, e);

	free(c.held);
	free(c.chunk);
	free(c.names);
	free(c.value);
	return r;
}
