/* SPDX-License-Identifier: MIT */
/*
 * Translation of single instructions: the same instruction on host registers, with the guest's address looked up in the
 * TLB. Nothing that the guest can see changes before the last check that may leave for the interpreter.
 */
#include <stddef.h>
#include "vmm/cpu/soft/jit/region.h"

#define CPU(field) AT(R_CPU, (int32_t)offsetof(struct soft_vcpu, field))

enum { ALU_ADC = 2, ALU_SBB = 3, ALU_CMP = 7, CC_NE = 5 };

static bool low_byte(unsigned slot)
{
	return (slot & 7) == 0;
}

/* Register operands are whole registers or low bytes (not AH to BH). */
static bool regs_ok(const struct insn *i)
{
	return low_byte(i->r) && (i->flags & INSN_MEM || low_byte(i->rm));
}

void region_load_flags(struct region *r)
{
	e_rm(&r->e, 4, 0x0fb7, RAX, CPU(fl));
	e_u8(&r->e, 0x04); /* add al, 0x7f: OF */
	e_u8(&r->e, 0x7f);
	e_u8(&r->e, 0x9e); /* sahf */
	r->fl_live = true;
}

static void load_cf(struct region *r)
{
	e_rm(&r->e, 2, 0x0fba, 4, CPU(fl)); /* bt */
	e_u8(&r->e, 8);
}

static void save_flags(struct region *r)
{
	r->fl_live = true;
	if (!r->save_fl)
		return;
	e_u8(&r->e, 0x9f); /* lahf */
	e_rr(&r->e, 1, 0x0f90, 0, RAX);
	e_rm(&r->e, 2, 0x89, RAX, CPU(fl));
}

/* The EA without the segment's base; in registers, or RAX. */
static struct maddr offset(struct region *r, const struct insn *i)
{
	struct maddr m = {NO_REG, NO_REG, i->scale, i->disp};

	if (i->base == SLOT_IP) {
		e_rm(&r->e, 8, 0x8b, RAX, CPU(ip_base));
		m.base = RAX;
	} else if (i->base != SLOT_ZERO) {
		m.base = (uint8_t)region_reg(r, i->base);
	}
	if (i->index != SLOT_ZERO)
		m.index = (uint8_t)region_reg(r, i->index);
	return m;
}

/* RAX: a linear address. Makes it the host's, or leaves for the interpreter. Changes RCX, RDX and the flags. */
static void lookup(struct region *r, const struct insn *i, unsigned size, bool write)
{
	struct emit *e = &r->e;

	r->fl_live = false;
	e_rr(e, 4, 0x8b, RCX, RAX);
	e_rr(e, 4, 0xc1, 5, RCX); /* shr */
	e_u8(e, 7);
	e_rr(e, 4, 0x81, 4, RCX); /* and */
	e_u32(e, (TLB_SIZE - 1) * sizeof(struct tlbe));
	e_rm(e, 8, 0x8d, RDX, AT(RAX, (int32_t)size - 1));
	e_rr(e, 8, 0x81, 4, RDX);
	e_u32(e, 0xfffff000);
	e_rm(e, 8, 0x3b, RDX,
		(struct maddr){R_TLB, RCX, 0,
			write ? offsetof(struct tlbe, w) : offsetof(struct tlbe, r)});
	region_exit_at(r, e_jcc(e, CC_NE), i, r->op->fn);
	e_rm(e, 8, 0x03, RAX, (struct maddr){R_TLB, RCX, 0, offsetof(struct tlbe, addend)});
}
_Static_assert(sizeof(struct tlbe) == 32 && offsetof(struct soft_tlb, d) == 0, "see lookup()");

/* The memory operand's host address in RAX. */
static struct maddr operand(struct region *r, const struct insn *i, unsigned size, bool write)
{
	if (i->ea & EA_SLOW & ~EA_ADDSEG)
		r->fail = true;
	e_rm(&r->e, 8, 0x8d, RAX, offset(r, i));
	if (i->ea & EA_ADDSEG)
		e_rm(&r->e, 8, 0x03, RAX, AT(R_CPU, SLOT_SEGBASE + 8 * (i->ea & EA_SEG)));
	lookup(r, i, size, write);
	return AT(RAX, 0);
}

static struct maddr stack(struct region *r, const struct insn *i, int32_t off, bool write)
{
	e_rm(&r->e, 8, 0x8d, RAX, AT(region_reg(r, SLOT_RSP), off));
	lookup(r, i, 8, write);
	return AT(RAX, 0);
}

static void move_rsp(struct region *r, int32_t by)
{
	unsigned sp = region_wreg(r, SLOT_RSP);

	e_rm(&r->e, 8, 0x8d, sp, AT(sp, by));
}

/* --- arithmetic */

/* op: as in the opcodes 80-83, or 8: TEST. */
static bool alu(struct region *r, const struct insn *i, unsigned op, bool imm, bool to_reg)
{
	bool m = i->flags & INSN_MEM, test = op == 8, dry = test || op == ALU_CMP;
	bool carry = op == ALU_ADC || op == ALU_SBB;
	unsigned w = i->size > 1, opc = test ? 0x84 | w : op << 3 | w, rm = 0, reg = 0;
	struct maddr at = {0};

	if (imm ? !m && !low_byte(i->rm) : !regs_ok(i))
		return false;
	if (m)
		at = operand(r, i, i->size, !dry && (imm || !to_reg));
	else
		rm = dry ? region_reg(r, i->rm) : region_wreg(r, i->rm);
	if (!imm)
		reg = m && to_reg && !dry ? region_wreg(r, i->r) : region_reg(r, i->r);
	if (carry)
		load_cf(r);
	if (imm) {
		bool small = !test && w && i->imm == (int8_t)i->imm;
		unsigned o = test ? 0xf6 | w : w ? (small ? 0x83 : 0x81) : 0x80;

		if (m)
			e_rm(&r->e, i->size, o, test ? 0 : op, at);
		else
			e_rr(&r->e, i->size, o, test ? 0 : op, rm);
		e_imm(&r->e, small ? 1 : i->size, i->imm);
	} else if (m) {
		e_rm(&r->e, i->size, to_reg && !test ? opc | 2 : opc, reg, at);
	} else {
		e_rr(&r->e, i->size, opc, reg, rm);
	}
	save_flags(r);
	return true;
}

/* INC, DEC, NOT, NEG: opcode and its extension. */
static bool one(struct region *r, const struct insn *i, unsigned opc, unsigned ext)
{
	bool m = i->flags & INSN_MEM, keeps_cf = opc >= 0xfe, is_not = opc < 0xf8 && ext == 2;
	struct maddr at = {0};
	unsigned rm = 0;

	if (!m && !low_byte(i->rm))
		return false;
	if (m)
		at = operand(r, i, i->size, true);
	else
		rm = region_wreg(r, i->rm);
	if (keeps_cf)
		load_cf(r);
	if (m)
		e_rm(&r->e, i->size, opc, ext, at);
	else
		e_rr(&r->e, i->size, opc, ext, rm);
	if (!is_not)
		save_flags(r);
	return true;
}

static bool shift(struct region *r, const struct insn *i, unsigned ext)
{
	bool count_in_cl = r->op->op >= 0xd2 && r->op->op <= 0xd3, by_cl;
	unsigned mask = i->size == 8 ? 63 : 31, rm, n;

	if (i->flags & INSN_MEM || !low_byte(i->rm) || ext == 2 || ext == 3)
		return false;
	rm = region_wreg(r, i->rm);
	/* Undefined flags depend on the form: where the interpreter shifts by CL, so do we. */
	by_cl = count_in_cl || ext < 2 || !(i->imm & mask) || i->size < 4;
	if (count_in_cl) {
		n = region_reg(r, CPU_RCX * 8);
		e_rr(&r->e, 4, 0x8b, RCX, n);
	} else if (by_cl) {
		e_mov_imm(&r->e, RCX, (uint8_t)i->imm);
	}
	if (by_cl)
		region_load_flags(r);
	e_rr(&r->e, i->size, (by_cl ? 0xd2 : 0xc0) | (i->size > 1), ext, rm);
	if (!by_cl)
		e_u8(&r->e, (uint8_t)i->imm);
	save_flags(r);
	return true;
}

static bool imul(struct region *r, const struct insn *i, bool imm)
{
	bool m = i->flags & INSN_MEM;
	unsigned opc = imm ? 0x69 : 0x0faf, reg;
	struct maddr at = {0};

	if (m)
		at = operand(r, i, i->size, false);
	reg = region_wreg(r, i->r);
	if (m)
		e_rm(&r->e, i->size, opc, reg, at);
	else
		e_rr(&r->e, i->size, opc, reg, region_reg(r, i->rm));
	if (imm)
		e_imm(&r->e, i->size, i->imm);
	save_flags(r);
	return true;
}

/* --- moves */

static bool mov(struct region *r, const struct insn *i, bool to_reg)
{
	unsigned w = i->size > 1;

	if (!regs_ok(i))
		return false;
	if (!(i->flags & INSN_MEM)) {
		unsigned s = region_reg(r, i->r);

		e_rr(&r->e, i->size, 0x88 | w, s, region_wreg(r, i->rm));
		return true;
	}
	struct maddr at = operand(r, i, i->size, !to_reg);

	if (to_reg)
		e_rm(&r->e, i->size, 0x8a | w, region_wreg(r, i->r), at);
	else
		e_rm(&r->e, i->size, 0x88 | w, region_reg(r, i->r), at);
	return true;
}

static bool mov_imm(struct region *r, const struct insn *i)
{
	if (i->flags & INSN_MEM) {
		e_rm(&r->e, i->size, 0xc6 | (i->size > 1), 0, operand(r, i, i->size, true));
		e_imm(&r->e, i->size, i->imm);
		return true;
	}
	if (!low_byte(i->rm))
		return false;
	if (i->size >= 4) {
		uint64_t v = (uint64_t)i->imm;

		e_mov_imm(&r->e, region_wreg(r, i->rm), i->size == 8 ? v : (uint32_t)v);
	} else {
		e_rr(&r->e, i->size, 0xc6 | (i->size > 1), 0, region_wreg(r, i->rm));
		e_imm(&r->e, i->size, i->imm);
	}
	return true;
}

/* MOVZX, MOVSX, MOVSXD with the host's opcode. */
static bool extend(struct region *r, const struct insn *i, unsigned opc, unsigned from)
{
	if (i->flags & INSN_MEM) {
		struct maddr at = operand(r, i, from, false);

		e_rm(&r->e, i->size, opc, region_wreg(r, i->r), at);
		return true;
	}
	if (!low_byte(i->rm))
		return false;
	unsigned s = region_reg(r, i->rm);

	e_rr(&r->e, i->size, opc, region_wreg(r, i->r), s);
	return true;
}

static bool lea(struct region *r, const struct insn *i)
{
	if (!(i->flags & INSN_MEM) || i->size < 4 || i->ea & EA_SLOW & ~EA_ADDSEG)
		return false;
	struct maddr m = offset(r, i);

	e_rm(&r->e, i->size, 0x8d, region_wreg(r, i->r), m);
	return true;
}

static bool push(struct region *r, const struct insn *i, bool imm)
{
	if (i->size != 8 || i->flags & INSN_MEM)
		return false;
	struct maddr at = stack(r, i, -8, true);

	if (imm) {
		e_rm(&r->e, 8, 0xc7, 0, at);
		e_u32(&r->e, (uint32_t)i->imm);
	} else {
		e_rm(&r->e, 8, 0x89, region_reg(r, i->rm), at);
	}
	move_rsp(r, -8);
	return true;
}

static bool pop(struct region *r, const struct insn *i)
{
	if (i->size != 8 || i->flags & INSN_MEM)
		return false;
	struct maddr at = stack(r, i, 0, false);

	move_rsp(r, 8);
	e_rm(&r->e, 8, 0x8b, region_wreg(r, i->rm), at);
	return true;
}

static bool leave(struct region *r, const struct insn *i)
{
	unsigned bp = region_wreg(r, CPU_RBP * 8);

	if (i->size != 8)
		return false;
	e_rm(&r->e, 8, 0x8d, RAX, AT(bp, 0));
	lookup(r, i, 8, false);
	e_rm(&r->e, 8, 0x8d, region_wreg(r, SLOT_RSP), AT(bp, 8));
	e_rm(&r->e, 8, 0x8b, bp, AT(RAX, 0));
	return true;
}

void region_call(struct region *r, const struct insn *i)
{
	struct maddr at = stack(r, i, -8, true);

	e_rm(&r->e, 8, 0x8b, RCX, CPU(ip_base));
	e_rm(&r->e, 8, 0x8d, RCX, AT(RCX, i->off + i->len));
	e_rm(&r->e, 8, 0x89, RCX, at);
	move_rsp(r, -8);
}

static bool setcc(struct region *r, const struct insn *i)
{
	if (i->flags & INSN_MEM || !low_byte(i->rm))
		return false;
	if (!r->fl_live)
		region_load_flags(r);
	e_rr(&r->e, 1, 0x0f90 | (r->op->op & 15), 0, region_wreg(r, i->rm));
	return true;
}

static bool cmov(struct region *r, const struct insn *i)
{
	struct maddr at = {0};
	bool m = i->flags & INSN_MEM;
	unsigned opc = 0x0f40 | (r->op->op & 15);

	if (m) {
		at = operand(r, i, i->size, false);
		e_rr(&r->e, 8, 0x8b, RCX, RAX);
		at.base = RCX;
	}
	if (!r->fl_live)
		region_load_flags(r);
	if (m)
		e_rm(&r->e, i->size, opc, region_wreg(r, i->r), at);
	else
		e_rr(&r->e, i->size, opc, region_wreg(r, i->r), region_reg(r, i->rm));
	return true;
}

static bool cdq(struct region *r, const struct insn *i)
{
	unsigned d;

	if (i->size < 4)
		return false;
	d = region_wreg(r, CPU_RDX * 8);
	e_rr(&r->e, i->size, 0x8b, d, region_reg(r, CPU_RAX * 8));
	e_rr(&r->e, i->size, 0xc1, 7, d);
	e_u8(&r->e, i->size == 8 ? 63 : 31);
	r->fl_live = false;
	return true;
}

static bool cbw(struct region *r, const struct insn *i)
{
	unsigned a = region_wreg(r, CPU_RAX * 8);

	if (i->size == 8)
		e_rr(&r->e, 8, 0x63, a, a);
	else
		e_rr(&r->e, i->size, i->size == 4 ? 0x0fbf : 0x0fbe, a, a);
	return true;
}

static bool insn_0f(struct region *r, const struct insn *i)
{
	unsigned op = r->op->op;

	switch (op) {
	case 0x40 ... 0x4f: return cmov(r, i);
	case 0x90 ... 0x9f: return setcc(r, i);
	case 0xaf: return imul(r, i, false);
	case 0xb6:
	case 0xbe: return extend(r, i, 0x0f00 | op, 1);
	case 0xb7:
	case 0xbf: return extend(r, i, 0x0f00 | op, 2);
	default: return false;
	}
}

bool region_insn(struct region *r, const struct insn *i)
{
	unsigned op = r->op->op, ext = r->op->reg & 7;

	if (i->flags & INSN_LOCK)
		return false;
	if (r->op->map == MAP_0F)
		return insn_0f(r, i);
	if (r->op->map != MAP_1)
		return false;
	if (op < 0x40 && (op & 7) < 6)
		return alu(r, i, op >> 3, (op & 7) >= 4, op & 2);
	switch (op) {
	case 0x50 ... 0x57: return push(r, i, false);
	case 0x58 ... 0x5f: return pop(r, i);
	case 0x63: return i->size == 8 && extend(r, i, 0x63, 4);
	case 0x68:
	case 0x6a: return push(r, i, true);
	case 0x69:
	case 0x6b: return imul(r, i, true);
	case 0x80:
	case 0x81:
	case 0x83: return alu(r, i, ext, true, false);
	case 0x84:
	case 0x85: return alu(r, i, 8, false, false);
	case 0x88:
	case 0x89: return mov(r, i, false);
	case 0x8a:
	case 0x8b: return mov(r, i, true);
	case 0x8d: return lea(r, i);
	case 0x98: return cbw(r, i);
	case 0x99: return cdq(r, i);
	case 0xa8:
	case 0xa9: return alu(r, i, 8, true, false);
	case 0xb0 ... 0xbf:
	case 0xc6:
	case 0xc7: return mov_imm(r, i);
	case 0xc0:
	case 0xc1:
	case 0xd0 ... 0xd3: return shift(r, i, ext);
	case 0xc9: return leave(r, i);
	case 0xf6:
	case 0xf7:
		if (ext < 2)
			return alu(r, i, 8, true, false);
		return ext < 4 && one(r, i, op, ext);
	case 0xfe:
	case 0xff: return ext < 2 && one(r, i, op, ext);
	default: return false;
	}
}

int region_flags_effect(const struct insn *i, const struct jit_op *op)
{
	unsigned o = op->op;

	if (!op->known || op->map != MAP_1 || i->flags & INSN_LOCK)
		return -1;
	if (o == 0x8d || (o >= 0xb0 && o <= 0xbf))
		return regs_ok(i) ? 0 : -1;
	if (i->flags & INSN_MEM || !regs_ok(i))
		return -1;
	if (o < 0x40 && (o & 7) < 6)
		return o >> 3 == ALU_ADC || o >> 3 == ALU_SBB ? -1 : 1;
	if (o == 0x80 || o == 0x81 || o == 0x83)
		return (op->reg & 7) == ALU_ADC || (op->reg & 7) == ALU_SBB ? -1 : 1;
	if (o == 0x84 || o == 0x85 || o == 0xa8 || o == 0xa9)
		return 1;
	if (o >= 0x88 && o <= 0x8b)
		return 0;
	return -1;
}
