/* SPDX-License-Identifier: MIT */
/* What the parts of the ext4 writer share. */
#ifndef WSLX_IMAGE_EXT4_INTERNAL_H
#define WSLX_IMAGE_EXT4_INTERNAL_H

#include <et/com_err.h>
#include <ext2fs/ext2fs.h>
#include "lib/image/ext4.h"

enum { BLOCK = 4096, MAX_RUN = 32768 };

struct run {
	uint64_t phys;
	uint32_t logical, len;
};

struct ext4 {
	ext2_filsys fs;
	int fd;
	uint32_t next_ino;
	uint64_t next_block;
	int64_t now;
	/* The file being written. */
	struct run *runs;
	size_t n_runs, max_runs;
	uint64_t blocks; /* in runs */
	uint64_t end;	 /* where the last piece ended */
};

/*
 * libext2fs's channel to a file: no cache, errors as errno. The name it opens is the descriptor's number, or "@" and the
 * address of a struct disk_read, borrowed, that is only read.
 */
extern struct struct_io_manager ext4_io_manager;

/* A libext2fs error: below 256 it is an errno. */
int ext4_error(struct err *e, errcode_t code, const char *what);

/* The next free blocks, at most want of them. -ENOSPC. */
int ext4_alloc(
	struct ext4 *x, uint64_t want, uint64_t *ret_start, uint64_t *ret_len, struct err *e);
/* Forgets, appends to and stores the list of runs. */
void ext4_runs_clear(struct ext4 *x);
int ext4_runs_add(struct ext4 *x, uint64_t logical, uint64_t phys, uint64_t len, struct err *e);
int ext4_runs_store(struct ext4 *x, uint32_t ino, struct ext2_inode_large *inode, struct err *e);
int ext4_pwrite(struct ext4 *x, const void *data, size_t len, uint64_t off, struct err *e);

#endif
