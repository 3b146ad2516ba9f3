/* SPDX-License-Identifier: MIT */
/*
 * Virtual hard disks in VHDX files ([MS-VHDX]): the format of WSL's and Hyper-V's disks. Fixed and
 * dynamic ones; those that are differences to a parent are refused.
 *
 * A VHDX file holds a virtual disk in blocks of 1 to 256 MiB. The block allocation table (BAT) says
 * where in the file each block is, if it is anywhere. Blocks get their place when they are first
 * written, and lose it when they are discarded whole.
 *
 * How a change survives a crash. Data goes right to its place in the file. Changes of the BAT are
 * made in memory and reach the file in vhdx_flush(), in this order:
 *
 *	1. flush: data, file size, and what an earlier commit did to the BAT are stable
 *	2. an entry with the changed 4 KiB sectors of the BAT is written to the log
 *	3. flush: from here on the changes hold, for whoever opens the file replays the log
 *	4. the sectors are written to the BAT
 *	5. space of blocks that were discarded before 2 is given back, and can hold others
 *
 * Nothing is flushed after 4: an entry is needed only until the next one is stable, and that one's
 * step 1 comes before. So that the entry before is whole while one is being written, two slots of
 * the log are used in turn. Every entry is a sequence of its own (its Tail is itself, 2.3.2).
 *
 * What was written and not flushed may be lost when the process or the host dies; nothing else is.
 *
 * The file is hostile: everything in it is checked when it is opened, and only blocks that lie in
 * the file and nowhere overlap are ever reached. Nothing is written before the first change; then
 * FileWriteGuid and DataWriteGuid change (2.2.2), and a tail of the file that belongs to no block
 * is cut off.
 */
#ifndef WSLX_VHDX_VHDX_H
#define WSLX_VHDX_VHDX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "lib/base/err.h"

/*
 * The file beneath. Functions return 0 or a negative errno. read, write: all of it, at off; reading
 * behind the end is -EIO. zero: the range, inside the file, reads as zero afterwards, without space
 * if that is possible.
 *
 * lock, unlock, quiesce: for a user with several threads, NULL otherwise. They are called by
 * vhdx_flush() only; see there.
 */
struct vhdx_io {
	int (*size)(void *ctx, uint64_t *ret);
	int (*set_size)(void *ctx, uint64_t size);
	int (*read)(void *ctx, void *buf, size_t len, uint64_t off);
	int (*write)(void *ctx, const void *buf, size_t len, uint64_t off);
	int (*zero)(void *ctx, uint64_t off, uint64_t len);
	int (*flush)(void *ctx); /* everything written before is stable */

	void (*lock)(void *ctx);
	void (*unlock)(void *ctx);
	/* Returns when no transfer to or from an extent that vhdx_map() gave out before is under
	 * way. */
	void (*quiesce)(void *ctx);
};

struct vhdx_info {
	uint64_t size;	     /* of the virtual disk, bytes; a multiple of sector_size */
	uint32_t block_size; /* bytes; a power of two */
	uint32_t sector_size, phys_sector_size; /* 512 or 4096 */
	bool fixed;	/* blocks keep their place ("LeaveBlockAllocated") */
	uint8_t id[16]; /* the disk's identity, for SCSI's page 83 */
};

struct vhdx;

/*
 * Opens what the io functions give access to. io and ctx are borrowed until vhdx_close(). A log
 * that was left behind is replayed into the file, or, readonly, makes opening fail with -EROFS:
 * whoever can write has to open it once. -EINVAL: damaged, or not VHDX; -EOPNOTSUPP: differencing,
 * or needs something that is not known; -EFBIG: beyond our limits (virtual size 64 TiB, file 80
 * TiB, log 64 MiB).
 */
int vhdx_open(struct vhdx **ret, const struct vhdx_io *io, void *ctx, bool readonly, struct err *e);

/*
 * Flushes, says in the file that the log is empty, and frees v (in any case). What could not be
 * flushed is lost; the file stays consistent.
 */
int vhdx_close(struct vhdx *v);

/* Constant but for size, which vhdx_grow() changes. */
const struct vhdx_info *vhdx_info(const struct vhdx *v);

enum vhdx_access {
	VHDX_READ,
	VHDX_WRITE, /* blocks without a place get one, full of zeroes */
	VHDX_UNMAP, /* blocks that lie in the range whole lose theirs (not in a fixed disk) */
};

struct vhdx_extent {
	uint64_t off, len; /* off: in the file */
	bool present; /* READ: false: zeroes. UNMAP: false: nothing is left to be done; true: the
			      caller zeroes the extent. WRITE: true */
};

/*
 * Where the first part of [off, off + len) of the virtual disk is; ret->len says how much that is,
 * at least 1. Bytes; any alignment. An extent is valid until a later UNMAP of it. Nothing is
 * allocated from the heap, but for a table that doubles when the file does. -EINVAL: outside the
 * disk; -EROFS; -EIO: after a failed flush nothing can be changed any more.
 *
 * With several threads: to be called with the lock held that io->lock takes. Does I/O only to give
 * a block its place (size, zero) and before the very first change (a header, flushed).
 */
int vhdx_map(
	struct vhdx *v, enum vhdx_access a, uint64_t off, uint64_t len, struct vhdx_extent *ret);

/*
 * All writes and unmappings that returned before are durable when this returns 0. After a failure
 * every later one fails too, for nobody knows what the host has lost.
 *
 * Called by one thread at a time, without the lock; takes it for short times, never over a flush or
 * a write. Calls quiesce, if blocks have lost their place, before that is given back.
 */
int vhdx_flush(struct vhdx *v);

/* How much of the file waits for vhdx_flush() to give it back, bytes. With the lock held. */
uint64_t vhdx_unmapped(const struct vhdx *v);

/*
 * Makes the virtual disk larger: durable when it returns 0, and done or not when there is a crash.
 * Nothing else may use v meanwhile. -EINVAL: smaller than it is, no multiple of a sector; -EFBIG.
 */
int vhdx_grow(struct vhdx *v, uint64_t size, struct err *e);

/* The same through io, for one thread. */
int vhdx_read(struct vhdx *v, void *buf, size_t len, uint64_t off);
int vhdx_write(struct vhdx *v, const void *buf, size_t len, uint64_t off);
/* The range reads as zero afterwards. */
int vhdx_unmap(struct vhdx *v, uint64_t off, uint64_t len);

struct vhdx_create_opts {
	uint64_t size;		   /* of the virtual disk, bytes; a multiple of sector_size */
	uint32_t block_size;	   /* 0: 1 MiB, as WSL's disks have */
	uint32_t sector_size;	   /* 0: 512 */
	uint32_t phys_sector_size; /* 0: 4096 */
	bool fixed; /* every block has its place; the host's file is sparse all the same */
};

/* What a file that was not closed has in its log is put in its place. */
int vhdx_recover(int fd, struct err *e);

/* Makes an empty file a VHDX file; flushed. On failure its content is rubbish. */
int vhdx_create(
	const struct vhdx_io *io, void *ctx, const struct vhdx_create_opts *o, struct err *e);

/*
 * io on a file descriptor: ctx is an int *, borrowed. zero punches holes where the file system can.
 */
extern const struct vhdx_io vhdx_fd_io;

/*
 * A raw disk as VHDX, and back. Descriptors are borrowed; in_fd a file or block device open for
 * reading, out_fd an empty regular file open for reading and writing. What is a hole or only zeroes
 * takes no space in the other. Durable when it returns 0; on failure out_fd holds rubbish, which
 * the caller removes.
 */
struct vhdx_convert {
	/* Called now and then; done and total in bytes of the virtual disk. May be NULL. */
	void (*progress)(void *ctx, uint64_t done, uint64_t total);
	void *ctx;
};

/* o->size: 0: that of the raw disk, rounded up to a sector; not less than that. NULL: all 0. */
int vhdx_import(int in_fd, int out_fd, const struct vhdx_create_opts *o,
	const struct vhdx_convert *c, struct err *e);
int vhdx_export(int in_fd, int out_fd, const struct vhdx_convert *c, struct err *e);

#endif
