/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <unistd.h>
#include "lib/base/attr.h"
#include "lib/vhdx/vhdx.h"
#include "lib/base/io.h"

enum { ZERO_CHUNK = 64 << 10 };

static int fd_of(void *ctx)
{
	return *(const int *)ctx;
}

static int fd_size(void *ctx, uint64_t *ret)
{
	off_t n = lseek(fd_of(ctx), 0, SEEK_END);

	*ret = (uint64_t)n;
	return n < 0 ? -errno : 0;
}

static int fd_set_size(void *ctx, uint64_t size)
{
	return ftruncate(fd_of(ctx), (off_t)size) < 0 ? -errno : 0;
}

static int fd_read(void *ctx, void *buf, size_t len, uint64_t off)
{
	ssize_t n = io_pread(fd_of(ctx), buf, len, (off_t)off);

	return n < 0 ? (int)n : (size_t)n < len ? -EIO : 0;
}

static int fd_write(void *ctx, const void *buf, size_t len, uint64_t off)
{
	while (len) {
		ssize_t n = pwrite(fd_of(ctx), buf, len, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		buf = (const uint8_t *)buf + n;
		len -= (size_t)n;
		off += (uint64_t)n;
	}
	return 0;
}

static int fd_zero(void *ctx, uint64_t off, uint64_t len)
{
	static const uint8_t zeroes[ZERO_CHUNK];
	int r = 0;

	if (!len || fallocate(fd_of(ctx), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)off,
			    (off_t)len) == 0)
		return 0;
	if (errno != EOPNOTSUPP)
		return -errno;
	while (r == 0 && len) {
		size_t n = MIN(len, sizeof(zeroes));

		r = fd_write(ctx, zeroes, n, off);
		off += n;
		len -= n;
	}
	return r;
}

static int fd_flush(void *ctx)
{
	return fdatasync(fd_of(ctx)) < 0 ? -errno : 0;
}

const struct vhdx_io vhdx_fd_io = {
	.size = fd_size,
	.set_size = fd_set_size,
	.read = fd_read,
	.write = fd_write,
	.zero = fd_zero,
	.flush = fd_flush,
};
