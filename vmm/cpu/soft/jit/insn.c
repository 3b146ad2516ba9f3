/* SPDX-License-Identifier: MIT */
/*
 * Translation of single instructions: the same instruction on host registers, with the guest's address looked up in the
 * TLB. Nothing that the guest can see changes before the last check that may leave for the interpreter.
 */
#include <stddef.h>
#include "vmm/cpu/soft/jit/trans.h"
#include "vmm/cpu/soft/simd-int.h"

/* --- arithmetic */

struct alu {
	unsigned op; /* as in the opcodes 80-83, or ALU_TEST */
	bool imm, to_reg;
};

static void emit_alu_imm(struct trans *t, const struct insn *i, unsigned op, struct opnd o)
{
	bool w = i->size > 1, small = op != ALU_TEST && w && i->imm == (int8_t)i->imm;

	if (op == ALU_TEST)
		e_x(&t->e, i->size, 0xf6 | w, 0, o);
	else
		e_x(&t->e, i->size, w ? (small ? 0x83 : 0x81) : 0x80, op, o);
	e_imm(&t->e, small ? 1 : i->size, i->imm);
}

static unsigned alu_opcode(unsigned op, unsigned size)
{
	return (op == ALU_TEST ? 0x84 : op << 3) | (size > 1);
}

/* S1: the memory operand, as wide as a register. */
static void load_here(struct trans *t, unsigned size)
{
	e_rm(&t->e, size < 4 ? 4 : size, size == 1 ? 0x0fb6 : size == 2 ? 0x0fb7 : 0x8b, S1, HERE);
}

static void store_here(struct trans *t, unsigned size)
{
	e_rm(&t->e, size, 0x88 | (size > 1), S1, HERE);
}

/* CMP and TEST with memory. */
static void compare_mem(struct trans *t, const struct insn *i, struct alu a)
{
	bool reg_first = a.to_reg && a.op == ALU_CMP;
	unsigned opc = alu_opcode(a.op, i->size);
	struct flag_val lazy = FV_IN_LAZY, other = a.imm ? fv_imm(i->imm) : fv_slot(i->r);

	t_operand(t, i, i->size, false);
	if (fl_dead_after(t)) {
		fl_discard(t);
		if (a.imm)
			emit_alu_imm(t, i, a.op, (struct opnd){.mem = true, .m = HERE});
		else
			e_rm(&t->e, i->size, reg_first ? opc | 2 : opc, t_get(t, i->r, S1), HERE);
		fl_set_host(t);
		return;
	}
	/* The flags may have to be found out again: the value is kept. */
	load_here(t, i->size);
	e_rm(&t->e, 8, 0x89, S1, CPU_AT(offsetof(struct soft_vcpu, lazy) + (reg_first ? 8 : 0)));
	fl_discard(t);
	if (a.imm)
		emit_alu_imm(t, i, a.op, (struct opnd){.reg = S1});
	else if (reg_first || a.op == ALU_TEST)
		e_x(&t->e, i->size, opc, S1, t_opnd(i->r));
	else
		e_x(&t->e, i->size, opc | 2, S1, t_opnd(i->r));
	fl_set(t, a.op == ALU_CMP ? FK_CMP : FK_TEST, i->size, reg_first ? other : lazy,
		reg_first ? lazy : other);
}

/* reg op= memory */
static void alu_load(struct trans *t, const struct insn *i, unsigned op)
{
	bool carry = op == ALU_ADC || op == ALU_SBB,
	     logic = !carry && op != ALU_ADD && op != ALU_SUB;
	unsigned opc = alu_opcode(op, i->size) | 2, reg = t_host(i->r);

	if (!carry && !logic && reg != NO_REG && !fl_dead_after(t)) {
		load_here(t, i->size);
		e_rm(&t->e, 8, 0x89, S1, CPU(lazy[1]));
		e_rr(&t->e, i->size, opc, reg, S1);
		t_changes(t, i->r);
		fl_set(t, op == ALU_ADD ? FK_ADD : FK_SUB, i->size, fv_slot(i->r), FV_IN_LAZY);
		return;
	}
	reg = t_get(t, i->r, S1);
	fl_writes(t, i->r);
	e_rm(&t->e, i->size, opc, reg, HERE);
	t_done(t, i->r, reg);
	if (logic)
		fl_set(t, FK_LOGIC, i->size, fv_slot(i->r), (struct flag_val){0});
	else
		fl_set_host(t);
}

/*
 * memory op= reg or immediate. As a load, the operation and a store: processors forward a plain store to a plain load
 * several times as fast as to an instruction that does both.
 */
static void alu_store(struct trans *t, const struct insn *i, struct alu a)
{
	bool carry = a.op == ALU_ADC || a.op == ALU_SBB;
	unsigned opc = alu_opcode(a.op, i->size), reg;
	struct flag_val b = a.imm ? fv_imm(i->imm) : fv_slot(i->r);

	if (i->flags & INSN_LOCK && t->locks) {
		reg = a.imm ? 0 : t_get(t, i->r, S1);
		e_u8(&t->e, 0xf0);
		if (a.imm)
			emit_alu_imm(t, i, a.op, (struct opnd){.mem = true, .m = HERE});
		else
			e_rm(&t->e, i->size, opc, reg, HERE);
		fl_set_host(t);
		return;
	}
	load_here(t, i->size);
	if (a.imm)
		emit_alu_imm(t, i, a.op, (struct opnd){.reg = S1});
	else
		e_x(&t->e, i->size, opc | 2, S1, t_opnd(i->r));
	store_here(t, i->size);
	if (carry || fl_dead_after(t)) {
		fl_set_host(t);
		return;
	}
	/* The result is kept, for its flags. */
	e_rm(&t->e, 8, 0x89, S1, CPU(lazy[0]));
	if (a.op == ALU_ADD || a.op == ALU_SUB)
		fl_set(t, a.op == ALU_ADD ? FK_ADD : FK_SUB, i->size, FV_IN_LAZY, b);
	else
		fl_set(t, FK_LOGIC, i->size, FV_IN_LAZY, (struct flag_val){0});
}

static bool alu_mem(struct trans *t, const struct insn *i, struct alu a)
{
	bool carry = a.op == ALU_ADC || a.op == ALU_SBB, write = a.imm || !a.to_reg;

	if (a.op == ALU_CMP || a.op == ALU_TEST) {
		compare_mem(t, i, a);
		return true;
	}
	if (carry)
		fl_prepare(t);
	t_operand(t, i, i->size, write);
	if (carry)
		fl_load(t, S1);
	else
		fl_discard(t);
	if (write)
		alu_store(t, i, a);
	else
		alu_load(t, i, a.op);
	return true;
}

/* A register operand of one byte, as the host encodes it when there is no REX prefix; NO_REG: it cannot. */
static unsigned legacy_byte(unsigned slot)
{
	unsigned h = t_host(slot & ~7u);

	return h <= RBX ? h + (slot & 1 ? 4 : 0) : NO_REG;
}

bool t_high_bytes(struct trans *t, const struct insn *i, unsigned op, bool imm)
{
	unsigned rm = legacy_byte(i->rm), reg = imm ? 0 : legacy_byte(i->r);
	bool mov = op == T_LEGACY_MOV;

	if (i->flags & INSN_MEM || i->size != 1 || rm == NO_REG || reg == NO_REG || op == ALU_ADC ||
		op == ALU_SBB)
		return false;
	if (!mov)
		fl_discard(t);
	if (op != ALU_CMP && op != ALU_TEST)
		fl_writes(t, i->rm & ~7u);
	if (imm) {
		e_u8(&t->e, mov ? 0xc6 : op == ALU_TEST ? 0xf6 : 0x80);
		e_u8(&t->e, 0xc0 | (mov || op == ALU_TEST ? 0 : op) << 3 | rm);
		e_u8(&t->e, (uint8_t)i->imm);
	} else {
		e_u8(&t->e, mov ? 0x88 : op == ALU_TEST ? 0x84 : op << 3);
		e_u8(&t->e, 0xc0 | reg << 3 | rm);
	}
	if (!mov)
		fl_set_host(t);
	return true;
}

static bool alu(struct trans *t, const struct insn *i, unsigned op, bool imm, bool to_reg)
{
	bool dry = op == ALU_CMP || op == ALU_TEST, carry = op == ALU_ADC || op == ALU_SBB;
	bool same = !imm && i->r == i->rm;
	struct flag_val a, b;
	unsigned reg, kind;

	if (imm ? !(i->flags & INSN_MEM) && !t_low_byte(i->rm) : !t_regs_ok(i))
		return t_high_bytes(t, i, op, imm);
	if (i->flags & INSN_MEM)
		return alu_mem(t, i, (struct alu){op, imm, to_reg});
	if (carry)
		fl_load(t, S1);
	else
		fl_discard(t);
	if (dry && !imm) {
		reg = t_get(t, i->rm, S1);
		e_x(&t->e, i->size,
			op == ALU_TEST ? alu_opcode(op, i->size) : alu_opcode(op, i->size) | 2, reg,
			t_opnd(i->r));
	} else if (dry) {
		emit_alu_imm(t, i, op, t_opnd(i->rm));
	} else {
		reg = t_get(t, i->rm, S1);
		fl_writes(t, i->rm);
		if (imm)
			emit_alu_imm(t, i, op, (struct opnd){.reg = (uint8_t)reg});
		else
			e_x(&t->e, i->size, alu_opcode(op, i->size) | 2, reg, t_opnd(i->r));
		t_done(t, i->rm, reg);
	}
	a = fv_slot(i->rm);
	b = imm ? fv_imm(i->imm) : fv_slot(i->r);
	switch (op) {
	case ALU_CMP: kind = FK_CMP; break;
	case ALU_TEST: kind = FK_TEST; break;
	case ALU_ADD: kind = same ? FK_NONE : FK_ADD; break;
	case ALU_SUB: kind = same ? FK_LOGIC : FK_SUB; break;
	case ALU_ADC:
	case ALU_SBB: kind = FK_NONE; break;
	default: kind = FK_LOGIC;
	}
	if (kind == FK_LOGIC)
		b = (struct flag_val){0};
	if (kind == FK_NONE)
		fl_set_host(t);
	else
		fl_set(t, kind, i->size, a, b);
	return true;
}

/* INC, DEC, NOT, NEG: opcode and its extension. */
static bool one(struct trans *t, const struct insn *i, unsigned opc, unsigned ext)
{
	bool m = i->flags & INSN_MEM, keeps_cf = opc >= 0xfe, is_not = opc < 0xf8 && ext == 2;
	bool cf = keeps_cf && !fl_dead_after(t);
	unsigned reg;

	if (!m && !t_low_byte(i->rm))
		return false;
	if (m) {
		if (cf)
			fl_prepare(t);
		t_operand(t, i, i->size, true);
		if (cf)
			fl_load(t, S1);
		else if (!is_not)
			fl_discard(t);
		if (i->flags & INSN_LOCK && t->locks) {
			e_u8(&t->e, 0xf0);
			e_rm(&t->e, i->size, opc, ext, HERE);
		} else {
			load_here(t, i->size);
			e_rr(&t->e, i->size, opc, ext, S1);
			store_here(t, i->size);
		}
		if (!is_not)
			fl_set_host(t);
		return true;
	}
	if (cf)
		fl_load(t, S1);
	else if (!is_not)
		fl_discard(t);
	reg = t_get(t, i->rm, S1);
	fl_writes(t, i->rm);
	e_rr(&t->e, i->size, opc, ext, reg);
	t_done(t, i->rm, reg);
	if (ext == 3 && !keeps_cf)
		fl_set(t, FK_NEG, i->size, fv_slot(i->rm), (struct flag_val){0});
	else if (!is_not)
		fl_set_host(t);
	return true;
}

/* The instruction changes some flags, and leaves others; or all of them, but not always. */
static void merge_flags(struct trans *t, unsigned scratch)
{
	if (fl_dead_after(t))
		fl_discard(t);
	else
		fl_load(t, scratch);
}

/*
 * Undefined flags depend on the form: the interpreter shifts by CL always, so do we where they differ and somebody may look.
 */
static void rotate_by_cl(struct trans *t, const struct insn *i, unsigned ext, struct opnd o)
{
	e_rr(&t->e, 8, 0x8b, S1, RCX);
	e_rr(&t->e, 4, 0xc7, 0, RCX);
	e_u32(&t->e, (uint8_t)i->imm);
	e_x(&t->e, i->size, 0xd2 | (i->size > 1), ext, o);
	e_rr(&t->e, 8, 0x8b, RCX, S1);
}

struct shift {
	unsigned ext;
	bool in_cl;
	bool all;   /* flags are overwritten for certain */
	bool plain; /* with an immediate, or by CL as it is */
};

static bool shift_mem(struct trans *t, const struct insn *i, struct shift s)
{
	if (!s.all)
		fl_prepare(t);
	t_operand(t, i, i->size, true);
	if (s.all)
		fl_discard(t);
	else
		merge_flags(t, S1);
	if (!s.plain && (t->at.base == RCX || t->at.index == RCX)) {
		e_rm(&t->e, 8, 0x8d, S0, HERE);
		t->at = AT(S0, 0);
	}
	if (s.plain) {
		load_here(t, i->size);
		e_rr(&t->e, i->size, (s.in_cl ? 0xd2 : 0xc0) | (i->size > 1), s.ext, S1);
		if (!s.in_cl)
			e_u8(&t->e, (uint8_t)i->imm);
		store_here(t, i->size);
	} else {
		rotate_by_cl(t, i, s.ext, (struct opnd){.mem = true, .m = HERE});
	}
	fl_set_host(t);
	return true;
}

/* By an immediate, all flags overwritten. */
static bool shift_reg_all(struct trans *t, const struct insn *i, unsigned ext)
{
	static const uint8_t kinds[8] = {[4] = FK_SHL, [5] = FK_SHR, [6] = FK_SHL, [7] = FK_SAR};
	bool keep = !fl_dead_after(t);
	unsigned reg;

	fl_discard(t);
	reg = t_get(t, i->rm, S1);
	if (keep)
		e_rm(&t->e, 8, 0x89, reg, CPU(lazy[0]));
	e_rr(&t->e, i->size, 0xc1, ext, reg);
	e_u8(&t->e, (uint8_t)i->imm);
	t_done(t, i->rm, reg);
	if (keep)
		fl_set(t, kinds[ext], i->size, FV_IN_LAZY,
			fv_imm(i->imm & (i->size == 8 ? 63 : 31)));
	else
		fl_set_host(t);
	return true;
}

static bool shift(struct trans *t, const struct insn *i, unsigned ext)
{
	unsigned mask = i->size == 8 ? 63 : 31, reg;
	struct shift s = {.ext = ext, .in_cl = t->op->op >= 0xd2};

	if (ext == 2 || ext == 3 || (!(i->flags & INSN_MEM) && !t_low_byte(i->rm)))
		return false;
	s.all = !s.in_cl && ext >= 4 && i->imm & mask && i->size >= 4;
	s.plain = s.in_cl || s.all || (i->imm & mask) == 1 || fl_dead_after(t);
	if (i->flags & INSN_MEM)
		return shift_mem(t, i, s);
	if (s.all)
		return shift_reg_all(t, i, ext);
	merge_flags(t, S1);
	if (!s.plain) {
		fl_writes(t, i->rm);
		e_x(&t->e, 8, 0x8b, S0, t_opnd(i->rm));
		rotate_by_cl(t, i, ext, (struct opnd){.reg = S0});
		reg = t_host(i->rm);
		if (reg == NO_REG)
			t_done(t, i->rm, S0);
		else
			e_rr(&t->e, 8, 0x8b, reg, S0);
		fl_set_host(t);
		return true;
	}
	reg = t_get(t, i->rm, S1);
	fl_writes(t, i->rm);
	e_rr(&t->e, i->size, (s.in_cl ? 0xd2 : 0xc0) | (i->size > 1), ext, reg);
	if (!s.in_cl)
		e_u8(&t->e, (uint8_t)i->imm);
	t_done(t, i->rm, reg);
	fl_set_host(t);
	return true;
}

/* SHLD, SHRD of registers. */
static bool shift_double(struct trans *t, const struct insn *i)
{
	bool in_cl = t->op->op & 1;
	unsigned d, s;

	if (i->flags & INSN_MEM || i->size < 4)
		return false;
	merge_flags(t, S1);
	s = t_get(t, i->r, S0);
	d = t_get(t, i->rm, S1);
	fl_writes(t, i->rm);
	e_rr(&t->e, i->size, 0x0f00u | t->op->op, s, d);
	if (!in_cl)
		e_u8(&t->e, (uint8_t)i->imm);
	t_done(t, i->rm, d);
	fl_set_host(t);
	return true;
}

static bool imul(struct trans *t, const struct insn *i, bool imm)
{
	bool m = i->flags & INSN_MEM, keep = i->size >= 4 && !fl_dead_after(t);
	struct flag_val other = imm ? fv_imm(i->imm) : FV_IN_LAZY;
	unsigned opc = imm ? 0x69 : 0x0faf, reg;
	struct opnd src;

	if (i->size == 1)
		return false;
	if (m)
		t_operand(t, i, i->size, false);
	fl_discard(t);
	if (keep) { /* the factors, for the flags */
		e_x(&t->e, i->size, 0x8b, S1,
			m ? (struct opnd){.mem = true, .m = HERE} : t_opnd(i->rm));
		e_rm(&t->e, 8, 0x89, S1, CPU(lazy[0]));
		if (!imm) {
			reg = t_get(t, i->r, S0);
			e_rm(&t->e, 8, 0x89, reg, CPU(lazy[1]));
		}
		src = (struct opnd){.reg = S1};
	} else {
		src = m ? (struct opnd){.mem = true, .m = HERE} : t_opnd(i->rm);
	}
	reg = t_get(t, i->r, keep ? S0 : S1);
	e_old_flags(&t->e);
	e_x(&t->e, i->size, opc, reg, src);
	if (imm)
		e_imm(&t->e, i->size, i->imm);
	t_done(t, i->r, reg);
	if (keep)
		fl_set(t, FK_IMUL, i->size, FV_IN_LAZY, other);
	else
		fl_set_host(t);
	return true;
}

/* The operand of MUL, DIV and their kin in S1. */
static void factor(struct trans *t, const struct insn *i)
{
	if (i->flags & INSN_MEM) {
		t_operand(t, i, i->size, false);
		e_rm(&t->e, i->size, 0x8b, S1, HERE);
	} else {
		e_x(&t->e, i->size, 0x8b, S1, t_opnd(i->rm));
	}
}

static bool mul(struct trans *t, const struct insn *i, unsigned ext)
{
	if (i->size < 4)
		return false;
	factor(t, i);
	fl_discard(t);
	e_old_flags(&t->e);
	e_rr(&t->e, i->size, 0xf7, ext, S1);
	fl_set_host(t);
	return true;
}

static bool divide(struct trans *t, const struct insn *i, bool is_signed)
{
	struct emit *e = &t->e;

	if (i->size < 4)
		return false;
	fl_clobber(t);
	factor(t, i);
	if (!is_signed) {
		e_rr(e, i->size, 0x3b, RDX, S1);
		t_exit(t, X_HANDLER, e_jcc(e, CC_AE), i);
	} else {
		/* Only when the dividend is a sign-extended RAX, the divisor neither 0 nor -1. */
		e_rr(e, i->size, 0x8b, S0, RAX);
		e_rr(e, i->size, 0xc1, 7, S0);
		e_u8(e, i->size * 8 - 1);
		e_rr(e, i->size, 0x3b, S0, RDX);
		t_exit(t, X_HANDLER, e_jcc(e, CC_NE), i);
		e_rm(e, i->size, 0x8d, S0, AT(S1, 1));
		e_rr(e, i->size, 0x83, 7, S0);
		e_u8(e, 1);
		t_exit(t, X_HANDLER, e_jcc(e, CC_BE), i);
	}
	/* S1 is in use: what fl_writes() stores is in registers of its own. */
	fl_writes(t, CPU_RAX * 8);
	fl_writes(t, CPU_RDX * 8);
	e_rr(e, i->size, 0xf7, is_signed ? 7 : 6, S1);
	return true;
}

/* --- bits */

/* BT, BTS, BTR, BTC; ext 4 to 7. Only CF changes. */
static bool bit_test(struct trans *t, const struct insn *i, unsigned ext, bool imm)
{
	bool m = i->flags & INSN_MEM;
	unsigned reg;

	if (ext < 4 || (m && !imm))
		return false;
	if (m) {
		fl_prepare(t);
		t_operand(t, i, i->size, ext != 4);
		merge_flags(t, S1);
		if (i->flags & INSN_LOCK)
			t_lock(t);
		e_rm(&t->e, i->size, 0x0fba, ext, HERE);
		e_u8(&t->e, (uint8_t)i->imm);
		fl_set_host(t);
		return true;
	}
	merge_flags(t, S1);
	reg = t_get(t, i->rm, S1);
	if (ext != 4)
		fl_writes(t, i->rm);
	if (imm) {
		e_rr(&t->e, i->size, 0x0fba, ext, reg);
		e_u8(&t->e, (uint8_t)i->imm);
	} else {
		e_rr(&t->e, i->size, 0x0f83 | ext << 3, t_get(t, i->r, S0), reg);
	}
	if (ext != 4)
		t_done(t, i->rm, reg);
	fl_set_host(t);
	return true;
}

/* BSF, BSR, TZCNT, LZCNT, POPCNT; the first two leave the destination alone for 0. */
static bool count(struct trans *t, const struct insn *i)
{
	unsigned opc = 0x0f00u | t->op->op | (t->op->pfx == 0xf3 ? 0xf3000000u : 0), reg;

	if (i->size < 4 || (t->op->op == 0xb8 && t->op->pfx != 0xf3))
		return false;
	if (i->flags & INSN_MEM) {
		fl_prepare(t);
		t_operand(t, i, i->size, false);
	}
	merge_flags(t, S1);
	reg = t_get(t, i->r, S1);
	fl_writes(t, i->r);
	e_x(&t->e, i->size, opc, reg,
		i->flags & INSN_MEM ? (struct opnd){.mem = true, .m = HERE} : t_opnd(i->rm));
	t_done(t, i->r, reg);
	fl_set_host(t);
	return true;
}

/* i->imm: bytes of the source. */
static bool crc32(struct trans *t, const struct insn *i)
{
	bool m = i->flags & INSN_MEM;
	unsigned from = (unsigned)i->imm, reg;

	if (!(simd_host_features() & FEAT_SSE42) || from == 2 || (from == 1 && !m))
		return false;
	if (m)
		t_operand(t, i, from, false);
	fl_writes(t, i->r);
	reg = t_get(t, i->r, S1);
	e_x(&t->e, from == 8 ? 8 : 4, 0xf20f3800 | t->op->op, reg,
		m ? (struct opnd){.mem = true, .m = HERE} : t_opnd(i->rm));
	t_done(t, i->r, reg);
	return true;
}

static bool bswap(struct trans *t, const struct insn *i)
{
	unsigned reg;

	if (i->size < 4)
		return false;
	reg = t_get(t, i->rm, S1);
	fl_writes(t, i->rm);
	e_op(&t->e, i->size, 0x0fc8 | (reg & 7), 0, 0, reg);
	t_done(t, i->rm, reg);
	return true;
}

/* --- by opcode */

static bool insn_0f(struct trans *t, const struct insn *i)
{
	unsigned op = t->op->op;

	switch (op) {
	case 0xa3:
	case 0xab:
	case 0xb3:
	case 0xbb: return bit_test(t, i, op >> 3 & 7, false);
	case 0xa4:
	case 0xa5:
	case 0xac:
	case 0xad: return shift_double(t, i);
	case 0xaf: return imul(t, i, false);
	case 0xb8:
	case 0xbc:
	case 0xbd: return count(t, i);
	case 0xba: return bit_test(t, i, t->op->reg & 7, true);
	case 0xc8 ... 0xcf: return bswap(t, i);
	default: return t_move_0f(t, i) || t_sse(t, i);
	}
}

static bool may_lock(const struct trans *t)
{
	unsigned op = t->op->op;

	if (t->op->map == MAP_0F)
		return op == 0xba || op == 0xb0 || op == 0xb1 || op == 0xc0 || op == 0xc1;
	return t->op->map == MAP_1 && op != 0xc0 && op != 0xc1;
}

static bool insn(struct trans *t, const struct insn *i)
{
	unsigned op = t->op->op, ext = t->op->reg & 7;

	if (i->flags & INSN_LOCK && !may_lock(t))
		return false;
	if (t->op->map == MAP_0F)
		return insn_0f(t, i);
	if (t->op->map == MAP_0F38 && (op & 0xfe) == 0xf0 && t->op->pfx == 0xf2)
		return crc32(t, i);
	if (t->op->map != MAP_1)
		return t_sse(t, i);
	if (op < 0x40 && (op & 7) < 6)
		return alu(t, i, op >> 3, (op & 7) >= 4, op & 2);
	switch (op) {
	case 0x69:
	case 0x6b: return imul(t, i, true);
	case 0x80:
	case 0x81:
	case 0x83: return alu(t, i, ext, true, false);
	case 0x84:
	case 0x85: return alu(t, i, ALU_TEST, false, false);
	case 0xa8:
	case 0xa9: return alu(t, i, ALU_TEST, true, false);
	case 0xc0:
	case 0xc1:
	case 0xd0 ... 0xd3: return shift(t, i, ext);
	case 0xf6:
	case 0xf7:
		switch (ext) {
		case 0:
		case 1: return alu(t, i, ALU_TEST, true, false);
		case 2:
		case 3: return one(t, i, op, ext);
		case 4:
		case 5: return mul(t, i, ext);
		default: return divide(t, i, ext == 7);
		}
	case 0xfe:
	case 0xff: return ext < 2 ? one(t, i, op, ext) : t_move(t, i);
	default: return t_move(t, i);
	}
}

/* Instructions that tell t->near what they change; all others are thought to change everything. */
static bool keeps_near(const struct jit_op *op)
{
	unsigned o = op->op;

	if (op->map == MAP_0F)
		return (o >= 0x40 && o <= 0x4f) || (o >= 0x90 && o <= 0x9f) || (o & 0xf6) == 0xb6 ||
		       (o >= 0x10 && o <= 0x17) || (o >= 0x28 && o <= 0x29) ||
		       (o >= 0x54 && o <= 0x5f) || o == 0x6f || o == 0x7f;
	if (op->map != MAP_1)
		return false;
	return o < 0x40 || (o >= 0x50 && o <= 0x5f) || o == 0x63 || (o >= 0x80 && o <= 0x85) ||
	       (o >= 0x88 && o <= 0x8b) || o == 0x8d || o == 0xa8 || o == 0xa9 ||
	       (o >= 0xb0 && o <= 0xbf) || o == 0xc6 || o == 0xc7;
}

unsigned t_insn(struct trans *t, const struct insn *i)
{
	unsigned n = 0;

	if (!keeps_near(t->op))
		t_uses_s0(t);

	if (t->op->map == MAP_1 && (t->op->op & 0xf0) == 0x50)
		n = t_stack_regs(t, i);
	if (!n)
		n = insn(t, i);
	if (!keeps_near(t->op))
		t_uses_s0(t);
	return n;
}

int t_flags_effect(const struct insn *i, const struct jit_op *op)
{
	unsigned o = op->op, ext = op->reg & 7;

	if (i->flags & INSN_LOCK)
		return -1;
	if (op->map == MAP_1 && o == 0x8d)
		return t_regs_ok(i) && i->size >= 4 && !(i->ea & EA_SLOW & ~EA_ADDSEG) ? 0 : -1;
	if (i->flags & INSN_MEM || !t_regs_ok(i))
		return -1;
	if (op->map == MAP_0F) {
		if (o == 0xb6 || o == 0xb7 || o == 0xbe || o == 0xbf)
			return 0;
		return o == 0xaf ? 1 : -1;
	}
	if (op->map != MAP_1)
		return -1;
	if (o < 0x40 && (o & 7) < 6)
		return o >> 3 == ALU_ADC || o >> 3 == ALU_SBB ? -1 : 1;
	switch (o) {
	case 0x80:
	case 0x81:
	case 0x83: return ext == ALU_ADC || ext == ALU_SBB ? -1 : 1;
	case 0x84:
	case 0x85:
	case 0xa8:
	case 0xa9: return 1;
	case 0x63:
	case 0x88 ... 0x8b:
	case 0x98:
	case 0x99:
	case 0xb0 ... 0xbf: return o == 0x63 && i->size != 8 ? -1 : 0;
	case 0xc0:
	case 0xc1:
	case 0xd0:
	case 0xd1: return ext >= 4 && i->size >= 4 && i->imm & (i->size == 8 ? 63 : 31) ? 1 : -1;
	default: return -1;
	}
}
