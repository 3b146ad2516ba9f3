/* SPDX-License-Identifier: MIT */
#include "lib/image/copy.h"

#include <errno.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include "lib/base/attr.h"
#include "lib/base/cleanup.h"

enum { CHUNK = 4 << 20 };

/* The next piece of data at or after *pos: 1, or 0 at the end. */
static int next_data(int fd, off_t *pos, off_t *ret_end)
{
	off_t start = lseek(fd, *pos, SEEK_DATA);

	if (start < 0)
		return errno == ENXIO ? 0 : -errno;
	*ret_end = lseek(fd, start, SEEK_HOLE);
	if (*ret_end < 0)
		return -errno;
	*pos = start;
	return 1;
}

static int data_size(int fd, uint64_t *ret)
{
	off_t pos = 0, end;
	int r;

	*ret = 0;
	while ((r = next_data(fd, &pos, &end)) > 0) {
		*ret += (uint64_t)(end - pos);
		pos = end;
	}
	return r;
}

static int write_at(int fd, const char *p, size_t n, off_t at)
{
	while (n) {
		ssize_t k = pwrite(fd, p, n, at);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return -errno;
		p += k;
		n -= (size_t)k;
		at += k;
	}
	return 0;
}

static int copy_data(int in, int out, image_copy_progress progress, void *ctx)
{
	cleanup_free char *buf = malloc(CHUNK);
	uint64_t done = 0, total;
	off_t pos = 0, end;
	int r = buf ? data_size(in, &total) : -ENOMEM;

	if (r < 0)
		return r;
	while ((r = next_data(in, &pos, &end)) > 0) {
		while (pos < end) {
			ssize_t n = pread(in, buf, (size_t)MIN(end - pos, (off_t)CHUNK), pos);

			if (n < 0 && errno == EINTR)
				continue;
			if (n <= 0)
				return n < 0 ? -errno : -EIO; /* it became shorter meanwhile */
			r = write_at(out, buf, (size_t)n, pos);
			if (r < 0)
				return r;
			pos += n;
			done += (uint64_t)n;
			if (progress)
				progress(ctx, done, total);
		}
	}
	return r;
}

int image_copy(int in, int out, image_copy_progress progress, void *ctx, struct err *e)
{
	struct stat st;
	int r = 0;

	if (fstat(in, &st) < 0)
		return err_sys(e, -errno, "copy the disk");
	if (ioctl(out, FICLONE, in) < 0) {
		r = ftruncate(out, st.st_size) < 0 ? -errno : copy_data(in, out, progress, ctx);
		if (r < 0)
			return err_sys(e, r, "copy the disk");
	}
	return fsync(out) < 0 ? err_sys(e, -errno, "copy the disk") : 0;
}
