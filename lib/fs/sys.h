/* SPDX-License-Identifier: MIT */
/* System calls that not every C library has. */
#ifndef WSLX_FS_SYS_H
#define WSLX_FS_SYS_H

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>
#include <linux/openat2.h>
#ifndef STATX_BASIC_STATS
#include <linux/stat.h>
#endif
#include <linux/fs.h>
#ifndef STATX_MNT_ID
#define STATX_MNT_ID 0x1000U
#endif

/* One component below dirfd, no link of any kind followed. A descriptor, or a negative errno. */
static inline int sys_open_beneath(int dirfd, const char *name, uint64_t flags, uint64_t mode)
{
	const struct open_how how = {
		.flags = flags | O_NOFOLLOW | O_CLOEXEC,
		.mode = mode,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
	};
	int fd = (int)syscall(SYS_openat2, dirfd, name, &how, sizeof(how));

	return fd < 0 ? -errno : fd;
}

/* As that, but not what is mounted there: -EXDEV. */
static inline int sys_open_unmounted(int dirfd, const char *name, uint64_t flags)
{
	const struct open_how how = {
		.flags = flags | O_NOFOLLOW | O_CLOEXEC,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV,
	};
	int fd = (int)syscall(SYS_openat2, dirfd, name, &how, sizeof(how));

	return fd < 0 ? -errno : fd;
}

/* What dirfd, or with a name what it names there, is; links are not followed. */
static inline int sys_statx(int dirfd, const char *name, struct statx *ret)
{
	const unsigned flags = AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT;
	const unsigned mask = STATX_BASIC_STATS | STATX_BTIME | STATX_MNT_ID;

	return syscall(SYS_statx, dirfd, name, flags, mask, ret) < 0 ? -errno : 0;
}

/* The position is in one register where those are 64 bits wide, and the half behind it is ignored. */
static inline ssize_t sys_preadv2(
	int fd, const struct iovec *iov, unsigned cnt, uint64_t off, int flags)
{
	return syscall(SYS_preadv2, fd, iov, (long)cnt, off, 0L, flags);
}

static inline ssize_t sys_pwritev2(
	int fd, const struct iovec *iov, unsigned cnt, uint64_t off, int flags)
{
	return syscall(SYS_pwritev2, fd, iov, (long)cnt, off, 0L, flags);
}

#endif
