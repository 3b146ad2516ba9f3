/* SPDX-License-Identifier: MIT */
/* Operations on names: found, made, removed. */
#include "lib/fs/host-internal.h"

#include <stdio.h>
#include <string.h>

/* 0, or why this is not one component. */
int name_check(const char *name)
{
	if (name[0] == '\0' || strchr(name, '/') || strcmp(name, ".") == 0 ||
		strcmp(name, "..") == 0)
		return -EINVAL;
	return strlen(name) > NAME_MAX ? -ENAMETOOLONG : 0;
}

/* The folder's descriptor, until node_fd_put(): to change what is in it. */
static int writable_dir(struct host *h, struct fs_node *dir, const char *name)
{
	int r = name_check(name);

	if (r < 0)
		return r;
	if (!dir->share || dir->share->o.read_only)
		return -EROFS;
	if (!S_ISDIR(dir->mode))
		return -ENOTDIR;
	return node_fd(h, dir);
}

int entry_at(struct host *h, struct fs_node *dir, int dirfd, const char *name, struct fs_entry *ret)
{
	struct statx stx;
	struct mounted m;
	bool meta = false;
	int r = entry_stat(h, dir, dirfd, name, &stx, &m);

	if (r < 0)
		return r;
	if (dir->share->o.metadata && !m.closed)
		meta = meta_apply(dirfd, name, &stx);
	r = node_enter(h, dir, name, &stx, &m, &ret->node);
	if (r == 0)
		attr_of(dir, ret->node, &stx, meta, &ret->attr);
	return r;
}

int host_lookup(struct fs *fs, const struct fs_cred *c, struct fs_node *dir, const char *name,
	struct fs_entry *ret)
{
	struct host *h = to_host(fs);
	int r = name_check(name), fd;

	if (r < 0)
		return r;
	if (!dir->share)
		return set_lookup(h, name, ret);
	if (!S_ISDIR(dir->mode))
		return -ENOTDIR;
	fd = node_fd(h, dir);
	if (fd < 0)
		return fd;
	r = entry_at(h, dir, fd, name, ret);
	node_fd_put(h, dir);
	return r;
}

/* Who a new file is of where the server cannot make it so: see meta.c. */
static int new_meta(
	int dirfd, const char *name, const struct fs_cred *c, uint32_t mode, uint64_t rdev)
{
	cleanup_close int fd = sys_open_beneath(dirfd, name, O_PATH, 0);

	return fd < 0 ? fd : meta_new(fd, dirfd, c, mode, rdev);
}

/* The name was made (r 0): its entry. */
static int made(struct host *h, struct fs_node *dir, int dirfd, const char *name, int r,
	struct fs_entry *ret)
{
	if (r == 0)
		r = entry_at(h, dir, dirfd, name, ret);
	node_fd_put(h, dir);
	return r;
}

int host_mknod(struct fs *fs, const struct fs_cred *c, struct fs_node *dir, const char *name,
	uint32_t mode, uint64_t rdev, struct fs_entry *ret)
{
	struct host *h = to_host(fs);
	int fd = writable_dir(h, dir, name), r;

	if (fd < 0)
		return fd;
	cred_enter(h, c);
	if (dir->share->o.metadata) {
		r = mknodat(fd, name, S_IFREG | (mode & 0777) | 0600, 0) < 0 ? -errno : 0;
		if (r == 0)
			r = new_meta(fd, name, c, mode, rdev);
	} else {
		r = mknodat(fd, name, mode, (dev_t)rdev) < 0 ? -errno : 0;
	}
	return made(h, dir, fd, name, r, ret);
}

int host_mkdir(struct fs *fs, const struct fs_cred *c, struct fs_node *dir, const char *name,
	uint32_t mode, struct fs_entry *ret)
{
	struct host *h = to_host(fs);
	int fd = writable_dir(h, dir, name), r;

	if (fd < 0)
		return fd;
	cred_enter(h, c);
	r = mkdirat(fd, name, own_mode(dir->share, mode, 0700)) < 0 ? -errno : 0;
	if (r == 0 && dir->share->o.metadata)
		r = new_meta(fd, name, c, S_IFDIR | (mode & 07777), 0);
	return made(h, dir, fd, name, r, ret);
}

int host_symlink(struct fs *fs, const struct fs_cred *c, struct fs_node *dir, const char *name,
	const char *target, struct fs_entry *ret)
{
	struct host *h = to_host(fs);
	int fd = writable_dir(h, dir, name);

	if (fd < 0)
		return fd;
	cred_enter(h, c);
	return made(h, dir, fd, name, symlinkat(target, fd, name) < 0 ? -errno : 0, ret);
}

int host_link(struct fs *fs, const struct fs_cred *c, struct fs_node *n, struct fs_node *dir,
	const char *name, struct fs_entry *ret)
{
	struct host *h = to_host(fs);
	int fd = writable_dir(h, dir, name), from, r;
	char path[FD_PATH];

	if (fd < 0)
		return fd;
	r = from = n->share == dir->share ? node_fd(h, n) : -EXDEV;
	if (from >= 0) {
		r = linkat(AT_FDCWD, fd_path(path, from), fd, name, AT_SYMLINK_FOLLOW) < 0 ? -errno
											   : 0;
		node_fd_put(h, n);
	}
	return made(h, dir, fd, name, r, ret);
}

static void put(struct fs *fs, struct fs_node *n)
{
	if (n)
		node_put(fs, n);
}

static int take_away(struct fs *fs, struct fs_node *dir, const char *name, int flags)
{
	struct host *h = to_host(fs);
	int fd = writable_dir(h, dir, name), r;
	struct fs_node *n;

	if (fd < 0)
		return fd;
	/* who is in a folder can be so when it has gone */
	if (h->keep_removed || flags & AT_REMOVEDIR)
		node_hold(h, dir, name);
	n = node_at(h, dir, name);
	r = unlinkat(fd, name, flags) < 0 ? -errno : 0;
	if (r == 0)
		node_gone(h, n, dir, name);
	put(fs, n);
	node_fd_put(h, dir);
	return r;
}

int host_unlink(struct fs *fs, const struct fs_cred *c, struct fs_node *dir, const char *name)
{
	return take_away(fs, dir, name, 0);
}

int host_rmdir(struct fs *fs, const struct fs_cred *c, struct fs_node *dir, const char *name)
{
	return take_away(fs, dir, name, AT_REMOVEDIR);
}

/* Both folders are at hand; what is known of the two names follows. */
static int rename_in(struct host *h, struct fs_node *dir, int from, const char *name,
	struct fs_node *new_dir, int to, const char *new_name, uint32_t flags)
{
	struct fs_node *a = node_at(h, dir, name), *b = node_at(h, new_dir, new_name);
	struct fs_node *gone = b;
	struct statx stx;
	int r = (int)syscall(SYS_renameat2, from, name, to, new_name, flags) < 0 ? -errno : 0;

	/* who looked names up meanwhile may know it there already */
	if (r == 0 && b && sys_statx(to, new_name, &stx) == 0 && node_is(b, &stx))
		gone = NULL;
	if (r == 0)
		node_renamed(h, a, dir, name, gone, new_dir, new_name, flags & RENAME_EXCHANGE);
	put(&h->fs, a);
	put(&h->fs, b);
	return r;
}

int host_rename(struct fs *fs, const struct fs_cred *c, struct fs_node *dir, const char *name,
	struct fs_node *new_dir, const char *new_name, uint32_t flags)
{
	struct host *h = to_host(fs);
	int from, to, r;

	if (flags & ~(uint32_t)(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT))
		return -EINVAL;
	if (dir->share != new_dir->share)
		return -EXDEV;
	from = writable_dir(h, dir, name);
	if (from < 0)
		return from;
	r = to = writable_dir(h, new_dir, new_name);
	if (to >= 0) {
		cred_enter(h, c); /* a whiteout is a new file */
		if (h->keep_removed && !(flags & RENAME_EXCHANGE))
			node_hold(h, new_dir, new_name);
		r = rename_in(h, dir, from, name, new_dir, to, new_name, flags);
		node_fd_put(h, new_dir);
	}
	node_fd_put(h, dir);
	return r;
}

ssize_t host_readlink(struct fs *fs, struct fs_node *n, char *buf, size_t cap)
{
	struct host *h = to_host(fs);
	int fd = node_fd(h, n);
	ssize_t r;

	if (fd < 0)
		return fd;
	r = readlinkat(fd, "", buf, cap);
	if (r < 0)
		r = errno == ENOENT ? -EINVAL : -errno;
	node_fd_put(h, n);
	return r;
}

int host_access(struct fs *fs, const struct fs_cred *c, struct fs_node *n, int mask)
{
	struct host *h = to_host(fs);
	char path[FD_PATH];
	int fd, r;

	if (!n->share || (n->share->o.read_only && mask & W_OK))
		return mask & W_OK ? -EROFS : 0;
	fd = node_fd(h, n);
	if (fd < 0)
		return fd;
	r = faccessat(AT_FDCWD, fd_path(path, fd), mask & (R_OK | W_OK | X_OK), 0) < 0 ? -errno : 0;
	node_fd_put(h, n);
	return r;
}
