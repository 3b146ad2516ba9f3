/* SPDX-License-Identifier: MIT */
/* Split virtqueues, virtio 1.2 §2.7. See vring.h for the rules. */
#include "lib/vring/vring.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "lib/base/checked.h"
#include "lib/base/iov.h"
#include "lib/base/le.h"

enum { DESC_SIZE = 16, DESC_F_NEXT = 1, DESC_F_WRITE = 2, DESC_F_INDIRECT = 4 };
enum { AVAIL_F_NO_INTERRUPT = 1, USED_F_NO_NOTIFY = 1 };
enum { RING_FLAGS = 0, RING_IDX = 2, RING_ENTRIES = 4, AVAIL_ENTRY = 2, USED_ENTRY = 8 };

struct desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};

/* The driver writes these fields while we look: one load each, which the compiler may not repeat. */
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
static uint16_t avail_idx(const struct vring *r)
{
	return le16toh(__atomic_load_n(
		(const uint16_t *)(const void *)(r->avail + RING_IDX), __ATOMIC_ACQUIRE));
}

static void wrote(struct vring *r, uint64_t addr, uint64_t len)
{
	if (r->ops->wrote)
		r->ops->wrote(r, addr, len);
}

/* Entries and buffers are in place before the index that covers them. */
static void put_used_idx(struct vring *r)
{
	__atomic_store_n(
		(uint16_t *)(void *)(r->used + RING_IDX), htole16(r->used_idx), __ATOMIC_RELEASE);
	wrote(r, r->used_addr + RING_IDX, 2);
}

static bool usable(const struct vring *r)
{
	return r->enabled && !r->broken && r->ops->live(r);
}

static bool has(const struct vring *r, uint64_t feature)
{
	return r->features & feature;
}

int vring_break(struct vring *r, const char *fmt, ...)
{
	char text[160];
	va_list ap;

	if (r->broken)
		return -EPROTO;
	r->broken = true;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	r->ops->broken(r, text);
	return -EPROTO;
}

static int chain_buffer(struct vring *r, struct vring_chain *c, const struct desc *d, bool wr)
{
	uint64_t addr = d->addr, left = d->len;

	while (left) {
		uint64_t len = left;
		void *p = r->ops->map(r, addr, &len);
		unsigned n = (unsigned)c->n_rd + c->n_wr;

		if ((!p || !len) && r->skips)
			return -EFAULT;
		if (!p || !len)
			return vring_break(r, "queue %u: buffer %#llx+%#x outside memory", r->index,
				(unsigned long long)d->addr, d->len);
		if (n >= VRING_MAX_PIECES)
			return vring_break(r, "queue %u: request in too many pieces", r->index);
		c->iov[n] = (struct iovec){.iov_base = p, .iov_len = len};
		c->addr[n] = addr;
		if (wr)
			c->n_wr++;
		else
			c->n_rd++;
		addr += len;
		left -= len;
	}
	return 0;
}

/* Adds one descriptor's buffer to the chain. */
static int chain_add(struct vring *r, struct vring_chain *c, const struct desc *d)
{
	bool wr = d->flags & DESC_F_WRITE;
	uint32_t *len = wr ? &c->wr_len : &c->rd_len;

	if (!wr && c->n_wr)
		return vring_break(r, "queue %u: readable buffer after a writable one", r->index);
	if (add_overflows(*len, d->len, len))
		return vring_break(r, "queue %u: request of 4 GiB or more", r->index);
	return chain_buffer(r, c, d, wr);
}

static int chain_walk(struct vring *r, struct vring_chain *c)
{
	const uint8_t *table = r->desc;
	unsigned i = c->head, entries = r->size, seen = 0;
	bool indirect = false;
	uint64_t len;
	int e;

	for (;;) {
		if (i >= entries)
			return vring_break(
				r, "queue %u: descriptor %u of %u", r->index, i, entries);
		if (seen++ >= VRING_MAX_PIECES)
			return vring_break(r, "queue %u: chain loops or is too long", r->index);

		struct desc d = desc_get(table, i);

		if (d.flags & DESC_F_INDIRECT) {
			if (indirect || !has(r, VIRTIO_F_INDIRECT_DESC) || (d.flags & DESC_F_NEXT))
				return vring_break(
					r, "queue %u: misplaced indirect table", r->index);
			if (!d.len || d.len % DESC_SIZE || d.len / DESC_SIZE > UINT16_MAX)
				return vring_break(
					r, "queue %u: indirect table of %u bytes", r->index, d.len);
			len = d.len;
			table = r->ops->map(r, d.addr, &len);
			if (!table || len != d.len)
				return vring_break(
					r, "queue %u: indirect table outside memory", r->index);
			indirect = true;
			entries = d.len / DESC_SIZE;
			i = 0;
			seen = 0;
			continue;
		}
		e = chain_add(r, c, &d);
		if (e < 0)
			return e;
		if (!(d.flags & DESC_F_NEXT))
			return 0;
		i = d.next;
	}
}

/* Asks the driver to notify from here on; false: it added something meanwhile. */
static bool rearm(struct vring *r)
{
	if (has(r, VIRTIO_F_EVENT_IDX)) {
		size_t off = RING_ENTRIES + (size_t)r->size * USED_ENTRY;

		ring_put16(r->used, off, r->last_avail);
		wrote(r, r->used_addr + off, 2);
	} else if (r->quiet) {
		ring_put16(r->used, RING_FLAGS, 0);
		wrote(r, r->used_addr, 2);
		r->quiet = false;
	}
	/* Either the driver sees our request before it decides whether to notify, or we see its index. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return avail_idx(r) == r->last_avail;
}

static void hush(struct vring *r)
{
	/* With EVENT_IDX an old event index, left alone, keeps the driver quiet. */
	if (r->quiet || has(r, VIRTIO_F_EVENT_IDX))
		return;
	ring_put16(r->used, RING_FLAGS, USED_F_NO_NOTIFY);
	wrote(r, r->used_addr, 2);
	r->quiet = true;
}

static int take(struct vring *r, struct vring_chain *c, uint16_t head)
{
	int e;

	c->head = head;
	c->n_rd = c->n_wr = 0;
	c->rd_len = c->wr_len = 0;
	c->gen = r->gen;
	e = chain_walk(r, c);
	if (e < 0)
		return e;
	r->inflight++;
	return 1;
}

/* -EFAULT: the request has gone back. */
static int pop_one(struct vring *r, struct vring_chain *c)
{
	uint16_t idx, ahead;
	int e;

	if (!usable(r))
		return -ENODEV;
	idx = avail_idx(r);
	if (idx == r->last_avail) {
		if (rearm(r))
			return 0;
		idx = avail_idx(r);
	}
	ahead = (uint16_t)(idx - r->last_avail);
	if (ahead > r->size)
		return vring_break(r, "queue %u: available index %u ahead", r->index, ahead);
	if (r->inflight >= r->size)
		return vring_break(r, "queue %u: more requests than descriptors", r->index);
	hush(r);
	e = take(r, c,
		ring_get16(r->avail,
			RING_ENTRIES + (size_t)(r->last_avail & (r->size - 1)) * AVAIL_ENTRY));
	if (e > 0 || e == -EFAULT)
		r->last_avail++;
	if (e == -EFAULT) {
		r->inflight++;
		vring_push(r, c, 0);
	}
	return e;
}

int vring_pop(struct vring *r, struct vring_chain *c)
{
	int e = -EFAULT;

	for (unsigned n = 0; n <= r->size && e == -EFAULT; n++)
		e = pop_one(r, c);
	/* A driver that goes on adding them is not waited for. */
	return e == -EFAULT ? vring_break(r, "queue %u: no buffer is in memory", r->index) : e;
}

int vring_pop_again(struct vring *r, struct vring_chain *c, uint16_t head)
{
	if (!usable(r))
		return -ENODEV;
	if (r->inflight >= r->size)
		return vring_break(r, "queue %u: more requests than descriptors", r->index);
	return take(r, c, head);
}

void vring_unpop(struct vring *r, const struct vring_chain *c)
{
	if (c->gen != r->gen || !r->inflight)
		return;
	r->last_avail--;
	r->inflight--;
}

static void chain_wrote(struct vring *r, const struct vring_chain *c, uint32_t written)
{
	for (unsigned i = c->n_rd; i < (unsigned)c->n_rd + c->n_wr && written; i++) {
		uint32_t n = (uint32_t)MIN(c->iov[i].iov_len, (size_t)written);

		wrote(r, c->addr[i], n);
		written -= n;
	}
}

void vring_push(struct vring *r, const struct vring_chain *c, uint32_t written)
{
	size_t off;

	/* Whatever became of the ring meanwhile, the bytes are in guest memory. */
	chain_wrote(r, c, written);
	if (c->gen != r->gen || !r->inflight)
		return;
	r->inflight--;
	if (!usable(r))
		return;
	off = RING_ENTRIES + (size_t)(r->used_idx & (r->size - 1)) * USED_ENTRY;
	le32_put(r->used + off, c->head);
	le32_put(r->used + off + 4, MIN(written, c->wr_len));
	wrote(r, r->used_addr + off, USED_ENTRY);
	r->used_idx++;
}

void vring_flush(struct vring *r)
{
	uint16_t old = r->signalled;
	bool want;

	if (!usable(r) || old == r->used_idx)
		return;
	put_used_idx(r);
	r->signalled = r->used_idx;
	/* Either the driver sees the new index before it sleeps, or we see that it wants an interrupt. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (has(r, VIRTIO_F_EVENT_IDX)) {
		uint16_t event = ring_get16(r->avail, RING_ENTRIES + (size_t)r->size * AVAIL_ENTRY);

		want = r->unsure ||
		       (uint16_t)(r->used_idx - event - 1) < (uint16_t)(r->used_idx - old);
	} else {
		want = !(ring_get16(r->avail, RING_FLAGS) & AVAIL_F_NO_INTERRUPT);
	}
	r->unsure = false;
	if (want)
		r->ops->interrupt(r);
}

bool vring_has_work(const struct vring *r)
{
	return usable(r) && avail_idx(r) != r->last_avail;
}

int vring_start(struct vring *r, const void *desc, const void *avail, void *used,
	uint16_t last_avail, uint16_t used_idx)
{
	if (!r->size || r->size > r->max_size || r->size > VRING_MAX_SIZE ||
		(r->size & (r->size - 1)))
		return -EINVAL;
	if ((uintptr_t)desc % 16 || (uintptr_t)avail % 2 || (uintptr_t)used % 4)
		return -EINVAL;
	r->desc = desc;
	r->avail = avail;
	r->used = used;
	r->last_avail = last_avail;
	r->used_idx = r->signalled = used_idx;
	/*
	 * An interrupt that was lost with whoever served it before would be the last: the driver's event index lies behind all that comes
	 * from now on.
	 */
	r->unsure = last_avail || used_idx;
	/* Whoever served it before may have left the driver quiet. */
	r->quiet = ring_get16(r->used, RING_FLAGS) & USED_F_NO_NOTIFY;
	r->inflight = 0;
	r->enabled = true;
	return 0;
}

uint16_t vring_used_index(const void *used)
{
	return ring_get16(used, RING_IDX);
}

void vring_reset(struct vring *r)
{
	*r = (struct vring){.ops = r->ops,
		.index = r->index,
		.max_size = r->max_size,
		.size = r->max_size,
		.skips = r->skips,
		.gen = r->gen + 1};
}

size_t vring_read(const struct vring_chain *c, size_t off, void *buf, size_t len)
{
	return iov_to_buf(vring_rd(c), c->n_rd, off, buf, len);
}

size_t vring_write(const struct vring_chain *c, size_t off, const void *buf, size_t len)
{
	return iov_from_buf(vring_wr(c), c->n_wr, off, buf, len);
}

unsigned vring_slice(const struct iovec *src, unsigned n, size_t off, size_t len, struct iovec *dst,
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
