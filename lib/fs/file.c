/* SPDX-License-Identifier: MIT */
/* Open files. */
#include "lib/fs/host-internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/statfs.h>

/* Of what a peer asks for. Direct I/O is between it and its cache; where to append comes with each write. */
enum {
	OPEN_FLAGS = O_ACCMODE | O_TRUNC | O_SYNC | O_DSYNC | O_NOATIME,
	MAX_IOV = 1024,
};

int handle_new(struct host *h, struct fs_node *n, int fd, uint32_t flags, struct fs_handle **ret)
{
	struct fs_handle *hd;

	if (atomic_fetch_add(&h->n_handles, 1) >= h->max_handles) {
		atomic_fetch_sub(&h->n_handles, 1);
		return -ENFILE;
	}
	hd = calloc(1, sizeof(*hd));
	if (!hd) {
		atomic_fetch_sub(&h->n_handles, 1);
		return -ENOMEM;
	}
	hd->fd = fd;
	hd->flags = flags;
	pthread_mutex_init(&hd->dir_lock, NULL);
	node_add_handle(h, n, hd);
	*ret = hd;
	return 0;
}

void host_close(struct fs *fs, struct fs_handle *hd)
{
	struct host *h = to_host(fs);
	int fd = hd->fd;

	node_drop_handle(h, hd);
	if (fd >= 0)
		close(fd);
	dir_free(hd->dir);
	pthread_mutex_destroy(&hd->dir_lock);
	free(hd);
	atomic_fetch_sub(&h->n_handles, 1);
}

int fs_host_fd(const struct fs_handle *hd)
{
	return hd->fd;
}

static int may_open(const struct fs_node *n, uint32_t flags)
{
	if (!n->share)
		return -EROFS;
	return n->share->o.read_only && ((flags & O_ACCMODE) != O_RDONLY || flags & O_TRUNC)
		       ? -EROFS
		       : 0;
}

enum { RACY_NS = 20 * 1000 * 1000 };

/* A change so recent that another could leave the same times counts as change. */
static bool is_recent(const struct statx_timestamp *t)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME_COARSE, &now);
	return (now.tv_sec - t->tv_sec) * 1000000000ll + now.tv_nsec - t->tv_nsec < RACY_NS;
}

static void note_content(struct host *h, struct fs_handle *hd, const struct statx *stx)
{
	const struct stamp s = {
		.size = stx->stx_size,
		.mtime = stx->stx_mtime.tv_sec,
		.mtime_ns = stx->stx_mtime.tv_nsec,
		.ctime = stx->stx_ctime.tv_sec,
		.ctime_ns = stx->stx_ctime.tv_nsec,
	};
	struct stamp *old = &hd->node->stamp;

	pthread_mutex_lock(&h->lock);
	hd->unchanged = s.size == old->size && s.mtime == old->mtime && s.ctime == old->ctime &&
			s.mtime_ns == old->mtime_ns && s.ctime_ns == old->ctime_ns &&
			!is_recent(&stx->stx_ctime);
	*old = s;
	pthread_mutex_unlock(&h->lock);
}

bool host_unchanged(struct fs *fs, struct fs_handle *hd)
{
	return hd->unchanged;
}

int host_open(struct fs *fs, const struct fs_cred *c, struct fs_node *n, uint32_t flags,
	struct fs_handle **ret)
{
	struct host *h = to_host(fs);
	int r = may_open(n, flags);
	cleanup_close int fd = -1;
	struct statx stx;

	if (r == 0 && !S_ISREG(n->mode))
		r = S_ISDIR(n->mode) ? -EISDIR : -EACCES;
	if (r < 0)
		return r;
	fd = node_open(h, n, flags & (OPEN_FLAGS | O_NONBLOCK), &stx);
	if (fd < 0)
		return fd;
	r = handle_new(h, n, fd, flags, ret);
	if (r == 0) {
		(void)take_fd(fd);
		note_content(h, *ret, &stx);
	}
	return r;
}

/* The file just opened or made at a name. */
static int enter_open(struct host *h, struct fs_node *dir, const char *name, int fd, uint32_t flags,
	struct fs_entry *ret, struct fs_handle **ret_h)
{
	struct mounted m = {0};
	struct statx stx;
	bool meta = false;
	int r = sys_statx(fd, "", &stx);

	if (r < 0)
		return r;
	if (!S_ISREG(stx.stx_mode))
		return -EACCES;
	birth_check(dir, &stx);
	/* what is mounted on a file alone is not mapped */
	m.remote = dir->remote || stx.stx_mnt_id != dir->ident.mnt;
	if (dir->share->o.metadata)
		meta = meta_apply(fd, "", &stx);
	r = node_enter(h, dir, name, &stx, &m, &ret->node);
	if (r < 0)
		return r;
	r = handle_new(h, ret->node, fd, flags, ret_h);
	if (r < 0) {
		node_forget(&h->fs, ret->node, 1);
		return r;
	}
	attr_of(dir, ret->node, &stx, meta, &ret->attr);
	return 0;
}

int host_create(struct fs *fs, const struct fs_cred *c, struct fs_node *dir, const char *name,
	uint32_t mode, uint32_t flags, struct fs_entry *ret, struct fs_handle **ret_h)
{
	struct host *h = to_host(fs);
	const uint32_t of = (flags & (OPEN_FLAGS | O_EXCL)) | O_NONBLOCK;
	cleanup_close int fd = -1;
	bool is_new = true;
	int r = name_check(name), dfd;

	if (r < 0)
		return r;
	r = may_open(dir, O_RDWR);
	if (r < 0)
		return r;
	if (!S_ISDIR(dir->mode))
		return -ENOTDIR;
	dfd = node_fd(h, dir);
	if (dfd < 0)
		return dfd;
	cred_enter(h, c);
	fd = sys_open_beneath(dfd, name, of | O_CREAT | O_EXCL, own_mode(dir->share, mode, 0600));
	if (fd == -EEXIST && !(flags & O_EXCL)) {
		struct fs_entry e;
		struct statx stx;

		/* by way of its node: it may be anything */
		is_new = false;
		fd = entry_at(h, dir, dfd, name, &e);
		if (fd == 0) {
			fd = S_ISREG(e.node->mode) ? node_open(h, e.node, flags & OPEN_FLAGS, &stx)
						   : -EEXIST;
			node_forget(fs, e.node, 1);
		}
	}
	if (fd >= 0 && is_new && dir->share->o.metadata)
		r = meta_new(fd, dfd, c, S_IFREG | (mode & 07777), 0);
	node_fd_put(h, dir);
	if (fd < 0 || r < 0)
		return MIN(fd, r);
	r = enter_open(h, dir, name, fd, flags, ret, ret_h);
	if (r == 0)
		(void)take_fd(fd);
	return r;
}

int host_tmpfile(struct fs *fs, const struct fs_cred *c, struct fs_node *dir, uint32_t mode,
	uint32_t flags, struct fs_entry *ret, struct fs_handle **ret_h)
{
	struct host *h = to_host(fs);
	cleanup_close int fd = -1;
	int r = may_open(dir, O_RDWR), dfd;

	if (r < 0)
		return r;
	if (!S_ISDIR(dir->mode))
		return -ENOTDIR;
	dfd = node_fd(h, dir);
	if (dfd < 0)
		return dfd;
	cred_enter(h, c);
	fd = sys_open_beneath(dfd, ".", (flags & (OPEN_FLAGS | O_EXCL)) | O_TMPFILE,
		own_mode(dir->share, mode, 0600));
	if (fd >= 0 && dir->share->o.metadata)
		r = meta_new(fd, dfd, c, S_IFREG | (mode & 07777), 0);
	node_fd_put(h, dir);
	if (fd < 0 || r < 0)
		return MIN(fd, r);
	r = enter_open(h, dir, NULL, fd, flags, ret, ret_h);
	if (r == 0)
		(void)take_fd(fd);
	return r;
}

/* One call's part of a vector that may be longer than the kernel takes or, after a short read, started. */
static unsigned window(struct iovec *part, const struct iovec *iov, unsigned cnt, size_t skip)
{
	unsigned n = 0;

	for (unsigned i = 0; i < cnt && n < MAX_IOV; i++) {
		if (skip >= iov[i].iov_len) {
			skip -= iov[i].iov_len;
			continue;
		}
		part[n].iov_base = (char *)iov[i].iov_base + skip;
		part[n++].iov_len = iov[i].iov_len - skip;
		skip = 0;
	}
	return n;
}

static ssize_t read_rest(int fd, const struct iovec *iov, unsigned cnt, uint64_t off, size_t done,
	size_t size, int flags)
{
	struct iovec part[MAX_IOV];

	while (done < size) {
		ssize_t n = sys_preadv2(fd, part, window(part, iov, cnt, done), off + done, flags);

		if (n < 0 && errno == EOPNOTSUPP && flags) {
			flags = 0;
			continue;
		}
		if (n < 0 && errno == EINTR)
			continue;
		/* what came so far does not count: who gets less takes that for the end of the file */
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

ssize_t host_read(struct fs *fs, struct fs_handle *hd, const struct iovec *iov, unsigned cnt,
	uint64_t off, uint32_t how)
{
	const int flags = how & FS_NO_WAIT ? RWF_NOWAIT : 0;
	size_t size = iov_size(iov, cnt);
	ssize_t n = 0;

	if (off > INT64_MAX - size)
		return -EINVAL;
	if (cnt <= MAX_IOV) {
		n = sys_preadv2(hd->fd, iov, cnt, off, flags);
		if (n == 0 || n == (ssize_t)size)
			return n;
		if (n < 0 && errno != EINTR && errno != EOPNOTSUPP)
			return -errno;
		n = MAX(n, 0);
	}
	return read_rest(hd->fd, iov, cnt, off, (size_t)n, size, flags);
}

ssize_t host_write(struct fs *fs, struct fs_handle *hd, const struct iovec *iov, unsigned cnt,
	uint64_t off, uint32_t how)
{
	struct host *h = to_host(fs);
	const int flags = how & FS_APPEND ? RWF_APPEND : 0;
	size_t size = iov_size(iov, cnt), done = 0;
	struct iovec part[MAX_IOV];

	/* before anything is done to the file: the kernel says it only when data is written */
	if (!handle_writes(hd))
		return -EBADF;
	if (off > INT64_MAX - size)
		return -EFBIG;
	if (how & FS_KILL_SUIDGID) {
		int r = kill_suidgid(h, hd->node, hd->fd);

		if (r < 0)
			return r;
	}
	while (done < size) {
		ssize_t n;

		if (done == 0 && cnt <= MAX_IOV)
			n = sys_pwritev2(hd->fd, iov, cnt, off, flags);
		else
			n = sys_pwritev2(
				hd->fd, part, window(part, iov, cnt, done), off + done, flags);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return done ? (ssize_t)done : -errno;
		done += (size_t)n;
		if (n == 0)
			break;
	}
	return (ssize_t)done;
}

/* statfs(2)'s types of file systems that write what was written when it is closed: NFS, SMB, AFS, Ceph, 9P, FUSE. */
static const uint32_t late_types[] = {
	0x6969, 0xff534d42, 0xfe534d42, 0x517b, 0x5346414f, 0x00c36400, 0x01021997, 0x65735546};

bool is_remote(uint32_t type)
{
	for (size_t i = 0; i < ARRAY_LEN(late_types); i++)
		if (type == late_types[i])
			return true;
	return false;
}

bool host_fails_late(struct fs *fs, struct fs_handle *hd)
{
	struct statfs st;

	return hd->fd >= 0 && fstatfs(hd->fd, &st) == 0 && is_remote((uint32_t)st.f_type);
}

int host_flush(struct fs *fs, struct fs_handle *hd, uint64_t owner)
{
	/* what a network file system of the host has to say when a file is closed */
	int fd = fcntl(hd->fd, F_DUPFD_CLOEXEC, 3);

	if (fd < 0)
		return -errno;
	return close(fd) < 0 ? -errno : 0;
}

int host_fsync(struct fs *fs, struct fs_handle *hd, bool data_only)
{
	if (hd->fd < 0)
		return 0;
	return (data_only ? fdatasync(hd->fd) : fsync(hd->fd)) < 0 ? -errno : 0;
}

int host_fallocate(struct fs *fs, struct fs_handle *hd, int mode, uint64_t off, uint64_t len)
{
	struct host *h = to_host(fs);

	if (!handle_writes(hd))
		return -EBADF;
	kill_suidgid(h, hd->node, hd->fd);
	return fallocate(hd->fd, mode, (off_t)off, (off_t)len) < 0 ? -errno : 0;
}

int64_t host_lseek(struct fs *fs, struct fs_handle *hd, uint64_t off, int whence)
{
	off_t r;

	if (hd->dir || S_ISDIR(hd->node->mode))
		return -EINVAL;
	r = lseek(hd->fd, (off_t)off, whence);
	return r < 0 ? -errno : r;
}

ssize_t host_copy_range(struct fs *fs, struct fs_handle *in, uint64_t in_off, struct fs_handle *out,
	uint64_t out_off, uint64_t len)
{
	off_t from = (off_t)in_off, to = (off_t)out_off;
	struct host *h = to_host(fs);
	ssize_t n;

	if (in->fd < 0 || out->fd < 0 || !handle_writes(out))
		return -EBADF;
	if (len) {
		n = kill_suidgid(h, out->node, out->fd);
		if (n < 0)
			return n;
	}
	n = copy_file_range(in->fd, &from, out->fd, &to, MIN(len, (uint64_t)1 << 30), 0);
	return n < 0 ? -errno : n;
}
