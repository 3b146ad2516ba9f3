/* SPDX-License-Identifier: MIT */
/*
 * Paging (SDM vol. 3 ch. 4: 4-level; none when CR0.PG = 0), the TLB, and every memory access that
 * is not a TLB hit. Accessed and dirty bits are set by compare-and-exchange in guest memory. Legacy
 * 32-bit paging does not exist here: CR0.PG cannot be set outside IA-32e mode (sys.c).
 */
#include "vmm/cpu/soft/mmu.h"
#include "vmm/cpu/soft/block.h"
#include "vmm/cpu/soft/direct/direct.h"
#include "vmm/cpu/soft/lapic.h"
#include "vmm/cpu/soft/mem.h"
#include "vmm/cpu/soft/simd.h"

#define PTE_RSVD 0x000fc00000000000ull /* MAXPHYADDR is 46 */

enum { PF_P = 1, PF_W = 2, PF_U = 4, PF_RSVD = 8, PF_I = 16 };

static NORETURN void page_fault(struct soft_vcpu *c, uint64_t lin, uint32_t err)
{
	c->cr2 = lin;
	soft_raise(c, EXC_PF, err);
}

NORETURN void soft_raise_noncanonical(struct soft_vcpu *c, uint64_t lin)
{
	const struct insn *i = c->cur;
	bool ss = false;

	/* PUSH, POP and CALL may have a memory operand besides: stack accesses are those beside RSP. */
	if (!c->in_delivery) {
		ss = i->flags & INSN_STACK &&
		     (!(i->flags & INSN_MEM) || lin - (c->gpr[CPU_RSP] - 16) < 32);
		ss = ss || (i->ea & EA_SEG) == SEG_SS;
	}

	soft_raise(c, ss ? EXC_SS : EXC_GP, 0);
}

void *soft_window(const struct soft_vm *vm, uint64_t gpa)
{
	for (size_t k = 0; k < vm->nwindows; k++)
		if (gpa - vm->windows[k].gpa < vm->windows[k].size)
			return vm->windows[k].hva + (gpa - vm->windows[k].gpa);
	return NULL;
}

/* Sets bits in an entry that was read as old. false: it changed meanwhile, walk again. */
static bool pte_set(struct soft_vcpu *c, uint64_t gpa, uint64_t *pte, uint64_t old, uint64_t bits)
{
	if ((old & bits) == bits)
		return true;
	if (!__atomic_compare_exchange_n(
		    pte, &old, old | bits, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		return false;
	gmem_mark_dirty(c->vm->gm, gpa & PAGE_MASK_);
	return true;
}

/*
 * Translates lin for the access (ACC_*). Raises #PF, or returns false when probe is set. The
 * accessed bits are set in every entry used, the dirty bit for a write.
 */
static bool walk(struct soft_vcpu *c, uint64_t lin, unsigned acc, bool probe, struct walk *w)
{
	uint64_t *pte[4], val[4], gpas[4], table, rights, e, rsvd = PTE_RSVD;
	uint32_t err = (acc & ACC_W ? PF_W : 0) | (acc & ACC_U ? PF_U : 0);
	int level, last = 0;

	if (acc & ACC_X && c->efer & EFER_NX)
		err |= PF_I;
	if (!(c->efer & EFER_NX))
		rsvd |= PTE_NX;
again:
	table = c->cr3 & PTE_ADDR;
	rights = PTE_W | PTE_U;
	w->nx = false;
	for (level = 3;; level--) {
		uint64_t gpa = table + ((lin >> (12 + 9 * level) & 511) << 3);

		pte[level] = soft_ram(c->vm, gpa);
		gpas[level] = gpa;
		e = pte[level] ? __atomic_load_n(pte[level], __ATOMIC_RELAXED) : 0;
		val[level] = e;
		if (!(e & PTE_P))
			goto fault;
		if (e & rsvd) {
			err |= PF_P | PF_RSVD;
			goto fault;
		}
		rights &= e;
		w->nx |= e >> 63;
		if (level == 0 || (e & PTE_PS)) {
			if (level == 3 ||
				(level && (e & ((1ull << (12 + 9 * level)) - 1) & 0x3fffe000))) {
				err |= PF_P | PF_RSVD;
				goto fault;
			}
			last = level;
			break;
		}
		table = e & PTE_ADDR;
	}
	err |= PF_P;
	if (acc & ACC_U && !(rights & PTE_U))
		goto fault;
	if (acc & ACC_W && !(rights & PTE_W) && (acc & ACC_U || c->cr0 & CR0_WP))
		goto fault;
	if (acc & ACC_X && w->nx)
		goto fault;
	for (level = 3; level >= last; level--) {
		uint64_t bits = PTE_A | (level == last && acc & ACC_W ? PTE_D : 0);

		if (!pte_set(c, gpas[level], pte[level], val[level], bits)) {
			err &= ~(uint32_t)PF_P;
			goto again;
		}
	}
	w->size = 1ull << (12 + 9 * last);
	w->gpa = ((e & PTE_ADDR & ~(w->size - 1)) | (lin & (w->size - 1))) & PAGE_MASK_;
	w->global = e & PTE_G && c->cr4 & CR4_PGE;
	w->rights = rights;
	w->pte = pte[last];
	w->pde = pte[1];
	return true;
fault:
	if (probe)
		return false;
	page_fault(c, lin, err);
}

bool soft_walk_probe(struct soft_vcpu *c, uint64_t lin, unsigned acc, struct walk *w)
{
	return walk(c, lin, acc, true, w);
}

static bool translate(struct soft_vcpu *c, uint64_t lin, unsigned acc, bool probe, struct walk *w)
{
	if (c->cr0 & CR0_PG)
		return walk(c, lin, acc, probe, w);
	*w = (struct walk){.gpa = lin & PAGE_MASK_ & 0xffffffff, .size = 4096};
	return true;
}

bool soft_translate_probe(struct soft_vcpu *c, uint64_t lin, uint64_t *ret_gpa)
{
	struct walk w;

	if (!soft_canonical(lin) || !translate(c, lin, 0, true, &w))
		return false;
	*ret_gpa = w.gpa | (lin & 0xfff);
	return true;
}

static void note_large(struct soft_vcpu *c, uint64_t lin, const struct walk *w)
{
	if (w->size == 4096)
		return;
	/* One aligned range that covers every large page in the TLB; INVLPG inside it flushes
	 * everything. */
	if (!c->tlb_large) {
		c->tlb_large = true;
		c->tlb_large_mask = ~(w->size - 1);
		c->tlb_large_base = lin & c->tlb_large_mask;
		return;
	}
	c->tlb_large_mask &= ~(w->size - 1);
	while ((lin ^ c->tlb_large_base) & c->tlb_large_mask)
		c->tlb_large_mask <<= 1;
	c->tlb_large_base &= c->tlb_large_mask;
}

enum { D_PART = TLB_SIZE / TLB_PARTS, X_PART = TLBX_SIZE / TLB_PARTS };

/* Host address of the page when it is RAM (and enters it in the TLB), else NULL; *ret_gpa in any
 * case. */
static uint8_t *fill(struct soft_vcpu *c, uint64_t lin, unsigned acc, uint64_t *ret_gpa)
{
	struct soft_tlb *t = &c->tlbs[acc & ACC_U ? 1 : 0];
	uint64_t page = lin & PAGE_MASK_;
	unsigned n = lin >> 12 & (TLB_SIZE - 1);
	struct tlbe *e = &t->d[n];
	struct walk w;
	uint8_t *hva;

	if (!soft_canonical(lin))
		soft_raise_noncanonical(c, lin);
	translate(c, lin, acc, false, &w);
	*ret_gpa = w.gpa;
	hva = soft_ram(c->vm, w.gpa);
	if (!hva || soft_lapic_mmio(c->lapic, w.gpa))
		return NULL;
	note_large(c, lin, &w);
	if (acc & ACC_W) {
		gmem_mark_dirty(c->vm->gm, w.gpa);
		soft_code_may_write(c, w.gpa);
		e->w = page;
	} else if (e->r != page || (t->gpa[n] & PAGE_MASK_) != w.gpa) {
		e->w = TLB_NONE(n);
	}
	e->r = page;
	t->gpa[n] = w.gpa | (w.global ? TLB_GLOBAL : 0);
	e->addend = (uint64_t)(uintptr_t)hva - page;
	e->hva = (uint64_t)(uintptr_t)hva;
	t->d_used |= BIT(n / D_PART);
	return hva;
}

/* As fill(), but a TLB hit does. */
static uint8_t *lookup(struct soft_vcpu *c, uint64_t lin, unsigned acc, uint64_t *ret_gpa)
{
	struct soft_tlb *t = &c->tlbs[acc & ACC_U ? 1 : 0];
	unsigned n = lin >> 12 & (TLB_SIZE - 1);
	struct tlbe *e = &t->d[n];
	uint64_t page = lin & PAGE_MASK_;

	if ((acc & ACC_W ? e->w : e->r) == page) {
		*ret_gpa = t->gpa[n] & PAGE_MASK_;
		return (uint8_t *)(uintptr_t)(page + e->addend);
	}
	return fill(c, lin, acc, ret_gpa);
}

static unsigned acc_of(const struct soft_vcpu *c)
{
	return c->cpl == 3 ? ACC_U : 0;
}

/* Linear addresses wrap at 4 GiB outside 64-bit mode. */
static uint64_t lin_add(const struct soft_vcpu *c, uint64_t lin, unsigned n)
{
	return c->mode == MODE_64 ? lin + n : (uint32_t)(lin + n);
}

static uint64_t io_read(struct soft_vcpu *c, uint64_t gpa, unsigned size)
{
	const struct cpu_io *io = c->vm->io;
	uint64_t v;

	if (soft_lapic_mmio(c->lapic, gpa))
		return soft_lapic_mmio_read(c->lapic, gpa, size);
	soft_simd_leave(c);
	v = io->mmio_read(io->ctx, gpa, size);
	soft_simd_enter(c);
	return v;
}

static void io_write(struct soft_vcpu *c, uint64_t gpa, unsigned size, uint64_t v)
{
	const struct cpu_io *io = c->vm->io;

	if (soft_lapic_mmio(c->lapic, gpa)) {
		soft_lapic_mmio_write(c->lapic, gpa, size, v);
		return;
	}
	soft_simd_leave(c);
	io->mmio_write(io->ctx, gpa, size, v);
	soft_simd_enter(c);
}

static void ram_store(uint8_t *p, const void *buf, unsigned size)
{
	switch (size) {
	case 1: *(guest_u8 *)p = *(const uint8_t *)buf; break;
	case 2: *(guest_u16 *)p = *(const uint16_t *)buf; break;
	case 4: *(guest_u32 *)p = *(const uint32_t *)buf; break;
	case 8: *(guest_u64 *)p = *(const uint64_t *)buf; break;
	default: memcpy(p, buf, size);
	}
}

/* Aligned accesses of a natural size are single ones, as other vCPUs expect. */
static void ram_load(void *buf, const uint8_t *p, unsigned size)
{
	switch (size) {
	case 1: *(uint8_t *)buf = *(const guest_u8 *)p; break;
	case 2: *(uint16_t *)buf = *(const guest_u16 *)p; break;
	case 4: *(uint32_t *)buf = *(const guest_u32 *)p; break;
	case 8: *(uint64_t *)buf = *(const guest_u64 *)p; break;
	default: memcpy(buf, p, size);
	}
}

/* A piece that does not cross a page, already translated; hva NULL: not RAM. */
static void piece_read(struct soft_vcpu *c, const uint8_t *hva, uint64_t gpa, void *buf, unsigned n)
{
	uint8_t *out = buf;

	if (hva) {
		ram_load(buf, hva + (gpa & 0xfff), n);
		return;
	}
	while (n) {
		unsigned s = n >= 8 ? 8 : n >= 4 ? 4 : n >= 2 ? 2 : 1;
		uint64_t v = io_read(c, gpa, s);

		memcpy(out, &v, s);
		out += s;
		gpa += s;
		n -= s;
	}
}

static void piece_write(
	struct soft_vcpu *c, uint8_t *hva, uint64_t gpa, const void *buf, unsigned n)
{
	const uint8_t *in = buf;

	if (hva) {
		ram_store(hva + (gpa & 0xfff), buf, n);
		return;
	}
	while (n) {
		unsigned s = n >= 8 ? 8 : n >= 4 ? 4 : n >= 2 ? 2 : 1;
		uint64_t v = 0;

		memcpy(&v, in, s);
		io_write(c, gpa, s, v);
		in += s;
		gpa += s;
		n -= s;
	}
}

static void read_acc(struct soft_vcpu *c, uint64_t lin, void *buf, unsigned len, unsigned acc)
{
	while (len) {
		unsigned n = MIN(len, 4096 - (unsigned)(lin & 0xfff));
		uint64_t gpa;
		uint8_t *hva = lookup(c, lin, acc, &gpa);

		piece_read(c, hva, gpa | (lin & 0xfff), buf, n);
		buf = (uint8_t *)buf + n;
		lin = lin_add(c, lin, n);
		len -= n;
	}
}

static void write_acc(
	struct soft_vcpu *c, uint64_t lin, const void *buf, unsigned len, unsigned acc)
{
	unsigned first = MIN(len, 4096 - (unsigned)(lin & 0xfff));
	uint64_t gpa, gpa2 = 0;
	uint8_t *hva, *hva2 = NULL;

	/* Every page is translated before any is written; the first that fails is the one reported. */
	hva = lookup(c, lin, acc | ACC_W, &gpa);
	for (unsigned done = first; done < len; done += 4096)
		hva2 = lookup(c, lin_add(c, lin, done), acc | ACC_W, &gpa2);
	piece_write(c, hva, gpa | (lin & 0xfff), buf, first);
	if (len - first > 4096) {
		write_acc(
			c, lin_add(c, lin, first), (const uint8_t *)buf + first, len - first, acc);
		return;
	}
	if (len > first)
		piece_write(c, hva2, gpa2, (const uint8_t *)buf + first, len - first);
}

uint64_t mem_read_slow(struct soft_vcpu *c, uint64_t lin, unsigned size)
{
	uint64_t v = 0;

	read_acc(c, lin, &v, size, acc_of(c));
	return v;
}

void mem_write_slow(struct soft_vcpu *c, uint64_t lin, unsigned size, uint64_t v)
{
	write_acc(c, lin, &v, size, acc_of(c));
}

void mem_read_bytes(struct soft_vcpu *c, uint64_t lin, void *buf, unsigned len)
{
	uint64_t gpa;
	unsigned first = MIN(len, 4096 - (unsigned)(lin & 0xfff));

	/* All faults before any read: MMIO reads have side effects, and buf is to be complete. */
	if (len > first) {
		lookup(c, lin, acc_of(c), &gpa);
		lookup(c, lin_add(c, lin, first), acc_of(c), &gpa);
	}
	read_acc(c, lin, buf, len, acc_of(c));
}

void mem_write_bytes(struct soft_vcpu *c, uint64_t lin, const void *buf, unsigned len)
{
	write_acc(c, lin, buf, len, acc_of(c));
}

void mem_probe_write(struct soft_vcpu *c, uint64_t lin, unsigned len)
{
	uint64_t gpa;

	lookup(c, lin, acc_of(c) | ACC_W, &gpa);
	if ((lin & 0xfff) + len > 4096)
		lookup(c, lin_add(c, lin, 4096 - (lin & 0xfff)), acc_of(c) | ACC_W, &gpa);
}

void mem_probe_read(struct soft_vcpu *c, uint64_t lin, unsigned len)
{
	uint64_t gpa;

	lookup(c, lin, acc_of(c), &gpa);
	if ((lin & 0xfff) + len > 4096)
		lookup(c, lin_add(c, lin, 4096 - (lin & 0xfff)), acc_of(c), &gpa);
}

void *mem_rmw_slow(struct soft_vcpu *c, uint64_t lin, unsigned size)
{
	uint64_t gpa;
	uint8_t *hva;

	if ((lin & 0xfff) + size > 4096) {
		mem_probe_write(c, lin, size);
		return NULL;
	}
	hva = lookup(c, lin, acc_of(c) | ACC_W, &gpa);
	return hva ? hva + (lin & 0xfff) : NULL;
}

uint64_t mem_sys_read(struct soft_vcpu *c, uint64_t lin, unsigned size)
{
	uint64_t v = 0;

	read_acc(c, lin, &v, size, 0);
	return v;
}

void mem_sys_write(struct soft_vcpu *c, uint64_t lin, unsigned size, uint64_t v)
{
	write_acc(c, lin, &v, size, 0);
}

const struct tlbx *soft_fetch_fill(struct soft_vcpu *c, uint64_t lin)
{
	unsigned n = lin >> 12 & (TLBX_SIZE - 1);
	struct tlbx *x = &c->tlb->x[n];
	struct walk w;
	uint8_t *hva;

	if (x->tag == (lin & PAGE_MASK_))
		return x;
	if (!soft_canonical(lin))
		soft_raise(c, EXC_GP, 0);
	translate(c, lin, ACC_X | acc_of(c), false, &w);
	hva = soft_ram(c->vm, w.gpa);
	if (!hva) /* code in device memory: nothing that a guest of ours needs */
		soft_raise(c, EXC_GP, 0);
	if (!soft_is_ram(c->vm, w.gpa))
		soft_code_fetched(c, w.gpa);
	note_large(c, lin, &w);
	x->tag = lin & PAGE_MASK_;
	x->gpa = w.gpa;
	x->hva = hva;
	x->global = w.global;
	c->tlb->x_used |= BIT(n / X_PART);
	return x;
}

static void wipe(struct soft_tlb *t, bool keep_global)
{
	for (uint64_t left = t->d_used; left; left &= left - 1) {
		unsigned part = (unsigned)__builtin_ctzll(left);
		bool kept = false;

		for (unsigned n = part * D_PART; n < (part + 1) * D_PART; n++) {
			if (keep_global && t->gpa[n] & TLB_GLOBAL)
				kept = true;
			else
				t->d[n].r = t->d[n].w = TLB_NONE(n);
		}
		if (!kept)
			t->d_used &= ~BIT(part);
	}
	for (uint64_t left = t->x_used; left; left &= left - 1) {
		unsigned part = (unsigned)__builtin_ctzll(left);
		bool kept = false;

		for (unsigned n = part * X_PART; n < (part + 1) * X_PART; n++) {
			if (keep_global && t->x[n].global)
				kept = true;
			else
				t->x[n].tag = TLB_NONE(n);
		}
		if (!kept)
			t->x_used &= ~BIT(part);
	}
}

void tlb_flush_all(struct soft_vcpu *c)
{
	for (unsigned n = 0; n < 2; n++)
		wipe(&c->tlbs[n], false);
	c->tlb_large = false;
	soft_direct_flush(c);
}

void soft_tlb_init(struct soft_vcpu *c)
{
	for (unsigned n = 0; n < 2; n++)
		c->tlbs[n].d_used = c->tlbs[n].x_used = ~0ull;
	tlb_flush_all(c);
}

void tlb_flush_nonglobal(struct soft_vcpu *c)
{
	soft_direct_flush(c);
	wipe(&c->tlbs[0], true);
	wipe(&c->tlbs[1], false);
}

void tlb_flush_page(struct soft_vcpu *c, uint64_t lin)
{
	uint64_t page = lin & PAGE_MASK_;

	soft_direct_flush_page(c, lin);
	if (c->tlb_large && !((lin ^ c->tlb_large_base) & c->tlb_large_mask)) {
		tlb_flush_all(c);
		return;
	}
	for (unsigned n = 0; n < 2; n++) {
		unsigned slot = lin >> 12 & (TLB_SIZE - 1), xslot = lin >> 12 & (TLBX_SIZE - 1);
		struct tlbe *e = &c->tlbs[n].d[slot];
		struct tlbx *x = &c->tlbs[n].x[xslot];

		if (e->r == page)
			e->r = e->w = TLB_NONE(slot);
		if (x->tag == page)
			x->tag = TLB_NONE(xslot);
	}
}

/* gpa: of the page; ~0: of every one. */
static void no_writes(struct soft_tlb *t, uint64_t gpa)
{
	for (uint64_t left = t->d_used; left; left &= left - 1) {
		unsigned part = (unsigned)__builtin_ctzll(left);

		for (unsigned n = part * D_PART; n < (part + 1) * D_PART; n++)
			if (gpa == ~0ull || (t->gpa[n] & PAGE_MASK_) == gpa)
				t->d[n].w = TLB_NONE(n);
	}
}

void soft_tlb_protect(struct soft_vcpu *c, uint64_t gpa)
{
	for (unsigned k = 0; k < 2; k++)
		no_writes(&c->tlbs[k], gpa);
	soft_direct_protect(c, gpa);
}

void soft_tlb_protect_all(struct soft_vcpu *c)
{
	for (unsigned k = 0; k < 2; k++)
		no_writes(&c->tlbs[k], ~0ull);
	soft_direct_reset(c);
}

uint64_t soft_ea_offset(struct soft_vcpu *c, const struct insn *i)
{
	uint64_t a = SLOT64(c, i->base) + (SLOT64(c, i->index) << i->scale) + (int64_t)i->disp;

	if (i->ea & EA_DISP_BIG)
		a += 1ull << 32;
	if (i->ea & EA_A32)
		a = (uint32_t)a;
	else if (i->ea & EA_A16)
		a = (uint16_t)a;
	return a;
}

uint64_t soft_ea_slow(struct soft_vcpu *c, const struct insn *i)
{
	uint64_t a;

	c->cur = i;
	a = soft_ea_offset(c, i);
	if (i->ea & EA_LEGACY)
		return soft_seg_lin(c, i->ea & EA_SEG, a);
	return i->ea & EA_ADDSEG ? a + SLOT64(c, SLOT_SEGBASE + 8 * (i->ea & EA_SEG)) : a;
}

uint64_t soft_seg_lin(struct soft_vcpu *c, unsigned seg, uint64_t off)
{
	const struct soft_seg *s = &c->seg[seg];
	bool ok = s->attr & 0x80;

	if (c->mode == MODE_64)
		return off + c->segbase[seg];
	/* The last byte's limit is not known here; flat segments, which is all that matters, have
	 * none. */
	if ((s->attr & 0x1c) == 0x14) /* expand-down data */
		ok = ok && off > s->limit;
	else
		ok = ok && off <= s->limit;
	if (!ok && c->cr0 & CR0_PE)
		soft_raise(c, seg == SEG_SS ? EXC_SS : EXC_GP, 0);
	return (uint32_t)(off + c->segbase[seg]);
}
