/* SPDX-License-Identifier: MIT */
/*
 * What exists, or differs, outside 64-bit mode only: the stack with 16- and 32-bit pointers, near
 * calls and returns, PUSHA, POPA, BOUND, BCD arithmetic, pushes and pops of segment registers; and
 * ENTER, in every mode.
 */
#include "vmm/cpu/soft/exc.h"
#include "vmm/cpu/soft/handler.h"
#include "vmm/cpu/soft/mmu.h"
#include "vmm/cpu/soft/sys.h"

static uint64_t sp_mask(const struct soft_vcpu *c)
{
	return c->seg[SEG_SS].attr & DESC_DB ? 0xffffffff : 0xffff;
}

static uint64_t sp_lin(struct soft_vcpu *c, uint64_t sp)
{
	return soft_seg_lin(c, SEG_SS, sp & sp_mask(c));
}

static void sp_set(struct soft_vcpu *c, uint64_t sp)
{
	if (sp_mask(c) == 0xffff)
		SLOT16(c, SLOT_RSP) = (uint16_t)sp;
	else
		c->gpr[CPU_RSP] = (uint32_t)sp;
}

static void push(struct soft_vcpu *c, unsigned size, uint64_t v)
{
	uint64_t sp = c->gpr[CPU_RSP] - size;

	mem_write_n(c, sp_lin(c, sp), size, v);
	sp_set(c, sp);
}

static uint64_t peek(struct soft_vcpu *c, unsigned size, unsigned off)
{
	return mem_read_n(c, sp_lin(c, c->gpr[CPU_RSP] + off), size);
}

HANDLER(push_any) /* aux: 0 r/m, 1 immediate, 2 segment register in disp */
{
	uint64_t v = i->aux == 0   ? rm_get(c, i, i->size)
		     : i->aux == 1 ? (uint64_t)i->imm
				   : c->seg[i->disp].sel;

	c->cur = i;
	push(c, i->size, v);
	NEXT_PLAIN(c, i);
}

HANDLER(pop_any)
{
	uint64_t old = c->gpr[CPU_RSP], v;

	c->cur = i;
	v = peek(c, i->size, 0);
	if (i->flags & INSN_MEM) {
		uint64_t lin;

		/* The address is computed with the new stack pointer; it is kept only when the
		 * write succeeds. */
		sp_set(c, old + i->size);
		lin = soft_ea_offset(c, i);
		c->gpr[CPU_RSP] = old;
		mem_write_n(c, soft_seg_lin(c, i->ea & EA_SEG, lin), i->size, v);
		sp_set(c, old + i->size);
	} else {
		sp_set(c, old + i->size);
		slot_set(c, i->rm, i->size, v);
	}
	NEXT_PLAIN(c, i);
}

HANDLER(pop_seg)
{
	uint16_t sel;

	c->cur = i;
	sel = (uint16_t)peek(c, 2, 0);
	soft_load_seg(c, i->aux, sel);
	sp_set(c, c->gpr[CPU_RSP] + i->size);
	if (i->aux == SEG_SS)
		c->shadow = true;
	LEAVE(c, i);
}

HANDLER(pusha)
{
	uint64_t sp = c->gpr[CPU_RSP];

	c->cur = i;
	mem_probe_write(c, sp_lin(c, sp - 8u * i->size), 8u * i->size);
	for (unsigned n = 0; n < 8; n++)
		push(c, i->size, n == CPU_RSP ? sp : c->gpr[n]);
	NEXT_PLAIN(c, i);
}

HANDLER(popa)
{
	uint64_t v[8];

	c->cur = i;
	for (unsigned n = 0; n < 8; n++)
		v[n] = peek(c, i->size, n * i->size);
	for (unsigned n = 0; n < 8; n++)
		if (7 - n != CPU_RSP)
			slot_set(c, (7 - n) * 8, i->size, v[n]);
	sp_set(c, c->gpr[CPU_RSP] + 8u * i->size);
	NEXT_PLAIN(c, i);
}

HANDLER(pushf_any)
{
	c->cur = i;
	push(c, i->size, soft_rflags_get(c) & ~(uint64_t)(RF_RF | RF_VM));
	NEXT_PLAIN(c, i);
}

HANDLER(popf_any)
{
	uint64_t v;

	c->cur = i;
	v = peek(c, i->size, 0);
	sp_set(c, c->gpr[CPU_RSP] + i->size);
	soft_flags_load(c, v, i->size);
	LEAVE(c, i);
}

HANDLER(leave_any)
{
	uint64_t v, bp = c->gpr[CPU_RBP];

	c->cur = i;
	v = mem_read_n(c, sp_lin(c, bp), i->size);
	sp_set(c, bp + i->size);
	slot_set(c, CPU_RBP * 8, i->size, v);
	NEXT_PLAIN(c, i);
}

static uint64_t stack_lin(struct soft_vcpu *c, uint64_t sp)
{
	return c->mode == MODE_64 ? sp : sp_lin(c, sp);
}

/* All modes. imm: bytes of locals, aux: nesting level. A fault leaves words below the stack pointer, as on hardware. */
HANDLER(enter_op)
{
	bool wide = c->mode == MODE_64;
	unsigned size = i->size, level = i->aux & 31;
	uint64_t sp = c->gpr[CPU_RSP] - size, bp = c->gpr[CPU_RBP], frame = sp;

	c->cur = i;
	mem_write_n(c, stack_lin(c, sp), size, bp);
	for (unsigned k = 1; k < level; k++) {
		uint64_t v = mem_read_n(c, stack_lin(c, bp - k * size), size);

		sp -= size;
		mem_write_n(c, stack_lin(c, sp), size, v);
	}
	if (level) {
		sp -= size;
		mem_write_n(c, stack_lin(c, sp), size, frame);
	}
	sp -= (uint16_t)i->imm;
	mem_probe_write(c, stack_lin(c, sp), size);
	slot_set(c, CPU_RBP * 8, size, frame);
	if (wide)
		c->gpr[CPU_RSP] = sp;
	else
		sp_set(c, sp);
	NEXT_PLAIN(c, i);
}

static uint64_t ip_mask(const struct insn *i, uint64_t ip)
{
	return i->size == 2 ? (uint16_t)ip : (uint32_t)ip;
}

HANDLER(call_any) /* aux 0: relative, 1: r/m */
{
	uint64_t t = i->aux ? rm_get(c, i, i->size) : c->ip_base + (uint64_t)(int64_t)i->disp;

	c->cur = i;
	push(c, i->size, c->ip_base + i->off + i->len);
	c->rip = ip_mask(i, t);
	LEAVE_RIP(c);
}

HANDLER(jmp_any)
{
	c->rip = ip_mask(i, rm_get(c, i, i->size));
	LEAVE_RIP(c);
}

HANDLER(ret_any)
{
	uint64_t t;

	c->cur = i;
	t = peek(c, i->size, 0);
	sp_set(c, c->gpr[CPU_RSP] + i->size + (uint16_t)i->imm);
	c->rip = ip_mask(i, t);
	LEAVE_RIP(c);
}

HANDLER(bound_op)
{
	uint64_t lin = soft_ea(c, i);
	int64_t lo, hi, v;

	if (i->size == 2) {
		lo = (int16_t)mem_read16(c, lin);
		hi = (int16_t)mem_read16(c, lin + 2);
		v = (int16_t)SLOT16(c, i->r);
	} else {
		lo = (int32_t)mem_read32(c, lin);
		hi = (int32_t)mem_read32(c, lin + 4);
		v = (int32_t)SLOT32(c, i->r);
	}
	if (v < lo || v > hi)
		soft_raise(c, EXC_BR, 0);
	NEXT_PLAIN(c, i);
}

HANDLER(arpl)
{
	uint16_t d, s = SLOT16(c, i->r);

	c->cur = i;
	if (!(c->cr0 & CR0_PE))
		raise_ud(c);
	if (i->flags & INSN_MEM)
		mem_probe_write(c, soft_ea(c, i), 2);
	d = (uint16_t)rm_get(c, i, 2);
	if ((d & 3) < (s & 3)) {
		rm_set(c, i, 2, (d & ~3u) | (s & 3));
		c->fl |= FL_ZF;
	} else {
		c->fl &= (uint16_t)~FL_ZF;
	}
	NEXT_PLAIN(c, i);
}

/* --- BCD
 * -----------------------------------------------------------------------------------------------------
 */

static void set_szp(struct soft_vcpu *c, uint8_t v, bool cf, bool af)
{
	c->fl = (uint16_t)((v & 0x80 ? FL_SF : 0) | (v ? 0 : FL_ZF) |
			   (__builtin_parity(v) ? 0 : FL_PF) | (cf ? FL_CF : 0) | (af ? FL_AF : 0));
}

HANDLER(daa_das) /* aux 0: DAA, 1: DAS */
{
	uint8_t al = SLOT8(c, 0), old = al;
	bool cf = c->fl & FL_CF, af = c->fl & FL_AF, new_cf = false;

	if ((al & 15) > 9 || af) {
		new_cf = cf || (i->aux ? al < 6 : al > 0xf9);
		al = (uint8_t)(i->aux ? al - 6 : al + 6);
		af = true;
	} else {
		af = false;
	}
	if (old > 0x99 || cf) {
		al = (uint8_t)(i->aux ? al - 0x60 : al + 0x60);
		new_cf = true;
	}
	SLOT8(c, 0) = al;
	set_szp(c, al, new_cf, af);
	NEXT_PLAIN(c, i);
}

HANDLER(aaa_aas) /* aux 0: AAA, 1: AAS */
{
	bool adjust = (SLOT8(c, 0) & 15) > 9 || c->fl & FL_AF;

	if (adjust) {
		SLOT16(c, 0) = (uint16_t)(i->aux ? SLOT16(c, 0) - 6 : SLOT16(c, 0) + 6);
		SLOT8(c, 1) = (uint8_t)(i->aux ? SLOT8(c, 1) - 1 : SLOT8(c, 1) + 1);
	}
	SLOT8(c, 0) &= 15;
	set_szp(c, SLOT8(c, 0), adjust, adjust);
	NEXT_PLAIN(c, i);
}

HANDLER(aam)
{
	uint8_t al = SLOT8(c, 0), n = (uint8_t)i->imm;

	c->cur = i;
	if (!n)
		soft_raise(c, EXC_DE, 0);
	SLOT8(c, 1) = al / n;
	SLOT8(c, 0) = al % n;
	set_szp(c, SLOT8(c, 0), false, false);
	NEXT_PLAIN(c, i);
}

HANDLER(aad)
{
	SLOT16(c, 0) = (uint8_t)(SLOT8(c, 0) + SLOT8(c, 1) * (uint8_t)i->imm);
	set_szp(c, SLOT8(c, 0), false, false);
	NEXT_PLAIN(c, i);
}

HANDLER(salc)
{
	SLOT8(c, 0) = c->fl & FL_CF ? 0xff : 0;
	NEXT_PLAIN(c, i);
}

/* moffs: the offset is in imm. */
HANDLER(mov_moffs)
{
	uint64_t lin;

	c->cur = i;
	lin = soft_seg_lin(c, i->ea & EA_SEG, (uint64_t)i->imm);
	if (i->aux)
		mem_write_n(c, lin, i->size, c->gpr[CPU_RAX]);
	else
		slot_set(c, CPU_RAX * 8, i->size, mem_read_n(c, lin, i->size));
	NEXT_PLAIN(c, i);
}

/* --- binding
 * -------------------------------------------------------------------------------------------------
 */

static bool bind_seg_stack(struct insn *i, unsigned seg, bool pop)
{
	i->fn = pop ? pop_seg : push_any;
	if (pop) {
		i->aux = (uint8_t)seg;
		i->flags |= INSN_END;
	} else {
		i->aux = 2;
		i->disp = (int32_t)seg;
	}
	return !(pop && seg == SEG_CS);
}

static bool bind_group5(struct insn *i, const struct dec *d)
{
	switch (d->reg & 7) {
	case 2:
		i->aux = 1;
		i->fn = call_any;
		i->flags |= INSN_END;
		return true;
	case 4:
		i->fn = jmp_any;
		i->flags |= INSN_END;
		return true;
	case 6: i->fn = push_any; return true;
	default: return false;
	}
}

static bool bind_bcd(struct insn *i, const struct dec *d)
{
	switch (d->op) {
	case 0x27:
	case 0x2f:
		i->aux = d->op == 0x2f;
		i->fn = daa_das;
		return true;
	case 0x37:
	case 0x3f:
		i->aux = d->op == 0x3f;
		i->fn = aaa_aas;
		return true;
	case 0xd4: i->fn = aam; return true;
	case 0xd5: i->fn = aad; return true;
	case 0xd6: i->fn = salc; return true;
	default: return false;
	}
}

bool soft_bind_legacy(struct insn *i, const struct dec *d)
{
	unsigned op = d->op;

	if (i->flags & INSN_LOCK)
		return false;
	if (d->map == MAP_0F) {
		if (op != 0xa0 && op != 0xa1 && op != 0xa8 && op != 0xa9)
			return false;
		return bind_seg_stack(i, op < 0xa8 ? SEG_FS : SEG_GS, op & 1);
	}
	if (d->map != MAP_1)
		return false;
	if (bind_bcd(i, d))
		return true;
	switch (op) {
	case 0x06:
	case 0x0e:
	case 0x16:
	case 0x1e:
	case 0x07:
	case 0x17:
	case 0x1f: return bind_seg_stack(i, op >> 3, op & 1);
	case 0x50 ... 0x5f:
		i->rm = slot_gpr(op & 7);
		i->fn = op < 0x58 ? push_any : pop_any;
		return true;
	case 0x60: i->fn = pusha; return true;
	case 0x61: i->fn = popa; return true;
	case 0x62: i->fn = bound_op; return true;
	case 0x63: i->fn = arpl; return true;
	case 0x68:
	case 0x6a:
		i->aux = 1;
		i->fn = push_any;
		return true;
	case 0x8f: i->fn = pop_any; return !(d->reg & 7);
	case 0x9c: i->fn = pushf_any; return true;
	case 0x9d:
		i->fn = popf_any;
		i->flags |= INSN_END;
		return true;
	case 0xa0 ... 0xa3:
		if (!(op & 1))
			i->size = 1;
		i->imm = d->disp;
		i->aux = !!(op & 2);
		i->fn = mov_moffs;
		return true;
	case 0xc2:
	case 0xc3:
		i->fn = ret_any;
		i->flags |= INSN_END;
		return true;
	case 0xc9: i->fn = leave_any; return true;
	case 0xe8:
		i->disp = (int32_t)(i->off + i->len + d->imm);
		i->fn = call_any;
		i->flags |= INSN_END;
		return true;
	case 0xff: return bind_group5(i, d);
	default: return false;
	}
}

bool soft_bind_enter(struct insn *i, const struct dec *d)
{
	if (d->map != MAP_1 || d->op != 0xc8 || i->flags & INSN_LOCK)
		return false;
	i->aux = (uint8_t)d->imm2;
	i->flags |= INSN_STACK;
	i->fn = enter_op;
	return true;
}
