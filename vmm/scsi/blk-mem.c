/* SPDX-License-Identifier: MIT */
#include "vmm/scsi/blk-mem.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "lib/base/attr.h"
#include "lib/base/checked.h"

static void copy(struct blk_mem *m, const struct blk_req *r)
{
	uint64_t done = 0;

	for (unsigned i = 0; i < r->iovcnt && done < r->len; i++) {
		size_t n = MIN(r->iov[i].iov_len, r->len - done);
		uint8_t *disk = m->data + r->off + done;

		if (r->op == BLK_READ)
			memcpy(r->iov[i].iov_base, disk, n);
		else
			memcpy(disk, r->iov[i].iov_base, n);
		done += n;
	}
	if (done < r->len)
		abort(); /* the caller's iovec is too short: a bug of ours */
}

static int execute(struct blk_mem *m, struct blk_req *r)
{
	m->count[r->op]++;
	if (m->fail[r->op])
		return m->fail[r->op];
	if (r->op == BLK_FLUSH)
		return 0;
	if (!range_ok(r->off, r->len, m->blk.geo.size))
		return -EINVAL;
	if (m->blk.geo.readonly && r->op != BLK_READ)
		return -EROFS;
	if (r->op == BLK_READ || r->op == BLK_WRITE)
		copy(m, r);
	else
		memset(m->data + r->off, 0, r->len);
	return 0;
}

static int mem_submit(struct blk *b, struct blk_req *r)
{
	struct blk_mem *m = container_of(b, struct blk_mem, blk);

	if (!m->hold[r->op])
		return execute(m, r);
	r->next = NULL;
	*m->tail = r;
	m->tail = &r->next;
	return BLK_PENDING;
}

bool blk_mem_complete(struct blk_mem *m)
{
	struct blk_req *r = m->pending;

	if (!r)
		return false;
	m->pending = r->next;
	if (!m->pending)
		m->tail = &m->pending;
	r->done(r, execute(m, r));
	return true;
}

static void mem_drain(struct blk *b)
{
	while (blk_mem_complete(container_of(b, struct blk_mem, blk)))
		;
}

static void mem_free(struct blk *b)
{
	struct blk_mem *m = container_of(b, struct blk_mem, blk);

	if (m->ret_freed)
		*m->ret_freed = true;
	free(m->data);
	free(m);
}

static const struct blk_ops mem_ops = {
	.name = "memory",
	.submit = mem_submit,
	.drain = mem_drain,
	.free = mem_free,
};

struct blk_mem *blk_mem_new(uint64_t size, uint32_t block_size)
{
	struct blk_mem *m = calloc(1, sizeof(*m));

	if (!m || !(m->data = calloc(1, size)))
		abort();
	m->tail = &m->pending;
	m->blk.ops = &mem_ops;
	m->blk.geo = (struct blk_geometry){
		.size = size,
		.block_size = block_size,
		.phys_block_size = 4096,
		.write_cache = true,
		.discard = true,
		.discard_zeroes = true,
	};
	return m;
}
