/* SPDX-License-Identifier: MIT */
/* A block back end in memory, for tests: errors can be injected, and completions held back. Not
 * thread-safe. */
#ifndef WSLX_VMM_SCSI_BLK_MEM_H
#define WSLX_VMM_SCSI_BLK_MEM_H

#include <stddef.h>
#include "vmm/scsi/blk.h"

struct blk_mem {
	struct blk blk;
	uint8_t *data;
	int fail[BLK_ZERO + 1];	 /* negative errno: requests of this kind fail with it */
	bool hold[BLK_ZERO + 1]; /* requests of this kind stay pending until blk_mem_complete() */
	unsigned count[BLK_ZERO + 1];
	struct blk_req *pending, **tail;
	bool *ret_freed; /* set when the back end is freed */
};

/* size bytes of zeroes in blocks of block_size. Aborts when out of memory. */
struct blk_mem *blk_mem_new(uint64_t size, uint32_t block_size);
/* Completes the oldest held request; false: there is none. */
bool blk_mem_complete(struct blk_mem *m);

#endif
