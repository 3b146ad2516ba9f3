/* SPDX-License-Identifier: MIT */
/*
 * Commands of a hostile guest: each is {lun, data-in length / 64, data-out length / 64, 16 bytes of
 * CDB, 24 bytes of parameters}. Whatever comes, a command is answered once, moves no more than its
 * buffer, and reports proper sense.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "lib/base/attr.h"
#include "vmm/scsi/blk-mem.h"
#include "vmm/scsi/scsi.h"

enum { STEP = 3 + 16 + 24 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void on_done(struct scsi_req *r)
{
	r->tag++;
}

static void one(struct scsi_target *t, struct blk_mem *m, const uint8_t *p)
{
	/* On the heap, of the exact size, so that a sanitizer sees every byte too many. */
	size_t in_len = p[1] * 64, out_len = p[2] * 64;
	struct scsi_req *r = calloc(1, sizeof(*r));
	uint8_t *in = malloc(in_len + 1), *out = malloc(out_len + 1);
	struct iovec iov[2] = {{in, in_len}, {out, out_len}};

	if (!r || !in || !out)
		abort();
	for (size_t i = 0; i < out_len; i++)
		out[i] = i < 24 ? p[19 + i] : p[19];
	r->lun = p[0] & 3;
	memcpy(r->cdb, p + 3, 16);
	r->cdb_len = p[0] & 0x80 ? p[0] & 15 : 16;
	r->in = &iov[0];
	r->out = &iov[1];
	r->in_n = r->out_n = 1;
	r->in_len = in_len;
	r->out_len = out_len;
	r->done = on_done;
	m->hold[BLK_FLUSH] = p[0] & 0x40;
	if (!scsi_submit(t, r)) {
		scsi_drain(t);
		if (r->tag != 1)
			abort();
	} else if (r->tag) {
		abort();
	}
	if (r->moved > MAX(in_len, out_len) ||
		(r->status == SCSI_CHECK_CONDITION) != (r->sense_len == 18))
		abort();
	free(in);
	free(out);
	free(r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct scsi_target *t;
	struct blk_mem *m = blk_mem_new(1 << 20, 512), *m2 = blk_mem_new(1 << 16, 4096);

	if (scsi_target_new(&t) < 0 ||
		scsi_attach(t, 0, &m->blk, &(struct scsi_disk_config){.serial = "a"}) < 0 ||
		scsi_attach(t, 2, &m2->blk, &(struct scsi_disk_config){.serial = "b"}) < 0)
		abort();
	for (; size >= STEP; size -= STEP, data += STEP)
		one(t, m, data);
	scsi_target_free(t);
	return 0;
}
