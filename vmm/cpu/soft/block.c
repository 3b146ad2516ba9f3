/* SPDX-License-Identifier: MIT */
/* See block.h. */
#include "vmm/cpu/soft/block.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "lib/os/mem.h"
#include "vmm/cpu/soft/bind.h"
#include "vmm/cpu/soft/exec.h"
#include "vmm/cpu/soft/mem.h"
#include "vmm/cpu/soft/mmu.h"

enum {
	HASH_BITS = 15,
	PAGE_HASH_BITS = 12,
	ARENA_SIZE = 64 << 20,
	MAX_REQUESTS = 1024,
	CROSS_SIZE = 256
};

/* A page with blocks. */
struct code_page {
	uint64_t gpa;
	struct block *first;
	struct code_page *hash_next;
};

/*
 * An instruction that crosses a page: found by its linear address and its first byte's physical page
 * (which its links depend on), its bytes compared at every use.
 */
struct cross {
	uint64_t lin; /* ~0: unused */
	uint64_t gpa;
	uint8_t mode, len;
	uint8_t bytes[DEC_MAX_LEN];
	struct insn insns[2];
};

enum { REQ_DROP = 0, REQ_PROTECT = 1 }; /* in bit 0 of a request; the page above */

struct soft_blocks {
	struct block *hash[1 << HASH_BITS];
	struct code_page *pages[1 << PAGE_HASH_BITS];
	struct cross cross[CROSS_SIZE];
	uint8_t *arena;
	size_t used;
	unsigned generation; /* of the arena's contents */
	struct insn step[2];

	struct os_mutex lock; /* of what follows; any thread */
	uint64_t req[MAX_REQUESTS];
	unsigned nreq;
	bool req_overflow;
};

static struct block no_block = {.key = BLOCK_DROPPED};

int soft_blocks_new(struct soft_vcpu *c)
{
	struct soft_blocks *b = calloc(1, sizeof(*b));
	void *arena;
	int r;

	if (!b)
		return -ENOMEM;
	r = os_mem_map(ARENA_SIZE, OS_PROT_R | OS_PROT_W, &arena);
	if (r < 0) {
		free(b);
		return r;
	}
	b->arena = arena;
	os_mutex_init(&b->lock);
	c->blocks = b;
	soft_blocks_drop_all(c);
	return 0;
}

void soft_blocks_free(struct soft_vcpu *c)
{
	if (!c->blocks)
		return;
	os_mutex_done(&c->blocks->lock);
	os_mem_unmap(c->blocks->arena, ARENA_SIZE);
	free(c->blocks);
	c->blocks = NULL;
}

void soft_blocks_drop_all(struct soft_vcpu *c)
{
	struct soft_blocks *b = c->blocks;

	memset(b->hash, 0, sizeof(b->hash));
	memset(b->pages, 0, sizeof(b->pages));
	b->used = 0;
	b->generation++;
	for (unsigned n = 0; n < JC_SIZE; n++)
		c->jump_cache[n] = &no_block;
	for (unsigned n = 0; n < CROSS_SIZE; n++)
		b->cross[n].lin = ~0ull;
}

static void *arena_alloc(struct soft_blocks *b, size_t size)
{
	void *p = b->arena + b->used;

	b->used += ALIGN_UP(size, 32);
	return p;
}

static struct block **hash_slot(struct soft_blocks *b, uint64_t key)
{
	return &b->hash[(key ^ key >> HASH_BITS ^ key >> 41) & ((1 << HASH_BITS) - 1)];
}

static struct code_page **page_slot(struct soft_blocks *b, uint64_t gpa)
{
	return &b->pages[(gpa >> 12) & ((1 << PAGE_HASH_BITS) - 1)];
}

static struct code_page *find_page(struct soft_blocks *b, uint64_t gpa)
{
	struct code_page *p = *page_slot(b, gpa);

	while (p && p->gpa != gpa)
		p = p->hash_next;
	return p;
}

static void request(struct soft_vcpu *v, uint64_t req)
{
	struct soft_blocks *b = v->blocks;

	os_mutex_lock(&b->lock);
	if (b->nreq < MAX_REQUESTS)
		b->req[b->nreq++] = req;
	else
		b->req_overflow = true;
	os_mutex_unlock(&b->lock);
	/* A sleeping vCPU executes nothing: it looks when it wakes up. */
	atomic_fetch_or(&v->events, EV_CODE);
}

static void request_others(struct soft_vm *vm, struct soft_vcpu *c, uint64_t req)
{
	for (unsigned n = 0; n < vm->nvcpus; n++)
		if (vm->vcpu[n] && vm->vcpu[n] != c)
			request(vm->vcpu[n], req);
}

static void drop_page(struct soft_vcpu *c, uint64_t gpa)
{
	struct soft_blocks *b = c->blocks;
	struct code_page *p = find_page(b, gpa);

	if (!p)
		return;
	for (struct block *k = p->first; k; k = k->page_next) {
		struct block **at = hash_slot(b, k->key);

		while (*at != k)
			at = &(*at)->hash_next;
		*at = k->hash_next;
		k->key = BLOCK_DROPPED;
		for (struct insn *i = k->insns;; i++) {
			bool last = soft_is_tail(i);

			i->fn = soft_h_exit;
			if (last)
				break;
		}
	}
	p->first = NULL;
}

void soft_code_written(struct soft_vcpu *c, uint64_t gpa)
{
	gpa &= ~0xfffull;
	gmem_clear_code(c->vm->gm, gpa);
	drop_page(c, gpa);
	request_others(c->vm, c, gpa | REQ_DROP);
}

void soft_code_hook(void *vm, gpa_t page)
{
	struct soft_vm *m = vm;

	gmem_clear_code(m->gm, page);
	request_others(m, NULL, page | REQ_DROP);
}

void soft_code_requests(struct soft_vcpu *c)
{
	struct soft_blocks *b = c->blocks;
	uint64_t req[MAX_REQUESTS];
	unsigned n;
	bool overflow;

	os_mutex_lock(&b->lock);
	n = b->nreq;
	memcpy(req, b->req, n * sizeof(req[0]));
	overflow = b->req_overflow;
	b->nreq = 0;
	b->req_overflow = false;
	os_mutex_unlock(&b->lock);
	if (overflow) {
		/* Which pages is lost: forget every translation and every right to write past the
		 * slow path. */
		tlb_flush_all(c);
		soft_blocks_drop_all(c);
		return;
	}
	for (unsigned k = 0; k < n; k++) {
		uint64_t page = req[k] & ~0xfffull;

		if ((req[k] & 0xfff) == REQ_DROP)
			drop_page(c, page);
		else if (soft_tlb_protect(c, page))
			/* Bytes may have changed after the other vCPU decoded them. */
			soft_code_written(c, page);
	}
}

/* The first block in a page: from now on writes to it must be seen. Before its bytes are read. */
static void mark_page(struct soft_vcpu *c, uint64_t gpa)
{
	if (!gmem_is_code(c->vm->gm, gpa)) {
		gmem_mark_code(c->vm->gm, gpa);
		request_others(c->vm, c, gpa | REQ_PROTECT);
	}
	/* Bytes that others decoded may be older than our writes. */
	if (soft_tlb_protect(c, gpa))
		request_others(c->vm, c, gpa | REQ_DROP);
}

static struct code_page *get_page(struct soft_vcpu *c, uint64_t gpa)
{
	struct soft_blocks *b = c->blocks;
	struct code_page *p = find_page(b, gpa), **slot;

	if (p) {
		if (!p->first)
			mark_page(c, gpa);
		return p;
	}
	mark_page(c, gpa);
	slot = page_slot(b, gpa);
	p = arena_alloc(b, sizeof(*p));
	*p = (struct code_page){.gpa = gpa, .hash_next = *slot};
	*slot = p;
	return p;
}

/* The pseudo-instruction that goes on at page offset off. */
static void end_block(struct insn *i, unsigned off)
{
	*i = (struct insn){
		.fn = off < 4096 ? soft_h_goto_in : soft_h_goto_out, .disp = (int32_t)off};
	i->off = (uint16_t)off;
}

/* Faults in fetching belong to the instruction that is fetched. */
static void fetch_begins(struct soft_vcpu *c)
{
	static const struct insn at[1];

	c->ip_base = c->rip;
	c->cur = at;
}

/* Decodes [off, page end) of the page at hva; n instructions at most. false: the first one crosses
 * the page. */
static bool build(
	struct soft_vcpu *c, struct insn *out, const uint8_t *hva, unsigned off, unsigned max)
{
	struct insn *i = out;
	struct dec d;

	for (;;) {
		int len = off < 4096 ? soft_decode(&d, hva + off, 4096 - off, c->mode) : DEC_MORE;

		if (len == DEC_MORE) {
			if (i == out)
				return false;
			if (off < 4096) {
				*i = (struct insn){.fn = soft_h_exit, .off = (uint16_t)off};
				return true;
			}
			break;
		}
		soft_bind(i, &d, len, off);
		off += i->len;
		if (soft_ends_block(i++))
			break;
		if ((unsigned)(i - out) >= max)
			break;
	}
	end_block(i, off);
	return true;
}

static const struct insn *cross_page(
	struct soft_vcpu *c, uint64_t lin, struct cross *x, uint64_t gpa, const uint8_t *hva)
{
	uint8_t bytes[2 * DEC_MAX_LEN] = {0};
	unsigned first = 4096 - (unsigned)(lin & 0xfff), n = first;
	struct dec d;
	int len;

	memcpy(bytes, hva + (lin & 0xfff), first);
	if (x->lin == lin && x->gpa == gpa && x->mode == c->mode &&
		!memcmp(bytes, x->bytes, MIN(first, x->len))) {
		const struct tlbx *t = soft_fetch_fill(c, lin + first);

		if (!memcmp(t->hva, x->bytes + first, x->len - first))
			return x->insns;
	}
	len = soft_decode(&d, bytes, first, c->mode);
	if (len == DEC_MORE) {
		uint64_t next = lin + first;

		if (c->mode != MODE_64)
			next = (uint32_t)next;
		memcpy(bytes + first, soft_fetch_fill(c, next)->hva, DEC_MAX_LEN);
		n = first + DEC_MAX_LEN;
		len = soft_decode(&d, bytes, MIN(n, DEC_MAX_LEN), c->mode);
	}
	soft_bind(&x->insns[0], &d, len, lin & 0xfff);
	end_block(&x->insns[1], (unsigned)(lin & 0xfff) + x->insns[0].len);
	x->lin = ~0ull;
	if (len > (int)first) {
		x->lin = lin;
		x->gpa = gpa;
		x->mode = c->mode;
		x->len = (uint8_t)len;
		memcpy(x->bytes, bytes, x->len);
	}
	return x->insns;
}

static uint64_t fetch_start(struct soft_vcpu *c)
{
	uint64_t lin;

	if (c->mode != MODE_64)
		c->rip = (uint32_t)c->rip;
	lin = c->rip + c->segbase[SEG_CS];
	if (c->mode != MODE_64)
		lin = (uint32_t)lin;
	fetch_begins(c);
	return lin;
}

static const struct block *make(
	struct soft_vcpu *c, uint64_t key, const struct tlbx *x, unsigned off)
{
	struct soft_blocks *b = c->blocks;
	struct insn tmp[BLOCK_MAX_INSNS + 1];
	struct code_page *p;
	struct block *k, **slot;
	size_t n = 0;

	if (b->used + sizeof(tmp) + sizeof(*k) + sizeof(*p) + 64 > ARENA_SIZE)
		soft_blocks_drop_all(c);
	p = get_page(c, x->gpa);
	if (!build(c, tmp, x->hva, off, BLOCK_MAX_INSNS))
		return NULL;
	while (tmp[n].fn != soft_h_goto_in && tmp[n].fn != soft_h_goto_out &&
		tmp[n].fn != soft_h_exit)
		n++;
	n++;
	k = arena_alloc(b, sizeof(*k) + n * sizeof(k->insns[0]));
	memcpy(k->insns, tmp, n * sizeof(k->insns[0]));
	k->key = key;
	slot = hash_slot(b, key);
	k->hash_next = *slot;
	*slot = k;
	k->page_next = p->first;
	p->first = k;
	return k;
}

/* The block for the fetch at lin; NULL: its first instruction crosses the page. */
static const struct block *find_or_make(struct soft_vcpu *c, uint64_t lin, const struct tlbx *x)
{
	unsigned off = lin & 0xfff;
	uint64_t key = soft_block_key(x->gpa | off, c->mode);
	const struct block **jc = soft_jump_cache(c, key);
	struct block *k;

	if ((*jc)->key == key)
		return *jc;
	for (k = *hash_slot(c->blocks, key); k; k = k->hash_next)
		if (k->key == key)
			break;
	if (!k) {
		const struct block *made = make(c, key, x, off);

		if (!made)
			return NULL;
		return *jc = made;
	}
	return *jc = k;
}

const struct insn *soft_block_get(struct soft_vcpu *c)
{
	uint64_t lin = fetch_start(c);
	const struct tlbx *x = soft_fetch_fill(c, lin);
	const struct block *k = find_or_make(c, lin, x);
	const struct insn *i;

	if (k)
		i = k->insns;
	else
		i = cross_page(
			c, lin, &c->blocks->cross[(lin >> 12) & (CROSS_SIZE - 1)], x->gpa, x->hva);
	c->ip_base = c->rip - (lin & 0xfff);
	return i;
}

const struct insn *soft_block_step(struct soft_vcpu *c)
{
	uint64_t lin = fetch_start(c);
	const struct tlbx *x = soft_fetch_fill(c, lin);
	struct soft_blocks *b = c->blocks;
	const struct insn *i = b->step;

	if (!build(c, b->step, x->hva, lin & 0xfff, 1))
		i = cross_page(c, lin, &b->cross[(lin >> 12) & (CROSS_SIZE - 1)], x->gpa, x->hva);
	c->ip_base = c->rip - (lin & 0xfff);
	return i;
}

const struct insn *soft_link(struct soft_vcpu *c, const struct insn *i)
{
	unsigned generation = c->blocks->generation;
	uint64_t lin;
	const struct block *k;

	c->rip = c->ip_base + (uint64_t)(int64_t)i->disp;
	lin = fetch_start(c);
	k = find_or_make(c, lin, soft_fetch_fill(c, lin));
	c->ip_base = c->rip - (lin & 0xfff);
	if (!k)
		return NULL;
	if (generation == c->blocks->generation)
		((struct insn *)(uintptr_t)i)->link = k;
	return k->insns;
}
