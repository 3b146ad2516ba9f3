/* SPDX-License-Identifier: MIT */
/*
 * A disk in a VHDX file (lib/vhdx), as a block back end. Whoever attaches a disk says which format
 * it has: in a raw one a guest could write what looks like another.
 */
#ifndef WSLX_VMM_HOST_BLOCK_VHDX_H
#define WSLX_VMM_HOST_BLOCK_VHDX_H

#include "vmm/host/block-file.h"

/*
 * As blk_file_open(), and the errors of vhdx_open(). The block size is the disk's own
 * (cfg->block_size is not used). Freeing it flushes. Writes that were not flushed are lost with the
 * process, not only with the host.
 */
int blk_vhdx_open(struct blk **ret, const struct blk_file_config *cfg, struct err *e);

#endif
