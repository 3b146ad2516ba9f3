/* SPDX-License-Identifier: MIT */
/*
 * A raw disk in a host file or block device, as a block back end.
 *
 * Reads and writes go through the host's page cache on the calling thread. Flushes (fdatasync), discards and zeroing
 * run on one worker thread a disk, in order, and complete on the loop's thread.
 */
#ifndef WSLX_VMM_HOST_BLOCK_FILE_H
#define WSLX_VMM_HOST_BLOCK_FILE_H

#include "lib/base/err.h"
#include "lib/base/loop.h"
#include "vmm/scsi/blk.h"

struct blk_file_config {
	const char *path; /* opened here when fd is negative; in messages always */
	int fd;		  /* taken over, also on failure; -1: open path */
	bool readonly;
	uint32_t block_size; /* 512 or 4096; 0: 512 */
	struct loop *loop;
};

/*
 * Locks the file against other users of this function (flock; shared when read-only) for as long as its open file
 * description lives: whoever passes fd closes its own copy. -EBUSY: in use; -EINVAL: not a file or block device, or
 * smaller than a block.
 */
int blk_file_open(struct blk **ret, const struct blk_file_config *cfg, struct err *e);

/* Loop's thread. Takes note of a file that has grown; returns 1 if it has, 0 if not. It may not shrink: -EINVAL. */
int blk_file_refresh(struct blk *b);

#endif
