/* SPDX-License-Identifier: MIT */
#include "lib/image/disk-read.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
#include "lib/base/attr.h"
#include "lib/base/checked.h"
#include "lib/base/cleanup.h"
#include "lib/image/probe-internal.h"
#include "lib/base/io.h"

int disk_read_open(struct disk_read *x, int fd, bool vhdx, struct err *e)
{
	*x = (struct disk_read){.fd = fd, .vhdx_fd = fd};
	return vhdx ? vhdx_open(&x->vhdx, &vhdx_fd_io, &x->vhdx_fd, /* readonly= */ false, e) : 0;
}

void disk_read_done(struct disk_read *x)
{
	if (x->vhdx)
		vhdx_close(x->vhdx); /* nothing was written */
	x->vhdx = NULL;
}

static int read_raw(int fd, char *buf, size_t len, uint64_t off)
{
	ssize_t n = io_pread(fd, buf, len, (off_t)off);

	return n < 0 ? (int)n : (size_t)n < len ? -ENODATA : 0;
}

int disk_read_at(const struct disk_read *x, void *buf, size_t len, uint64_t off)
{
	if (!x->vhdx)
		return read_raw(x->fd, buf, len, off);
	if (!range_ok(off, len, vhdx_info(x->vhdx)->size))
		return -ENODATA;
	return len ? vhdx_read(x->vhdx, buf, len, off) : 0;
}

int disk_read_probe(const struct disk_read *x, struct image_info *ret)
{
	cleanup_free uint8_t *buf = malloc(PROBE_BYTES);
	uint64_t size;
	size_t len;
	int r;

	if (!x->vhdx)
		return image_probe(x->fd, ret);
	size = vhdx_info(x->vhdx)->size;
	len = MIN(size, (uint64_t)PROBE_BYTES);
	r = buf ? disk_read_at(x, buf, len, 0) : -ENOMEM;
	if (r == 0)
		image_probe_bytes(buf, len, size, ret);
	return r;
}
