/* SPDX-License-Identifier: MIT */
/* See block.h. */
#include "vmm/cpu/soft/block.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "lib/os/mem.h"
#include "vmm/cpu/soft/bind.h"
#include "vmm/cpu/soft/direct/direct.h"
#include "vmm/cpu/soft/exec.h"
#include "vmm/cpu/soft/fuse.h"
#include "vmm/cpu/soft/jit/cache.h"
#include "vmm/cpu/soft/jit/jit.h"
#include "vmm/cpu/soft/mem.h"
#include "vmm/cpu/soft/mmu.h"

enum {
	HASH_BITS = 17,
	PAGE_HASH_BITS = 14,
	ARENA_SIZE = 64 << 20,
	MAX_REQUESTS = 1024,
	PROTECT_SINGLY = 4, /* more pages than this: everything at once */
	CROSS_SIZE = 256
};

/* A page with blocks. */
struct code_page {
	uint64_t gpa;
	uint64_t sum; /* of a window's page, when its first block was made */
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

/*
 * How vCPUs keep each other's blocks true. Who decodes the first block of a page marks the page, asks the others to
 * protect it (to give up writable TLB entries for it), and only then reads its bytes. One that is asked and may have
 * written to the page since it last gave it up answers by having the page's blocks dropped: they may have been decoded
 * from bytes older than its writes. It is not enough to look for a TLB entry then: a kernel that patches code flushes it
 * at once.
 */
enum request_kind { REQ_DROP, REQ_PROTECT };

struct soft_blocks {
	struct block *hash[1 << HASH_BITS];
	struct code_page *pages[1 << PAGE_HASH_BITS];
	struct cross cross[CROSS_SIZE];
	uint8_t *arena;
	size_t used;
	unsigned generation; /* of the arena's contents */
	struct insn step[2];

	/* One bit per page of RAM and, behind it, of windows: a writable TLB entry was made since the page was last protected. */
	uint64_t *written;
	size_t written_size; /* bytes */

	struct os_mutex lock; /* of what follows; any thread */
	struct requests {
		uint64_t page[MAX_REQUESTS];
		unsigned n;
		bool overflow;
	} drop, protect;
};

static struct block no_block = {.key = BLOCK_DROPPED};

static uint64_t all_pages(const struct soft_vm *vm)
{
	uint64_t n = vm->lo_size + vm->hi_size;

	for (size_t k = 0; k < vm->nwindows; k++)
		n += vm->windows[k].size;
	return n >> 12;
}

int soft_blocks_new(struct soft_vcpu *c)
{
	struct soft_blocks *b = calloc(1, sizeof(*b));
	void *arena, *written;
	int r;

	if (!b)
		return -ENOMEM;
	b->written_size = ALIGN_UP((all_pages(c->vm) + 64) / 8, os_page_size());
	r = os_mem_map(b->written_size, OS_PROT_R | OS_PROT_W, &written);
	if (r < 0) {
		free(b);
		return r;
	}
	r = os_mem_map(ARENA_SIZE, OS_PROT_R | OS_PROT_W, &arena);
	if (r < 0) {
		os_mem_unmap(written, b->written_size);
		free(b);
		return r;
	}
	os_mem_large(arena, ARENA_SIZE);
	b->written = written;
	b->arena = arena;
	c->jit_insns = arena;
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
	os_mem_unmap(c->blocks->written, c->blocks->written_size);
	free(c->blocks);
	c->blocks = NULL;
}

/* The page's number among those of RAM and windows. */
static uint64_t ram_page(const struct soft_vm *vm, uint64_t gpa)
{
	uint64_t n = vm->lo_size + vm->hi_size;

	if (gpa < vm->lo_size)
		return gpa >> 12;
	if (gpa - GMEM_HOLE_END < vm->hi_size)
		return (gpa - GMEM_HOLE_END + vm->lo_size) >> 12;
	for (size_t k = 0; k < vm->nwindows; n += vm->windows[k++].size)
		if (gpa - vm->windows[k].gpa < vm->windows[k].size)
			return (n + (gpa - vm->windows[k].gpa)) >> 12;
	return n >> 12; /* room is left for one more */
}

/* True: there may have been writable TLB entries for the page since the last time. */
static bool forget_written(struct soft_vcpu *c, uint64_t gpa)
{
	uint64_t n = ram_page(c->vm, gpa), bit = BIT(n % 64);

	if (!(c->blocks->written[n / 64] & bit))
		return false;
	c->blocks->written[n / 64] &= ~bit;
	return true;
}

/* Gives up writable TLB entries for the page; returns the same. */
static bool protect(struct soft_vcpu *c, uint64_t gpa)
{
	if (!forget_written(c, gpa))
		return false;
	soft_tlb_protect(c, gpa);
	return true;
}

void soft_blocks_drop_all(struct soft_vcpu *c)
{
	struct soft_blocks *b = c->blocks;

	memset(b->hash, 0, sizeof(b->hash));
	memset(b->pages, 0, sizeof(b->pages));
	b->used = 0;
	b->generation++;
	soft_jit_flush(c);
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

static void request(struct soft_vcpu *v, enum request_kind kind, uint64_t page)
{
	struct soft_blocks *b = v->blocks;
	struct requests *q = kind == REQ_DROP ? &b->drop : &b->protect;

	os_mutex_lock(&b->lock);
	if (q->n < MAX_REQUESTS)
		q->page[q->n++] = page;
	else
		q->overflow = true;
	os_mutex_unlock(&b->lock);
	/* Not soft_post(): one that sleeps need not wake for it, it looks before it executes. */
	atomic_fetch_or(&v->events, EV_CODE);
	if (v->direct)
		soft_direct_interrupt(v);
}

static void request_others(
	struct soft_vm *vm, struct soft_vcpu *c, enum request_kind kind, uint64_t page)
{
	for (unsigned n = 0; n < vm->nvcpus; n++)
		if (vm->vcpu[n] && vm->vcpu[n] != c)
			request(vm->vcpu[n], kind, page);
}

static void drop_page(struct soft_vcpu *c, uint64_t gpa)
{
	struct soft_blocks *b = c->blocks;
	struct code_page *p = find_page(b, gpa);

	soft_direct_code_gone(c, gpa);
	if (!p)
		return;
	for (struct block *k = p->first; k; k = k->page_next) {
		struct block **at = hash_slot(b, k->key);

		while (*at != k)
			at = &(*at)->hash_next;
		*at = k->hash_next;
		if (k->ops)
			soft_jit_drop(c, k);
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

/* The page is no code any more, which all but c have to be told. */
static void clear_code(struct soft_vm *vm, struct soft_vcpu *c, uint64_t gpa)
{
	atomic_fetch_add(&vm->code_posting, 1);
	gmem_clear_code(vm->gm, gpa);
	request_others(vm, c, REQ_DROP, gpa);
	atomic_fetch_sub(&vm->code_posting, 1);
}

void soft_code_written(struct soft_vcpu *c, uint64_t gpa)
{
	gpa &= ~0xfffull;
	drop_page(c, gpa);
	clear_code(c->vm, c, gpa);
}

void soft_code_hook(void *vm, gpa_t page)
{
	clear_code(vm, NULL, page);
}

void soft_code_may_write(struct soft_vcpu *c, uint64_t gpa)
{
	uint64_t n = ram_page(c->vm, gpa);
	const struct code_page *p = find_page(c->blocks, gpa & ~0xfffull);

	c->blocks->written[n / 64] |= BIT(n % 64);
	/*
	 * Another vCPU may have cleared the mark, its requests may not be posted yet, and those to us wait until we look. What we
	 * decoded ourselves has to go now.
	 */
	if (unlikely(gmem_is_code(c->vm->gm, gpa) || (p && p->first) ||
		     atomic_load(&c->vm->code_posting)))
		soft_code_written(c, gpa);
}

static void take_requests(struct soft_blocks *b, struct requests *q, struct requests *ret)
{
	os_mutex_lock(&b->lock);
	ret->n = q->n;
	ret->overflow = q->overflow;
	memcpy(ret->page, q->page, q->n * sizeof(q->page[0]));
	q->n = 0;
	q->overflow = false;
	os_mutex_unlock(&b->lock);
}

static void protect_region(struct soft_vcpu *c, const struct gmem_region *r)
{
	for (uint64_t off = 0; off < r->size; off += 4096) {
		uint64_t gpa = r->gpa + off, n = ram_page(c->vm, gpa);

		if (n % 64 == 0 && !c->blocks->written[n / 64])
			off += 63ull << 12; /* none of these */
		else if (gmem_is_code(c->vm->gm, gpa) && forget_written(c, gpa))
			soft_code_written(c, gpa);
	}
}

/* Which pages others began to execute is lost: looks at all that this vCPU may have written to. */
static void protect_all(struct soft_vcpu *c)
{
	const struct gmem_region *regions;
	size_t n = gmem_regions(c->vm->gm, &regions);

	soft_tlb_protect_all(c);
	for (size_t k = 0; k < n; k++)
		protect_region(c, &regions[k]);
	for (size_t k = 0; k < c->vm->nwindows; k++)
		protect_region(c, &c->vm->windows[k]);
}

void soft_code_requests(struct soft_vcpu *c)
{
	struct soft_blocks *b = c->blocks;
	struct requests q;

	take_requests(b, &b->drop, &q);
	if (q.overflow) {
		soft_blocks_drop_all(c);
		soft_direct_reset(c);
	}
	for (unsigned k = 0; k < q.n && !q.overflow; k++)
		drop_page(c, q.page[k]);
	take_requests(b, &b->protect, &q);
	if (q.overflow)
		protect_all(c);
	else if (q.n > PROTECT_SINGLY)
		soft_tlb_protect_all(c);
	for (unsigned k = 0; k < q.n && !q.overflow; k++)
		if (q.n > PROTECT_SINGLY ? forget_written(c, q.page[k]) : protect(c, q.page[k]))
			soft_code_written(c, q.page[k]);
}

/* The first block in a page: from now on writes to it must be seen. Before its bytes are read. */
static void mark_page(struct soft_vcpu *c, uint64_t gpa)
{
	if (!gmem_is_code(c->vm->gm, gpa)) {
		gmem_mark_code(c->vm->gm, gpa);
		request_others(c->vm, c, REQ_PROTECT, gpa);
	}
	/* Bytes that others decoded may be older than our writes. */
	if (protect(c, gpa))
		request_others(c->vm, c, REQ_DROP, gpa);
}

void soft_code_copied(struct soft_vcpu *c, uint64_t gpa)
{
	mark_page(c, gpa);
	/* Pairs with gmem_mark_dirty(): the mark first, then the bytes. */
	atomic_thread_fence(memory_order_seq_cst);
}

/* Of a window's page; those of RAM need none. */
static uint64_t sum_of(const struct soft_vcpu *c, uint64_t gpa)
{
	const guest_u64 *p = soft_is_ram(c->vm, gpa) ? NULL : soft_ram(c->vm, gpa);
	uint64_t sum = 0;

	for (unsigned n = 0; p && n < 512; n++) {
		sum = (sum ^ p[n]) * 0x9e3779b97f4a7c15ull;
		sum ^= sum >> 32;
	}
	return sum;
}

void soft_code_fetched(struct soft_vcpu *c, uint64_t gpa)
{
	const struct code_page *p = soft_is_ram(c->vm, gpa) ? NULL : find_page(c->blocks, gpa);

	if (p && p->first && p->sum != sum_of(c, gpa))
		soft_code_written(c, gpa);
}

static struct code_page *get_page(struct soft_vcpu *c, uint64_t gpa)
{
	struct soft_blocks *b = c->blocks;
	struct code_page *p = find_page(b, gpa), **slot;

	if (p) {
		if (!p->first) {
			mark_page(c, gpa);
			p->sum = sum_of(c, gpa);
		}
		return p;
	}
	mark_page(c, gpa);
	slot = page_slot(b, gpa);
	p = arena_alloc(b, sizeof(*p));
	*p = (struct code_page){.gpa = gpa, .sum = sum_of(c, gpa), .hash_next = *slot};
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

/* Decodes [off, page end) of the page at hva; max instructions at most. op may be NULL. false: the first one
 * crosses the page. */
static bool build(struct soft_vcpu *c, struct insn *out, struct jit_op *op, const uint8_t *hva,
	unsigned off, unsigned max)
{
	struct insn *i = out;
	unsigned start = off;
	struct dec d;

	for (;;) {
		int len = off < 4096 ? soft_decode(&d, hva + off, 4096 - off, c->mode) : DEC_MORE;

		if (len == DEC_MORE) {
			if (off == start)
				return false;
			if (off < 4096) {
				*i = (struct insn){.fn = soft_h_exit, .off = (uint16_t)off};
				return true;
			}
			break;
		}
		soft_bind(i, &d, len, off);
		off += i->len;
		if (i->fn == soft_h_nop && max > 1)
			continue;
		if (op)
			op[i - out] = (struct jit_op){.map = d.map,
				.op = d.op,
				.reg = d.reg,
				.known = len > 0,
				.pfx = d.pfx,
				.rex = d.rex,
				.modrm = d.modrm,
				.imm8 = (uint8_t)d.imm};
		if (soft_ends_block(i++))
			break;
		if ((unsigned)(i - out) >= max)
			break;
	}
	end_block(i, off);
	return true;
}

static struct cross *cross_slot(struct soft_vcpu *c, uint64_t lin)
{
	return &c->blocks->cross[lin >> 12 & (CROSS_SIZE - 1)];
}

static const struct insn *cross_page(
	struct soft_vcpu *c, uint64_t lin, uint64_t gpa, const uint8_t *hva)
{
	struct cross *x = cross_slot(c, lin);
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

/* Notes what the translator needs, and has the block's executions counted. Other modes stay the interpreter's. */
static void add_ops(struct soft_vcpu *c, struct block *k, const struct jit_op *op, unsigned n)
{
	struct jit_ops *o;

	if (c->mode != MODE_64)
		return;
	o = arena_alloc(c->blocks, sizeof(*o) + n * sizeof(o->op[0]));
	*o = (struct jit_ops){.hot = c->jit->threshold, .n = (uint16_t)n};
	memcpy(o->op, op, n * sizeof(*op));
	o->op[n - 1].known = false;
	for (unsigned i = 0; i < n; i++) {
		o->op[i].fn = k->insns[i].fn;
		if (o->op[i].fn == soft_h_ud)
			o->op[i].known = false;
	}
	k->ops = o;
	if (!soft_is_tail(&k->insns[0]))
		k->insns[0].fn = soft_jit_count;
}

static const struct block *make(
	struct soft_vcpu *c, uint64_t key, const struct tlbx *x, unsigned off)
{
	struct soft_blocks *b = c->blocks;
	struct insn tmp[BLOCK_MAX_INSNS + 1];
	struct jit_op op[BLOCK_MAX_INSNS + 1];
	struct code_page *p;
	struct block *k, **slot;
	size_t n = 0;

	if (b->used + sizeof(tmp) + sizeof(op) + sizeof(*k) + sizeof(*p) + 256 > ARENA_SIZE)
		soft_blocks_drop_all(c);
	p = get_page(c, x->gpa);
	if (!build(c, tmp, c->jit ? op : NULL, x->hva, off, BLOCK_MAX_INSNS))
		return NULL;
	while (tmp[n].fn != soft_h_goto_in && tmp[n].fn != soft_h_goto_out &&
		tmp[n].fn != soft_h_exit)
		soft_fuse(&tmp[n++]);
	n++;
	k = arena_alloc(b, sizeof(*k) + n * sizeof(k->insns[0]));
	memcpy(k->insns, tmp, n * sizeof(k->insns[0]));
	k->key = key;
	k->ops = NULL;
	if (c->jit)
		add_ops(c, k, op, (unsigned)n);
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

	/* It did when it was decoded last. cross_page() sees whether it is still the same. */
	if (off > 4096 - DEC_MAX_LEN && cross_slot(c, lin)->lin == lin)
		return NULL;
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
		i = cross_page(c, lin, x->gpa, x->hva);
	c->ip_base = c->rip - (lin & 0xfff);
	return i;
}

const struct insn *soft_block_step(struct soft_vcpu *c)
{
	uint64_t lin = fetch_start(c);
	const struct tlbx *x = soft_fetch_fill(c, lin);
	const struct insn *i = c->blocks->step;

	if (!build(c, c->blocks->step, NULL, x->hva, lin & 0xfff, 1))
		i = cross_page(c, lin, x->gpa, x->hva);
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
