/* SPDX-License-Identifier: MIT */
/*
 * A block back end: where a disk's bytes live. One interface for SCSI disks (and later virtio-blk),
 * implemented by host files (vmm/host/block-file) and by memory (blk-mem, for tests).
 *
 * Requests belong to the caller and are embedded in its own request, so that nothing is allocated
 * on the data path. submit() may be called by any thread, several at once. It either finishes the
 * request at once and returns 0 or a negative errno, without calling done(); or it returns
 * BLK_PENDING and later calls done() exactly once, on the loop's thread, with no lock of the back
 * end held (possibly before submit() has returned on another thread).
 *
 * Durability: a completed write is visible to every later read. It survives a crash of the host
 * only once a flush submitted after its completion has succeeded. After a failed flush every later
 * write and flush fails, because the host no longer knows what it lost.
 */
#ifndef WSLX_VMM_SCSI_BLK_H
#define WSLX_VMM_SCSI_BLK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

enum { BLK_PENDING = 1 };

enum blk_op {
	BLK_READ,    /* len bytes at off into the first len bytes of iov */
	BLK_WRITE,   /* len bytes at off from the first len bytes of iov */
	BLK_FLUSH,   /* off, len, iov unused */
	BLK_DISCARD, /* the contents no longer matter; they read as zero afterwards if
			geo.discard_zeroes */
	BLK_ZERO,    /* the range reads as zero afterwards; may_unmap: it need not keep its space */
};

struct blk_req {
	enum blk_op op;
	bool may_unmap;
	uint64_t off, len; /* bytes, multiples of geo.block_size */
	const struct iovec *iov;
	unsigned iovcnt;
	void (*done)(struct blk_req *r, int res);
	struct blk_req *next; /* the back end's, while it has the request */
	int res;	      /* likewise */
};

struct blk_geometry {
	uint64_t size;		  /* bytes; a tail shorter than a block is not reachable */
	uint32_t block_size;	  /* logical: 512 or 4096 */
	uint32_t phys_block_size; /* what the host prefers; a power of two, >= block_size */
	bool readonly;
	bool write_cache; /* writes need a flush to be durable */
	bool discard;	  /* BLK_DISCARD gives space back to the host */
	bool discard_zeroes;
};

struct blk;

/*
 * Errors: -ENOSPC the host's disk is full, -EROFS read-only, -EINVAL outside the disk, -EOPNOTSUPP
 * no such operation, -EIO everything the host could not do.
 */
struct blk_ops {
	const char *name;
	int (*submit)(struct blk *b, struct blk_req *r);
	/* Waits until nothing is pending, running done() callbacks inside; on the loop's thread. */
	void (*drain)(struct blk *b);
	/* Nothing is pending any more. On the loop's thread; not from a done() callback. */
	void (*free)(struct blk *b);
};

/* Embedded first in a back end. geo.size may grow, on the loop's thread; everything else is
 * constant. */
struct blk {
	const struct blk_ops *ops;
	struct blk_geometry geo;
};

static inline int blk_submit(struct blk *b, struct blk_req *r)
{
	return b->ops->submit(b, r);
}

static inline void blk_drain(struct blk *b)
{
	b->ops->drain(b);
}

static inline void blk_free(struct blk *b)
{
	if (b)
		b->ops->free(b);
}

#endif
