/* SPDX-License-Identifier: MIT */
/*
 * The virtqueues of the monitor's devices: lib/vring over guest memory (vmm/core/gmem.h), in a virtio device. A ring that
 * breaks puts the device into DEVICE_NEEDS_RESET and yields nothing more until the driver resets it.
 *
 * All functions need the device's lock. Nothing allocates.
 */
#ifndef WSLX_VMM_VIRTIO_QUEUE_H
#define WSLX_VMM_VIRTIO_QUEUE_H

#include "lib/vring/vring.h"
#include "vmm/core/gmem.h"

struct virtio_dev;
struct state_w;
struct state_r;

enum { VQ_MAX_SIZE = 256 }; /* descriptors in a ring */

struct vq {
	struct vring ring; /* the transport writes its size and addresses before vq_enable() */
	struct virtio_dev *dev;
	uint16_t vector; /* MSI-X vector, the transport's */
};

/* lib/vring/vring.h says what these do. */
static inline int MUST_CHECK vq_pop(struct vq *q, struct vring_chain *c)
{
	return vring_pop(&q->ring, c);
}

static inline void vq_unpop(struct vq *q, const struct vring_chain *c)
{
	vring_unpop(&q->ring, c);
}

static inline void vq_push(struct vq *q, const struct vring_chain *c, uint32_t written)
{
	vring_push(&q->ring, c, written);
}

static inline void vq_flush(struct vq *q)
{
	vring_flush(&q->ring);
}

static inline bool vq_has_work(const struct vq *q)
{
	return vring_has_work(&q->ring);
}

/* For the device: the queues in their power-on state, max_size a power of two. */
void vq_init(struct vq *q, struct virtio_dev *dev, unsigned index, uint16_t max_size);

/* For transports: resolves the ring addresses; negative: queue broken. Back to the power-on state. Saved state. */
int vq_enable(struct vq *q);
void vq_reset(struct vq *q);
void vq_save(const struct vq *q, struct state_w *w);
int vq_load(struct vq *q, struct state_r *r);

#endif
