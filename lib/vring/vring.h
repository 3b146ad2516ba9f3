/* SPDX-License-Identifier: MIT */
/*
 * Split virtqueues as the device sees them (virtio 1.2 §2.7), with indirect descriptors and EVENT_IDX: the part that does
 * not care where the rings live. The monitor's own devices (vmm/virtio/queue.h) and vhost-user servers
 * (lib/vhost/backend.h) put it on their idea of guest memory. Portable.
 *
 * The rings are the driver's memory and may change under us at any time: every field is read once, validated, then used.
 * What cannot be valid (a chain that loops, a buffer outside memory, an index out of range) breaks the ring: its owner is
 * told, and the ring yields nothing more until it is reset.
 *
 * Nothing here locks or allocates.
 */
#ifndef WSLX_VRING_VRING_H
#define WSLX_VRING_VRING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>
#include "lib/base/attr.h"

enum {
	VRING_MAX_SIZE = 1024, /* descriptors in a ring */
	VRING_MAX_PIECES =
		288, /* descriptors in a chain, indirect or not: 1 MiB in pages, with headers */
};

/* Feature bits of the ring itself, virtio 1.2 §6. */
#define VIRTIO_F_INDIRECT_DESC BIT(28)
#define VIRTIO_F_EVENT_IDX     BIT(29)
#define VIRTIO_F_VERSION_1     BIT(32)

/* Sizes of the three parts, for who maps them. */
static inline uint64_t vring_desc_len(unsigned size)
{
	return (uint64_t)size * 16;
}

static inline uint64_t vring_avail_len(unsigned size)
{
	return (uint64_t)size * 2 + 6;
}

static inline uint64_t vring_used_len(unsigned size)
{
	return (uint64_t)size * 8 + 6;
}

/*
 * A popped request: the owner's memory, usually embedded in the device's request structure. The pieces that the device
 * reads come first, then those it writes; both point straight into guest memory.
 */
struct vring_chain {
	uint16_t head;
	uint16_t n_rd, n_wr;	 /* pieces: iov[0..n_rd) to read, iov[n_rd..n_rd + n_wr) to write */
	uint32_t rd_len, wr_len; /* bytes */
	uint32_t gen;		 /* ring generation: a chain from before a reset cannot be pushed */
	struct iovec iov[VRING_MAX_PIECES];
	uint64_t addr[VRING_MAX_PIECES]; /* the guest's addresses of the same pieces */
};

struct vring;

struct vring_ops {
	/* Where the guest's [addr, addr + *len) is; *len becomes less when only so much of it lies in one piece. NULL: addr
	 * is not memory. */
	void *(*map)(struct vring *r, uint64_t addr, uint64_t *len);
	/* These bytes were written; after they are in place. Optional. */
	void (*wrote)(struct vring *r, uint64_t addr, uint64_t len);
	/* May the ring be used now? */
	bool (*live)(const struct vring *r);
	/* The driver broke the rules; text says how. Called once until vring_reset(). */
	void (*broken)(struct vring *r, const char *text);
	/* The driver wants to know of what was pushed. */
	void (*interrupt)(struct vring *r);
};

/* Embedded in the owner's queue. */
struct vring {
	const struct vring_ops *ops;
	unsigned index; /* for messages */

	/* The owner's to set before vring_start(), frozen afterwards. */
	uint16_t max_size, size;
	uint64_t features; /* agreed; only the ring's own bits matter here */
	bool skips; /* a request with a buffer that is no memory goes back undone; otherwise it breaks the ring */
	uint64_t desc_addr, avail_addr, used_addr; /* of the guest; used_addr is for ops->wrote() */

	/* Private to vring.c, except for reading. */
	bool enabled;
	bool broken;
	bool quiet; /* the driver was asked not to notify (without EVENT_IDX) */
	const uint8_t *desc, *avail;
	uint8_t *used;
	uint16_t last_avail; /* next entry of the available ring to take */
	uint16_t used_idx;   /* next entry of the used ring to fill */
	uint16_t signalled;  /* used_idx as the driver knows it */
	bool unsure;	     /* ... if whoever served it before came to say so */
	uint32_t gen;
	uint32_t inflight; /* popped and not yet pushed or put back */
};

/* Back to the state before vring_start(): addresses, size and position are forgotten, chains in flight disowned. */
void vring_reset(struct vring *r);

/*
 * The ring's three parts, of the lengths above, as they are mapped here; used from last_avail and used_idx on. -EINVAL:
 * the size is none, or a part is misaligned.
 */
int vring_start(struct vring *r, const void *desc, const void *avail, void *used,
	uint16_t last_avail, uint16_t used_idx);
/* The used index as it stands in memory: where one who takes the ring over goes on. */
uint16_t vring_used_index(const void *used);

/*
 * Takes the next request. 1: *c is filled; 0: none, and the driver will notify when it adds one (so: pop until 0, or do
 * not rely on a notification); -ENODEV: not live or broken before; -EPROTO: broken just now.
 */
int vring_pop(struct vring *r, struct vring_chain *c) MUST_CHECK;

/*
 * Takes the request at descriptor head again, which was popped before the ring was saved and is not yet returned: for who
 * restores a machine. As vring_pop(), but never 0.
 */
int vring_pop_again(struct vring *r, struct vring_chain *c, uint16_t head) MUST_CHECK;

/* Puts back the request popped last; several only in reverse order, with no vring_push() of those. */
void vring_unpop(struct vring *r, const struct vring_chain *c);

/*
 * Returns the request to the driver; the first "written" bytes of its writable part were written. The driver sees it from
 * vring_flush() on. In any order. Ignored when the ring was reset since the pop.
 */
void vring_push(struct vring *r, const struct vring_chain *c, uint32_t written);

/*
 * Shows the driver what was pushed since the last time, all of it at once, and interrupts it if it wants to know. Once after a
 * batch; what belongs together (a frame in several buffers) is not to be cut by one.
 */
void vring_flush(struct vring *r);

/* Is a request waiting? Does not ask for a notification. */
bool vring_has_work(const struct vring *r);

/* Marks the ring broken, for what its owner finds wrong in a request; -EPROTO. */
int vring_break(struct vring *r, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* --- requests --- */

static inline const struct iovec *vring_rd(const struct vring_chain *c)
{
	return c->iov;
}

static inline const struct iovec *vring_wr(const struct vring_chain *c)
{
	return c->iov + c->n_rd;
}

/* Copies out of the readable, into the writable part at byte offset off; returns how many bytes fitted. */
size_t vring_read(const struct vring_chain *c, size_t off, void *buf, size_t len);
size_t vring_write(const struct vring_chain *c, size_t off, const void *buf, size_t len);

/*
 * Bytes [off, off+len) of an iovec array as one of at most max pieces in dst; returns the number of pieces, with the bytes
 * they cover in *ret_len (less than len when src or dst ends).
 */
unsigned vring_slice(const struct iovec *src, unsigned n, size_t off, size_t len, struct iovec *dst,
	unsigned max, size_t *ret_len);

#endif
