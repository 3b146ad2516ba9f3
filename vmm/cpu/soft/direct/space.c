/* SPDX-License-Identifier: MIT */
/* See space.h. */
#include "vmm/cpu/soft/direct/space.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "lib/os/mem.h"
#include "vmm/core/gmem.h"
#include "vmm/cpu/soft/block.h"
#include "vmm/cpu/soft/direct/taint.h"
#include "vmm/cpu/soft/lapic.h"
#include "vmm/cpu/soft/mmu.h"

enum {
	LARGE = 2 << 20,
	MAX_REGIONS = 1024,
	HASH_SIZE = 4096,
	WINDOW = 64, /* pages that are mapped together when one is asked for */
	MAX_MAPPINGS =
		30000, /* of the host kernel's limit of 65530 a process; each may split others */
};

/*
 * 2 MiB of addresses: those under one page table, or one large page. had[]: the entry that each mapped page was made of, 0: not mapped;
 * of its W and D bits only what the stub may use.
 */
struct region {
	uint64_t va;
	uint64_t *pde, pde_had;
	uint64_t rights; /* of the levels above, as struct walk's */
	bool nx;
	bool large;   /* had[0] is the page's */
	bool tainted; /* large: not to be executed */
	uint64_t *pt;
	uint64_t had[512];
};

#define GONE 1ull

struct space {
	struct stub *stub;
	struct region *region;
	uint64_t *writable; /* a bit a page of RAM: it may be writable */
	size_t size;	    /* of both, in bytes */
	unsigned n, mappings;
	uint16_t hash[HASH_SIZE]; /* index + 1 */
	unsigned copies;
	uint64_t copy[STUB_COPIES]; /* GPA that each was made of; GONE: of none any more */
};

int space_new(struct space **ret, struct stub *s, uint64_t ram_pages)
{
	struct space *sp = calloc(1, sizeof(*sp));
	void *p;

	if (!sp)
		return -ENOMEM;
	/* Takes memory when it is touched. */
	sp->size = ALIGN_UP(MAX_REGIONS * sizeof(struct region) + ram_pages / 8 + 8, 4096);
	if (os_mem_map(sp->size, OS_PROT_R | OS_PROT_W, &p) < 0) {
		free(sp);
		return -ENOMEM;
	}
	sp->stub = s;
	sp->region = p;
	sp->writable = (uint64_t *)(sp->region + MAX_REGIONS);
	*ret = sp;
	return 0;
}

void space_free(struct space *sp)
{
	if (!sp)
		return;
	os_mem_unmap(sp->region, sp->size);
	free(sp);
}

static void unmap_region(struct space *sp, const struct region *r)
{
	unsigned mappings = 0;

	for (unsigned n = 0; n < 512; n++)
		mappings += r->had[n] != 0;
	if (mappings)
		stub_unmap(sp->stub, r->va, LARGE, mappings);
}

void space_clear(struct space *sp)
{
	for (unsigned n = 0; n < sp->n; n++)
		if (sp->region[n].pde)
			unmap_region(sp, &sp->region[n]);
	memset(sp->hash, 0, sizeof(sp->hash));
	sp->n = sp->mappings = sp->copies = 0;
}

static uint16_t *hash_slot(struct space *sp, uint64_t va)
{
	unsigned h = (unsigned)((va >> 21) * 0x9e3779b97f4a7c15ull >> 52);

	while (sp->hash[h] && sp->region[sp->hash[h] - 1].va != va)
		h = (h + 1) % HASH_SIZE;
	return &sp->hash[h];
}

/* What of an entry must stay as it is. */
#define SAME (PTE_P | PTE_U | PTE_A | PTE_ADDR)

/* The page table's entry allows less than what is mapped, or something else. */
static inline bool is_stale(uint64_t had, uint64_t now)
{
	return ((had ^ now) & SAME) | (had & ~now & (PTE_W | PTE_D)) | (~had & now & PTE_NX);
}

static uint64_t load(const uint64_t *p)
{
	return __atomic_load_n(p, __ATOMIC_RELAXED);
}

/* The levels above a region: false when there is nothing any more. */
struct upper {
	uint64_t va; /* of the 1 GiB that is known; 1: none */
	uint64_t *pd;
	uint64_t rights;
	bool nx;
};

static bool upper(struct upper *u, struct soft_vcpu *c, uint64_t va)
{
	uint64_t at = va & ~((1ull << 30) - 1), table = c->cr3 & PTE_ADDR;

	if (u->va == at)
		return u->pd;
	*u = (struct upper){.va = at, .rights = PTE_W | PTE_U};
	for (int level = 3; level >= 2; level--) {
		uint64_t *p = soft_ram(c->vm, table + ((va >> (12 + 9 * level) & 511) << 3)),
			 e = p ? load(p) : 0;

		if (!(e & PTE_P) || (e & PTE_PS))
			return false;
		u->rights &= e;
		u->nx |= e >> 63;
		table = e & PTE_ADDR;
	}
	u->pd = soft_ram(c->vm, table);
	return u->pd;
}

static void forget(struct region *r)
{
	memset(r->had, 0, sizeof(r->had));
	r->pde = NULL;
	r->tainted = false;
}

static void drop_region(struct space *sp, struct region *r)
{
	if (!r->pde)
		return;
	unmap_region(sp, r);
	forget(r);
}

static bool region_moved(struct region *r, struct upper *u, struct soft_vcpu *c)
{
	uint64_t *pde;

	if (!upper(u, c, r->va))
		return true;
	pde = u->pd + (r->va >> 21 & 511);
	return pde != r->pde || u->nx != r->nx || r->rights != u->rights ||
	       is_stale(r->pde_had, load(pde)) || ((r->pde_had ^ load(pde)) & PTE_PS) ||
	       (!r->large && (r->pde_had ^ load(pde)) & PTE_W);
}

static void flush_region(struct space *sp, struct region *r)
{
	unsigned first = 512;

	for (unsigned n = 0; n <= 512; n++) {
		bool stale = n < 512 && r->had[n] && is_stale(r->had[n], load(&r->pt[n]));

		if (stale) {
			r->had[n] = 0;
			if (first == 512)
				first = n;
		} else if (first < 512 && (n == 512 || r->had[n])) {
			/* What lies between stale ones and is not mapped is unmapped with them. */
			stub_unmap(sp->stub, r->va + first * 4096ull, (uint64_t)(n - first) * 4096,
				n - first);
			first = 512;
		}
	}
}

bool space_flush(struct space *sp, struct soft_vcpu *c)
{
	struct upper u = {.va = 1};
	bool any = false;

	for (unsigned n = 0; n < sp->n; n++) {
		struct region *r = &sp->region[n];

		if (!r->pde)
			continue;
		if (region_moved(r, &u, c)) {
			drop_region(sp, r);
			continue;
		}
		any = true;
		if (!r->large)
			flush_region(sp, r);
	}
	return any || !sp->n;
}

static struct region *find(struct space *sp, uint64_t lin)
{
	uint16_t *h = hash_slot(sp, lin & ~(uint64_t)(LARGE - 1));
	struct region *r = *h ? &sp->region[*h - 1] : NULL;

	return r && r->pde ? r : NULL;
}

void space_flush_page(struct space *sp, struct soft_vcpu *c, uint64_t lin)
{
	struct upper u = {.va = 1};
	struct region *r = find(sp, lin);
	unsigned n = lin >> 12 & 511;

	if (!r)
		return;
	if (region_moved(r, &u, c)) {
		drop_region(sp, r);
	} else if (!r->large && r->had[n] && is_stale(r->had[n], load(&r->pt[n]))) {
		stub_unmap(sp->stub, lin & ~4095ull, 4096, 1);
		r->had[n] = 0;
	}
}

static uint64_t offset_of(const struct soft_vm *vm, uint64_t gpa)
{
	return gpa < vm->lo_size ? gpa : vm->lo_size + (gpa - GMEM_HOLE_END);
}

/* Where the page of RAM is mapped, with PTE_W or without. */
static void unmap_page(struct space *sp, struct region *r, uint64_t gpa, uint64_t write)
{
	for (unsigned n = 0; n < 512; n++)
		if (r->had[n] && (r->had[n] & (PTE_ADDR | PTE_W)) == (gpa | write)) {
			stub_unmap(sp->stub, r->va + n * 4096ull, 4096, 1);
			r->had[n] = 0;
		}
}

void space_protect(struct space *sp, struct soft_vcpu *c, uint64_t gpa)
{
	uint64_t page = offset_of(c->vm, gpa) >> 12;

	if (!soft_is_ram(c->vm, gpa) || !(sp->writable[page / 64] & BIT(page % 64)))
		return;
	sp->writable[page / 64] &= ~BIT(page % 64);
	for (unsigned k = 0; k < sp->n; k++) {
		struct region *r = &sp->region[k];

		if (!r->pde)
			continue;
		if (r->large) {
			if (r->had[0] & PTE_W &&
				(r->had[0] & PTE_ADDR) == (gpa & ~(uint64_t)(LARGE - 1)))
				drop_region(sp, r);
			continue;
		}
		unmap_page(sp, r, gpa, PTE_W);
	}
}

void space_code_gone(struct space *sp, uint64_t gpa)
{
	for (unsigned n = 0; n < sp->copies; n++) {
		if (sp->copy[n] != gpa)
			continue;
		sp->copy[n] = GONE;
		for (unsigned k = 0; k < sp->n; k++)
			if (sp->region[k].pde && !sp->region[k].large)
				unmap_page(sp, &sp->region[k], gpa, 0);
	}
}

/* The page of RAM at an address of the guest; NULL: there is none. */
static const uint8_t *page_at(struct soft_vcpu *c, uint64_t lin)
{
	uint64_t gpa;

	if (!soft_translate_probe(c, lin & ~4095ull, &gpa) || !soft_is_ram(c->vm, gpa))
		return NULL;
	return soft_ram(c->vm, gpa);
}

uint8_t space_byte(struct soft_vcpu *c, uint64_t lin)
{
	const uint8_t *page = page_at(c, lin);

	return page ? page[lin & 4095] : 0;
}

bool space_collides(struct soft_vcpu *c)
{
	struct upper u = {.va = 1};
	uint64_t base = stub_base(), pde;
	uint64_t *pt;

	if (!upper(&u, c, base))
		return false;
	pde = load(u.pd + (base >> 21 & 511));
	if (!(pde & PTE_P))
		return false;
	pt = pde & PTE_PS ? NULL : soft_ram(c->vm, pde & PTE_ADDR);
	for (uint64_t va = base; va < base + STUB_LEN; va += 4096)
		if (!pt || load(pt + (va >> 12 & 511)))
			return true;
	return false;
}

static struct region *get_region(
	struct space *sp, struct soft_vcpu *c, uint64_t lin, const struct walk *w)
{
	struct upper u = {.va = 1};
	uint64_t va = lin & ~(uint64_t)(LARGE - 1);
	uint16_t *h = hash_slot(sp, va);
	struct region *r;

	if (!*h) {
		if (sp->n == MAX_REGIONS || sp->mappings >= MAX_MAPPINGS) {
			space_clear(sp);
			h = hash_slot(sp, va);
		}
		r = &sp->region[sp->n++];
		*h = (uint16_t)sp->n;
		r->va = va;
		forget(r);
	}
	r = &sp->region[*h - 1];
	if (r->pde && region_moved(r, &u, c))
		drop_region(sp, r);
	if (!r->pde) {
		if (!upper(&u, c, lin))
			return NULL;
		r->rights = u.rights;
		r->nx = u.nx;
		r->pde = w->pde;
		r->pde_had = load(w->pde) & (SAME | PTE_NX | PTE_PS);
		r->large = w->size == LARGE;
		r->pt = r->large ? NULL : (uint64_t *)((uintptr_t)w->pte & ~4095ull);
		if (!r->large)
			r->pde_had |= load(w->pde) & PTE_W;
	}
	return r;
}

/* What of an entry the stub, which maps RAM and no window, may have, as had[] keeps it; 0: nothing. write: it is for a write to
 * this page, which may then not stay what the translator knows. */
static uint64_t usable(const struct region *r, struct soft_vcpu *c, uint64_t e, bool write)
{
	uint64_t gpa = e & PTE_ADDR, had = e & (SAME | PTE_NX),
		 rights = r->rights & (r->large ? e : r->pde_had);

	if ((e & (PTE_P | PTE_U | PTE_A)) != (PTE_P | PTE_U | PTE_A) || !soft_is_ram(c->vm, gpa) ||
		soft_lapic_mmio(c->lapic, gpa))
		return 0;
	if (r->nx || (!r->large && r->pde_had & PTE_NX))
		had |= PTE_NX;
	if (rights & PTE_W && (e & (PTE_W | PTE_D)) == (PTE_W | PTE_D) &&
		(write || !gmem_is_code(c->vm->gm, gpa)))
		had |= PTE_W | PTE_D;
	return had;
}

/*
 * An instruction that would tell of the host is executed elsewhere, or faults in a copy. One that lies across two pages is in neither; that
 * it is there is seen when the second of the two is looked at.
 */
static enum taint taint_of(struct soft_vcpu *c, uint64_t lin, const uint8_t *page, uint8_t *patched)
{
	const uint8_t *before, *after;

	if (stub_hides_host())
		return soft_taint(page, NULL, false, NULL);
	before = page_at(c, lin - 4096);
	after = page[4095] == 0x0f ? page_at(c, lin + 4096) : NULL;
	if ((before && soft_taint_pair(before[4095], page[0])) ||
		(after && soft_taint_pair(page[4095], after[0])))
		return TAINT_PAGE;
	return soft_taint(page, before, true, patched);
}

static unsigned prot_of(struct soft_vcpu *c, uint64_t lin, uint64_t had, uint64_t size)
{
	unsigned prot = OS_PROT_R | (had & PTE_W ? OS_PROT_W : 0);

	if (!(had & PTE_NX)) {
		bool tainted = false;

		for (uint64_t off = 0; off < size && !tainted; off += 4096)
			tainted = taint_of(c, lin + off, soft_ram(c->vm, (had & PTE_ADDR) + off),
					  NULL) != TAINT_NONE;
		if (!tainted)
			prot |= OS_PROT_X;
	}
	return prot;
}

/* Else the access would fault again and again. */
static bool allows(unsigned prot, unsigned acc)
{
	return !(acc & ACC_X && !(prot & OS_PROT_X)) && !(acc & ACC_W && !(prot & OS_PROT_W));
}

/* The stub may write to these pages from now on. */
static void note_writable(struct space *sp, struct soft_vcpu *c, uint64_t gpa, uint64_t size)
{
	for (uint64_t end = gpa + size; gpa < end; gpa += 4096) {
		uint64_t page = offset_of(c->vm, gpa) >> 12;

		sp->writable[page / 64] |= BIT(page % 64);
		gmem_mark_dirty(c->vm->gm, gpa);
		soft_code_may_write(c, gpa);
	}
}

static enum space_result map_large(
	struct space *sp, struct soft_vcpu *c, struct region *r, unsigned acc)
{
	uint64_t had = usable(r, c, load(r->pde) & ~(uint64_t)(LARGE - 4096), true),
		 gpa = had & PTE_ADDR;
	uint8_t *first = soft_ram(c->vm, gpa), *last = soft_ram(c->vm, gpa + LARGE - 4096);
	unsigned prot;

	if (!had || !last || last - first != LARGE - 4096)
		return SPACE_FOREIGN;
	/* Looking at all of it takes a millisecond: once. */
	prot = prot_of(c, r->va, r->tainted ? had | PTE_NX : had, LARGE);
	r->tainted |= !(had & PTE_NX) && !(prot & OS_PROT_X);
	if (!allows(prot, acc))
		return SPACE_FOREIGN;
	if (had & PTE_W)
		note_writable(sp, c, gpa, LARGE);
	r->pde_had |= had & (PTE_W | PTE_D);
	r->had[0] = had;
	stub_map(sp->stub, r->va, LARGE, prot, offset_of(c->vm, gpa));
	sp->mappings++;
	return SPACE_MAPPED;
}

static bool has_copy(const struct space *sp, uint64_t gpa)
{
	for (unsigned n = 0; n < sp->copies; n++)
		if (sp->copy[n] == gpa)
			return true;
	return false;
}

static unsigned get_copy(struct space *sp, uint64_t gpa)
{
	unsigned n = 0;

	while (n < sp->copies && sp->copy[n] != gpa)
		n++;
	for (unsigned k = 0; n == sp->copies && k < sp->copies; k++)
		if (sp->copy[k] == GONE)
			n = k;
	return n;
}

/*
 * A page that asks the processor what it is: executed is a copy, in which that faults. Not if it may be written to as well, and not before it
 * is executed: who only reads code reads what is there.
 */
static bool map_copy(struct space *sp, struct soft_vcpu *c, struct region *r, unsigned n)
{
	uint64_t had = r->had[n], gpa = had & PTE_ADDR, va = r->va + n * 4096ull;
	unsigned slot = get_copy(sp, gpa);

	if (!had || had & (PTE_W | PTE_NX) || slot == STUB_COPIES)
		return false;
	if (!has_copy(sp, gpa)) {
		if (taint_of(c, va, soft_ram(c->vm, gpa), NULL) != TAINT_COPY)
			return false;
		/* From now on we hear of writes; the one that came before is in what is looked at now. */
		soft_code_copied(c, gpa);
		if (taint_of(c, va, soft_ram(c->vm, gpa), stub_copy(sp->stub, slot)) != TAINT_COPY)
			return false;
		sp->copy[slot] = gpa;
		sp->copies = MAX(sp->copies, slot + 1);
	}
	stub_map_copy(sp->stub, va, slot);
	sp->mappings++;
	return true;
}

static enum space_result map_small(
	struct space *sp, struct soft_vcpu *c, struct region *r, unsigned asked, unsigned acc)
{
	unsigned first = asked & ~(unsigned)(WINDOW - 1), run = 0;
	uint64_t run_gpa = 0;
	unsigned run_prot = 0;
	bool ok = false;

	for (unsigned n = first; n <= first + WINDOW; n++) {
		uint64_t had = 0;
		unsigned prot = 0;

		if (n < first + WINDOW && (n == asked || !r->had[n]))
			had = usable(r, c, load(&r->pt[n]), n == asked && acc & ACC_W);
		if (had) {
			prot = prot_of(c, r->va + n * 4096ull, had, 4096);
			if (n == asked)
				ok = allows(prot, acc);
			/* That may end a copy of the page, and all its mappings: those that wait here are to be among them. */
			if (had & PTE_W && run && has_copy(sp, had & PTE_ADDR)) {
				stub_map(sp->stub, r->va + (uint64_t)(n - run) * 4096,
					run * 4096ull, run_prot, offset_of(c->vm, run_gpa));
				sp->mappings++;
				run = 0;
			}
			if (had & PTE_W)
				note_writable(sp, c, had & PTE_ADDR, 4096);
			r->had[n] = had;
		}
		if (had && run && prot == run_prot && (had & PTE_ADDR) == run_gpa + run * 4096ull) {
			run++;
			continue;
		}
		if (run) {
			stub_map(sp->stub, r->va + (uint64_t)(n - run) * 4096, run * 4096ull,
				run_prot, offset_of(c->vm, run_gpa));
			sp->mappings++;
		}
		run = had ? 1 : 0;
		run_gpa = had & PTE_ADDR;
		run_prot = prot;
	}
	if (!ok && acc == ACC_X)
		ok = map_copy(sp, c, r, asked);
	return ok ? SPACE_MAPPED : SPACE_FOREIGN;
}

enum space_result space_fault(struct space *sp, struct soft_vcpu *c, uint64_t lin, unsigned acc)
{
	struct region *r;
	struct walk w;

	if (lin >> 47 || !soft_walk_probe(c, lin, acc | ACC_U, &w))
		return SPACE_FAULTS;
	/* Nothing is mapped in the place of the stub's own pages, nor unmapped, with what lies around them. Hosts refuse the lowest addresses. */
	if ((lin ^ stub_base()) < LARGE || lin < LARGE || w.size > LARGE)
		return SPACE_FOREIGN;
	if (sp->mappings >= MAX_MAPPINGS)
		space_clear(sp);
	r = get_region(sp, c, lin, &w);
	if (!r)
		return SPACE_FAULTS;
	return r->large ? map_large(sp, c, r, acc) : map_small(sp, c, r, lin >> 12 & 511, acc);
}
