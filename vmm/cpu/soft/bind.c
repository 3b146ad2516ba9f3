/* SPDX-License-Identifier: MIT */
/* The operands of an instruction, and who binds which part of the opcode map. */
#include "vmm/cpu/soft/bind.h"
#include "vmm/cpu/soft/handler.h"
#include "vmm/cpu/soft/simd.h"

const struct insn *soft_h_ud(struct soft_vcpu *c, const struct insn *i)
{
	c->cur = i;
	raise_ud(c);
}

HANDLER(h_gp)
{
	c->cur = i;
	raise_gp(c);
}

static uint8_t slot_ea(unsigned reg)
{
	return reg == DEC_REG_NONE ? SLOT_ZERO : reg == DEC_REG_IP ? SLOT_IP : slot_gpr(reg);
}

static void fill_mem(struct insn *i, const struct dec *d)
{
	int64_t disp = d->disp;

	i->base = slot_ea(d->base);
	i->index = slot_ea(d->index);
	i->scale = d->scale;
	if (d->base == DEC_REG_IP)
		disp += i->off + i->len;
	i->disp = (int32_t)disp;
	if (d->addrsize != 8) {
		i->ea |= d->addrsize == 4 ? EA_A32 : EA_A16;
	} else if (disp != i->disp) {
		i->ea |= EA_DISP_BIG;
	}
}

static void fill(struct insn *i, const struct dec *d)
{
	i->size = d->opsize;
	i->r = slot_gpr(d->reg);
	i->rm = slot_gpr(d->rm);
	i->imm = d->imm;
	i->base = i->index = SLOT_ZERO;
	i->flags = (uint8_t)((d->lock ? INSN_LOCK : 0) | (d->rep == 0xf3 ? INSN_REP : 0) |
			     (d->rep == 0xf2 ? INSN_REPNE : 0) | (d->rex & 8 ? INSN_REXW : 0) |
			     (d->p66 ? INSN_P66 : 0));
	i->ea = d->seg;
	if (d->mode != MODE_64)
		i->ea |= EA_LEGACY | EA_ADDSEG;
	else if (d->seg >= SEG_FS)
		i->ea |= EA_ADDSEG;
	if (d->addrsize == 4 && d->mode == MODE_64)
		i->ea |= EA_A32;
	else if (d->addrsize != 8)
		i->ea |= d->addrsize == 4 ? EA_A32 : EA_A16;
	if (d->mem) {
		i->flags |= INSN_MEM;
		fill_mem(i, d);
	}
}

/* Opcodes of the simd module (see simd.h). */
static bool is_simd(const struct dec *d)
{
	unsigned op = d->op;

	switch (d->map) {
	case MAP_1: return (op & 0xf8) == 0xd8 || op == 0x9b;
	case MAP_0F:
		switch (op) {
		case 0x10 ... 0x17:
		case 0x28 ... 0x2f:
		case 0x50 ... 0x77:
		case 0x7c ... 0x7f:
		case 0xc2:
		case 0xc4 ... 0xc6:
		case 0xd0 ... 0xfe: return true;
		case 0xae:
			return d->mod != 3
				       ? (d->reg & 7) != 7 && !(d->pfx == 0x66 && (d->reg & 7) == 6)
				       : false;
		case 0xc7: return d->mod != 3 && (d->reg & 7) >= 3 && (d->reg & 7) <= 5;
		case 0x01: return d->modrm == 0xd0 || d->modrm == 0xd1;
		default: return false;
		}
	case MAP_0F38: return op < 0xf0;
	default: return true;
	}
}

static void fill_raw(struct insn *i, const struct dec *d)
{
	i->raw = (struct insn_raw){.map = d->map,
		.op = d->op,
		.pfx = d->pfx,
		.rex = d->rex,
		.modrm = d->modrm,
		.imm8 = (uint8_t)d->imm};
}

void soft_bind(struct insn *i, const struct dec *d, int len, unsigned off)
{
	*i = (struct insn){.off = (uint16_t)off, .len = d->len};
	if (len < 0) {
		i->fn = len == DEC_LONG ? h_gp : soft_h_ud;
		i->flags = INSN_END;
		return;
	}
	fill(i, d);
	if (is_simd(d)) {
		fill_raw(i, d);
		if (!d->lock && soft_simd_bind(i, d) && i->fn)
			return;
	} else if (soft_bind_alu(i, d) || soft_bind_mov(i, d) || soft_bind_ctrl(i, d) ||
		   soft_bind_bits(i, d) || soft_bind_string(i, d) || soft_bind_sys(i, d) ||
		   soft_bind_enter(i, d) || (d->mode != MODE_64 && soft_bind_legacy(i, d))) {
		if (i->fn)
			return;
	}
	i->fn = soft_h_ud;
	i->flags |= INSN_END;
}
