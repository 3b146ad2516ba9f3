/* SPDX-License-Identifier: MIT */
/* Regions (region.h), the code cache they lie in, and when they are made. */
#include "vmm/cpu/soft/jit/region.h"
#include <errno.h>
#include <stdlib.h>
#include "lib/os/mem.h"
#include "vmm/cpu/soft/bind.h"
#include "vmm/cpu/soft/jit/cache.h"
#include "vmm/cpu/soft/jump.h"

enum { MAX_HEADS = 64, MIN_INSNS = 2, HEADROOM = 64 << 10 };

static const uint8_t host_regs[R_HOST_REGS] = {RBX, RBP, 8, 9, 10, 11, 12, 13, 14, 15};

struct heads { /* where translated code may be entered: still to be made */
	struct head {
		const struct block *block;
		unsigned idx;
	} at[MAX_HEADS];
	unsigned n;
};

static const struct jit_op *op_of(const struct block *k, unsigned idx)
{
	return &k->ops->op[idx];
}

unsigned region_reg(struct region *r, unsigned slot)
{
	unsigned n = slot / 8;

	if (slot >= SLOT_ZERO || slot % 8) {
		r->fail = true;
		return RBX;
	}
	if (r->regs.host[n] == NO_REG) {
		if (r->regs.nhost == R_HOST_REGS) {
			r->fail = true;
			return RBX;
		}
		r->regs.host[n] = host_regs[r->regs.nhost++];
	}
	return r->regs.host[n];
}

unsigned region_wreg(struct region *r, unsigned slot)
{
	unsigned h = region_reg(r, slot);

	if (!r->fail)
		r->regs.written |= (uint16_t)(1u << slot / 8);
	return h;
}

static void fixup(struct region *r, uint8_t *at, unsigned target, bool to_exit)
{
	if (r->nfixups == R_MAX_FIXUPS) {
		r->fail = true;
		return;
	}
	r->fixup[r->nfixups++] = (struct region_fixup){at, (uint16_t)target, to_exit};
}

void region_exit_at(struct region *r, uint8_t *at, const struct insn *i, insn_fn fn)
{
	struct region_exit *x = &r->exit[r->nexits];

	if (r->nexits && x[-1].i == i && x[-1].fn == fn) {
		fixup(r, at, r->nexits - 1, true);
		return;
	}
	if (r->nexits == R_MAX_EXITS) {
		r->fail = true;
		return;
	}
	*x = (struct region_exit){.i = i, .fn = fn};
	fixup(r, at, r->nexits++, true);
}

/* The node for a block, new if need be; -1: no room. */
static int node_for(struct region *r, const struct block *k)
{
	for (unsigned n = 0; n < r->nnodes; n++)
		if (r->node[n].block == k)
			return (int)n;
	if (r->nnodes == R_MAX_NODES || r->ninsns >= R_MAX_INSNS)
		return -1;
	r->node[r->nnodes] = (struct region_node){.block = k};
	return (int)r->nnodes++;
}

/* The block that a jump within the page leads to, if that is known. (A link may be older than the page's mapping.) */
static const struct block *target_of(const struct region *r, const struct insn *i)
{
	const struct block *k = i->link;

	return k && k->ops && (k->key ^ r->page) >> 12 == 0 ? k : NULL;
}

/*
 * Goes to i's target in the same page. Returns a node that execution falls into and that is to be emitted next, or -1.
 * Jumps backwards look at events: every loop in a region has one.
 */
static int jump_in(struct region *r, const struct insn *i)
{
	const struct block *k = target_of(r, i);
	int n = k ? node_for(r, k) : -1;

	if (n < 0) {
		region_exit_at(r, e_jmp(&r->e), i, soft_h_goto_in);
		return -1;
	}
	if (!r->node[n].code)
		return n;
	e_rm(&r->e, 4, 0x83, 7, AT(R_CPU, (int32_t)offsetof(struct soft_vcpu, events)));
	e_u8(&r->e, 0);
	region_exit_at(r, e_jcc(&r->e, 5), i, soft_h_goto_in);
	fixup(r, e_jmp(&r->e), (unsigned)n, false);
	return -1;
}

static void jump_if(struct region *r, const struct insn *i, bool in)
{
	unsigned cc = r->op->op & 15;
	const struct block *k = in ? target_of(r, i) : NULL;
	int n = k ? node_for(r, k) : -1;

	if (!r->fl_live)
		region_load_flags(r);
	if (n < 0) {
		region_exit_at(r, e_jcc(&r->e, cc), i, in ? soft_h_goto_in : soft_h_goto_out);
	} else if (!r->node[n].code) {
		fixup(r, e_jcc(&r->e, cc), (unsigned)n, false);
	} else {
		uint8_t *over = e_jcc(&r->e, cc ^ 1);

		jump_in(r, i);
		if (!r->e.full)
			e_patch(over, r->e.p);
	}
}

static bool is_jcc(const struct jit_op *op)
{
	return op->known && (op->map == MAP_1 ? (op->op & 0xf0) == 0x70
					      : op->map == MAP_0F && (op->op & 0xf0) == 0x80);
}

static bool flags_dead(const struct block *k, unsigned idx)
{
	for (; idx < k->ops->n; idx++) {
		int f = region_flags_effect(&k->insns[idx], op_of(k, idx));

		if (f)
			return f > 0;
	}
	return false;
}

static void push_head(struct heads *h, const struct block *k, unsigned idx)
{
	const struct jit_op *op = op_of(k, idx);

	if (h->n < MAX_HEADS && op->known && k->insns[idx].fn == op->fn)
		h->at[h->n++] = (struct head){k, idx};
}

/* Ends the node before instruction idx, with all state in its place. */
static void stop_before(struct region *r, const struct block *k, unsigned idx, bool flags_kept)
{
	if (flags_kept) {
		e_u8(&r->e, 0x9f);
		e_rr(&r->e, 1, 0x0f90, 0, RAX);
		e_rm(&r->e, 2, 0x89, RAX, AT(R_CPU, (int32_t)offsetof(struct soft_vcpu, fl)));
	}
	region_exit_at(r, e_jmp(&r->e), &k->insns[idx], NULL);
}

/* Emits a node from instruction idx on. Returns the node that is to follow, or -1. */
static int emit_node(struct region *r, const struct block *k, unsigned idx, struct heads *h)
{
	bool kept = false; /* the guest's flags are in the host's only */

	r->fl_live = false;
	for (;; idx++) {
		const struct insn *i = &k->insns[idx];
		struct region_regs regs = r->regs;
		unsigned nexits = r->nexits, nfixups = r->nfixups;
		uint8_t *p = r->e.p;
		bool fl = r->fl_live, ok = false;

		r->op = op_of(k, idx);
		r->save_fl = true;
		if (r->op->fn == soft_h_goto_in)
			return jump_in(r, i);
		if (!r->op->known || r->ninsns >= R_MAX_INSNS + 64) {
			stop_before(r, k, idx, kept && fl);
			return -1;
		}
		if (is_jcc(r->op)) {
			bool in = i->disp >= 0 && i->disp < 4096;

			jump_if(r, i, in);
			ok = true;
			if (!r->fail && !r->e.full) {
				r->ninsns++;
				continue;
			}
		} else if (r->op->map == MAP_1 && (r->op->op == 0xe9 || r->op->op == 0xeb)) {
			if (i->disp >= 0 && i->disp < 4096)
				return jump_in(r, i);
			region_exit_at(r, e_jmp(&r->e), i, soft_h_goto_out);
			return -1;
		} else if (r->op->map == MAP_1 && r->op->op == 0xe8) {
			region_call(r, i);
			if (!r->fail) {
				region_exit_at(r, e_jmp(&r->e), i,
					i->disp >= 0 && i->disp < 4096 ? soft_h_goto_in
								       : soft_h_goto_out);
				return -1;
			}
			ok = true;
		} else {
			r->save_fl = !flags_dead(k, idx + 1);
			ok = region_insn(r, i);
		}
		if (ok && !r->fail) {
			if (region_flags_effect(i, r->op) != 0)
				kept = !r->save_fl && region_flags_effect(i, r->op) > 0;
			r->ninsns++;
			continue;
		}
		r->fail = false;
		r->regs = regs;
		r->nexits = nexits;
		r->nfixups = nfixups;
		r->e.p = p;
		stop_before(r, k, idx, kept && fl);
		push_head(h, k, ok ? idx : idx + 1);
		return -1;
	}
}

static void load_all(struct region *r)
{
	for (unsigned n = 0; n < 16; n++)
		if (r->regs.host[n] != NO_REG)
			e_rm(&r->e, 8, 0x8b, r->regs.host[n], AT(R_CPU, (int32_t)n * 8));
	e_rm(&r->e, 8, 0x8b, R_TLB, AT(R_CPU, (int32_t)offsetof(struct soft_vcpu, tlb)));
}

static void store_all(struct region *r)
{
	for (unsigned n = 0; n < 16; n++)
		if (r->regs.written & 1u << n)
			e_rm(&r->e, 8, 0x89, r->regs.host[n], AT(R_CPU, (int32_t)n * 8));
}

/* The exits: what differs, then a jump to what is common to them. */
static void emit_exits(struct region *r)
{
	uint8_t *to_handler, *to_insn;

	to_handler = r->e.p;
	store_all(r);
	e_u8(&r->e, 0xff); /* jmp rax */
	e_u8(&r->e, 0xe0);
	to_insn = r->e.p;
	store_all(r);
	e_u8(&r->e, 0xff); /* jmp [rsi] */
	e_u8(&r->e, 0x26);
	for (unsigned n = 0; n < r->nexits; n++) {
		struct region_exit *x = &r->exit[n];

		uint8_t *at;

		x->code = r->e.p;
		e_mov_imm(&r->e, RSI, (uintptr_t)x->i);
		if (x->fn)
			e_mov_imm(&r->e, RAX, (uintptr_t)x->fn);
		at = e_jmp(&r->e);
		if (!r->e.full)
			e_patch(at, x->fn ? to_handler : to_insn);
	}
}

/* A handler: an event waits. */
static const struct insn *yield(struct soft_vcpu *c, const struct insn *i)
{
	c->rip = c->ip_base + i->off;
	return NULL;
}

/*
 * Whoever enters at a block's first instruction has looked at events. In a block's middle it must be done here: a guest's loop
 * may leave the region for a handler (PAUSE) and come back behind it, with no jump backwards in any region.
 */
static uint8_t *emit_entry(struct region *r, const uint8_t *start, bool poll)
{
	uint8_t *entry = r->e.p, *to_start, *to_yield = NULL;

	if (poll) {
		e_rm(&r->e, 4, 0xf7, 0, AT(R_CPU, (int32_t)offsetof(struct soft_vcpu, events)));
		e_u32(&r->e, ~EV_LOCAL); /* that one ends blocks only */
		to_yield = e_jcc(&r->e, 5);
	}
	load_all(r);
	to_start = e_jmp(&r->e);
	if (poll && !r->e.full)
		e_patch(to_yield, r->e.p);
	if (poll) {
		e_mov_imm(&r->e, RAX, (uintptr_t)yield);
		e_u8(&r->e, 0xff); /* jmp rax */
		e_u8(&r->e, 0xe0);
	}
	if (!r->e.full)
		e_patch(to_start, start);
	return entry;
}

/* Translates from instruction idx of k on; returns the code (where it is written), or NULL. */
static uint8_t *translate(
	struct region *r, struct soft_jit *j, const struct block *k, unsigned idx, struct heads *h)
{
	uint8_t *start = j->rw + j->used, *entry;
	int next = 0;

	memset(r->regs.host, NO_REG, sizeof(r->regs.host));
	r->regs.nhost = 0;
	r->page = k->key & ~0xfffull;
	r->regs.written = 0;
	r->nnodes = r->ninsns = r->nexits = r->nfixups = 0;
	r->fail = false;
	r->e = (struct emit){start, j->rw + j->size, false};
	r->node[0] = (struct region_node){.block = idx ? NULL : k, .code = start};
	r->nnodes = 1;
	next = emit_node(r, k, idx, h);
	if (r->ninsns < MIN_INSNS)
		return NULL;
	for (;;) {
		if (next < 0)
			for (unsigned n = 0; n < r->nnodes && next < 0; n++)
				if (!r->node[n].code)
					next = (int)n;
		if (next < 0)
			break;
		r->node[next].code = r->e.p;
		next = emit_node(r, r->node[next].block, 0, h);
	}
	emit_exits(r);
	entry = emit_entry(r, start, idx != 0);
	if (r->e.full || r->fail)
		return NULL;
	for (unsigned n = 0; n < r->nfixups; n++) {
		const struct region_fixup *f = &r->fixup[n];

		e_patch(f->at, f->to_exit ? r->exit[f->target].code : r->node[f->target].code);
	}
	j->used = ((size_t)(r->e.p - j->rw) + 15) & ~(size_t)15;
	return entry;
}

static void make(struct soft_vcpu *c, const struct block *k)
{
	struct soft_jit *j = c->jit;
	struct heads h = {.n = 0};

	h.at[h.n++] = (struct head){k, 0};
	for (unsigned n = 0; n < h.n && j->size - j->used > HEADROOM; n++) {
		const struct block *b = h.at[n].block;
		unsigned idx = h.at[n].idx;
		uint8_t *code;

		if (idx && b->insns[idx].fn != op_of(b, idx)->fn)
			continue;
		code = translate(j->region, j, b, idx, &h);
		if (code)
			((struct insn *)(uintptr_t)&b->insns[idx])->fn =
				(insn_fn)(uintptr_t)(code + j->to_rx);
	}
}

const struct insn *soft_jit_count(struct soft_vcpu *c, const struct insn *i)
{
	struct block *k = (struct block *)((uintptr_t)i - offsetof(struct block, insns));
	insn_fn fn = k->ops->op[0].fn;

	if (k->ops->hot-- == 0) {
		if (c->jit->size - c->jit->used <= HEADROOM) {
			/* All blocks go with the code; this one is looked for again. */
			c->rip = c->ip_base + i->off;
			soft_blocks_drop_all(c);
			return NULL;
		}
		k->insns[0].fn = fn;
		make(c, k);
		fn = k->insns[0].fn;
	}
	return fn(c, i);
}
