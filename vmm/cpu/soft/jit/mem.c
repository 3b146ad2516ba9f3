/* SPDX-License-Identifier: MIT */
/* How translated code comes from a guest's linear address to the data: the TLB, inline. */
#include <stddef.h>
#include "vmm/cpu/soft/jit/trans.h"

enum { MAX_BESIDE = 512 };

struct maddr t_offset(struct trans *t, const struct insn *i)
{
	struct maddr m = {NO_REG, NO_REG, i->scale, i->disp};

	if (i->base != SLOT_ZERO) /* SLOT_IP too is a slot */
		m.base = (uint8_t)t_get(t, i->base, S0);
	if (i->index != SLOT_ZERO)
		m.index = (uint8_t)t_get(t, i->index, S1);
	return m;
}

void t_tlb_index(
	const struct soft_jit *j, struct emit *e, unsigned to, unsigned from, uint32_t mask)
{
	if (j->bmi2) {
		e_rorx(e, to, from, 7);
	} else {
		e_rr(e, 4, 0x8b, to, from);
		e_rr(e, 4, 0xc1, 5, to); /* shr */
		e_u8(e, 7);
	}
	e_rr(e, 4, 0x81, 4, to); /* and */
	e_u32(e, mask * 32);
}

static int32_t data_tlb(const struct trans *t)
{
	return (int32_t)(offsetof(struct soft_vcpu, tlbs) +
			 (t->cpl3 ? sizeof(struct soft_tlb) : 0)) -
	       CPU_BIAS;
}

/* S1: where lin's entry is; leaves for the interpreter unless it is right for the access. Changes S0. */
static void lookup(
	struct trans *t, const struct insn *i, struct access a, unsigned lin, uint8_t **miss)
{
	int32_t tag = (int32_t)(a.write ? offsetof(struct tlbe, w) : offsetof(struct tlbe, r));
	struct emit *e = &t->e;
	uint8_t *at;

	t_uses_s0(t);
	t_tlb_index(t->j, e, S1, lin, TLB_SIZE - 1);
	if (lin != S0)
		e_rr(e, 8, 0x8b, S0, lin);
	/* xor: the offset in that page */
	e_rm(e, 8, 0x33, S0, (struct maddr){R_CPU, S1, 0, data_tlb(t) + tag});
	e_rr(e, 8, 0x81, 7, S0);
	e_u32(e, 4096 - a.size);
	at = e_jcc(e, CC_A);
	if (miss)
		*miss = at;
	else
		t_exit(t, X_HANDLER, at, i);
	if (a.aligned) {
		e_rr(e, 1, 0xf6, 0, S0);
		e_u8(e, 15);
		t_exit(t, X_HANDLER, e_jcc(e, CC_NE), i);
	}
}
_Static_assert(sizeof(struct tlbe) == 32 && offsetof(struct soft_tlb, d) == 0, "see lookup()");

/* Behind lookup(). */
static void load_addend(struct trans *t)
{
	e_rm(&t->e, 8, 0x8b, S0,
		(struct maddr){R_CPU, S1, 0, data_tlb(t) + (int32_t)offsetof(struct tlbe, addend)});
}

void t_addend(
	struct trans *t, const struct insn *i, struct access a, struct maddr m, uint8_t **miss)
{
	unsigned lin = S0;

	if (m.index != NO_REG || m.disp)
		e_rm(&t->e, 8, 0x8d, S0, m);
	else
		lin = m.base;
	lookup(t, i, a, lin, miss);
	load_addend(t);
}

/* JIT_CHECK */
static void log_store(struct trans *t, unsigned size)
{
	e_rm(&t->e, 8, 0x8d, S0, t->at);
	e_mov_imm(&t->e, S1, size);
	t_patch(t, e_call(&t->e), t->j->log_store);
	t->at = AT(S0, 0);
	t_uses_s0(t);
}

/*
 * An access beside the last one, by the same register: most likely to the same page, which two additions tell. What is then
 * in S0 is right for both.
 */
static bool beside_last(struct trans *t, const struct insn *i, struct access a, struct maddr m)
{
	struct near *n = &t->near;
	int64_t by = (int64_t)m.disp - n->disp;
	struct trans_exit *x;
	uint8_t *at;

	if (!n->valid || n->base != m.base || (a.write && !n->access.write) || a.aligned ||
		by > MAX_BESIDE || by < -MAX_BESIDE)
		return false;
	if (by < 0 && a.size + by > n->access.size)
		return false;
	a.write = n->access.write; /* so that the next one may rely on it */
	if (by || a.size > n->access.size) {
		e_rm(&t->e, 4, 0x8d, S1, AT(n->base, n->disp));
		e_rr(&t->e, 4, 0x81, 4, S1);
		e_u32(&t->e, 0xfff);
		e_rr(&t->e, 4, 0x81, 7, S1);
		e_u32(&t->e, by >= 0 ? 4096 - a.size - (unsigned)by : (unsigned)-by);
		at = e_jcc(&t->e, by >= 0 ? CC_A : CC_B);
		x = t_exit(t, X_LOOKUP, at, i);
		x->back = t->e.p;
		x->access = a;
		x->m = m;
		n->access = a;
		n->disp = m.disp;
	}
	t->at = (struct maddr){S0, m.base, 0, m.disp};
	return true;
}

void t_base(struct trans *t, const struct insn *i, struct access a, struct maddr m)
{
	if (beside_last(t, i, a, m))
		return;
	t_addend(t, i, a, m, NULL);
	t->at = (struct maddr){S0, m.base, 0, m.disp};
	t->near = (struct near){.valid = true, .access = a, .base = m.base, .disp = m.disp};
}

/* At an address with an index: base + index << scale + disp, no scratch register among them. */
static void at_index(struct trans *t, const struct insn *i, struct access a, struct maddr m)
{
	t_addend(t, i, a, m, NULL);
	t->at = m;
	if (m.base != NO_REG) {
		e_rm(&t->e, 8, 0x8d, S0, (struct maddr){S0, m.base, 0, m.disp});
		t->at.disp = 0;
	}
	t->at.base = S0;
}

static void at_any(struct trans *t, const struct insn *i, struct access a, struct maddr m)
{
	if (m.base == NO_REG || m.index != NO_REG || m.disp)
		e_rm(&t->e, 8, 0x8d, S0, m);
	else if (m.base != S0)
		e_rr(&t->e, 8, 0x8b, S0, m.base);
	if (i->ea & EA_ADDSEG)
		e_rm(&t->e, 8, 0x03, S0, CPU_AT(SLOT_SEGBASE + 8 * (i->ea & EA_SEG)));
	lookup(t, i, a, S0, NULL);
	e_rm(&t->e, 8, 0x03, S0,
		(struct maddr){R_CPU, S1, 0, data_tlb(t) + (int32_t)offsetof(struct tlbe, hva)});
	t->at = AT(S0, 0);
}

static void operand(struct trans *t, const struct insn *i, struct access a)
{
	struct maddr m;

	if (i->ea & EA_SLOW & ~EA_ADDSEG)
		t->fail = true;
	fl_clobber(t);
	m = t_offset(t, i);
	if (i->ea & EA_ADDSEG || m.base == S0 || m.index == S1 || (m.base & m.index) == NO_REG)
		at_any(t, i, a, m);
	else if (m.index != NO_REG)
		at_index(t, i, a, m);
	else
		t_base(t, i, a, m);
	if (a.write && t->j->check)
		log_store(t, a.size);
}

void t_operand(struct trans *t, const struct insn *i, unsigned size, bool write)
{
	operand(t, i, (struct access){size, write, false});
}

void t_operand_aligned(struct trans *t, const struct insn *i, bool write)
{
	operand(t, i, (struct access){16, write, true});
}

void t_stack(struct trans *t, const struct insn *i, int32_t off, unsigned size, bool write)
{
	fl_clobber(t);
	t_base(t, i, (struct access){size, write, false}, AT(R_GUEST_RSP, off));
	if (write && t->j->check)
		log_store(t, size);
}

void t_move_rsp(struct trans *t, int32_t by)
{
	struct near near = t->near;

	fl_writes(t, SLOT_RSP);
	if (near.base == R_GUEST_RSP) {
		near.disp -= by;
		t->near = near;
	}
	e_rm(&t->e, 8, 0x8d, R_GUEST_RSP, AT(R_GUEST_RSP, by));
}
