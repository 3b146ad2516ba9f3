/* SPDX-License-Identifier: MIT */
/* The host's file or block device under a block back end. Results are those of vmm/scsi/blk.h. */
#ifndef WSLX_VMM_HOST_BLOCK_FD_H
#define WSLX_VMM_HOST_BLOCK_FD_H

#include "lib/base/err.h"
#include "vmm/host/block-file.h"

struct block_fd {
	int fd; /* owned; -1: none */
	bool readonly;
	/* What the file system has shown not to know is not tried again. */
	_Atomic bool can_punch, can_zero_range;
};

/* Opens cfg->path or takes over cfg->fd (also on failure), checks and locks it; size in bytes. */
int block_fd_open(
	struct block_fd *f, const struct blk_file_config *cfg, uint64_t *ret_size, struct err *e);
void block_fd_close(struct block_fd *f);
int block_fd_size(const struct block_fd *f, uint64_t *ret);

/* The name for messages. */
const char *block_fd_name(const struct blk_file_config *cfg);

/* What the interface promises of errors. errnum: positive. */
int block_fd_error(int errnum);

/* Bytes [skip, skip + len) of a read's or write's buffers, at off in the file. */
int block_fd_transfer(
	struct block_fd *f, const struct blk_req *r, uint64_t skip, uint64_t len, uint64_t off);
/* The same part of a read's buffers becomes zero. */
void block_fd_clear(const struct blk_req *r, uint64_t skip, uint64_t len);

/* Zeroes by the cheapest means the file system has. Several threads. */
int block_fd_zero(struct block_fd *f, uint64_t off, uint64_t len, bool may_unmap);
int block_fd_flush(struct block_fd *f);

#endif
