/* SPDX-License-Identifier: MIT */
/* This host's side. Nodes are O_PATH descriptors; /proc/self/fd is the way to what only takes paths. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>
#include "cli/cp.h"
#include "lib/base/cleanup.h"

struct magic {
	char path[32];
};

static struct magic magic(int fd)
{
	struct magic m;

	snprintf(m.path, sizeof(m.path), "/proc/self/fd/%d", fd);
	return m;
}

static int node_at(int dir, const char *path, int flags, struct cp_node *ret, struct cp_attr *a)
{
	cleanup_close int fd = openat(dir, path, O_PATH | O_CLOEXEC | flags);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (a)
		*a = (struct cp_attr){.mode = st.st_mode,
			.uid = st.st_uid,
			.gid = st.st_gid,
			.major = major(st.st_rdev),
			.minor = minor(st.st_rdev),
			.nlink = st.st_nlink,
			.size = (uint64_t)st.st_size,
			.blocks = (uint64_t)st.st_blocks,
			.dev = st.st_dev,
			.ino = st.st_ino,
			.atime = st.st_atim,
			.mtime = st.st_mtim};
	*ret = (struct cp_node){.fd = -EBADF, .path_fd = take_fd(fd), .fid = UINT32_MAX};
	return 0;
}

static int l_find(
	struct cp_side *s, const char *path, bool follow, struct cp_node *ret, struct cp_attr *a)
{
	return node_at(AT_FDCWD, *path ? path : ".", follow ? 0 : O_NOFOLLOW, ret, a);
}

static int l_lookup(struct cp_side *s, struct cp_node *dir, const char *name, struct cp_node *ret,
	struct cp_attr *a)
{
	return node_at(dir->path_fd, name, O_NOFOLLOW, ret, a);
}

static void l_put(struct cp_side *s, struct cp_node *n)
{
	cleanup_closep(&n->fd);
	cleanup_closep(&n->path_fd);
	n->fd = n->path_fd = -EBADF;
}

static int l_list(
	struct cp_side *s, struct cp_node *dir, int (*fn)(void *ctx, const char *name), void *ctx)
{
	int fd = openat(dir->path_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *de;

	if (!d) {
		r = -errno;
		if (fd >= 0)
			close(fd);
		return r;
	}
	errno = 0;
	while (r == 0 && (de = readdir(d))) {
		if (strcmp(de->d_name, ".") && strcmp(de->d_name, ".."))
			r = fn(ctx, de->d_name);
		errno = 0;
	}
	if (r == 0 && errno)
		r = -errno;
	closedir(d);
	return r;
}

static ssize_t l_readlink(struct cp_side *s, struct cp_node *n, char *buf, size_t cap)
{
	ssize_t len = readlinkat(n->path_fd, "", buf, cap);

	return len < 0 ? -errno : len;
}

static int l_open(struct cp_side *s, struct cp_node *n)
{
	n->fd = open(magic(n->path_fd).path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	return n->fd < 0 ? -errno : 0;
}

static ssize_t l_read(struct cp_side *s, struct cp_node *n, void *buf, size_t len, uint64_t off)
{
	ssize_t got = pread(n->fd, buf, len, (off_t)off);

	return got < 0 ? -errno : got;
}

static int l_data(
	struct cp_side *s, struct cp_node *n, uint64_t off, uint64_t *start, uint64_t *end)
{
	off_t at = lseek(n->fd, (off_t)off, SEEK_DATA), to;

	if (at < 0 && errno != EINVAL && errno != EOPNOTSUPP)
		return -errno;
	*start = at < 0 ? off : (uint64_t)at;
	to = at < 0 ? -1 : lseek(n->fd, at, SEEK_HOLE);
	*end = to < 0 ? UINT64_MAX : (uint64_t)to;
	return 0;
}

static int l_create(struct cp_side *s, struct cp_node *dir, const char *name, struct cp_node *ret)
{
	int fd = openat(dir->path_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	*ret = (struct cp_node){.fd = fd, .path_fd = -EBADF, .fid = UINT32_MAX};
	if (fd < 0)
		return -errno;
	ret->path_fd = open(magic(fd).path, O_PATH | O_CLOEXEC);
	return ret->path_fd < 0 ? -errno : 0;
}

static int l_write(struct cp_side *s, struct cp_node *n, const void *buf, size_t len, uint64_t off)
{
	const char *p = buf;

	while (len) {
		ssize_t put = pwrite(n->fd, p, len, (off_t)off);

		if (put < 0)
			return -errno;
		p += put;
		off += (uint64_t)put;
		len -= (size_t)put;
	}
	return 0;
}

static int l_truncate(struct cp_side *s, struct cp_node *n, uint64_t size)
{
	return ftruncate(n->fd, (off_t)size) < 0 ? -errno : 0;
}

/* What the disk would not take may be said only now. */
static int l_done(struct cp_side *s, struct cp_node *n)
{
	return close(take_fd(n->fd)) < 0 ? -errno : 0;
}

static int made(int r, struct cp_node *dir, const char *name, struct cp_node *ret)
{
	return r < 0 ? -errno : node_at(dir->path_fd, name, O_NOFOLLOW, ret, NULL);
}

static int l_mkdir(struct cp_side *s, struct cp_node *dir, const char *name, struct cp_node *ret)
{
	return made(mkdirat(dir->path_fd, name, 0700), dir, name, ret);
}

static int l_symlink(struct cp_side *s, struct cp_node *dir, const char *name, const char *target,
	struct cp_node *ret)
{
	return made(symlinkat(target, dir->path_fd, name), dir, name, ret);
}

static int l_mknod(struct cp_side *s, struct cp_node *dir, const char *name,
	const struct cp_attr *a, struct cp_node *ret)
{
	return made(
		mknodat(dir->path_fd, name, (a->mode & S_IFMT) | 0600, makedev(a->major, a->minor)),
		dir, name, ret);
}

static int l_link(struct cp_side *s, struct cp_node *n, struct cp_node *dir, const char *name)
{
	return linkat(AT_FDCWD, magic(n->path_fd).path, dir->path_fd, name, AT_SYMLINK_FOLLOW) < 0
		       ? -errno
		       : 0;
}

static int l_rename(struct cp_side *s, struct cp_node *dir, const char *from, const char *to)
{
	return renameat(dir->path_fd, from, dir->path_fd, to) < 0 ? -errno : 0;
}

static int l_unlink(struct cp_side *s, struct cp_node *dir, const char *name)
{
	return unlinkat(dir->path_fd, name, 0) < 0 ? -errno : 0;
}

static int l_setattr(struct cp_side *s, struct cp_node *n, const struct cp_attr *a, unsigned what)
{
	const struct timespec times[2] = {a->atime, a->mtime};

	if (what & CP_OWNER && fchownat(n->path_fd, "", a->uid, a->gid, AT_EMPTY_PATH) < 0)
		return -errno;
	if (what & CP_MODE && chmod(magic(n->path_fd).path, a->mode & 07777) < 0)
		return -errno;
	if (what & CP_TIMES && utimensat(n->path_fd, "", times, AT_EMPTY_PATH) < 0)
		return -errno;
	return 0;
}

static ssize_t l_getxattr(
	struct cp_side *s, struct cp_node *n, const char *name, void *buf, size_t cap)
{
	struct magic at = magic(n->path_fd);
	ssize_t len = *name ? getxattr(at.path, name, buf, cap) : listxattr(at.path, buf, cap);

	return len < 0 ? -errno : len;
}

static int l_setxattr(
	struct cp_side *s, struct cp_node *n, const char *name, const void *value, size_t len)
{
	return setxattr(magic(n->path_fd).path, name, value, len, 0) < 0 ? -errno : 0;
}

static const struct cp_ops local_ops = {l_find, l_lookup, l_put, l_list, l_readlink, l_open, l_read,
	l_data, l_create, l_write, l_truncate, l_done, l_mkdir, l_symlink, l_mknod, l_link,
	l_rename, l_unlink, l_setattr, l_getxattr, l_setxattr};

struct cp_side cp_local = {.ops = &local_ops};
