/* SPDX-License-Identifier: MIT */
/*
 * Reads an ext4 file system (ext2 and ext3, too) that is not mounted, out of a disk file, through libext2fs. The disk
 * is hostile: whatever contradicts itself is an error (-EUCLEAN), never followed. What a walk over the whole costs is
 * bounded by the file system's size: no more blocks are read than there are.
 */
#ifndef WSLX_IMAGE_EXT4_READ_H
#define WSLX_IMAGE_EXT4_READ_H

#include <stdbool.h>
#include "lib/image/disk-read.h"
#include "lib/image/ext4.h"

struct ext4_reader;

enum { EXT4_TARGET_MAX = 4096 };

/*
 * disk: borrowed; nothing is written. -EUCLEAN: damaged, or not cleanly unmounted (the journal holds what is
 * not in its place yet); -EOPNOTSUPP: uses what is not read here (inline data, encryption).
 */
int ext4_reader_open(struct ext4_reader **ret, const struct disk_read *disk, struct err *e);
void ext4_reader_free(struct ext4_reader *x);
uint64_t ext4_reader_used(
	const struct ext4_reader *x); /* bytes of blocks in use, as it says itself */
uint32_t ext4_reader_inodes(const struct ext4_reader *x);

struct ext4_file {
	uint32_t ino, links;
	uint64_t size;
	struct ext4_attr attr;
	uint32_t flags;
	uint8_t block[60]; /* i_block */
	bool has_blocks;
};
int ext4_reader_stat(struct ext4_reader *x, uint32_t ino, struct ext4_file *ret, struct err *e);

/* Where the bytes of a file are; what lies between the pieces, or is not written yet, is a hole. In blocks. */
struct ext4_piece {
	uint64_t phys;
	uint32_t logical, len;
};
struct ext4_map {
	struct ext4_piece *piece; /* in rising order, without overlap */
	size_t n, max;
};
/* ret: zeroes, or an earlier map whose memory is used again. To be freed with ext4_map_done(). */
int ext4_reader_map(
	struct ext4_reader *x, const struct ext4_file *f, struct ext4_map *ret, struct err *e);
void ext4_map_done(struct ext4_map *m);
uint32_t ext4_reader_block_size(const struct ext4_reader *x);
/* len bytes at off into the piece, which has them. */
int ext4_reader_read(struct ext4_reader *x, const struct ext4_piece *p, uint64_t off, void *buf,
	size_t len, struct err *e);

int ext4_reader_readlink(
	struct ext4_reader *x, const struct ext4_file *f, char buf[EXT4_TARGET_MAX], struct err *e);

/* Calls fn for every entry but "." and ".."; stops at and returns its first result that is not 0. fn leaves the reader
 * alone. */
typedef int (*ext4_dir_fn)(void *ctx, uint32_t ino, const char *name, size_t len);
int ext4_reader_dir(
	struct ext4_reader *x, const struct ext4_file *f, ext4_dir_fn fn, void *ctx, struct err *e);

/* The same for extended attributes; access control lists have the form that getxattr(2) gives. */
typedef int (*ext4_xattr_fn)(void *ctx, const char *name, const void *value, size_t len);
int ext4_reader_xattrs(struct ext4_reader *x, const struct ext4_file *f, ext4_xattr_fn fn,
	void *ctx, struct err *e);

/* What was read may be read again: the bound on all that is read begins anew. */
void ext4_reader_again(struct ext4_reader *x);

/* By path without leading slash; links are not followed. 0, -ENOENT, or another error. */
int ext4_reader_find(struct ext4_reader *x, const char *path, struct ext4_file *ret, struct err *e);
/* At most max bytes of a file from its start, into malloc'ed memory with a NUL behind. */
int ext4_reader_load(struct ext4_reader *x, const struct ext4_file *f, size_t max, char **ret,
	size_t *ret_len, struct err *e);

#endif
