/* SPDX-License-Identifier: MIT */
/*
 * The buses (bus.h). One sorted array of ranges a bus kind, read by vCPUs without a lock.
 *
 * Theory of operation: a sequence number guards the array (odd while it changes). A reader looks
 * its address up, takes the device's lock and looks at the number again: if it moved, the range may
 * have, so the reader lets go and starts over. bus_remove() therefore only has to change the array
 * and then pass once through the device's lock: whoever was inside a handler has left, whoever
 * comes later sees the new array. Array fields are relaxed atomics, because a reader may look while
 * a writer writes (and then discards what it saw).
 */
#include "vmm/core/bus.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "lib/base/checked.h"
#include "lib/base/log.h"

enum { MAX_RANGES = 256, KINDS = BUS_MMIO + 1 };

struct range {
	_Atomic uint64_t start, last; /* inclusive */
	struct dev *_Atomic dev;
	atomic_uint region;
};

struct space {
	atomic_uint seq;
	atomic_uint n;
	struct range r[MAX_RANGES]; /* by start */
};

struct bus {
	struct os_mutex lock; /* writers; never held while a device's lock is taken */
	struct space space[KINDS];
};

void dev_init(struct dev *d, const struct dev_ops *ops, const char *id)
{
	int n = snprintf(d->id, sizeof(d->id), "%s", id);

	assert(n > 0 && (size_t)n < sizeof(d->id));
	(void)n;
	d->ops = ops;
	os_mutex_init(&d->lock);
}

void dev_done(struct dev *d)
{
	os_mutex_done(&d->lock);
}

int bus_new(struct bus **ret)
{
	struct bus *b = calloc(1, sizeof(*b));

	if (!b)
		return -ENOMEM;
	os_mutex_init(&b->lock);
	*ret = b;
	return 0;
}

void bus_free(struct bus *b)
{
	if (!b)
		return;
	os_mutex_done(&b->lock);
	free(b);
}

static uint64_t get64(const _Atomic uint64_t *p)
{
	return atomic_load_explicit(p, memory_order_relaxed);
}

static void range_copy(struct range *to, const struct range *from)
{
	atomic_store_explicit(&to->start, get64(&from->start), memory_order_relaxed);
	atomic_store_explicit(&to->last, get64(&from->last), memory_order_relaxed);
	atomic_store_explicit(&to->dev, atomic_load_explicit(&from->dev, memory_order_relaxed),
		memory_order_relaxed);
	atomic_store_explicit(&to->region,
		atomic_load_explicit(&from->region, memory_order_relaxed), memory_order_relaxed);
}

/* The first range whose last address is not below addr; n when there is none. */
static unsigned lookup(const struct space *s, uint64_t addr)
{
	unsigned lo = 0, hi = atomic_load_explicit(&s->n, memory_order_relaxed);

	while (lo < hi) {
		unsigned mid = (lo + hi) / 2;

		if (get64(&s->r[mid].last) < addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static void change_begin(struct space *s)
{
	atomic_store_explicit(&s->seq, atomic_load_explicit(&s->seq, memory_order_relaxed) + 1,
		memory_order_relaxed);
	atomic_thread_fence(memory_order_release); /* the odd number before the changes */
}

static void change_end(struct space *s)
{
	/* The changes before the even number; pairs with the loads of seq in claim(). */
	atomic_store_explicit(&s->seq, atomic_load_explicit(&s->seq, memory_order_relaxed) + 1,
		memory_order_release);
}

int bus_add(struct bus *b, enum bus_kind kind, uint64_t start, uint64_t len, struct dev *d,
	unsigned region)
{
	struct space *s = &b->space[kind];
	uint64_t last;
	unsigned i, n;

	if (len == 0 || add_overflows(start, len - 1, &last))
		return -EINVAL;
	OS_GUARD(&b->lock);
	n = atomic_load_explicit(&s->n, memory_order_relaxed);
	i = lookup(s, start);
	if (i < n && get64(&s->r[i].start) <= last)
		return -EBUSY;
	if (n == MAX_RANGES)
		return -ENOSPC;
	change_begin(s);
	for (unsigned j = n; j > i; j--)
		range_copy(&s->r[j], &s->r[j - 1]);
	atomic_store_explicit(&s->r[i].start, start, memory_order_relaxed);
	atomic_store_explicit(&s->r[i].last, last, memory_order_relaxed);
	atomic_store_explicit(&s->r[i].dev, d, memory_order_relaxed);
	atomic_store_explicit(&s->r[i].region, region, memory_order_relaxed);
	atomic_store_explicit(&s->n, n + 1, memory_order_relaxed);
	change_end(s);
	return 0;
}

void bus_remove(struct bus *b, enum bus_kind kind, uint64_t start)
{
	struct space *s = &b->space[kind];
	struct dev *d = NULL;

	os_mutex_lock(&b->lock);
	unsigned n = atomic_load_explicit(&s->n, memory_order_relaxed), i = lookup(s, start);

	if (i < n && get64(&s->r[i].start) == start) {
		d = atomic_load_explicit(&s->r[i].dev, memory_order_relaxed);
		change_begin(s);
		for (unsigned j = i; j + 1 < n; j++)
			range_copy(&s->r[j], &s->r[j + 1]);
		atomic_store_explicit(&s->n, n - 1, memory_order_relaxed);
		change_end(s);
	}
	os_mutex_unlock(&b->lock);
	if (d) {
		os_mutex_lock(&d->lock);
		os_mutex_unlock(&d->lock);
	}
}

/* Finds who answers at [addr, addr+len) and returns it locked, or NULL. */
static struct dev *claim(struct bus *b, enum bus_kind kind, uint64_t addr, unsigned len,
	unsigned *ret_region, uint64_t *ret_off)
{
	struct space *s = &b->space[kind];

	for (;;) {
		unsigned seq = atomic_load_explicit(&s->seq, memory_order_acquire), i, n;
		struct dev *d = NULL;

		if (seq & 1)
			continue; /* a writer is moving a few words: it will not be long */
		i = lookup(s, addr);
		n = atomic_load_explicit(&s->n, memory_order_relaxed);
		if (i < n && i < MAX_RANGES && get64(&s->r[i].start) <= addr &&
			get64(&s->r[i].last) - addr >= len - 1) {
			d = atomic_load_explicit(&s->r[i].dev, memory_order_relaxed);
			*ret_region = atomic_load_explicit(&s->r[i].region, memory_order_relaxed);
			*ret_off = addr - get64(&s->r[i].start);
		}
		atomic_thread_fence(memory_order_acquire); /* the looks before the second number */
		if (atomic_load_explicit(&s->seq, memory_order_relaxed) != seq)
			continue;
		if (!d)
			return NULL;
		/* bus.h: a device outlives its place on the bus, so its lock is there even if it
		 * has just left. */
		os_mutex_lock(&d->lock);
		if (atomic_load_explicit(&s->seq, memory_order_acquire) == seq)
			return d;
		os_mutex_unlock(&d->lock);
	}
}

static uint64_t ones(unsigned len)
{
	return len >= 8 ? UINT64_MAX : (1ull << len * 8) - 1;
}

uint64_t bus_read(struct bus *b, enum bus_kind kind, uint64_t addr, unsigned len)
{
	unsigned region;
	uint64_t off, v = UINT64_MAX;
	struct dev *d = claim(b, kind, addr, len, &region, &off);

	if (!d) {
		log_debug("bus", "nobody at %s %#llx (read of %u)",
			kind == BUS_PORT ? "port" : "address", (unsigned long long)addr, len);
		return ones(len);
	}
	if (d->ops->read)
		v = d->ops->read(d, region, off, len);
	os_mutex_unlock(&d->lock);
	return v & ones(len);
}

void bus_write(struct bus *b, enum bus_kind kind, uint64_t addr, unsigned len, uint64_t val)
{
	unsigned region;
	uint64_t off;
	struct dev *d = claim(b, kind, addr, len, &region, &off);

	if (!d) {
		log_debug("bus", "nobody at %s %#llx (write of %u: %#llx)",
			kind == BUS_PORT ? "port" : "address", (unsigned long long)addr, len,
			(unsigned long long)val);
		return;
	}
	if (d->ops->write)
		d->ops->write(d, region, off, len, val & ones(len));
	os_mutex_unlock(&d->lock);
}
