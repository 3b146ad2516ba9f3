/* SPDX-License-Identifier: MIT */
/*
 * Host file as a block back end. Reads and writes are made right where they are asked for: with the data in the page
 * cache this costs less than waking another thread. What can take milliseconds goes to the worker.
 */
#include "vmm/host/block-file.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
#include "lib/base/attr.h"
#include "lib/base/checked.h"
#include "vmm/host/block-fd.h"
#include "vmm/host/block-worker.h"

struct blk_file {
	struct blk blk;
	struct block_fd file;
	_Atomic uint64_t size; /* blk.geo.size for other threads than the loop's */
	_Atomic int
		broken; /* the error of the flush after which nothing can be promised any more */
	struct block_worker worker;
};

static struct blk_file *to_file(struct blk *b)
{
	return container_of(b, struct blk_file, blk);
}

/*
 * After a failed fdatasync() the kernel has dropped the pages it could not write and reports success the next time; only
 * by refusing everything from here on does the guest not build on data that is gone.
 */
static int flush(struct blk_file *f)
{
	if (!f->broken)
		f->broken = block_fd_flush(&f->file);
	return f->broken;
}

static int work(void *ctx, const struct blk_req *r)
{
	struct blk_file *f = ctx;

	switch (r->op) {
	case BLK_FLUSH: return flush(f);
	case BLK_DISCARD: return block_fd_zero(&f->file, r->off, r->len, /* may_unmap= */ true);
	default: return block_fd_zero(&f->file, r->off, r->len, r->may_unmap);
	}
}

static int file_submit(struct blk *b, struct blk_req *r)
{
	struct blk_file *f = to_file(b);
	bool write = r->op == BLK_WRITE || r->op == BLK_DISCARD || r->op == BLK_ZERO;

	if (r->op != BLK_FLUSH && !range_ok(r->off, r->len, f->size))
		return -EINVAL;
	if (write && b->geo.readonly)
		return -EROFS;
	if (write && f->broken)
		return f->broken;
	if (r->op == BLK_READ || r->op == BLK_WRITE)
		return block_fd_transfer(&f->file, r, 0, r->len, r->off);
	if (r->op != BLK_FLUSH && !r->len)
		return 0;
	return block_worker_submit(&f->worker, r);
}

static void file_drain(struct blk *b)
{
	block_worker_drain(&to_file(b)->worker);
}

static void file_free(struct blk *b)
{
	struct blk_file *f = to_file(b);

	block_worker_done(&f->worker);
	block_fd_close(&f->file);
	free(f);
}

static const struct blk_ops file_ops = {
	.name = "file",
	.submit = file_submit,
	.drain = file_drain,
	.free = file_free,
};

static int set_up(struct blk_file *f, const struct blk_file_config *cfg, struct err *e)
{
	struct blk_geometry *g = &f->blk.geo;
	uint64_t size;
	int r = block_fd_open(&f->file, cfg, &size, e);

	if (r < 0)
		return r;
	g->block_size = cfg->block_size ? cfg->block_size : 512;
	if (size < g->block_size)
		return err_set(e, -EINVAL, "disk %s is too small: %llu bytes", block_fd_name(cfg),
			(unsigned long long)size);
	g->size = size;
	f->size = size;
	g->phys_block_size = 4096;
	g->readonly = cfg->readonly;
	g->write_cache = true;
	g->discard = g->discard_zeroes = f->file.can_punch;
	r = block_worker_watch(&f->worker, cfg->loop);
	return r < 0 ? err_sys(e, r, "disk %s", block_fd_name(cfg)) : 0;
}

int blk_file_open(struct blk **ret, const struct blk_file_config *cfg, struct err *e)
{
	struct blk_file *f = calloc(1, sizeof(*f));
	int r;

	if (!f) {
		if (cfg->fd >= 0)
			close(cfg->fd);
		return err_sys(e, -ENOMEM, "disk");
	}
	f->blk.ops = &file_ops;
	block_worker_init(&f->worker, work, f);
	r = set_up(f, cfg, e);
	if (r < 0) {
		file_free(&f->blk);
		return r;
	}
	*ret = &f->blk;
	return 0;
}

int blk_file_refresh(struct blk *b)
{
	struct blk_file *f = to_file(b);
	uint64_t size;
	int r = block_fd_size(&f->file, &size);

	if (r < 0)
		return r;
	if (size < b->geo.size || size > INT64_MAX)
		return -EINVAL;
	if (size == b->geo.size)
		return 0;
	b->geo.size = size;
	f->size = size;
	return 1;
}
