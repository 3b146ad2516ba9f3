/* SPDX-License-Identifier: MIT */
/* Extended attributes, ACLs among them, and what statfs says. */
#include "lib/fs/host-internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>

static bool hides(const struct fs_node *n, const char *name)
{
	return meta_hides(name) || acl_hides(n->share, name);
}

ssize_t host_getxattr(struct fs *fs, struct fs_node *n, const char *name, void *buf, size_t cap)
{
	struct host *h = to_host(fs);
	char path[FD_PATH];
	ssize_t r;
	int fd;

	/* Linux's 9P client asks for ACLs with each file it looks up; without an answer it cannot even be shown */
	if (!n->share || hides(n, name) || (n->closed && acl_is(name)))
		return -ENODATA;
	fd = node_fd(h, n);
	if (fd < 0)
		return fd;
	r = getxattr(fd_path(path, fd), name, buf, cap);
	if (r < 0)
		r = -errno;
	else if (cap && acl_is(name))
		acl_shown(n, name, buf, (size_t)r);
	node_fd_put(h, n);
	return r;
}

/* Takes names out that are none of the peer's business. */
static size_t filter(const struct fs_node *n, char *buf, size_t len)
{
	size_t out = 0;

	for (size_t at = 0; at < len;) {
		size_t size = strnlen(buf + at, len - at) + 1;

		size = MIN(size, len - at);
		if (!hides(n, buf + at)) {
			memmove(buf + out, buf + at, size);
			out += size;
		}
		at += size;
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
		r = (ssize_t)filter(n, buf, (size_t)r);
	node_fd_put(h, n);
	return r;
}

int host_setxattr(struct fs *fs, const struct fs_cred *c, struct fs_node *n, const char *name,
	const void *val, size_t len, int flags)
{
	struct host *h = to_host(fs);
	cleanup_free void *acl = NULL;
	char path[FD_PATH];
	int fd, r;

	if (!n->share || n->share->o.read_only)
		return -EROFS;
	if (acl_hides(n->share, name))
		return -EOPNOTSUPP;
	if (meta_hides(name))
		return -EPERM;
	if (acl_is(name)) {
		r = acl_meant(n->share, val, len, &acl);
		if (r < 0)
			return r;
		val = acl;
	}
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
	if (hides(n, name))
		return -ENODATA;
	fd = node_fd(h, n);
	if (fd < 0)
		return fd;
	r = removexattr(fd_path(path, fd), name) < 0 ? -errno : 0;
	node_fd_put(h, n);
	return r;
}

static struct fs_node *first_root(struct host *h)
{
	struct fs_node *n;

	pthread_mutex_lock(&h->lock);
	n = h->shares ? h->shares->root : NULL;
	pthread_mutex_unlock(&h->lock);
	return n;
}

int host_statfs(struct fs *fs, struct fs_node *n, struct fs_stat *ret)
{
	struct host *h = to_host(fs);
	struct statfs st = {0};
	int fd, r;

	*ret = (struct fs_stat){.bsize = 4096, .frsize = 4096, .namelen = NAME_MAX};
	/* df(1) looks at one mount of a file system, and takes one of its root where there is one */
	if (!n->share && (n = first_root(h)) == NULL)
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

static int sync_one(struct host *h, struct fs_node *dir)
{
	cleanup_close int fd = -1;
	struct statx stx;

	fd = node_open(h, dir, O_RDONLY | O_DIRECTORY, &stx);
	if (fd < 0)
		return fd;
	return syncfs(fd) < 0 ? -errno : 0;
}

/* Each file system that shares lie on, once. */
static int sync_all(struct host *h)
{
	const unsigned n = h->n_devs;
	bool done[MAX_DEVICES] = {false};
	struct fs_share *sh;
	int ret = 0;

	pthread_mutex_lock(&h->lock);
	sh = h->shares;
	pthread_mutex_unlock(&h->lock);
	for (; sh; sh = sh->next)
		for (unsigned i = 0; i < n; i++) {
			int r;

			if (done[i] || h->devs[i] != sh->root->ident.dev)
				continue;
			done[i] = true;
			r = sync_one(h, sh->root);
			ret = ret < 0 ? ret : r;
		}
	return ret;
}

int host_syncfs(struct fs *fs, struct fs_node *n)
{
	struct host *h = to_host(fs);

	/* a peer's kernel asks for the root of what is one file system there */
	if (!n->share)
		return sync_all(h);
	/* syncfs(2) wants a descriptor that is open; of a folder there is always one */
	return sync_one(h, S_ISDIR(n->mode) ? n : n->share->root);
}
