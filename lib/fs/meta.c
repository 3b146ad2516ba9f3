/* SPDX-License-Identifier: MIT */
/*
 * Owners, types and modes a server without privileges may not give to its files, in their attribute user.wslx.meta:
 * "uid gid mode rdev", mode in octal, rdev as makedev(3) has it. A device is an empty file with that attribute. Links cannot
 * have attributes of this kind; theirs is lost.
 */
#include "lib/fs/host-internal.h"

#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#define META_NAME "user.wslx.meta"

enum { META_MAX = 96 };

static bool parse(char *text, struct statx *stx)
{
	unsigned uid, gid, mode;
	unsigned long long rdev;

	if (sscanf(text, "%u %u %o %llu", &uid, &gid, &mode, &rdev) != 4)
		return false;
	/* only what a file without the attribute could not be, and never a folder or a link */
	if ((mode & S_IFMT) != (stx->stx_mode & S_IFMT) &&
		(!S_ISREG(stx->stx_mode) ||
			(!S_ISCHR(mode) && !S_ISBLK(mode) && !S_ISFIFO(mode) && !S_ISSOCK(mode))))
		return false;
	stx->stx_uid = uid;
	stx->stx_gid = gid;
	stx->stx_mode = (uint16_t)mode;
	stx->stx_rdev_major = major(rdev);
	stx->stx_rdev_minor = minor(rdev);
	return true;
}

bool meta_apply(int dirfd, const char *name, struct statx *stx)
{
	char path[FD_PATH + NAME_MAX + 1], text[META_MAX];
	ssize_t n;

	if (S_ISLNK(stx->stx_mode))
		return false;
	fd_path(path, dirfd);
	if (*name) {
		const size_t len = strlen(path);

		if ((size_t)snprintf(path + len, sizeof(path) - len, "/%s", name) >=
			sizeof(path) - len)
			return false;
		n = lgetxattr(path, META_NAME, text, sizeof(text) - 1);
	} else {
		n = getxattr(path, META_NAME, text, sizeof(text) - 1);
	}
	if (n <= 0)
		return false;
	text[n] = '\0';
	return parse(text, stx);
}

/* Who owns a file and may not write to it gives himself that right for as long as it takes. */
static int set_attribute(const char *path, const char *text, size_t len)
{
	struct stat st;
	int r = setxattr(path, META_NAME, text, len, 0) < 0 ? -errno : 0;

	if (r != -EACCES || stat(path, &st) < 0 ||
		chmod(path, (st.st_mode & 07777) | S_IRUSR | S_IWUSR) < 0)
		return r;
	r = setxattr(path, META_NAME, text, len, 0) < 0 ? -errno : 0;
	return chmod(path, st.st_mode & 07777) < 0 && r == 0 ? -errno : r;
}

int meta_store(int fd, const struct statx *stx)
{
	char path[FD_PATH], text[META_MAX];
	int n = snprintf(text, sizeof(text), "%u %u %o %llu", stx->stx_uid, stx->stx_gid,
		stx->stx_mode,
		(unsigned long long)makedev(stx->stx_rdev_major, stx->stx_rdev_minor));

	return set_attribute(fd_path(path, fd), text, (size_t)n);
}

int meta_new(int fd, int dirfd, const struct fs_cred *c, uint32_t mode, uint64_t rdev)
{
	struct statx stx, dir;
	int r = sys_statx(fd, "", &stx);

	if (r == 0)
		r = sys_statx(dirfd, "", &dir);
	if (r < 0)
		return r;
	meta_apply(dirfd, "", &dir);
	stx.stx_uid = c->uid;
	stx.stx_gid = c->gid;
	stx.stx_mode = (uint16_t)(mode & ~c->umask);
	if (dir.stx_mode & S_ISGID) {
		stx.stx_gid = dir.stx_gid;
		stx.stx_mode |= S_ISDIR(mode) ? S_ISGID : 0;
	}
	stx.stx_rdev_major = major(rdev);
	stx.stx_rdev_minor = minor(rdev);
	return meta_store(fd, &stx);
}

int meta_kill_suidgid(int fd)
{
	struct statx stx;
	int r = sys_statx(fd, "", &stx);

	if (r < 0 || !meta_apply(fd, "", &stx))
		return r;
	stx.stx_mode &=
		stx.stx_mode & S_IXGRP ? (uint16_t) ~(S_ISUID | S_ISGID) : (uint16_t)~S_ISUID;
	return meta_store(fd, &stx);
}

bool meta_hides(const char *xattr)
{
	return strcmp(xattr, META_NAME) == 0;
}
