/* SPDX-License-Identifier: MIT */
/* Extended attributes, ACLs among them, and what statfs says. */
#include "lib/fs/host-internal.h"

#include <string.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>

ssize_t host_getxattr(struct fs *fs, struct fs_node *n, const char *name, void *buf, size_t cap)
{
	struct host *h = to_host(fs);
	char path[FD_PATH];
	ssize_t r;
	int fd;

	if (!n->share || meta_hides(name))
		return -ENODATA;
	fd = node_fd(h, n);
	if (fd < 0)
		return fd;
	r = getxattr(fd_path(path, fd), name, buf, cap);
	if (r < 0)
		r = -errno;
	node_fd_put(h, n);
	return r;
}

/* Takes names out that are none of the peer's business. */
static size_t filter(char *buf, size_t len)
{
	size_t out = 0;

	for (size_t at = 0; at < len;) {
		size_t n = strnlen(buf + at, len - at) + 1;

		n = MIN(n, len - at);
		if (!meta_hides(buf + at)) {
			memmove(buf + out, buf + at, n);
			out += n;
		}
		at += n;
	}
	return out;
}

ssize_t host_listxattr(struct fs *fs, struct fs_node *n, char *buf, size_t cap)
{
	struct host *h = to_host(fs);
	char path[FD_PATH];
	ssize_t r;
	int fd;

	if (!n->share)
		return 0;
	fd = node_fd(h, n);
	if (fd < 0)
		return fd;
	r = listxattr(fd_path(path, fd), buf, cap);
	if (r < 0)
		r = -errno;
	else if (cap)
		r = (ssize_t)filter(buf, (size_t)r);
	node_fd_put(h, n);
	return r;
}

int host_setxattr(struct fs *fs, const struct fs_cred *c, struct fs_node *n, const char *name,
	const void *val, size_t len, int flags)
{
	struct host *h = to_host(fs);
	char path[FD_PATH];
	int fd, r;

	if (!n->share || n->share->o.read_only)
		return -EROFS;
	if (meta_hides(name))
		return -EPERM;
	fd = node_fd(h, n);
	if (fd < 0)
		return fd;
	r = setxattr(fd_path(path, fd), name, val, len, flags) < 0 ? -errno : 0;
	node_fd_put(h, n);
	return r;
}

int host_removexattr(struct fs *fs, const struct fs_cred *c, struct fs_node *n, const char *name)
{
	struct host *h = to_host(fs);
	char path[FD_PATH];
	int fd, r;

	if (!n->share || n->share->o.read_only)
		return -EROFS;
	if (meta_hides(name))
		return -ENODATA;
	fd = node_fd(h, n);
	if (fd < 0)
		return fd;
	r = removexattr(fd_path(path, fd), name) < 0 ? -errno : 0;
	node_fd_put(h, n);
	return r;
}

int host_statfs(struct fs *fs, struct fs_node *n, struct fs_stat *ret)
{
	struct host *h = to_host(fs);
	struct statfs st = {0};
	int fd, r;

	*ret = (struct fs_stat){.bsize = 4096, .frsize = 4096, .namelen = NAME_MAX};
	if (!n->share)
		return 0;
	fd = node_fd(h, n);
	if (fd < 0)
		return fd;
	r = fstatfs(fd, &st) < 0 ? -errno : 0;
	node_fd_put(h, n);
	if (r < 0)
		return r;
	memcpy(&ret->fsid, &st.f_fsid, sizeof(ret->fsid));
	ret->type = (uint64_t)st.f_type;
	ret->blocks = st.f_blocks;
	ret->bfree = st.f_bfree;
	ret->bavail = st.f_bavail;
	ret->files = st.f_files;
	ret->ffree = st.f_ffree;
	ret->bsize = (uint32_t)st.f_bsize;
	ret->frsize = (uint32_t)st.f_frsize;
	ret->namelen = (uint32_t)st.f_namelen;
	return 0;
}

int host_syncfs(struct fs *fs, struct fs_node *n)
{
	struct host *h = to_host(fs);
	cleanup_close int fd = -1;
	struct statx stx;

	if (!n->share)
		return 0;
	/* syncfs(2) wants a descriptor that is open; of a folder there is always one */
	fd = node_open(h, S_ISDIR(n->mode) ? n : n->share->root, O_RDONLY | O_DIRECTORY, &stx);
	if (fd < 0)
		return fd;
	return syncfs(fd) < 0 ? -errno : 0;
}
