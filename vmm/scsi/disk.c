/* SPDX-License-Identifier: MIT */
/*
 * Commands of a disk that reach its back end (SBC-3 §5).
 *
 * Theory of operation: a handler checks its CDB and sets up r->blk, r->off, r->left, r->unmap_*;
 * disk_run() then hands one block request after the other to the back end (next_step() says which)
 * until nothing is left or one fails. If the back end keeps one, its completion carries on in
 * blk_done() on the loop's thread.
 */
#include "vmm/scsi/scsi-internal.h"

#include <string.h>
#include "lib/base/attr.h"
#include "lib/base/checked.h"
#include "lib/base/le.h"

/* What a CDB of 6, 10, 12 or 16 bytes says about blocks, wherever it says it. */
struct extent {
	uint64_t lba, count;
};

static struct extent cdb_extent(const uint8_t *c)
{
	switch (c[0] >> 5) {
	case 0: return (struct extent){(c[1] & 0x1fu) << 16 | be16_get(c + 2), c[4] ? c[4] : 256};
	case 4: return (struct extent){be64_get(c + 2), be32_get(c + 10)};
	case 5: return (struct extent){be32_get(c + 2), be32_get(c + 6)};
	default: return (struct extent){be32_get(c + 2), be16_get(c + 7)};
	}
}

static bool in_disk(const struct scsi_req *r, struct extent x)
{
	return range_ok(x.lba, x.count, r->l->blocks);
}

/* Prepares r->blk for the next block request; false: there is none. */
static bool next_step(struct scsi_req *r)
{
	struct blk_req *b = &r->blk;
	uint32_t bs = r->l->blk->geo.block_size;

	if (b->op == BLK_DISCARD) {
		while (r->unmap_next < r->unmap_count) {
			const uint8_t *d = r->param + 8 + 16 * r->unmap_next++;

			b->off = be64_get(d) * bs;
			b->len = (uint64_t)be32_get(d + 8) * bs;
			if (b->len)
				return true;
		}
		return false;
	}
	if (r->left) {
		b->off = r->off;
		b->len = r->left;
		if (b->iov == r->param_iov)
			b->len = MIN(r->left, b->iovcnt * b->iov[0].iov_len);
		r->off += b->len;
		r->left -= b->len;
		return true;
	}
	if (r->flush_after) {
		r->flush_after = false;
		b->op = BLK_FLUSH;
		return true;
	}
	return false;
}

/* Accounts for a finished block request; false: the command is over. */
static bool step_done(struct scsi_req *r, int res)
{
	if (res < 0) {
		scsi_check(r, scsi_sense_of(&r->blk, res));
		return false;
	}
	return r->cancelled == SCSI_DONE;
}

static bool disk_run(struct scsi_req *r)
{
	while (next_step(r)) {
		int res = blk_submit(r->l->blk, &r->blk);

		if (res == BLK_PENDING)
			return false;
		if (!step_done(r, res))
			return true;
	}
	return true;
}

static void blk_done(struct blk_req *b, int res)
{
	struct scsi_req *r = container_of(b, struct scsi_req, blk);

	if (step_done(r, res) && !disk_run(r))
		return;
	scsi_finish(r);
}

static bool start(struct scsi_req *r, enum blk_op op, struct extent x)
{
	uint32_t bs = r->l->blk->geo.block_size;

	r->blk.op = op;
	r->blk.done = blk_done;
	r->off = x.lba * bs;
	r->left = x.count * bs;
	scsi_good(r);
	return disk_run(r);
}

static bool flush(struct scsi_req *r)
{
	r->flush_after = true;
	return start(r, BLK_FLUSH, (struct extent){0, 0});
}

bool scsi_rw(struct scsi_req *r)
{
	bool write = (r->cdb[0] & 0x0f) == 0x0a, six = r->cdb[0] < 0x20;
	struct extent x = cdb_extent(r->cdb);
	uint64_t len = x.count * r->l->blk->geo.block_size;

	if (!six && r->cdb[1] & 0xe0) /* protection information */
		return scsi_check(r, SENSE_BAD_CDB);
	if (!in_disk(r, x))
		return scsi_check(r, SENSE_LBA_RANGE);
	if (len > SCSI_MAX_TRANSFER)
		return scsi_check(r, SENSE_BAD_CDB);
	if (len > (write ? r->out_len : r->in_len))
		return scsi_overrun(r);
	r->blk.iov = write ? r->out : r->in;
	r->blk.iovcnt = write ? r->out_n : r->in_n;
	r->flush_after = write && !six && r->cdb[1] & 0x08; /* FUA */
	r->moved = len;
	return start(r, write ? BLK_WRITE : BLK_READ, x);
}

/* The medium has no checks of its own: only the range is verified. Comparing (BYTCHK) is not
 * supported. */
bool scsi_verify(struct scsi_req *r)
{
	if (r->cdb[1] & 0xe6)
		return scsi_check(r, SENSE_BAD_CDB);
	if (!in_disk(r, cdb_extent(r->cdb)))
		return scsi_check(r, SENSE_LBA_RANGE);
	return scsi_good(r);
}

/* The whole cache, whatever the range; IMMED is ignored: status means that the data is on stable
 * storage. */
bool scsi_sync_cache(struct scsi_req *r)
{
	if (!in_disk(r, cdb_extent(r->cdb)))
		return scsi_check(r, SENSE_LBA_RANGE);
	return flush(r);
}

bool scsi_unmap(struct scsi_req *r)
{
	size_t len = be16_get(r->cdb + 7);
	uint64_t total = 0, limit = SCSI_MAX_UNMAP / r->l->blk->geo.block_size;

	if (!r->l->blk->geo.discard)
		return scsi_check(r, SENSE_BAD_OPCODE);
	if (r->cdb[1] & 1) /* ANCHOR */
		return scsi_check(r, SENSE_BAD_CDB);
	if (len == 0)
		return scsi_good(r);
	if (len < 8 || len > SCSI_PARAM_MAX)
		return scsi_check(r, SENSE_PARAM_LIST_LENGTH);
	if (len > r->out_len)
		return scsi_overrun(r);
	scsi_get_param(r, len);
	r->unmap_count = MIN(be16_get(r->param + 2), len - 8) / 16;
	for (unsigned i = 0; i < r->unmap_count; i++) {
		const uint8_t *d = r->param + 8 + 16 * i;
		struct extent x = {be64_get(d), be32_get(d + 8)};

		if (!in_disk(r, x))
			return scsi_check(r, SENSE_LBA_RANGE);
		total += x.count;
	}
	if (total > limit)
		return scsi_check(r, SENSE_BAD_PARAM);
	r->moved = len;
	return start(r, BLK_DISCARD, (struct extent){0, 0});
}

bool scsi_write_same(struct scsi_req *r)
{
	struct extent x = cdb_extent(r->cdb);
	uint32_t bs = r->l->blk->geo.block_size;
	uint8_t flags = r->cdb[1];
	bool unmap = flags & 0x08, ndob = r->cdb[0] == 0x93 && flags & 0x01, zero = ndob;

	/* WRPROTECT, ANCHOR; PBDATA and LBDATA (obsolete, WRITE SAME (10)); no data-out buffer only
	 * in the long form */
	if (flags & 0xf6 || (r->cdb[0] == 0x41 && flags & 0x01))
		return scsi_check(r, SENSE_BAD_CDB);
	if (unmap && !r->l->blk->geo.discard)
		return scsi_check(r, SENSE_BAD_CDB);
	if (!in_disk(r, x))
		return scsi_check(r, SENSE_LBA_RANGE);
	if (x.count == 0 || x.count > SCSI_MAX_WRITE_SAME / bs)
		return scsi_check(r, SENSE_BAD_CDB);
	if (!ndob) {
		if (r->out_len < bs)
			return scsi_overrun(r);
		scsi_get_param(r, bs);
		r->moved = bs;
		zero = r->param[0] == 0 && !memcmp(r->param, r->param + 1, bs - 1);
	}
	if (zero) {
		r->blk.may_unmap = unmap;
		return start(r, BLK_ZERO, x);
	}
	if (x.count > SCSI_MAX_PATTERN / bs)
		return scsi_check(r, SENSE_BAD_CDB);
	/* One page of copies of the block, many times over. */
	for (size_t n = bs; n < SCSI_PARAM_MAX; n += bs)
		memcpy(r->param + n, r->param, bs);
	for (unsigned i = 0; i < ARRAY_LEN(r->param_iov); i++)
		r->param_iov[i] = (struct iovec){r->param, SCSI_PARAM_MAX};
	r->blk.iov = r->param_iov;
	r->blk.iovcnt = ARRAY_LEN(r->param_iov);
	return start(r, BLK_WRITE, x);
}

/* A stopped disk refuses medium access until started; stopping writes the cache out. */
bool scsi_start_stop(struct scsi_req *r)
{
	bool start_bit = r->cdb[4] & 1;

	if (r->cdb[4] & 0xf2) /* power conditions, LOEJ */
		return scsi_check(r, SENSE_BAD_CDB);
	os_mutex_lock(&r->t->lock);
	r->l->stopped = !start_bit;
	os_mutex_unlock(&r->t->lock);
	if (start_bit)
		return scsi_good(r);
	return flush(r);
}
