/* SPDX-License-Identifier: MIT */
/*
 * Arithmetic flags. Most are never looked at; but whatever leaves for the interpreter (a fault, an interrupt) must find
 * them. So translated code remembers what they are the result of, and nothing is stored until it is needed: an operand
 * before it is overwritten, the whole at the jumps that leave a run and in the exits.
 */
#include <stddef.h>
#include "vmm/cpu/soft/host-cpu.h"
#include "vmm/cpu/soft/jit/trans.h"

#define OP_AT(n) CPU_AT(offsetof(struct soft_vcpu, lazy) + 8 * (n))

struct flags fl_unknown(void)
{
	return (struct flags){.saved = true};
}

static void store_operand(struct trans *t, unsigned n)
{
	struct flag_val *v = &t->fl.v[n];

	if (v->where == FV_SLOT) {
		unsigned h = t_host(v->slot);

		if (h == NO_REG) {
			h = S1;
			e_rm(&t->e, 8, 0x8b, h, CPU_AT(v->slot));
		}
		e_rm(&t->e, 8, 0x89, h, OP_AT(n));
	} else if (v->where == FV_IMM) {
		e_rm(&t->e, 8, 0xc7, 0, OP_AT(n));
		e_u32(&t->e, (uint32_t)v->imm);
	}
}

static void set_lazy(struct trans *t, unsigned code)
{
	e_rm(&t->e, 1, 0xc6, 0, CPU(lazy_op));
	e_u8(&t->e, code);
}

/* LAHF and SETO as c->fl has them, by way of scratch. */
static void store_host(struct trans *t, unsigned scratch)
{
	e_rr(&t->e, 8, 0x8b, scratch, RAX);
	e_u8(&t->e, 0x9f);
	e_rr(&t->e, 1, 0x0f90, 0, RAX);
	e_rm(&t->e, 2, 0x89, RAX, CPU(fl));
	e_rr(&t->e, 8, 0x8b, RAX, scratch);
	set_lazy(t, 0);
}

void fl_save(struct trans *t)
{
	struct flags *f = &t->fl;

	if (f->saved)
		return;
	if (f->kind != FK_NONE) {
		store_operand(t, 0);
		store_operand(t, 1);
		set_lazy(t, lazy_code(f->kind, f->size));
	} else {
		store_host(t, S1);
		f->in_fl = true;
	}
	f->saved = true;
}

void fl_clobber(struct trans *t)
{
	struct flags *f = &t->fl;

	if (f->host && !f->saved && f->kind == FK_NONE)
		fl_save(t);
	f->host = false;
}

void fl_discard(struct trans *t)
{
	t->fl = (struct flags){.saved = true};
}

void fl_writes(struct trans *t, unsigned slot)
{
	struct flags *f = &t->fl;

	t_changes(t, slot);

	if (f->kind == FK_NONE)
		return;
	for (unsigned n = 0; n < 2; n++) {
		if (f->v[n].where != FV_SLOT || f->v[n].slot != slot)
			continue;
		if (f->saved) {
			f->kind = FK_NONE;
			return;
		}
		e_rm(&t->e, 8, 0x89, t_get(t, slot, S1), OP_AT(n));
		f->v[n] = FV_IN_LAZY;
	}
}

void fl_set(struct trans *t, unsigned kind, unsigned size, struct flag_val a, struct flag_val b)
{
	t->fl = (struct flags){
		.host = true, .kind = (uint8_t)kind, .size = (uint8_t)size, .v = {a, b}};
}

void fl_prepare(struct trans *t)
{
	struct flags *f = &t->fl;

	if (f->host || f->kind != FK_NONE || f->in_fl)
		return;
	t_uses_s0(t);
	t_patch(t, e_call(&t->e), t->j->flags);
	f->in_fl = true;
}

static struct opnd operand(struct trans *t, unsigned n)
{
	const struct flag_val *v = &t->fl.v[n];

	return v->where == FV_SLOT ? t_opnd(v->slot) : (struct opnd){.mem = true, .m = OP_AT(n)};
}

/* op scratch, b */
static void with_b(struct trans *t, unsigned op, unsigned scratch)
{
	const struct flag_val *b = &t->fl.v[1];
	unsigned size = t->fl.size;

	if (b->where != FV_IMM) {
		e_x(&t->e, size, (op == ALU_TEST ? 0x84 : op << 3 | 2) | (size > 1), scratch,
			operand(t, 1));
		return;
	}
	if (op == ALU_TEST)
		e_rr(&t->e, size, 0xf6 | (size > 1), 0, scratch);
	else
		e_rr(&t->e, size, 0x80 | (size > 1), op, scratch);
	e_imm(&t->e, size, b->imm);
}

/* Does the operation once more, or undoes and does it. */
static void recompute(struct trans *t, unsigned scratch)
{
	static const uint8_t shifts[] = {4, 5, 7};
	unsigned size = t->fl.size, kind = t->fl.kind;

	e_x(&t->e, 8, 0x8b, scratch, operand(t, 0));
	switch (kind) {
	case FK_CMP: with_b(t, ALU_CMP, scratch); break;
	case FK_TEST: with_b(t, ALU_TEST, scratch); break;
	case FK_LOGIC: e_rr(&t->e, size, 0x84 | (size > 1), scratch, scratch); break;
	case FK_ADD:
		with_b(t, ALU_SUB, scratch);
		with_b(t, ALU_ADD, scratch);
		break;
	case FK_SUB:
		with_b(t, ALU_ADD, scratch);
		with_b(t, ALU_SUB, scratch);
		break;
	case FK_IMUL:
		e_old_flags(&t->e);
		if (t->fl.v[1].where == FV_IMM) {
			e_rr(&t->e, size, 0x69, scratch, scratch);
			e_imm(&t->e, size, t->fl.v[1].imm);
		} else {
			e_x(&t->e, size, 0x0faf, scratch, operand(t, 1));
		}
		break;
	case FK_NEG:
		e_rr(&t->e, size, 0xf6 | (size > 1), 3, scratch);
		e_rr(&t->e, size, 0xf6 | (size > 1), 3, scratch);
		break;
	default: /* shifts by an immediate */
		e_rr(&t->e, size, 0xc0 | (size > 1), shifts[kind - FK_SHL], scratch);
		e_u8(&t->e, (uint8_t)t->fl.v[1].imm);
	}
}

void fl_load(struct trans *t, unsigned scratch)
{
	struct flags *f = &t->fl;

	if (f->host)
		return;
	f->host = true;
	if (f->kind != FK_NONE) {
		recompute(t, scratch);
		return;
	}
	if (!f->in_fl) { /* no fl_prepare(): then both are free */
		t_uses_s0(t);
		t_patch(t, e_call(&t->e), t->j->flags);
	}
	f->in_fl = true;
	e_rr(&t->e, 8, 0x8b, scratch, RAX);
	e_rm(&t->e, 4, 0x0fb7, RAX, CPU(fl));
	e_u8(&t->e, 0x04); /* add al, 0x7f: OF */
	e_u8(&t->e, 0x7f);
	e_u8(&t->e, 0x9e); /* sahf */
	e_rr(&t->e, 8, 0x8b, RAX, scratch);
}

void e_old_flags(struct emit *e)
{
	if (!soft_cpuid_intel()) /* cmp esp, esp */
		e_rr(e, 4, 0x3b, 4, 4);
}

static bool same_operand(struct flag_val a, struct flag_val b)
{
	return a.where == b.where && (a.where != FV_SLOT || a.slot == b.slot) &&
	       (a.where != FV_IMM || a.imm == b.imm);
}

bool fl_same(const struct flags *a, const struct flags *b)
{
	return a->host == b->host && a->saved == b->saved && a->in_fl == b->in_fl &&
	       a->kind == b->kind && a->size == b->size && same_operand(a->v[0], b->v[0]) &&
	       same_operand(a->v[1], b->v[1]);
}

static bool dead(const struct block *k, unsigned idx)
{
	for (; idx < k->ops->n; idx++) {
		const struct jit_op *op = &k->ops->op[idx];
		int f = op->known ? t_flags_effect(&k->insns[idx], op) : -1;

		if (f)
			return f > 0;
	}
	return false;
}

bool fl_dead_after(const struct trans *t)
{
	return dead(t->k, t->idx + 1);
}

bool fl_dead_at_entry(const struct block *k)
{
	return dead(k, 0);
}
