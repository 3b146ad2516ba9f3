/* SPDX-License-Identifier: MIT */
/*
 * SSE to SSE4.2: the same instruction on the host's XMM registers, which hold the guest's of the same number while
 * c->sse_live. They are loaded when a run's first such instruction finds them elsewhere, and stored on the way to the
 * interpreter; other translated code does not touch them. They are never live while an SSE exception is unmasked.
 */
#include "vmm/cpu/soft/jit/trans.h"
#include "vmm/cpu/soft/simd.h"

enum { GPR_SRC = 1, GPR_DST = 2, FLAGS = 4, STORE = 8, UNALIGNED = 16, IMM = 32, NO_REG_FORM = 64 };

struct form {
	unsigned char size; /* of a memory operand; 0: there is no such form */
	unsigned char how;
};

/* Moves, and what has to do with general registers and flags; everything else is "xmm = op(xmm, xmm/memory)". */
static bool special(const struct jit_op *op, struct form *f)
{
	bool w = op->rex & 8;
	unsigned gpr = w ? 8 : 4;

	switch ((unsigned)op->pfx << 8 | op->op) {
	case 0x0010:
	case 0x6610:
	case 0xf36f:
	case 0xf2f0: *f = (struct form){16, UNALIGNED}; return true;
	case 0x0011:
	case 0x6611:
	case 0xf37f: *f = (struct form){16, UNALIGNED | STORE}; return true;
	case 0x0028:
	case 0x6628:
	case 0x666f: *f = (struct form){16, 0}; return true;
	case 0x0029:
	case 0x6629:
	case 0x667f: *f = (struct form){16, STORE}; return true;
	case 0x002b:
	case 0x662b:
	case 0x66e7: *f = (struct form){16, STORE | NO_REG_FORM}; return true;
	case 0xf310: *f = (struct form){4, 0}; return true;
	case 0xf311: *f = (struct form){4, STORE}; return true;
	case 0xf210:
	case 0xf37e:
	case 0x0012:
	case 0x0016: *f = (struct form){8, 0}; return true;
	case 0x6612:
	case 0x6616: *f = (struct form){8, NO_REG_FORM}; return true;
	case 0xf211:
	case 0x66d6: *f = (struct form){8, STORE}; return true;
	case 0x0013:
	case 0x6613:
	case 0x0017:
	case 0x6617: *f = (struct form){8, STORE | NO_REG_FORM}; return true;
	case 0x666e:
	case 0xf22a:
	case 0xf32a: *f = (struct form){(unsigned char)gpr, GPR_SRC}; return true;
	case 0x667e: *f = (struct form){(unsigned char)gpr, GPR_DST | STORE}; return true;
	case 0xf22c:
	case 0xf22d: *f = (struct form){8, GPR_DST}; return true;
	case 0xf32c:
	case 0xf32d: *f = (struct form){4, GPR_DST}; return true;
	case 0x0050:
	case 0x6650:
	case 0x66d7: *f = (struct form){0, GPR_DST}; return true;
	case 0x66c5: *f = (struct form){0, GPR_DST | IMM}; return true;
	case 0x66c4: *f = (struct form){2, GPR_SRC | IMM}; return true;
	case 0x002e:
	case 0x002f: *f = (struct form){4, FLAGS}; return true;
	case 0x662e:
	case 0x662f: *f = (struct form){8, FLAGS}; return true;
	default: return false;
	}
}

static bool find(const struct jit_op *op, struct form *f)
{
	unsigned o = op->op;

	if (op->map == MAP_0F && special(op, f))
		return true;
	if (op->map == MAP_0F38 && op->pfx == 0x66 && o == 0x17) {
		*f = (struct form){16, FLAGS};
		return true;
	}
	if (op->map == MAP_0F && op->pfx == 0x66 && o >= 0x71 && o <= 0x73) {
		*f = (struct form){0, IMM}; /* shifts by an immediate */
		return true;
	}
	if (op->map == MAP_0F3A && op->pfx == 0x66 && o >= 0x60 && o <= 0x63) {
		*f = (struct form){16, FLAGS | IMM | UNALIGNED}; /* PCMPxSTRx; to RCX or XMM0 */
		return true;
	}
	f->how = 0;
	f->size = (unsigned char)soft_simd_operand(op->map, op->pfx, o);
	if (op->map == MAP_0F3A || (op->map == MAP_0F && (o == 0x70 || o == 0xc2 || o == 0xc6)))
		f->how = IMM;
	return f->size;
}

/* Makes the XMM registers live, once in a run. */
static void need_sse(struct trans *t, const struct insn *i)
{
	struct trans_exit *x;

	if (t->sse)
		return;
	fl_clobber(t);
	e_rm(&t->e, 1, 0x80, 7, CPU(sse_live));
	e_u8(&t->e, 0);
	x = t_exit(t, X_SSE, e_jcc(&t->e, CC_E), i);
	x->back = t->e.p;
	t->sse = true;
	t_uses_s0(t);
}

static unsigned opcode(const struct jit_op *op)
{
	static const unsigned maps[] = {
		[MAP_0F] = 0x0f00, [MAP_0F38] = 0x0f3800, [MAP_0F3A] = 0x0f3a00};

	return (unsigned)op->pfx << 24 | maps[op->map] | op->op;
}

/* The encoder's operand size: what REX.W says. */
static unsigned width(const struct jit_op *op)
{
	return op->rex & 8 ? 8 : 4;
}

static unsigned reg_of(const struct jit_op *op)
{
	return (op->modrm >> 3 & 7) | (op->rex & 4) << 1;
}

static unsigned rm_of(const struct jit_op *op)
{
	return (op->modrm & 7) | (op->rex & 1) << 3;
}

/* A destination in a general register: its own host register, or S1. */
static unsigned gpr_dst(struct trans *t, unsigned n)
{
	fl_writes(t, n * 8);
	return t_put(t, n * 8, S1);
}

static void with_memory(struct trans *t, const struct insn *i, struct form f)
{
	const struct jit_op *op = t->op;
	bool aligned = f.size == 16 && !(f.how & UNALIGNED),
	     gpr = f.how & GPR_DST && !(f.how & STORE);
	unsigned reg = reg_of(op);

	if (aligned)
		t_operand_aligned(t, i, f.how & STORE);
	else
		t_operand(t, i, f.size, f.how & STORE);
	if (f.how & FLAGS)
		fl_discard(t);
	if (gpr)
		reg = gpr_dst(t, reg);
	e_rm(&t->e, width(op), opcode(op), reg, t->at);
	if (f.how & IMM)
		e_u8(&t->e, op->imm8);
	if (gpr)
		t_done(t, reg_of(op) * 8, reg);
}

static void with_register(struct trans *t, struct form f)
{
	const struct jit_op *op = t->op;
	unsigned reg = reg_of(op), rm = rm_of(op), dst = NO_REG;

	if (f.how & FLAGS)
		fl_discard(t);
	if (f.how & GPR_SRC) {
		rm = t_get(t, rm * 8, S0);
	} else if (f.how & GPR_DST) {
		dst = f.how & STORE ? rm : reg;
		if (f.how & STORE)
			rm = gpr_dst(t, dst);
		else
			reg = gpr_dst(t, dst);
	}
	e_rr(&t->e, width(op), opcode(op), reg, rm);
	if (f.how & IMM)
		e_u8(&t->e, op->imm8);
	if (dst != NO_REG)
		t_done(t, dst * 8, f.how & STORE ? rm : reg);
}

bool t_sse(struct trans *t, const struct insn *i)
{
	struct form f;

	if (!find(t->op, &f))
		return false;
	if (i->flags & INSN_MEM ? !f.size : f.how & NO_REG_FORM)
		return false;
	need_sse(t, i);
	if (i->flags & INSN_MEM)
		with_memory(t, i, f);
	else
		with_register(t, f);
	if (f.how & FLAGS)
		fl_set_host(t);
	return true;
}
