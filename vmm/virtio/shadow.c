/* SPDX-License-Identifier: MIT */
/* The driver's half of a split ring (virtio 1.2 §2.7) in shared memory. See shadow.h. */
#include "vmm/virtio/shadow.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "lib/base/le.h"

enum { DESC_SIZE = 16, DESC_F_NEXT = 1, DESC_F_WRITE = 2, DESC_F_INDIRECT = 4, PAGE = 4096 };
enum { RING_FLAGS = 0, RING_IDX = 2, RING_ENTRIES = 4, AVAIL_ENTRY = 2, USED_ENTRY = 8 };
enum { USED_F_NO_NOTIFY = 1, TABLE_LEN = VRING_MAX_PIECES * DESC_SIZE };

enum slot_state { SLOT_FREE, SLOT_WAITING, SLOT_POSTED };

struct slot {
	enum slot_state state;
	struct vring_chain c;
};

struct shadow {
	uint8_t *desc, *avail, *used, *tables;
	uint64_t tables_gpa;
	unsigned size, n_free, in_flight;
	uint16_t avail_idx, used_idx;
	uint16_t *free; /* stack of free slots */
	struct slot *slot;
};

/* Descriptors, available ring, used ring, each on pages of its own; then an indirect table a slot. */
static size_t avail_off(unsigned size)
{
	return ALIGN_UP((size_t)vring_desc_len(size), (size_t)PAGE);
}

static size_t used_off(unsigned size)
{
	return avail_off(size) + ALIGN_UP((size_t)vring_avail_len(size), (size_t)PAGE);
}

static size_t tables_off(unsigned size)
{
	return used_off(size) + ALIGN_UP((size_t)vring_used_len(size), (size_t)PAGE);
}

size_t shadow_len(unsigned size)
{
	return tables_off(size) + ALIGN_UP((size_t)size * TABLE_LEN, (size_t)PAGE);
}

int shadow_new(struct shadow **ret, void *mem, uint64_t gpa, unsigned size)
{
	struct shadow *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->size = size;
	s->desc = mem;
	s->avail = s->desc + avail_off(size);
	s->used = s->desc + used_off(size);
	s->tables = s->desc + tables_off(size);
	s->tables_gpa = gpa + tables_off(size);
	s->free = calloc(size, sizeof(*s->free));
	s->slot = calloc(size, sizeof(*s->slot));
	if (!s->free || !s->slot) {
		shadow_free(s);
		return -ENOMEM;
	}
	for (unsigned i = 0; i < size; i++)
		s->free[s->n_free++] = (uint16_t)(size - 1 - i);
	shadow_restart(s);
	*ret = s;
	return 0;
}

void shadow_free(struct shadow *s)
{
	if (!s)
		return;
	free(s->free);
	free(s->slot);
	free(s);
}

struct shadow_parts shadow_parts(const struct shadow *s)
{
	return (struct shadow_parts){.desc = s->desc, .avail = s->avail, .used = s->used};
}

void shadow_restart(struct shadow *s)
{
	memset(s->avail, 0, (size_t)vring_avail_len(s->size));
	memset(s->used, 0, (size_t)vring_used_len(s->size));
	s->avail_idx = s->used_idx = 0;
	for (unsigned i = 0; i < s->size; i++)
		if (s->slot[i].state == SLOT_POSTED)
			s->slot[i].state = SLOT_WAITING;
}

static uint16_t number(const struct shadow *s, const struct vring_chain *c)
{
	return (uint16_t)(container_of((struct vring_chain *)(uintptr_t)c, struct slot, c) -
			  s->slot);
}

struct vring_chain *shadow_slot(struct shadow *s)
{
	return s->n_free ? &s->slot[s->free[s->n_free - 1]].c : NULL;
}

static void put_desc(uint8_t *at, uint64_t addr, size_t len, unsigned flags, unsigned next)
{
	le64_put(at, addr);
	le32_put(at + 8, (uint32_t)len);
	le16_put(at + 12, (uint16_t)flags);
	le16_put(at + 14, (uint16_t)next);
}

static void fill(struct shadow *s, unsigned i, const struct vring_chain *c)
{
	uint8_t *table = s->tables + (size_t)i * TABLE_LEN;
	unsigned n = (unsigned)c->n_rd + c->n_wr;

	for (unsigned k = 0; k < n; k++)
		put_desc(table + k * DESC_SIZE, c->addr[k], c->iov[k].iov_len,
			(k >= c->n_rd ? DESC_F_WRITE : 0) | (k + 1 < n ? DESC_F_NEXT : 0),
			k + 1 < n ? k + 1 : 0);
	/* A request without any bytes is one descriptor without bytes. */
	if (!n)
		put_desc(table, s->tables_gpa, 0, 0, 0);
	put_desc(s->desc + i * DESC_SIZE, s->tables_gpa + (uint64_t)i * TABLE_LEN,
		(n ? n : 1) * DESC_SIZE, DESC_F_INDIRECT, 0);
}

void shadow_post(struct shadow *s, const struct vring_chain *c)
{
	uint16_t i = number(s, c), entry = (uint16_t)(s->avail_idx & (s->size - 1));

	if (s->slot[i].state == SLOT_FREE) {
		s->n_free--; /* the one that shadow_slot() gave */
		s->in_flight++;
	}
	s->slot[i].state = SLOT_POSTED;
	fill(s, i, c);
	le16_put(s->avail + RING_ENTRIES + (size_t)entry * AVAIL_ENTRY, i);
	s->avail_idx++;
	__atomic_store_n(
		(uint16_t *)(void *)(s->avail + RING_IDX), htole16(s->avail_idx), __ATOMIC_RELEASE);
}

bool shadow_wants_kick(const struct shadow *s)
{
	/* Either the server sees the new index before it sleeps, or we see that it wants to be told. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return !(le16toh(__atomic_load_n((const uint16_t *)(const void *)(s->used + RING_FLAGS),
			 __ATOMIC_RELAXED)) &
		 USED_F_NO_NOTIFY);
}

static void release(struct shadow *s, unsigned i)
{
	s->slot[i].state = SLOT_FREE;
	s->free[s->n_free++] = (uint16_t)i;
	s->in_flight--;
}

int shadow_take(struct shadow *s, struct vring_chain **ret, uint32_t *written)
{
	const uint8_t *entry;
	uint16_t idx = le16toh(__atomic_load_n(
		(const uint16_t *)(const void *)(s->used + RING_IDX), __ATOMIC_ACQUIRE));
	uint32_t id, len;

	if (idx == s->used_idx)
		return 0;
	entry = s->used + RING_ENTRIES + (size_t)(s->used_idx & (s->size - 1)) * USED_ENTRY;
	id = __atomic_load_n((const uint32_t *)(const void *)entry, __ATOMIC_RELAXED);
	len = __atomic_load_n((const uint32_t *)(const void *)(entry + 4), __ATOMIC_RELAXED);
	id = le32toh(id);
	if (id >= s->size || s->slot[id].state != SLOT_POSTED)
		return -EPROTO;
	s->used_idx++;
	release(s, id);
	*ret = &s->slot[id].c;
	*written = le32toh(len);
	return 1;
}

struct vring_chain *shadow_in_flight(struct shadow *s, unsigned *i)
{
	while (*i < s->size) {
		struct slot *slot = &s->slot[(*i)++];

		if (slot->state != SLOT_FREE)
			return &slot->c;
	}
	return NULL;
}

void shadow_drop(struct shadow *s, const struct vring_chain *c)
{
	release(s, number(s, c));
}

unsigned shadow_count(const struct shadow *s)
{
	return s->in_flight;
}
