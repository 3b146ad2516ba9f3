/* SPDX-License-Identifier: MIT */
/* Split virtqueues, virtio 1.2 §2.7. See queue.h for the rules. */
#include "vmm/virtio/queue.h"

#include <errno.h>
#include <string.h>
#include "lib/base/checked.h"
#include "lib/base/iov.h"
#include "lib/base/le.h"
#include "vmm/core/state.h"
#include "vmm/virtio/dev.h"

enum { DESC_SIZE = 16, DESC_F_NEXT = 1, DESC_F_WRITE = 2, DESC_F_INDIRECT = 4 };
enum { AVAIL_F_NO_INTERRUPT = 1, USED_F_NO_NOTIFY = 1 };
enum { RING_FLAGS = 0, RING_IDX = 2, RING_ENTRIES = 4, AVAIL_ENTRY = 2, USED_ENTRY = 8 };

struct desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};

/* The driver writes these fields while we look: one load each, which the compiler may not repeat.
 */
static uint16_t ring_get16(const uint8_t *ring, size_t off)
{
	return le16toh(
		__atomic_load_n((const uint16_t *)(const void *)(ring + off), __ATOMIC_RELAXED));
}

static void ring_put16(uint8_t *ring, size_t off, uint16_t v)
{
	__atomic_store_n((uint16_t *)(void *)(ring + off), htole16(v), __ATOMIC_RELAXED);
}

static uint64_t get64_once(const uint8_t *p)
{
	struct PACKED unaligned {
		uint64_t v;
	};

	return le64toh(((const volatile struct unaligned *)(const void *)p)->v);
}

static struct desc desc_get(const uint8_t *table, unsigned i)
{
	uint64_t hi = get64_once(table + i * DESC_SIZE + 8);

	return (struct desc){.addr = get64_once(table + i * DESC_SIZE),
		.len = (uint32_t)hi,
		.flags = (uint16_t)(hi >> 32),
		.next = (uint16_t)(hi >> 48)};
}

/* Entries are read after the index that covers them. */
static uint16_t avail_idx(const struct vq *q)
{
	return le16toh(__atomic_load_n(
		(const uint16_t *)(const void *)(q->avail + RING_IDX), __ATOMIC_ACQUIRE));
}

/* Entries and buffers are in place before the index that covers them. */
static void put_used_idx(struct vq *q)
{
	__atomic_store_n(
		(uint16_t *)(void *)(q->used + RING_IDX), htole16(q->used_idx), __ATOMIC_RELEASE);
	gmem_wrote(q->dev->gm, q->used_gpa + RING_IDX, 2);
}

static bool usable(const struct vq *q)
{
	return q->enabled && !q->broken && virtio_live(q->dev);
}

#define broken(q, ...)                                                                             \
	({                                                                                         \
		(q)->broken = true;                                                                \
		virtio_broken((q)->dev, __VA_ARGS__);                                              \
		-EPROTO;                                                                           \
	})

/* Adds one descriptor's buffer to the chain. */
static int chain_add(struct vq *q, struct vq_chain *c, const struct desc *d)
{
	bool wr = d->flags & DESC_F_WRITE;
	uint32_t *len = wr ? &c->wr_len : &c->rd_len;
	unsigned first = c->n_rd + c->n_wr, n = first;
	gpa_t gpa = d->addr;

	if (!wr && c->n_wr)
		return broken(q, "queue %u: readable buffer after a writable one", q->index);
	if (!d->len)
		return 0;
	if (add_overflows(*len, d->len, len))
		return broken(q, "queue %u: request of 4 GiB or more", q->index);
	switch (gmem_iov(q->dev->gm, d->addr, d->len, c->iov, &n, VQ_MAX_PIECES)) {
	case 0: break;
	case -E2BIG: return broken(q, "queue %u: request in too many pieces", q->index);
	default:
		return broken(q, "queue %u: buffer %#llx+%#x outside memory", q->index,
			(unsigned long long)d->addr, d->len);
	}
	for (unsigned i = first; i < n; i++) {
		c->gpa[i] = gpa;
		gpa += c->iov[i].iov_len;
	}
	if (wr)
		c->n_wr += n - first;
	else
		c->n_rd += n - first;
	return 0;
}

static int chain_walk(struct vq *q, struct vq_chain *c)
{
	const uint8_t *table = q->desc;
	unsigned i = c->head, entries = q->size, seen = 0;
	bool indirect = false;
	int r;

	for (;;) {
		if (i >= entries)
			return broken(q, "queue %u: descriptor %u of %u", q->index, i, entries);
		if (seen++ >= VQ_MAX_PIECES)
			return broken(q, "queue %u: chain loops or is too long", q->index);

		struct desc d = desc_get(table, i);

		if (d.flags & DESC_F_INDIRECT) {
			if (indirect || !virtio_has(q->dev, VIRTIO_F_INDIRECT_DESC) ||
				(d.flags & DESC_F_NEXT))
				return broken(q, "queue %u: misplaced indirect table", q->index);
			if (!d.len || d.len % DESC_SIZE || d.len / DESC_SIZE > UINT16_MAX)
				return broken(
					q, "queue %u: indirect table of %u bytes", q->index, d.len);
			table = gmem_ptr(q->dev->gm, d.addr, d.len);
			if (!table)
				return broken(
					q, "queue %u: indirect table outside memory", q->index);
			indirect = true;
			entries = d.len / DESC_SIZE;
			i = 0;
			seen = 0;
			continue;
		}
		r = chain_add(q, c, &d);
		if (r < 0)
			return r;
		if (!(d.flags & DESC_F_NEXT))
			return 0;
		i = d.next;
	}
}

/* Asks the driver to notify from here on; false: it added something meanwhile. */
static bool rearm(struct vq *q)
{
	if (virtio_has(q->dev, VIRTIO_F_EVENT_IDX)) {
		size_t off = RING_ENTRIES + (size_t)q->size * USED_ENTRY;

		ring_put16(q->used, off, q->last_avail);
		gmem_wrote(q->dev->gm, q->used_gpa + off, 2);
	} else if (q->quiet) {
		ring_put16(q->used, RING_FLAGS, 0);
		gmem_wrote(q->dev->gm, q->used_gpa, 2);
		q->quiet = false;
	}
	/* Either the driver sees our request before it decides whether to notify, or we see its
	 * index. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return avail_idx(q) == q->last_avail;
}

static void hush(struct vq *q)
{
	/* With EVENT_IDX an old event index, left alone, keeps the driver quiet. */
	if (q->quiet || virtio_has(q->dev, VIRTIO_F_EVENT_IDX))
		return;
	ring_put16(q->used, RING_FLAGS, USED_F_NO_NOTIFY);
	gmem_wrote(q->dev->gm, q->used_gpa, 2);
	q->quiet = true;
}

int vq_pop(struct vq *q, struct vq_chain *c)
{
	uint16_t idx, ahead;
	int r;

	if (!usable(q))
		return -ENODEV;
	idx = avail_idx(q);
	if (idx == q->last_avail) {
		if (rearm(q))
			return 0;
		idx = avail_idx(q);
	}
	ahead = (uint16_t)(idx - q->last_avail);
	if (ahead > q->size)
		return broken(q, "queue %u: available index %u ahead", q->index, ahead);
	if (q->inflight >= q->size)
		return broken(q, "queue %u: more requests than descriptors", q->index);
	hush(q);

	c->head = ring_get16(
		q->avail, RING_ENTRIES + (size_t)(q->last_avail & (q->size - 1)) * AVAIL_ENTRY);
	c->n_rd = c->n_wr = 0;
	c->rd_len = c->wr_len = 0;
	c->gen = q->gen;
	r = chain_walk(q, c);
	if (r < 0)
		return r;
	q->last_avail++;
	q->inflight++;
	return 1;
}

void vq_unpop(struct vq *q, const struct vq_chain *c)
{
	if (c->gen != q->gen || !q->inflight)
		return;
	q->last_avail--;
	q->inflight--;
}

static void chain_wrote(struct gmem *gm, const struct vq_chain *c, uint32_t written)
{
	for (unsigned i = c->n_rd; i < (unsigned)c->n_rd + c->n_wr && written; i++) {
		uint32_t n = (uint32_t)MIN(c->iov[i].iov_len, (size_t)written);

		gmem_wrote(gm, c->gpa[i], n);
		written -= n;
	}
}

void vq_push(struct vq *q, const struct vq_chain *c, uint32_t written)
{
	size_t off;

	/* Whatever became of the queue meanwhile, the bytes are in guest memory. */
	chain_wrote(q->dev->gm, c, written);
	if (c->gen != q->gen || !q->inflight)
		return;
	q->inflight--;
	if (!usable(q))
		return;
	off = RING_ENTRIES + (size_t)(q->used_idx & (q->size - 1)) * USED_ENTRY;
	le32_put(q->used + off, c->head);
	le32_put(q->used + off + 4, MIN(written, c->wr_len));
	gmem_wrote(q->dev->gm, q->used_gpa + off, USED_ENTRY);
	q->used_idx++;
	put_used_idx(q);
}

void vq_flush(struct vq *q)
{
	uint16_t old = q->signalled;
	bool want;

	if (!usable(q) || old == q->used_idx)
		return;
	q->signalled = q->used_idx;
	/* Either the driver sees the new index before it sleeps, or we see that it wants an
	 * interrupt. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (virtio_has(q->dev, VIRTIO_F_EVENT_IDX)) {
		uint16_t event = ring_get16(q->avail, RING_ENTRIES + (size_t)q->size * AVAIL_ENTRY);

		want = (uint16_t)(q->used_idx - event - 1) < (uint16_t)(q->used_idx - old);
	} else {
		want = !(ring_get16(q->avail, RING_FLAGS) & AVAIL_F_NO_INTERRUPT);
	}
	if (want)
		q->dev->transport->queue_irq(q->dev, q->index);
}

bool vq_has_work(const struct vq *q)
{
	return usable(q) && avail_idx(q) != q->last_avail;
}

size_t vq_read(const struct vq_chain *c, size_t off, void *buf, size_t len)
{
	return iov_to_buf(vq_rd(c), c->n_rd, off, buf, len);
}

size_t vq_write(const struct vq_chain *c, size_t off, const void *buf, size_t len)
{
	return iov_from_buf(vq_wr(c), c->n_wr, off, buf, len);
}

unsigned vq_slice(const struct iovec *src, unsigned n, size_t off, size_t len, struct iovec *dst,
	unsigned max, size_t *ret_len)
{
	unsigned k = 0;
	size_t total = 0;

	for (unsigned i = 0; i < n && k < max && len; i++) {
		size_t part;

		if (off >= src[i].iov_len) {
			off -= src[i].iov_len;
			continue;
		}
		part = MIN(src[i].iov_len - off, len);
		dst[k].iov_base = (uint8_t *)src[i].iov_base + off;
		dst[k++].iov_len = part;
		total += part;
		len -= part;
		off = 0;
	}
	*ret_len = total;
	return k;
}

static int resolve(struct vq *q)
{
	struct gmem *gm = q->dev->gm;

	if (!q->size || q->size > q->max_size || (q->size & (q->size - 1)))
		return broken(q, "queue %u: size %u", q->index, q->size);
	if (q->desc_gpa % 16 || q->avail_gpa % 2 || q->used_gpa % 4)
		return broken(q, "queue %u: misaligned ring", q->index);
	q->desc = gmem_ptr(gm, q->desc_gpa, (uint64_t)q->size * DESC_SIZE);
	q->avail = gmem_ptr(gm, q->avail_gpa, RING_ENTRIES + (uint64_t)q->size * AVAIL_ENTRY + 2);
	q->used = gmem_ptr(gm, q->used_gpa, RING_ENTRIES + (uint64_t)q->size * USED_ENTRY + 2);
	if (!q->desc || !q->avail || !q->used)
		return broken(q, "queue %u: ring outside memory", q->index);
	return 0;
}

int vq_enable(struct vq *q)
{
	int r;

	if (q->enabled)
		return 0;
	r = resolve(q);
	if (r < 0)
		return r;
	q->last_avail = q->used_idx = q->signalled = 0;
	q->quiet = false;
	q->inflight = 0;
	q->enabled = true;
	return 0;
}

void vq_reset(struct vq *q)
{
	*q = (struct vq){.dev = q->dev,
		.index = q->index,
		.max_size = q->max_size,
		.size = q->max_size,
		.vector = 0xffff,
		.gen = q->gen + 1};
}

void vq_save(const struct vq *q, struct state_w *w)
{
	state_put_u16(w, q->size);
	state_put_u8(w, q->enabled);
	state_put_u8(w, q->broken);
	state_put_u8(w, q->quiet);
	state_put_u16(w, q->vector);
	state_put_u64(w, q->desc_gpa);
	state_put_u64(w, q->avail_gpa);
	state_put_u64(w, q->used_gpa);
	state_put_u16(w, q->last_avail);
	state_put_u16(w, q->used_idx);
	state_put_u16(w, q->signalled);
}

int vq_load(struct vq *q, struct state_r *r)
{
	bool was_broken;

	vq_reset(q);
	q->size = state_get_u16(r);
	q->enabled = state_get_u8(r);
	was_broken = state_get_u8(r);
	q->quiet = state_get_u8(r);
	q->vector = state_get_u16(r);
	q->desc_gpa = state_get_u64(r);
	q->avail_gpa = state_get_u64(r);
	q->used_gpa = state_get_u64(r);
	q->last_avail = state_get_u16(r);
	q->used_idx = state_get_u16(r);
	q->signalled = state_get_u16(r);
	if (q->enabled && resolve(q) < 0)
		return -EBADMSG;
	q->broken = was_broken;
	return 0;
}
