/* SPDX-License-Identifier: MIT */
/* Raw disks to VHDX files and back. Holes and zeroes stay holes. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "lib/base/attr.h"
#include "lib/base/cleanup.h"
#include "lib/vhdx/vhdx.h"

enum { CHUNK = 1 << 20, PIECE = 4096 };

/* The pieces of a chunk that are not all zero, each run of them once: where the next one begins,
 * and how long it is. */
static bool next_data(const uint8_t *buf, size_t len, size_t *at, size_t *n)
{
	size_t end;

	for (; *at < len; *at += PIECE) {
		size_t k = MIN((size_t)PIECE, len - *at);

		if (buf[*at] || memcmp(buf + *at, buf + *at + 1, k - 1) != 0)
			break;
	}
	for (end = *at; end < len; end += PIECE) {
		size_t k = MIN((size_t)PIECE, len - end);

		if (!buf[end] && !memcmp(buf + end, buf + end + 1, k - 1))
			break;
	}
	*n = MIN(end, len) - *at;
	return *n != 0;
}

static void report(const struct vhdx_convert *c, uint64_t done, uint64_t total)
{
	if (c && c->progress)
		c->progress(c->ctx, done, total);
}

/* Behind the hole that off is in; where nobody knows of holes, off. */
static int skip_hole(int fd, uint64_t *off, uint64_t size)
{
	off_t at = lseek(fd, (off_t)*off, SEEK_DATA);

	if (at >= 0)
		*off = MIN((uint64_t)at, size);
	else if (errno == ENXIO)
		*off = size;
	else if (errno != EINVAL)
		return -errno;
	return 0;
}

static int read_raw(int fd, uint8_t *buf, size_t len, uint64_t off, uint64_t size)
{
	size_t n = MIN(len, size - off);
	int r = vhdx_fd_io.read(&fd, buf, n, off);

	memset(buf + n, 0, len - n); /* the disk's last sector, if the raw one ends in it */
	return r;
}

static int import_data(
	struct vhdx *v, int in_fd, uint64_t size, uint8_t *buf, const struct vhdx_convert *c)
{
	uint32_t sector = vhdx_info(v)->sector_size;
	uint64_t off = 0;
	int r;

	for (;;) {
		size_t len, at = 0, n;

		r = skip_hole(in_fd, &off, size);
		report(c, MIN(off, size), size);
		if (r < 0 || off >= size)
			return r;
		off = ALIGN_DOWN(off, (uint64_t)CHUNK);
		len = MIN((uint64_t)CHUNK, ALIGN_UP(size, (uint64_t)sector) - off);
		r = read_raw(in_fd, buf, len, off, size);
		for (; r == 0 && next_data(buf, len, &at, &n); at += n)
			r = vhdx_write(v, buf + at, n, off + at);
		if (r < 0)
			return r;
		off += CHUNK;
	}
}

int vhdx_import(int in_fd, int out_fd, const struct vhdx_create_opts *o,
	const struct vhdx_convert *c, struct err *e)
{
	struct vhdx_create_opts opts = o ? *o : (struct vhdx_create_opts){0};
	cleanup_free uint8_t *buf = malloc(CHUNK);
	struct vhdx *v;
	uint64_t size;
	int r = buf ? vhdx_fd_io.size(&in_fd, &size) : -ENOMEM;
	int closed;

	if (r < 0)
		return err_sys(e, r, "size of the disk");
	if (!opts.sector_size)
		opts.sector_size = 512;
	if (!opts.size)
		opts.size = ALIGN_UP(size, (uint64_t)opts.sector_size);
	if (opts.size < size)
		return err_set(e, -EINVAL, "the disk is larger than %llu bytes",
			(unsigned long long)opts.size);
	r = vhdx_create(&vhdx_fd_io, &out_fd, &opts, e);
	if (r == 0)
		r = vhdx_open(&v, &vhdx_fd_io, &out_fd, /* readonly= */ false, e);
	if (r < 0)
		return r;
	r = import_data(v, in_fd, size, buf, c);
	closed = vhdx_close(v);
	if (r == 0)
		r = closed;
	return r < 0 ? err_sys(e, r, "copy the disk") : 0;
}

static int export_data(
	struct vhdx *v, int in_fd, int out_fd, uint8_t *buf, const struct vhdx_convert *c)
{
	uint64_t size = vhdx_info(v)->size, off = 0;
	int r = vhdx_fd_io.set_size(&out_fd, size);

	while (r == 0 && off < size) {
		struct vhdx_extent x;
		size_t at = 0, n;

		r = vhdx_map(v, VHDX_READ, off, size - off, &x);
		if (r < 0)
			break;
		report(c, off, size);
		if (x.present) {
			uint64_t data = x.off;

			r = skip_hole(in_fd, &data, x.off + x.len);
			if (r < 0 || data != x.off) {
				off += data - x.off;
				continue;
			}
			x.len = MIN(x.len, (uint64_t)CHUNK);
			r = vhdx_fd_io.read(&in_fd, buf, x.len, x.off);
			for (; r == 0 && next_data(buf, x.len, &at, &n); at += n)
				r = vhdx_fd_io.write(&out_fd, buf + at, n, off + at);
		}
		off += x.len;
	}
	if (r == 0)
		r = vhdx_fd_io.flush(&out_fd);
	report(c, off, size);
	return r;
}

int vhdx_export(int in_fd, int out_fd, const struct vhdx_convert *c, struct err *e)
{
	cleanup_free uint8_t *buf = malloc(CHUNK);
	struct vhdx *v;
	int r = buf ? 0 : err_sys(e, -ENOMEM, "copy the disk");

	if (r == 0)
		r = vhdx_open(&v, &vhdx_fd_io, &in_fd, /* readonly= */ true, e);
	if (r < 0)
		return r;
	r = export_data(v, in_fd, out_fd, buf, c);
	vhdx_close(v);
	return r < 0 ? err_sys(e, r, "copy the disk") : 0;
}

int vhdx_recover(int fd, struct err *e)
{
	struct vhdx *v;
	int r = vhdx_open(&v, &vhdx_fd_io, &fd, /* readonly= */ false, e);

	if (r < 0)
		return r;
	r = vhdx_close(v);
	return r < 0 ? err_sys(e, r, "finish what the disk's log has") : 0;
}
