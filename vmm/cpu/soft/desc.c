/* SPDX-License-Identifier: MIT */
/* Instructions on segment registers and descriptors: MOV and POP Sreg, LxS, LAR, LSL, VERR, VERW,
 * LLDT, LTR, SLDT, STR. */
#include "vmm/cpu/soft/exc.h"
#include "vmm/cpu/soft/handler.h"
#include "vmm/cpu/soft/sys.h"

HANDLER(mov_from_seg)
{
	unsigned n = i->flags & INSN_MEM ? 2 : i->size;

	rm_set(c, i, n, c->seg[i->aux].sel);
	NEXT_PLAIN(c, i);
}

HANDLER(mov_to_seg)
{
	uint16_t sel = (uint16_t)rm_get(c, i, 2);

	c->cur = i;
	soft_load_seg(c, i->aux, sel);
	if (i->aux == SEG_SS)
		c->shadow = true;
	LEAVE(c, i);
}

/* PUSH FS, PUSH GS, POP FS, POP GS in 64-bit mode. */
HANDLER(push_seg64)
{
	uint64_t sp = c->gpr[CPU_RSP] - i->size;

	c->cur = i;
	mem_write_n(c, sp, i->size, c->seg[i->aux].sel);
	c->gpr[CPU_RSP] = sp;
	NEXT_PLAIN(c, i);
}

HANDLER(pop_seg64)
{
	uint64_t sp = c->gpr[CPU_RSP];

	c->cur = i;
	soft_load_seg(c, i->aux, (uint16_t)mem_read_n(c, sp, i->size));
	c->gpr[CPU_RSP] = sp + i->size;
	LEAVE(c, i);
}

HANDLER(load_far) /* LES, LDS, LSS, LFS, LGS */
{
	uint64_t lin = soft_ea(c, i), off = mem_read_n(c, lin, i->size);

	soft_load_seg(c, i->aux, mem_read16(c, lin + i->size));
	slot_set(c, i->r, i->size, off);
	LEAVE(c, i);
}

static void need_prot(struct soft_vcpu *c, const struct insn *i)
{
	c->cur = i;
	if (!(c->cr0 & CR0_PE))
		raise_ud(c);
}

/* Can the descriptor be looked at from here? For LAR, LSL, VERR, VERW. */
static bool visible(struct soft_vcpu *c, struct soft_desc *d, uint16_t sel)
{
	if (!(sel & ~3) || !soft_desc_peek(c, d, sel))
		return false;
	if ((d->attr & (DESC_S | DESC_CODE | DESC_CONF)) == (DESC_S | DESC_CODE | DESC_CONF))
		return true;
	return desc_dpl(d->attr) >= MAX(c->cpl, sel & 3u);
}

static void set_zf(struct soft_vcpu *c, bool z)
{
	c->fl = (uint16_t)((c->fl & ~FL_ZF) | (z ? FL_ZF : 0));
}

HANDLER(lar_lsl) /* aux 0: LAR, 1: LSL */
{
	/* Types of system descriptors that each accepts. */
	const unsigned lar_long = 1 << 2 | 1 << 9 | 1 << 11 | 1 << 12, lar_prot = 0x1a3e | 1 << 1;
	const unsigned lsl_long = 1 << 2 | 1 << 9 | 1 << 11,
		       lsl_prot = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 9 | 1 << 11;
	uint16_t sel = (uint16_t)rm_get(c, i, 2);
	struct soft_desc d;
	bool ok;

	need_prot(c, i);
	ok = visible(c, &d, sel);
	if (ok && !(d.attr & DESC_S)) {
		unsigned types = soft_long_mode(c) ? (i->aux ? lsl_long : lar_long)
				 : i->aux	   ? lsl_prot
						   : lar_prot;

		ok = types >> (d.attr & DESC_TYPE) & 1;
	}
	if (ok)
		slot_set(c, i->r, i->size,
			i->aux ? d.limit
			       : (d.raw >> 32 & 0xf0ff00) & (i->size == 2 ? 0xff00 : ~0ull));
	set_zf(c, ok);
	NEXT_PLAIN(c, i);
}

HANDLER(verify) /* aux 0: VERR, 1: VERW */
{
	uint16_t sel = (uint16_t)rm_get(c, i, 2);
	struct soft_desc d;
	bool ok;

	need_prot(c, i);
	ok = visible(c, &d, sel) && d.attr & DESC_S;
	if (ok && i->aux)
		ok = (d.attr & (DESC_CODE | DESC_RW)) == DESC_RW;
	else if (ok)
		ok = !(d.attr & DESC_CODE) || d.attr & DESC_RW;
	set_zf(c, ok);
	NEXT_PLAIN(c, i);
}

HANDLER(store_sys_seg) /* SLDT, STR */
{
	need_prot(c, i);
	rm_set(c, i, i->flags & INSN_MEM ? 2 : i->size, c->seg[i->aux].sel);
	NEXT_PLAIN(c, i);
}

HANDLER(load_sys_seg) /* LLDT, LTR */
{
	uint16_t sel = (uint16_t)rm_get(c, i, 2);
	bool tr = i->aux == SEG_TR;
	struct soft_desc d;
	unsigned type;

	need_prot(c, i);
	if (c->cpl)
		raise_gp(c);
	if (!(sel & ~3)) {
		if (tr)
			raise_gp(c);
		c->seg[SEG_LDTR] = (struct soft_seg){.sel = sel};
		NEXT_PLAIN(c, i);
	}
	if (sel & 4)
		soft_raise(c, EXC_GP, sel & ~3u);
	soft_desc_read(c, &d, sel, EXC_GP);
	type = d.attr & (DESC_S | DESC_TYPE);
	if (tr ? type != 9 && (soft_long_mode(c) || type != 1) : type != 2)
		soft_raise(c, EXC_GP, sel & ~3u);
	if (!(d.attr & DESC_P))
		soft_raise(c, EXC_NP, sel & ~3u);
	if (soft_long_mode(c))
		soft_desc_read_high(c, &d, sel, EXC_GP);
	if (tr) {
		d.attr |= 2; /* busy */
		mem_sys_write(c, d.lin + 5, 1, (d.raw >> 40 | 2) & 0xff);
	}
	soft_set_seg(c, i->aux, sel, &d);
	NEXT_PLAIN(c, i);
}

static bool bind_sreg_mov(struct insn *i, const struct dec *d)
{
	unsigned seg = d->reg & 7;

	if (seg > SEG_GS || (d->op == 0x8e && seg == SEG_CS))
		return false;
	i->aux = (uint8_t)seg;
	i->fn = d->op == 0x8e ? mov_to_seg : mov_from_seg;
	if (d->op == 0x8e)
		i->flags |= INSN_END;
	return true;
}

bool soft_bind_desc(struct insn *i, const struct dec *d)
{
	bool m = i->flags & INSN_MEM;
	unsigned op = d->reg & 7;

	if (d->map == MAP_1) {
		switch (d->op) {
		case 0x8c:
		case 0x8e: return bind_sreg_mov(i, d);
		case 0xc4:
		case 0xc5:
			i->aux = d->op == 0xc4 ? SEG_ES : SEG_DS;
			i->fn = load_far;
			i->flags |= INSN_END;
			return m && d->mode != MODE_64;
		default: return false;
		}
	}
	if (d->map != MAP_0F)
		return false;
	switch (d->op) {
	case 0x00:
		if (op < 2) {
			i->aux = op ? SEG_TR : SEG_LDTR;
			i->fn = store_sys_seg;
		} else if (op < 4) {
			i->aux = op == 3 ? SEG_TR : SEG_LDTR;
			i->fn = load_sys_seg;
		} else {
			i->aux = op & 1;
			i->fn = verify;
		}
		return op < 6;
	case 0x02:
	case 0x03:
		i->aux = d->op & 1;
		i->fn = lar_lsl;
		return true;
	case 0xa0:
	case 0xa8:
	case 0xa1:
	case 0xa9:
		if (d->mode != MODE_64)
			return false;
		i->aux = d->op < 0xa8 ? SEG_FS : SEG_GS;
		i->fn = d->op & 1 ? pop_seg64 : push_seg64;
		i->flags |= INSN_STACK | (d->op & 1 ? INSN_END : 0);
		return true;
	case 0xb2:
	case 0xb4:
	case 0xb5:
		i->aux = d->op == 0xb2 ? SEG_SS : d->op == 0xb4 ? SEG_FS : SEG_GS;
		i->fn = load_far;
		i->flags |= INSN_END;
		return m;
	default: return false;
	}
}
