/* SPDX-License-Identifier: MIT */
/*
 * Writes a fresh ext4 file system into a file, without mounting and without privileges: libext2fs makes the file system
 * and keeps its bitmaps, the layout of files and directories is ours. Blocks are handed out front to back and never
 * twice, so that the file stays sparse and writes stay sequential.
 *
 * The caller names inodes by number and brings the directory tree at the end. Functions return 0 or a negative errno
 * with the reason in e; after a failure only ext4_free() may follow.
 */
#ifndef WSLX_IMAGE_EXT4_H
#define WSLX_IMAGE_EXT4_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "lib/base/err.h"

struct ext4;

enum { EXT4_ROOT = 2, EXT4_NAME_MAX = 255, EXT4_LINK_MAX = 65000 };

struct ext4_config {
	int fd;		   /* borrowed; an empty file: its size is set here */
	uint64_t size;	   /* bytes, at least EXT4_MIN_SIZE, at most 16 TiB */
	const char *label; /* at most 16 bytes; NULL: none */
	const uint8_t *uuid;
	const uint8_t *hash_seed; /* 16 random bytes each */
	int64_t now;		  /* seconds since 1970 */
};
#define EXT4_MIN_SIZE (16ull << 20)

struct ext4_time {
	int64_t sec;
	uint32_t nsec;
};

struct ext4_attr {
	uint32_t mode; /* type and permissions as in stat(2) */
	uint32_t uid, gid;
	struct ext4_time atime, mtime;
	uint32_t major, minor; /* of device nodes */
};

int ext4_new(struct ext4 **ret, const struct ext4_config *cfg, struct err *e);
void ext4_free(struct ext4 *x);

/* A new inode of no content: directories, device nodes, fifos, files to be written. */
int ext4_inode(struct ext4 *x, const struct ext4_attr *a, uint32_t *ret_ino, struct err *e);
int ext4_symlink(struct ext4 *x, const struct ext4_attr *a, const char *target, uint32_t *ret_ino,
	struct err *e);

/* Content of the file made last: pieces in rising order, holes between them are kept; then the end. */
int ext4_write(struct ext4 *x, uint64_t off, const void *data, size_t len, struct err *e);
int ext4_write_end(struct ext4 *x, uint32_t ino, uint64_t size, struct err *e);

/* New owner, mode and times for a directory that exists already. */
int ext4_set_attr(struct ext4 *x, uint32_t ino, const struct ext4_attr *a, struct err *e);
/* name with its prefix ("security.capability"); all of an inode's in one call. -E2BIG: they do not fit. */
struct ext4_xattr {
	const char *name;
	const void *value;
	size_t len;
};
int ext4_set_xattrs(
	struct ext4 *x, uint32_t ino, const struct ext4_xattr *xa, size_t n, struct err *e);
/* Adds by to the number of names of a file, or of a directory that is not written yet; an inode without names is freed. */
int ext4_link_count(struct ext4 *x, uint32_t ino, int by, struct err *e);

/* A directory, with everything in it. */
struct ext4_dirent {
	uint32_t ino;
	uint32_t mode;
	uint32_t hash, minor; /* set here */
	uint16_t len;
	const char *name;
};
/* ent may be reordered. subdirs: how many of ent are directories. */
int ext4_dir(struct ext4 *x, uint32_t ino, uint32_t parent, struct ext4_dirent *ent, size_t n,
	size_t subdirs, struct err *e);

/* Completes the file system and brings it to stable storage. */
int ext4_finish(struct ext4 *x, struct err *e);

#endif
