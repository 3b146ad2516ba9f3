/* SPDX-License-Identifier: MIT */
/*
 * VHDX file as a block back end. As with raw files, reads and writes are made where they are asked
 * for, once the lock has been held to see where in the file; a new block is given its place there
 * too. The worker flushes and unmaps.
 *
 * Locks: map_lock guards the vhdx and the transfers' count. It is held over system calls on the
 * file only when a block gets its place, which is quick, and before the first write.
 *
 * Space that a block has lost must not become another's while a transfer still goes there. So
 * transfers are counted, in two generations: quiesce() begins a new one, and waits for the end of
 * those of the old.
 */
#include "vmm/host/block-vhdx.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
#include "lib/base/attr.h"
#include "lib/base/checked.h"
#include "lib/vhdx/vhdx.h"
#include "vmm/host/block-fd.h"
#include "vmm/host/block-worker.h"

/* So much waits to be given back at most: discards without flushes gain a guest no space. */
#define MAX_UNMAPPED (256ull << 20)

struct blk_vhdx {
	struct blk blk;
	struct block_fd file;
	struct vhdx *vhdx;
	struct block_worker worker;

	struct os_mutex map_lock;
	struct os_event quiet; /* the old generation has ended */
	unsigned generation;   /* 0 or 1 */
	unsigned transfers[2];
	bool quiescing;
};

static struct blk_vhdx *to_vhdx(struct blk *b)
{
	return container_of(b, struct blk_vhdx, blk);
}

static int io_size(void *ctx, uint64_t *ret)
{
	struct blk_vhdx *d = ctx;

	return block_fd_size(&d->file, ret);
}

static int io_set_size(void *ctx, uint64_t size)
{
	struct blk_vhdx *d = ctx;

	return vhdx_fd_io.set_size(&d->file.fd, size);
}

static int io_read(void *ctx, void *buf, size_t len, uint64_t off)
{
	struct blk_vhdx *d = ctx;

	return vhdx_fd_io.read(&d->file.fd, buf, len, off);
}

static int io_write(void *ctx, const void *buf, size_t len, uint64_t off)
{
	struct blk_vhdx *d = ctx;

	return vhdx_fd_io.write(&d->file.fd, buf, len, off);
}

static int io_zero(void *ctx, uint64_t off, uint64_t len)
{
	struct blk_vhdx *d = ctx;

	return len ? block_fd_zero(&d->file, off, len, /* may_unmap= */ true) : 0;
}

static int io_flush(void *ctx)
{
	struct blk_vhdx *d = ctx;

	return block_fd_flush(&d->file);
}

static void io_lock(void *ctx)
{
	struct blk_vhdx *d = ctx;

	os_mutex_lock(&d->map_lock);
}

static void io_unlock(void *ctx)
{
	struct blk_vhdx *d = ctx;

	os_mutex_unlock(&d->map_lock);
}

static void io_quiesce(void *ctx)
{
	struct blk_vhdx *d = ctx;
	unsigned old;

	os_mutex_lock(&d->map_lock);
	old = d->generation;
	d->generation = !old;
	d->quiescing = true;
	while (d->transfers[old]) {
		os_mutex_unlock(&d->map_lock);
		os_event_wait(&d->quiet, UINT64_MAX);
		os_mutex_lock(&d->map_lock);
	}
	d->quiescing = false;
	os_mutex_unlock(&d->map_lock);
}

static const struct vhdx_io io = {
	.size = io_size,
	.set_size = io_set_size,
	.read = io_read,
	.write = io_write,
	.zero = io_zero,
	.flush = io_flush,
	.lock = io_lock,
	.unlock = io_unlock,
	.quiesce = io_quiesce,
};

/* Where the request goes on; a transfer until end_transfer(). */
static int begin_transfer(struct blk_vhdx *d, const struct blk_req *r, uint64_t done,
	struct vhdx_extent *x, unsigned *generation)
{
	enum vhdx_access a = r->op == BLK_READ ? VHDX_READ : VHDX_WRITE;
	int e;

	OS_GUARD(&d->map_lock);
	e = vhdx_map(d->vhdx, a, r->off + done, r->len - done, x);
	if (e == 0)
		d->transfers[ *generation = d->generation]++;
	return e;
}

static void end_transfer(struct blk_vhdx *d, unsigned generation)
{
	OS_GUARD(&d->map_lock);
	if (!--d->transfers[generation] && d->quiescing && generation != d->generation)
		os_event_set(&d->quiet);
}

static int transfer(struct blk_vhdx *d, const struct blk_req *r)
{
	struct vhdx_extent x;
	unsigned generation = 0;
	int e = 0;

	for (uint64_t done = 0; e == 0 && done < r->len; done += x.len) {
		e = begin_transfer(d, r, done, &x, &generation);
		if (e < 0)
			return block_fd_error(-e);
		if (x.present)
			e = block_fd_transfer(&d->file, r, done, x.len, x.off);
		else
			block_fd_clear(r, done, x.len);
		end_transfer(d, generation);
	}
	return e;
}

/* Worker. What is kept in its place becomes zero there. */
static int zero(struct blk_vhdx *d, const struct blk_req *r, bool may_unmap)
{
	struct vhdx_extent x;
	int e = 0;

	for (uint64_t done = 0; e == 0 && done < r->len; done += x.len) {
		os_mutex_lock(&d->map_lock);
		e = vhdx_map(d->vhdx, may_unmap ? VHDX_UNMAP : VHDX_READ, r->off + done,
			r->len - done, &x);
		os_mutex_unlock(&d->map_lock);
		if (e < 0)
			return block_fd_error(-e);
		if (x.present)
			e = block_fd_zero(&d->file, x.off, x.len, may_unmap);
	}
	return e;
}

static uint64_t unmapped(struct blk_vhdx *d)
{
	OS_GUARD(&d->map_lock);
	return vhdx_unmapped(d->vhdx);
}

static int flush(struct blk_vhdx *d)
{
	int e = vhdx_flush(d->vhdx);

	return e < 0 ? block_fd_error(-e) : 0;
}

static int work(void *ctx, const struct blk_req *r)
{
	struct blk_vhdx *d = ctx;
	int e;

	if (r->op == BLK_FLUSH)
		return flush(d);
	e = zero(d, r, r->op == BLK_DISCARD || r->may_unmap);
	if (e == 0 && unmapped(d) > MAX_UNMAPPED)
		e = flush(d);
	return e;
}

static int vhdx_submit(struct blk *b, struct blk_req *r)
{
	struct blk_vhdx *d = to_vhdx(b);

	if (r->op != BLK_FLUSH && !range_ok(r->off, r->len, b->geo.size))
		return -EINVAL;
	if (r->op != BLK_READ && r->op != BLK_FLUSH && b->geo.readonly)
		return -EROFS;
	if (r->op == BLK_READ || r->op == BLK_WRITE)
		return transfer(d, r);
	if (r->op != BLK_FLUSH && !r->len)
		return 0;
	return block_worker_submit(&d->worker, r);
}

static void vhdx_drain(struct blk *b)
{
	block_worker_drain(&to_vhdx(b)->worker);
}

static void vhdx_free(struct blk *b)
{
	struct blk_vhdx *d = to_vhdx(b);

	block_worker_done(&d->worker);
	if (d->vhdx)
		vhdx_close(d->vhdx); /* a guest that cares has flushed */
	block_fd_close(&d->file);
	os_event_done(&d->quiet);
	os_mutex_done(&d->map_lock);
	free(d);
}

static const struct blk_ops vhdx_ops = {
	.name = "vhdx",
	.submit = vhdx_submit,
	.drain = vhdx_drain,
	.free = vhdx_free,
};

static int set_up(struct blk_vhdx *d, const struct blk_file_config *cfg, struct err *e)
{
	struct blk_geometry *g = &d->blk.geo;
	const struct vhdx_info *info;
	uint64_t size;
	int r = block_fd_open(&d->file, cfg, &size, e);

	if (r < 0)
		return r;
	r = vhdx_open(&d->vhdx, &io, d, cfg->readonly, e);
	if (r < 0)
		return err_wrap(e, r, "disk %s", block_fd_name(cfg));
	info = vhdx_info(d->vhdx);
	g->size = info->size;
	g->block_size = info->sector_size;
	g->phys_block_size = MAX(info->sector_size, info->phys_sector_size);
	g->readonly = cfg->readonly;
	g->write_cache = true;
	g->discard = g->discard_zeroes = d->file.can_punch;
	r = block_worker_watch(&d->worker, cfg->loop);
	return r < 0 ? err_sys(e, r, "disk %s", block_fd_name(cfg)) : 0;
}

int blk_vhdx_open(struct blk **ret, const struct blk_file_config *cfg, struct err *e)
{
	struct blk_vhdx *d = calloc(1, sizeof(*d));
	int r;

	if (!d) {
		if (cfg->fd >= 0)
			close(cfg->fd);
		return err_sys(e, -ENOMEM, "disk");
	}
	d->blk.ops = &vhdx_ops;
	block_worker_init(&d->worker, work, d);
	os_mutex_init(&d->map_lock);
	os_event_init(&d->quiet);
	r = set_up(d, cfg, e);
	if (r < 0) {
		vhdx_free(&d->blk);
		return r;
	}
	*ret = &d->blk;
	return 0;
}
