/* SPDX-License-Identifier: MIT */
/* What files are: as the share shows them, and changed. */
#include "lib/fs/host-internal.h"

#include <sys/statfs.h>
#include <sys/sysmacros.h>

static struct timespec when(const struct statx_timestamp *t)
{
	return (struct timespec){.tv_sec = t->tv_sec, .tv_nsec = t->tv_nsec};
}

static bool maps(const struct fs_node *n, const struct statx *stx)
{
	const struct fs_share *sh = n->share;
	enum { FROM = 32 << 10 };

	if (!S_ISREG(stx->stx_mode) || sh->o.map == FS_MAP_NEVER || n->remote)
		return false;
	return sh->o.map == FS_MAP_ALWAYS || (stx->stx_size >= FROM && !(stx->stx_mode & 0111));
}

void attr_of(const struct fs_node *dir, const struct fs_node *n, const struct statx *stx,
	bool from_meta, struct fs_attr *ret)
{
	const struct fs_share *sh = n->share;
	uint32_t mode = stx->stx_mode;

	*ret = (struct fs_attr){
		.ino = number_shown(sh, n->ident.dev, stx->stx_ino),
		.dev = makedev(stx->stx_dev_major, stx->stx_dev_minor),
		.rdev = makedev(stx->stx_rdev_major, stx->stx_rdev_minor),
		.size = stx->stx_size,
		.blocks = stx->stx_blocks,
		.mode = mode & ~(S_ISDIR(mode) ? sh->o.dmask : sh->o.fmask),
		.nlink = stx->stx_nlink,
		.uid = stx->stx_uid,
		.gid = stx->stx_gid,
		.blksize = stx->stx_blksize,
		.atime = when(&stx->stx_atime),
		.mtime = when(&stx->stx_mtime),
		.ctime = when(&stx->stx_ctime),
	};
	if (stx->stx_mask & STATX_BTIME && (n->ident.btime || n->ident.btime_ns))
		ret->btime = when(&stx->stx_btime);
	if (sh->o.squash && !from_meta) {
		ret->uid = id_shown(ret->uid, sh->uid, sh->o.uid);
		ret->gid = id_shown(ret->gid, sh->gid, sh->o.gid);
	}
	if (dir && S_ISDIR(mode) && !n->closed &&
		(n->ident.mnt != dir->ident.mnt || n->ident.dev != dir->ident.dev))
		ret->flags |= FS_ATTR_SUBMOUNT;
	if (maps(n, stx))
		ret->flags |= FS_ATTR_MAP;
}

int kill_suidgid(const struct host *h, const struct fs_node *n, int fd)
{
	struct stat st;
	mode_t mode;

	if (!(n->mode & (S_ISUID | S_ISGID)))
		return 0;
	if (n->share->o.metadata)
		return meta_kill_suidgid(fd);
	/* who has no privileges loses them by writing */
	if (!h->privileged)
		return 0;
	if (fstat(fd, &st) < 0)
		return -errno;
	mode = st.st_mode & ~(mode_t)S_ISUID;
	if (mode & S_IXGRP)
		mode &= ~(mode_t)S_ISGID;
	return mode == st.st_mode || fchmod(fd, mode & 07777) == 0 ? 0 : -errno;
}

static int stat_shown(
	struct host *h, struct fs_node *n, struct fs_handle *hd, struct statx *stx, bool *ret_meta)
{
	int r = hd ? sys_statx(hd->fd, "", stx) : node_stat(h, n, stx);

	*ret_meta = false;
	if (r == 0 && n->share->o.metadata && !n->closed) {
		int fd = hd ? hd->fd : node_fd(h, n);

		if (fd < 0)
			return fd;
		*ret_meta = meta_apply(fd, "", stx);
		if (!hd)
			node_fd_put(h, n);
	}
	return r;
}

int host_getattr(struct fs *fs, const struct fs_cred *c, struct fs_node *n, struct fs_handle *hd,
	struct fs_attr *ret)
{
	struct statx stx;
	bool meta;
	int r;

	/* whatever file the peer says it is of */
	if (hd)
		n = hd->node;
	if (!n->share) {
		set_attr(to_host(fs), ret);
		return 0;
	}
	r = stat_shown(to_host(fs), n, hd, &stx, &meta);
	if (r < 0)
		return r;
	n->mode = stx.stx_mode;
	attr_of(NULL, n, &stx, meta, ret);
	return 0;
}

static int set_size(
	struct host *h, struct fs_node *n, struct fs_handle *hd, uint64_t size, bool kill)
{
	cleanup_close int own = -1;
	struct statx stx;
	/* O_TRUNC works with O_RDONLY, too */
	int fd = hd && handle_writes(hd) ? hd->fd : (own = node_open(h, n, O_WRONLY, &stx));
	int r = 0;

	if (fd < 0)
		return fd;
	if (size > INT64_MAX)
		return -EFBIG;
	if (kill)
		r = kill_suidgid(h, n, fd);
	return r < 0 || ftruncate(fd, (off_t)size) == 0 ? r : -errno;
}

static int set_owner(struct fs_node *n, int fd, uint32_t set, const struct fs_attr *a)
{
	const struct fs_share *sh = n->share;
	uint32_t uid = set & FS_SET_UID ? a->uid : UINT32_MAX;
	uint32_t gid = set & FS_SET_GID ? a->gid : UINT32_MAX;

	if (sh->o.squash) {
		uid = id_meant(uid, sh->uid, sh->o.uid);
		gid = id_meant(gid, sh->gid, sh->o.gid);
	}
	return fchownat(fd, "", uid, gid, AT_EMPTY_PATH) == 0 ? 0 : -errno;
}

/* With metadata, what shows is what is stored; the file itself only has to let its owner in. */
static int set_meta(struct fs_node *n, int fd, uint32_t set, const struct fs_attr *a)
{
	const struct fs_share *sh = n->share;
	struct statx stx;
	int r = sys_statx(fd, "", &stx);

	if (r < 0)
		return r;
	if (S_ISLNK(stx.stx_mode))
		return 0;
	if (!meta_apply(fd, "", &stx) && sh->o.squash) {
		stx.stx_uid = id_shown(stx.stx_uid, sh->uid, sh->o.uid);
		stx.stx_gid = id_shown(stx.stx_gid, sh->gid, sh->o.gid);
	}
	if (set & FS_SET_UID)
		stx.stx_uid = a->uid;
	if (set & FS_SET_GID)
		stx.stx_gid = a->gid;
	if (set & (FS_SET_UID | FS_SET_GID) && !S_ISDIR(stx.stx_mode))
		stx.stx_mode &= stx.stx_mode & S_IXGRP ? ~(S_ISUID | S_ISGID) : ~S_ISUID;
	if (set & FS_SET_MODE)
		stx.stx_mode = (uint16_t)((stx.stx_mode & S_IFMT) | (a->mode & 07777));
	return meta_store(fd, &stx);
}

static int set_mode(int fd, uint32_t mode)
{
	char path[FD_PATH];

	return chmod(fd_path(path, fd), mode & 07777) == 0 ? 0 : -errno;
}

static int set_times(int fd, uint32_t set, const struct fs_attr *a)
{
	struct timespec ts[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_nsec = UTIME_OMIT}};
	char path[FD_PATH];

	if (set & FS_SET_ATIME)
		ts[0] = a->atime;
	if (set & FS_SET_ATIME_NOW)
		ts[0].tv_nsec = UTIME_NOW;
	if (set & FS_SET_MTIME)
		ts[1] = a->mtime;
	if (set & FS_SET_MTIME_NOW)
		ts[1].tv_nsec = UTIME_NOW;
	return utimensat(AT_FDCWD, fd_path(path, fd), ts, 0) == 0 ? 0 : -errno;
}

static int set_others(struct fs_node *n, int fd, uint32_t set, const struct fs_attr *a)
{
	int r = 0;

	if (n->share->o.metadata && set & (FS_SET_UID | FS_SET_GID | FS_SET_MODE)) {
		r = set_meta(n, fd, set, a);
		/* permission bits are the file's own too, as far as its owner can still work with it */
		if (r == 0 && set & FS_SET_MODE && !S_ISCHR(n->mode) && !S_ISBLK(n->mode))
			set_mode(fd, (a->mode & 0777) | (S_ISDIR(n->mode) ? 0700 : 0600));
	} else {
		if (set & (FS_SET_UID | FS_SET_GID))
			r = set_owner(n, fd, set, a);
		if (r == 0 && set & FS_SET_MODE)
			r = set_mode(fd, a->mode);
	}
	if (r == 0 && set & (FS_SET_ATIME | FS_SET_MTIME | FS_SET_ATIME_NOW | FS_SET_MTIME_NOW))
		r = set_times(fd, set, a);
	return r;
}

int host_setattr(struct fs *fs, const struct fs_cred *c, struct fs_node *n, struct fs_handle *hd,
	uint32_t set, const struct fs_attr *a, struct fs_attr *ret)
{
	struct host *h = to_host(fs);
	int r = 0;

	if (hd)
		n = hd->node;
	if (!n->share || n->share->o.read_only)
		return -EROFS;
	if (set & FS_SET_SIZE)
		r = set_size(h, n, hd, a->size, set & FS_SET_KILL_SUIDGID);
	if (r == 0 && set & ~(uint32_t)(FS_SET_SIZE | FS_SET_KILL_SUIDGID)) {
		int fd = hd ? hd->fd : node_fd(h, n);

		if (fd < 0)
			return fd;
		r = set_others(n, fd, set, a);
		if (!hd)
			node_fd_put(h, n);
	}
	return r == 0 && ret ? host_getattr(fs, c, n, hd, ret) : r;
}
