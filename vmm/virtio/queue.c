/* SPDX-License-Identifier: MIT */
/* Virtqueues over guest memory. See queue.h. */
#include "vmm/virtio/queue.h"

#include <errno.h>
#include "vmm/core/state.h"
#include "vmm/virtio/dev.h"

enum { NO_VECTOR = 0xffff };

static struct vq *to_vq(struct vring *r)
{
	return container_of(r, struct vq, ring);
}

/* RAM's regions never touch each other in the guest's address space: a buffer lies in one of them or nowhere. */
static void *ring_map(struct vring *r, uint64_t addr, uint64_t *len)
{
	return gmem_ptr(to_vq(r)->dev->gm, addr, *len);
}

static void ring_wrote(struct vring *r, uint64_t addr, uint64_t len)
{
	gmem_wrote(to_vq(r)->dev->gm, addr, len);
}

static bool ring_live(const struct vring *r)
{
	static_assert(offsetof(struct vq, ring) == 0, "the ring comes first");

	return virtio_live(((const struct vq *)(const void *)r)->dev);
}

static void ring_broken(struct vring *r, const char *text)
{
	virtio_broken(to_vq(r)->dev, "%s", text);
}

static void ring_interrupt(struct vring *r)
{
	struct virtio_dev *v = to_vq(r)->dev;

	v->transport->queue_irq(v, r->index);
}

static const struct vring_ops ring_ops = {
	.map = ring_map,
	.wrote = ring_wrote,
	.live = ring_live,
	.broken = ring_broken,
	.interrupt = ring_interrupt,
};

void vq_init(struct vq *q, struct virtio_dev *dev, unsigned index, uint16_t max_size)
{
	*q = (struct vq){
		.ring = {.ops = &ring_ops, .index = index, .max_size = max_size}, .dev = dev};
	vq_reset(q);
}

void vq_reset(struct vq *q)
{
	vring_reset(&q->ring);
	q->vector = NO_VECTOR;
}

static int resolve(struct vq *q, uint16_t last_avail, uint16_t used_idx)
{
	struct vring *r = &q->ring;
	struct gmem *gm = q->dev->gm;
	void *desc = gmem_ptr(gm, r->desc_addr, vring_desc_len(r->size));
	void *avail = gmem_ptr(gm, r->avail_addr, vring_avail_len(r->size));
	void *used = gmem_ptr(gm, r->used_addr, vring_used_len(r->size));

	/* In a window (files of the host) nobody else's process could reach it. */
	if (!desc || !avail || !used || gmem_in_window(gm, r->desc_addr, 1) ||
		gmem_in_window(gm, r->avail_addr, 1) || gmem_in_window(gm, r->used_addr, 1))
		return vring_break(r, "queue %u: ring outside memory", r->index);
	if (r->desc_addr % 16 || r->avail_addr % 2 || r->used_addr % 4)
		return vring_break(r, "queue %u: misaligned ring", r->index);
	if (vring_start(r, desc, avail, used, last_avail, used_idx) < 0)
		return vring_break(r, "queue %u: size %u", r->index, r->size);
	return 0;
}

int vq_enable(struct vq *q)
{
	return q->ring.enabled ? 0 : resolve(q, 0, 0);
}

void vq_save(const struct vq *q, struct state_w *w)
{
	const struct vring *r = &q->ring;

	state_put_u16(w, r->size);
	state_put_u8(w, r->enabled);
	state_put_u8(w, r->broken);
	state_put_u8(w, r->quiet);
	state_put_u16(w, q->vector);
	state_put_u64(w, r->desc_addr);
	state_put_u64(w, r->avail_addr);
	state_put_u64(w, r->used_addr);
	state_put_u16(w, r->last_avail);
	state_put_u16(w, r->used_idx);
	state_put_u16(w, r->signalled);
}

int vq_load(struct vq *q, struct state_r *s)
{
	struct vring *r = &q->ring;
	bool enabled, broken, quiet;
	uint16_t last_avail, used_idx, signalled;

	vq_reset(q);
	r->size = state_get_u16(s);
	enabled = state_get_u8(s);
	broken = state_get_u8(s);
	quiet = state_get_u8(s);
	q->vector = state_get_u16(s);
	r->desc_addr = state_get_u64(s);
	r->avail_addr = state_get_u64(s);
	r->used_addr = state_get_u64(s);
	last_avail = state_get_u16(s);
	used_idx = state_get_u16(s);
	signalled = state_get_u16(s);
	if (enabled && resolve(q, last_avail, used_idx) < 0)
		return -EBADMSG;
	r->signalled = signalled;
	r->quiet = quiet;
	r->broken = broken;
	return 0;
}
