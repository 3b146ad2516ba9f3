/* SPDX-License-Identifier: MIT */
/*
 * Split virtqueues as the device sees them (virtio 1.2 §2.7), with indirect descriptors and
 * EVENT_IDX.
 *
 * The rings are the driver's memory and may change under us at any time: every field is read once,
 * validated, then used. What cannot be valid (a chain that loops, a buffer outside RAM, an index
 * out of range) breaks the queue: the device goes to DEVICE_NEEDS_RESET and the queue yields
 * nothing more until the driver resets it.
 *
 * All functions need the device's lock. Nothing allocates.
 */
#ifndef WSLX_VMM_VIRTIO_QUEUE_H
#define WSLX_VMM_VIRTIO_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>
#include "lib/base/attr.h"
#include "vmm/core/gmem.h"

struct virtio_dev;
struct state_w;
struct state_r;

enum {
	VQ_MAX_SIZE = 256,   /* descriptors in a ring */
	VQ_MAX_PIECES = 256, /* descriptors in a chain, indirect or not */
};

/*
 * A popped request: the owner's memory, usually embedded in the device's request structure. The
 * pieces that the device reads come first, then those it writes; both point straight into guest
 * memory.
 */
struct vq_chain {
	uint16_t head;
	uint16_t n_rd, n_wr;	 /* pieces: iov[0..n_rd) to read, iov[n_rd..n_rd + n_wr) to write */
	uint32_t rd_len, wr_len; /* bytes */
	uint32_t gen; /* queue generation: a chain from before a reset cannot be pushed */
	struct iovec iov[VQ_MAX_PIECES];
	gpa_t gpa[VQ_MAX_PIECES];
};

static inline const struct iovec *vq_rd(const struct vq_chain *c)
{
	return c->iov;
}

static inline const struct iovec *vq_wr(const struct vq_chain *c)
{
	return c->iov + c->n_rd;
}

struct vq {
	struct virtio_dev *dev;
	unsigned index;

	/* Written by the transport; size, addresses and enabled are frozen while enabled. */
	uint16_t max_size, size;
	bool enabled;
	gpa_t desc_gpa, avail_gpa, used_gpa;
	uint16_t vector; /* MSI-X vector, the transport's */

	/* Private to queue.c. */
	const uint8_t *desc, *avail;
	uint8_t *used;
	uint16_t last_avail; /* next entry of the available ring to take */
	uint16_t used_idx;   /* next entry of the used ring to fill */
	uint16_t signalled;  /* used_idx when the driver was last looked at for an interrupt */
	bool quiet;	     /* the driver was asked not to notify (without EVENT_IDX) */
	bool broken;
	uint32_t gen;
	uint32_t inflight; /* popped and not yet pushed or put back */
};

/*
 * Takes the next request. 1: *c is filled; 0: none, and the driver will notify when it adds one
 * (so: pop until 0, or do not rely on a notification); negative: the queue is broken or not
 * enabled, nothing to do until reset.
 */
int vq_pop(struct vq *q, struct vq_chain *c) MUST_CHECK;

/* Puts back the request popped last; several only in reverse order, with no vq_push() of those. */
void vq_unpop(struct vq *q, const struct vq_chain *c);

/*
 * Returns the request to the driver; the first "written" bytes of its writable part were written.
 * The driver hears of it at vq_flush(). In any order. Ignored when the queue was reset since the
 * pop.
 */
void vq_push(struct vq *q, const struct vq_chain *c, uint32_t written);

/* Interrupts the driver if it wants to know of what was pushed since the last time. Once after a
 * batch. */
void vq_flush(struct vq *q);

/* Is a request waiting? Does not ask for a notification. */
bool vq_has_work(const struct vq *q);

/* Copies out of the readable, into the writable part at byte offset off; returns how many bytes
 * fitted. */
size_t vq_read(const struct vq_chain *c, size_t off, void *buf, size_t len);
size_t vq_write(const struct vq_chain *c, size_t off, const void *buf, size_t len);

/*
 * Bytes [off, off+len) of an iovec array as one of at most max pieces in dst; returns the number of
 * pieces, with the bytes they cover in *ret_len (less than len when src or dst ends).
 */
unsigned vq_slice(const struct iovec *src, unsigned n, size_t off, size_t len, struct iovec *dst,
	unsigned max, size_t *ret_len);

/* For transports: resolves the ring addresses; -EFAULT, -EINVAL: queue broken. Back to the power-on
 * state. Saved state. */
int vq_enable(struct vq *q);
void vq_reset(struct vq *q);
void vq_save(const struct vq *q, struct state_w *w);
int vq_load(struct vq *q, struct state_r *r);

#endif
