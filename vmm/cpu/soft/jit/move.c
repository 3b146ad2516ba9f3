/* SPDX-License-Identifier: MIT */
/* Translation of instructions that move data, or single flags: as insn.c's. */
#include "vmm/cpu/soft/jit/trans.h"

/* --- exchanges */

static bool xchg(struct trans *t, const struct insn *i)
{
	bool w = i->size > 1;
	unsigned a, b;

	if (!t_regs_ok(i))
		return false;
	if (i->flags & INSN_MEM) {
		t_operand(t, i, i->size, true);
		a = t_get(t, i->r, S1);
		fl_writes(t, i->r);
		e_rm(&t->e, i->size, 0x86 | w, a, HERE);
		t_done(t, i->r, a);
		return true;
	}
	a = t_get(t, i->r, S0);
	fl_writes(t, i->r);
	b = t_get(t, i->rm, S1);
	fl_writes(t, i->rm);
	e_rr(&t->e, i->size, 0x86 | w, a, b);
	t_done(t, i->r, a);
	t_done(t, i->rm, b);
	return true;
}

/* XADD, CMPXCHG with memory. */
static bool exchange_mem(struct trans *t, const struct insn *i, bool cmp)
{
	unsigned reg;

	if (!(i->flags & INSN_MEM) || !t_low_byte(i->r))
		return false;
	t_operand(t, i, i->size, true);
	fl_discard(t);
	reg = t_get(t, i->r, S1);
	if (i->flags & INSN_LOCK)
		t_lock(t);
	e_rm(&t->e, i->size, 0x0f00u | t->op->op, reg, HERE);
	if (!cmp)
		t_done(t, i->r, reg);
	fl_set_host(t);
	return true;
}

/* --- moves */

static bool mov(struct trans *t, const struct insn *i, bool to_reg)
{
	unsigned w = i->size > 1, reg;

	if (!t_regs_ok(i))
		return t_high_bytes(t, i, T_LEGACY_MOV, false);
	if (i->flags & INSN_MEM) {
		t_operand(t, i, i->size, !to_reg);
		if (!to_reg) {
			e_rm(&t->e, i->size, 0x88 | w, t_get(t, i->r, S1), HERE);
			return true;
		}
		fl_writes(t, i->r);
		reg = i->size < 4 ? t_get(t, i->r, S1) : t_put(t, i->r, S1);
		e_rm(&t->e, i->size, 0x8a | w, reg, HERE);
		t_done(t, i->r, reg);
		return true;
	}
	fl_writes(t, i->rm);
	if (t_host(i->rm) == NO_REG && i->size == 8) {
		e_rm(&t->e, 8, 0x89, t_get(t, i->r, S1), CPU_AT(i->rm));
		return true;
	}
	reg = i->size < 4 ? t_get(t, i->rm, S1) : t_put(t, i->rm, S1);
	e_x(&t->e, i->size, 0x8a | w, reg, t_opnd(i->r));
	t_done(t, i->rm, reg);
	return true;
}

static bool mov_imm(struct trans *t, const struct insn *i)
{
	unsigned reg;

	if (i->flags & INSN_MEM) {
		t_operand(t, i, i->size, true);
		e_rm(&t->e, i->size, 0xc6 | (i->size > 1), 0, HERE);
		e_imm(&t->e, i->size, i->imm);
		return true;
	}
	if (!t_low_byte(i->rm))
		return t_high_bytes(t, i, T_LEGACY_MOV, true);
	fl_writes(t, i->rm);
	if (i->size >= 4) {
		uint64_t v = (uint64_t)i->imm;

		reg = t_put(t, i->rm, S1);
		e_mov_imm(&t->e, reg, i->size == 8 ? v : (uint32_t)v);
	} else {
		reg = t_get(t, i->rm, S1);
		e_rr(&t->e, i->size, 0xc6 | (i->size > 1), 0, reg);
		e_imm(&t->e, i->size, i->imm);
	}
	t_done(t, i->rm, reg);
	return true;
}

/* MOVZX, MOVSX, MOVSXD with the host's opcode. */
static bool extend(struct trans *t, const struct insn *i, unsigned opc, unsigned from)
{
	bool m = i->flags & INSN_MEM;
	unsigned reg;

	if (!t_low_byte(i->r) || (!m && !t_low_byte(i->rm)))
		return false;
	if (m)
		t_operand(t, i, from, false);
	fl_writes(t, i->r);
	reg = i->size < 4 ? t_get(t, i->r, S1) : t_put(t, i->r, S1);
	if (!m && from == 1 && t_host(i->rm) != NO_REG && i->size > 1) {
		/* SPL to DIL need a REX prefix, whatever the size. */
		unsigned h = t_host(i->rm);

		if (i->size == 2)
			e_u8(&t->e, 0x66);
		e_u8(&t->e, 0x40 | (i->size == 8 ? 8 : 0) | (reg >> 3) << 2 | h >> 3);
		e_u8(&t->e, 0x0f);
		e_u8(&t->e, opc & 0xff);
		e_u8(&t->e, 0xc0 | (reg & 7) << 3 | (h & 7));
	} else {
		e_x(&t->e, i->size, opc, reg,
			m ? (struct opnd){.mem = true, .m = HERE} : t_opnd(i->rm));
	}
	t_done(t, i->r, reg);
	return true;
}

/* MOVZX, MOVSX of AH to BH: the host's own registers, where no REX prefix is needed. */
static bool extend_high(struct trans *t, const struct insn *i)
{
	unsigned d = t_host(i->r & ~7u), s = t_host(i->rm & ~7u);

	if (i->flags & INSN_MEM || t_low_byte(i->rm) || i->size != 4 || d > RDI || s > RBX)
		return false;
	fl_writes(t, i->r);
	e_u8(&t->e, 0x0f);
	e_u8(&t->e, t->op->op);
	e_u8(&t->e, 0xc0 | d << 3 | (s + 4));
	return true;
}

static bool lea(struct trans *t, const struct insn *i)
{
	struct maddr m;
	unsigned reg;

	if (!(i->flags & INSN_MEM) || i->size < 4 || i->ea & EA_SLOW & ~EA_ADDSEG)
		return false;
	fl_writes(t, i->r);
	m = t_offset(t, i);
	reg = t_put(t, i->r, S1);
	e_rm(&t->e, i->size, 0x8d, reg, m);
	t_done(t, i->r, reg);
	return true;
}

static bool setcc(struct trans *t, const struct insn *i)
{
	unsigned reg;

	if (i->flags & INSN_MEM) {
		fl_prepare(t);
		t_operand(t, i, 1, true);
		fl_load(t, S1);
		e_rm(&t->e, 1, 0x0f90 | (t->op->op & 15), 0, HERE);
		return true;
	}
	if (!t_low_byte(i->rm))
		return false;
	fl_load(t, S1);
	fl_writes(t, i->rm);
	reg = t_get(t, i->rm, S1);
	e_rr(&t->e, 1, 0x0f90 | (t->op->op & 15), 0, reg);
	t_done(t, i->rm, reg);
	return true;
}

static bool cmov(struct trans *t, const struct insn *i)
{
	bool m = i->flags & INSN_MEM;
	unsigned opc = 0x0f40 | (t->op->op & 15), reg;

	if (m) {
		fl_prepare(t);
		t_operand(t, i, i->size, false);
	}
	fl_load(t, S1);
	fl_writes(t, i->r);
	reg = t_get(t, i->r, S1);
	e_x(&t->e, i->size, opc, reg, m ? (struct opnd){.mem = true, .m = HERE} : t_opnd(i->rm));
	t_done(t, i->r, reg);
	return true;
}

/* CBW and its kin (98), CWD and its kin (99): the host's own. */
static bool sign(struct trans *t, const struct insn *i, unsigned opc)
{
	fl_writes(t, (opc == 0x98 ? CPU_RAX : CPU_RDX) * 8);
	e_op(&t->e, i->size, opc, 0, 0, 0);
	return true;
}

/* CMC, CLC, STC */
static bool carry_flag(struct trans *t, unsigned opc)
{
	fl_load(t, S1);
	e_u8(&t->e, opc);
	fl_set_host(t);
	return true;
}

/* CLD, STD, and the kernel's CLI. */
static bool other_flag(struct trans *t, uint32_t set, uint32_t clear)
{
	fl_clobber(t);
	e_rm(&t->e, 4, 0x81, set ? 1 : 4, CPU(eflags));
	e_u32(&t->e, set ? set : ~clear);
	return true;
}

/* --- the stack */

enum { MAX_GROUP = 8 };

/* Bytes behind t->at. */
static struct maddr behind(const struct trans *t, unsigned bytes)
{
	struct maddr m = t->at;

	m.disp += (int32_t)bytes;
	return m;
}

static bool plain_stack_reg(const struct insn *i)
{
	return i->size == 8 && !(i->flags & INSN_MEM) && i->rm != SLOT_RSP;
}

/* How many PUSHes (POPs) of registers follow one another from here on. */
static unsigned group(const struct trans *t, unsigned first)
{
	unsigned n = 0;

	while (n < MAX_GROUP && t->idx + n < t->k->ops->n) {
		const struct jit_op *op = &t->k->ops->op[t->idx + n];

		if (!op->known || op->map != MAP_1 || (op->op & 0xf8) != first ||
			!plain_stack_reg(&t->k->insns[t->idx + n]))
			break;
		n++;
	}
	return n;
}

static unsigned push_regs(struct trans *t, const struct insn *i)
{
	unsigned n = group(t, 0x50);

	if (!n)
		return 0;
	t_stack(t, i, -8 * (int32_t)n, 8 * n, true);
	for (unsigned k = 0; k < n; k++)
		e_rm(&t->e, 8, 0x89, t_get(t, i[k].rm, S1), behind(t, 8 * (n - 1 - k)));
	t_move_rsp(t, -8 * (int32_t)n);
	return n;
}

static unsigned pop_regs(struct trans *t, const struct insn *i)
{
	unsigned n = group(t, 0x58);

	if (!n)
		return 0;
	t_stack(t, i, 0, 8 * n, false);
	for (unsigned k = 0; k < n; k++) {
		unsigned reg;

		fl_writes(t, i[k].rm);
		reg = t_put(t, i[k].rm, S1);
		e_rm(&t->e, 8, 0x8b, reg, behind(t, 8 * k));
		t_done(t, i[k].rm, reg);
	}
	t_move_rsp(t, 8 * (int32_t)n);
	return n;
}

static bool push_imm(struct trans *t, const struct insn *i)
{
	if (i->size != 8)
		return false;
	t_stack(t, i, -8, 8, true);
	e_rm(&t->e, 8, 0xc7, 0, HERE);
	e_u32(&t->e, (uint32_t)i->imm);
	t_move_rsp(t, -8);
	return true;
}

static bool push_mem(struct trans *t, const struct insn *i)
{
	if (i->size != 8 || !(i->flags & INSN_MEM))
		return false;
	t_operand(t, i, 8, false);
	e_rm(&t->e, 8, 0x8b, S1, HERE);
	e_rm(&t->e, 8, 0x89, S1, CPU(jit_tmp));
	t_stack(t, i, -8, 8, true);
	e_rm(&t->e, 8, 0x8b, S1, CPU(jit_tmp));
	e_rm(&t->e, 8, 0x89, S1, HERE);
	t_move_rsp(t, -8);
	return true;
}

static bool leave(struct trans *t, const struct insn *i)
{
	if (i->size != 8)
		return false;
	fl_clobber(t);
	t_base(t, i, (struct access){8, false, false}, AT(RBP, 0));
	fl_writes(t, SLOT_RSP);
	e_rm(&t->e, 8, 0x8d, R_GUEST_RSP, AT(RBP, 8));
	fl_writes(t, CPU_RBP * 8);
	e_rm(&t->e, 8, 0x8b, RBP, HERE);
	return true;
}

/* --- by opcode */

unsigned t_stack_regs(struct trans *t, const struct insn *i)
{
	return t->op->op & 8 ? pop_regs(t, i) : push_regs(t, i);
}

bool t_move_0f(struct trans *t, const struct insn *i)
{
	unsigned op = t->op->op;

	switch (op) {
	case 0x40 ... 0x4f: return cmov(t, i);
	case 0x90 ... 0x9f: return setcc(t, i);
	case 0xb0:
	case 0xb1: return exchange_mem(t, i, true);
	case 0xb6:
	case 0xbe: return extend(t, i, 0x0f00 | op, 1) || extend_high(t, i);
	case 0xb7:
	case 0xbf: return extend(t, i, 0x0f00 | op, 2);
	case 0xc0:
	case 0xc1: return exchange_mem(t, i, false);
	default: return false;
	}
}

bool t_move(struct trans *t, const struct insn *i)
{
	unsigned op = t->op->op;

	switch (op) {
	case 0x63: return i->size == 8 && extend(t, i, 0x63, 4);
	case 0x68:
	case 0x6a: return push_imm(t, i);
	case 0x86:
	case 0x87:
	case 0x91 ... 0x97: return xchg(t, i);
	case 0x88:
	case 0x89: return mov(t, i, false);
	case 0x8a:
	case 0x8b: return mov(t, i, true);
	case 0x8d: return lea(t, i);
	case 0x98:
	case 0x99: return sign(t, i, op);
	case 0xb0 ... 0xbf:
	case 0xc6:
	case 0xc7: return mov_imm(t, i);
	case 0xc9: return leave(t, i);
	case 0xf5:
	case 0xf8:
	case 0xf9: return carry_flag(t, op);
	case 0xfa: return !t->cpl3 && other_flag(t, 0, RF_IF);
	case 0xfc: return other_flag(t, 0, RF_DF);
	case 0xfd: return other_flag(t, RF_DF, 0);
	case 0xff: return (t->op->reg & 7) == 6 && push_mem(t, i);
	default: return false;
	}
}
