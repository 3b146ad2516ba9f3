/* SPDX-License-Identifier: MIT */
/*
 * Far transfers: JMP, CALL and RET far, IRET, SYSCALL, SYSRET, SYSENTER, SYSEXIT, INT n, INT3,
 * INTO, INT1; STI, CLI, PUSHF, POPF. Call gates exist in 64-bit form without stack switch only as
 * far as nobody uses them: not at all (#GP). Nor do task switches.
 */
#include "vmm/cpu/soft/exc.h"
#include "vmm/cpu/soft/handler.h"
#include "vmm/cpu/soft/mmu.h"
#include "vmm/cpu/soft/mmu.h"
#include "vmm/cpu/soft/sys.h"

uint64_t soft_rflags_get(const struct soft_vcpu *c)
{
	return fl_to_rflags(c->fl) | (c->eflags & ~(uint32_t)RF_ARITH) | RF_1;
}

void soft_rflags_set(struct soft_vcpu *c, uint64_t v)
{
	c->fl = fl_from_rflags(v);
	c->eflags = ((uint32_t)v & (RF_TF | RF_IF | RF_DF | RF_IOPL | RF_NT | RF_RF | RF_AC |
					   RF_VIF | RF_VIP | RF_ID)) |
		    RF_1;
	if (c->eflags & RF_IF)
		soft_if_on(c);
	if (c->eflags & RF_TF)
		atomic_fetch_or(&c->events, EV_LOCAL);
}

void soft_flags_load(struct soft_vcpu *c, uint64_t v, unsigned size)
{
	uint64_t mask = RF_TF | RF_DF | RF_NT | RF_AC | RF_ID, old = soft_rflags_get(c);

	if (c->cpl == 0)
		mask |= RF_IOPL;
	if (c->cpl <= (c->eflags >> 12 & 3))
		mask |= RF_IF;
	if (size == 2)
		mask &= 0xffff;
	mask |= RF_ARITH;
	soft_rflags_set(c, (old & ~mask & ~(uint64_t)RF_RF) | (v & mask));
}

/* --- flags
 * ---------------------------------------------------------------------------------------------------
 */

HANDLER(cli)
{
	c->cur = i;
	if (unlikely(c->cpl > (c->eflags >> 12 & 3)))
		raise_gp(c);
	c->eflags &= ~(uint32_t)RF_IF;
	NEXT(c, i);
}

HANDLER(sti)
{
	c->cur = i;
	if (unlikely(c->cpl > (c->eflags >> 12 & 3)))
		raise_gp(c);
	if (!(c->eflags & RF_IF)) {
		c->eflags |= RF_IF;
		/* The next instruction comes before any interrupt: leave when one waits, or when this block
		 * ends here. */
		if (soft_if_on(c) || soft_is_tail(i + 1)) {
			c->shadow = true;
			LEAVE(c, i);
		}
	}
	NEXT(c, i);
}

HANDLER(cld)
{
	c->eflags &= ~(uint32_t)RF_DF;
	NEXT(c, i);
}

HANDLER(std)
{
	c->eflags |= RF_DF;
	NEXT(c, i);
}

HANDLER(clc)
{
	c->fl &= (uint16_t)~FL_CF;
	NEXT(c, i);
}

HANDLER(stc)
{
	c->fl |= FL_CF;
	NEXT(c, i);
}

HANDLER(cmc)
{
	c->fl ^= FL_CF;
	NEXT(c, i);
}

HANDLER(pushf64)
{
	uint64_t sp = c->gpr[CPU_RSP] - 8;

	c->cur = i;
	mem_write64(c, sp, soft_rflags_get(c) & ~(uint64_t)(RF_RF | RF_VM));
	c->gpr[CPU_RSP] = sp;
	NEXT(c, i);
}

HANDLER(popf64)
{
	uint64_t sp = c->gpr[CPU_RSP], v;
	uint32_t old = c->eflags;

	c->cur = i;
	v = mem_read64(c, sp);
	c->gpr[CPU_RSP] = sp + 8;
	/* The kernel's way of enabling interrupts: nothing but IF and the arithmetic flags differ.
	 */
	if (likely(c->cpl == 0 && !((v ^ old) & ~(uint64_t)(RF_ARITH | RF_IF)))) {
		c->fl = fl_from_rflags(v);
		c->eflags = (old & ~(uint32_t)RF_IF) | ((uint32_t)v & RF_IF);
		if (v & RF_IF && soft_if_on(c))
			LEAVE(c, i);
		NEXT(c, i);
	}
	soft_flags_load(c, v, 8);
	LEAVE(c, i);
}

/* 16-bit forms in 64-bit mode. */
HANDLER(pushf16)
{
	uint64_t sp = c->gpr[CPU_RSP] - 2;

	c->cur = i;
	mem_write16(c, sp, (uint16_t)soft_rflags_get(c));
	c->gpr[CPU_RSP] = sp;
	NEXT(c, i);
}

HANDLER(popf16)
{
	uint64_t sp = c->gpr[CPU_RSP];
	uint16_t v;

	c->cur = i;
	v = mem_read16(c, sp);
	c->gpr[CPU_RSP] = sp + 2;
	soft_flags_load(c, v, 2);
	LEAVE(c, i);
}

/* --- software interrupts
 * --------------------------------------------------------------------------------------- */

HANDLER(int_n)
{
	c->cur = i;
	soft_raise_int(c, (uint8_t)i->imm);
}

HANDLER(into)
{
	c->cur = i;
	if (c->fl & FL_OF)
		soft_raise_int(c, EXC_OF);
	NEXT(c, i);
}

HANDLER(icebp)
{
	c->cur = i;
	c->rip = soft_rip(c) + i->len;
	soft_deliver_db(c);
	LEAVE_RIP(c);
}

/* --- IRET
 * ----------------------------------------------------------------------------------------------------
 */

static uint64_t stack_read(struct soft_vcpu *c, uint64_t off, unsigned size)
{
	uint64_t lin = c->gpr[CPU_RSP] + off;

	if (c->mode != MODE_64)
		lin = soft_seg_lin(
			c, SEG_SS, c->seg[SEG_SS].attr & DESC_DB ? (uint32_t)lin : (uint16_t)lin);
	return mem_read_n(c, lin, size);
}

static void stack_adjust(struct soft_vcpu *c, uint64_t n)
{
	uint64_t sp = c->gpr[CPU_RSP] + n;

	if (c->mode == MODE_64)
		c->gpr[CPU_RSP] = sp;
	else if (c->seg[SEG_SS].attr & DESC_DB)
		c->gpr[CPU_RSP] = (uint32_t)sp;
	else
		SLOT16(c, SLOT_RSP) = (uint16_t)sp;
}

static void iret_real(struct soft_vcpu *c, unsigned n)
{
	uint64_t ip = stack_read(c, 0, n), cs = stack_read(c, n, n), fl = stack_read(c, 2 * n, n);

	stack_adjust(c, 3 * n);
	c->seg[SEG_CS].sel = (uint16_t)cs;
	c->segbase_hidden[SEG_CS] = (cs & 0xffff) << 4;
	soft_mode_changed(c);
	c->rip = ip;
	soft_flags_load(c, fl, n);
}

/* Checks a code segment to return to; for IRET and RET far. */
static void check_return_cs(struct soft_vcpu *c, struct soft_desc *d, uint16_t cs)
{
	unsigned rpl = cs & 3;

	if (!(cs & ~3))
		soft_raise(c, EXC_GP, 0);
	soft_desc_read(c, d, cs, EXC_GP);
	if ((d->attr & (DESC_S | DESC_CODE)) != (DESC_S | DESC_CODE) || rpl < c->cpl ||
		(d->attr & DESC_CONF ? desc_dpl(d->attr) > rpl : desc_dpl(d->attr) != rpl) ||
		(soft_long_mode(c) && (d->attr & (DESC_L | DESC_DB)) == (DESC_L | DESC_DB)))
		soft_raise(c, EXC_GP, cs & ~3u);
	if (!(d->attr & DESC_P))
		soft_raise(c, EXC_NP, cs & ~3u);
}

/* Checks a stack segment to return to; a null one is fine for 64-bit code below CPL 3. */
static void check_return_ss(
	struct soft_vcpu *c, struct soft_desc *d, uint16_t ss, unsigned rpl, bool long_cs)
{
	if (!(ss & ~3)) {
		if (!long_cs || rpl == 3 || (ss & 3u) != rpl)
			soft_raise(c, EXC_GP, 0);
		*d = (struct soft_desc){.attr = (uint16_t)(DESC_P | DESC_S | DESC_RW | DESC_A |
							   DESC_DB | rpl << 5)};
		return;
	}
	soft_desc_read(c, d, ss, EXC_GP);
	if ((ss & 3u) != rpl || desc_dpl(d->attr) != rpl ||
		(d->attr & (DESC_S | DESC_CODE | DESC_RW)) != (DESC_S | DESC_RW))
		soft_raise(c, EXC_GP, ss & ~3u);
	if (!(d->attr & DESC_P))
		soft_raise(c, EXC_SS, ss & ~3u);
	soft_desc_set_accessed(c, d);
}

static void iret_prot(struct soft_vcpu *c, unsigned n)
{
	uint64_t ip, cs, fl, sp = 0, ss = 0, mask;
	struct soft_desc d, s;
	unsigned rpl, old = c->cpl, iopl = c->eflags >> 12 & 3;
	bool full, long_cs;

	if (c->eflags & RF_NT)
		soft_raise(c, EXC_GP, 0);
	ip = stack_read(c, 0, n);
	cs = stack_read(c, n, n);
	fl = stack_read(c, 2 * n, n);
	rpl = cs & 3;
	full = c->mode == MODE_64 || rpl > c->cpl;
	if (full) {
		sp = stack_read(c, 3 * n, n);
		ss = stack_read(c, 4 * n, n);
	}
	check_return_cs(c, &d, (uint16_t)cs);
	long_cs = soft_long_mode(c) && d.attr & DESC_L;
	if (long_cs && !soft_canonical(ip))
		soft_raise(c, EXC_GP, 0);
	if (full)
		check_return_ss(c, &s, (uint16_t)ss, rpl, long_cs);
	soft_desc_set_accessed(c, &d);

	mask = RF_ARITH | RF_TF | RF_DF | RF_NT | RF_AC | RF_ID;
	if (old == 0)
		mask |= RF_IOPL;
	if (old <= iopl)
		mask |= RF_IF;
	if (n == 2)
		mask &= 0xffff;
	if (!full)
		stack_adjust(c, 3 * n);
	soft_set_cs(c, (uint16_t)cs, &d, rpl);
	if (full) {
		soft_set_seg(c, SEG_SS, (uint16_t)ss, &s);
		if (long_cs || s.attr & DESC_DB)
			c->gpr[CPU_RSP] = n == 8 ? sp : n == 4 ? (uint32_t)sp : (uint16_t)sp;
		else
			SLOT16(c, SLOT_RSP) = (uint16_t)sp;
		if (rpl > old)
			soft_return_outer(c);
	}
	soft_rflags_set(c, (soft_rflags_get(c) & ~mask) | (fl & mask));
	c->rip = long_cs ? ip : (uint32_t)ip;
	c->nmi_masked = false;
}

HANDLER(iret)
{
	c->cur = i;
	if (c->cr0 & CR0_PE)
		iret_prot(c, i->size);
	else
		iret_real(c, i->size);
	c->nmi_masked = false;
	LEAVE_RIP(c);
}

/* --- far JMP, CALL, RET
 * ---------------------------------------------------------------------------------------- */

static void far_jump(struct soft_vcpu *c, uint16_t sel, uint64_t off, bool call, unsigned n)
{
	uint64_t next = soft_rip(c) + c->cur->len, sp;
	uint16_t old = c->seg[SEG_CS].sel;
	struct soft_desc d = {0};
	uint64_t lin;

	if (c->cr0 & CR0_PE) {
		if (!(sel & ~3))
			soft_raise(c, EXC_GP, 0);
		soft_desc_read(c, &d, sel, EXC_GP);
		if ((d.attr & (DESC_S | DESC_CODE)) != (DESC_S | DESC_CODE) ||
			(d.attr & DESC_CONF ? desc_dpl(d.attr) > c->cpl
					    : desc_dpl(d.attr) != c->cpl || (sel & 3u) > c->cpl) ||
			(soft_long_mode(c) && (d.attr & (DESC_L | DESC_DB)) == (DESC_L | DESC_DB)))
			soft_raise(c, EXC_GP, sel & ~3u);
		if (!(d.attr & DESC_P))
			soft_raise(c, EXC_NP, sel & ~3u);
	}
	if (call) {
		uint8_t frame[16];

		memset(frame, 0, sizeof(frame));
		memcpy(frame, &next, n);
		memcpy(frame + n, &old, 2);
		sp = c->gpr[CPU_RSP] - 2 * n;
		lin = sp;
		if (c->mode != MODE_64)
			lin = soft_seg_lin(c, SEG_SS,
				c->seg[SEG_SS].attr & DESC_DB ? (uint32_t)sp : (uint16_t)sp);
		mem_write_bytes(c, lin, frame, 2 * n);
	}
	if (c->cr0 & CR0_PE) {
		soft_desc_set_accessed(c, &d);
		if (call)
			stack_adjust(c, 0 - (uint64_t)(2 * n));
		soft_set_cs(c, (uint16_t)((sel & ~3) | c->cpl), &d, c->cpl);
	} else {
		if (call)
			stack_adjust(c, 0 - (uint64_t)(2 * n));
		c->seg[SEG_CS].sel = sel;
		c->segbase_hidden[SEG_CS] = (uint32_t)sel << 4;
		soft_mode_changed(c);
	}
	c->rip = off;
}

/* EA, 9A: imm = offset, disp = selector. */
HANDLER(far_direct)
{
	c->cur = i;
	far_jump(c, (uint16_t)i->disp, (uint64_t)i->imm, i->aux, i->size);
	LEAVE_RIP(c);
}

HANDLER(far_indirect)
{
	uint64_t lin = soft_ea(c, i), off = mem_read_n(c, lin, i->size);
	uint16_t sel = mem_read16(c, lin + i->size);

	far_jump(c, sel, off, i->aux, i->size);
	LEAVE_RIP(c);
}

HANDLER(far_ret)
{
	unsigned n = i->size, rpl;
	uint64_t ip, cs, sp = 0, ss = 0;
	struct soft_desc d, s = {0};
	bool long_cs;

	c->cur = i;
	ip = stack_read(c, 0, n);
	cs = stack_read(c, n, n) & 0xffff;
	if (!(c->cr0 & CR0_PE)) {
		stack_adjust(c, 2 * n + (uint16_t)i->imm);
		c->seg[SEG_CS].sel = (uint16_t)cs;
		c->segbase_hidden[SEG_CS] = cs << 4;
		soft_mode_changed(c);
		c->rip = ip;
		LEAVE_RIP(c);
	}
	rpl = cs & 3;
	check_return_cs(c, &d, (uint16_t)cs);
	long_cs = soft_long_mode(c) && d.attr & DESC_L;
	if (long_cs && !soft_canonical(ip))
		soft_raise(c, EXC_GP, 0);
	if (rpl > c->cpl) {
		sp = stack_read(c, 2 * n + (uint16_t)i->imm, n);
		ss = stack_read(c, 3 * n + (uint16_t)i->imm, n);
		check_return_ss(c, &s, (uint16_t)ss, rpl, long_cs);
	}
	soft_desc_set_accessed(c, &d);
	if (rpl > c->cpl) {
		soft_set_cs(c, (uint16_t)cs, &d, rpl);
		soft_set_seg(c, SEG_SS, (uint16_t)ss, &s);
		c->gpr[CPU_RSP] = (n == 8	   ? sp
					  : n == 4 ? (uint32_t)sp
						   : (uint16_t)sp) +
				  (uint16_t)i->imm;
		soft_return_outer(c);
	} else {
		stack_adjust(c, 2 * n + (uint16_t)i->imm);
		soft_set_cs(c, (uint16_t)cs, &d, c->cpl);
	}
	c->rip = long_cs ? ip : (uint32_t)ip;
	LEAVE_RIP(c);
}

/* --- system calls
 * -------------------------------------------------------------------------------------------- */

static void flat_seg(
	struct soft_vcpu *c, unsigned seg, uint16_t sel, unsigned type, unsigned dpl, unsigned lbit)
{
	c->seg[seg] = (struct soft_seg){.sel = sel,
		.limit = 0xffffffff,
		.attr = (uint16_t)(type | DESC_S | DESC_P | dpl << 5 | lbit | 0x8000)};
	c->segbase_hidden[seg] = 0;
}

HANDLER(syscall_op)
{
	uint64_t next, target;
	uint32_t rf;

	c->cur = i;
	if (!(c->efer & EFER_SCE) || !soft_long_mode(c))
		raise_ud(c);
	next = soft_rip(c) + i->len;
	rf = (uint32_t)soft_rflags_get(c);
	target = c->mode == MODE_64 ? c->lstar : c->cstar;
	c->gpr[CPU_RCX] = next;
	c->gpr[11] = rf & ~(uint32_t)RF_RF;
	flat_seg(c, SEG_CS, (uint16_t)(c->star >> 32 & ~3u), 0xb, 0, DESC_L);
	flat_seg(c, SEG_SS, (uint16_t)((c->star >> 32) + 8), 0x3, 0, DESC_DB);
	c->cpl = 0;
	soft_mode_changed(c);
	rf &= ~(uint32_t)c->sfmask & ~(uint32_t)RF_RF;
	c->fl = fl_from_rflags(rf);
	c->eflags = (rf & ~(uint32_t)RF_ARITH) | RF_1;
	c->rip = target;
	LEAVE_RIP(c);
}

HANDLER(sysret_op)
{
	uint64_t ip = c->gpr[CPU_RCX];
	uint16_t base = (uint16_t)(c->star >> 48);

	c->cur = i;
	if (!(c->efer & EFER_SCE) || !soft_long_mode(c))
		raise_ud(c);
	if (c->cpl)
		raise_gp(c);
	if (i->size == 8 && !soft_canonical(ip))
		raise_gp(c);
	c->cpl = 3;
	if (i->size == 8) {
		flat_seg(c, SEG_CS, (uint16_t)((base + 16) | 3), 0xb, 3, DESC_L);
	} else {
		flat_seg(c, SEG_CS, base | 3, 0xb, 3, DESC_DB);
		ip = (uint32_t)ip;
	}
	flat_seg(c, SEG_SS, (uint16_t)((base + 8) | 3), 0x3, 3, DESC_DB);
	soft_mode_changed(c);
	soft_rflags_set(c, c->gpr[11] & ~(uint64_t)(RF_RF | RF_VM));
	c->rip = ip;
	LEAVE_RIP(c);
}

HANDLER(sysenter_op)
{
	c->cur = i;
	if (!(c->cr0 & CR0_PE) || !(c->sysenter_cs & 0xfffc))
		raise_gp(c);
	c->eflags &= ~(uint32_t)(RF_IF | RF_VM | RF_RF);
	c->cpl = 0;
	flat_seg(c, SEG_CS, (uint16_t)(c->sysenter_cs & ~3u), 0xb, 0,
		soft_long_mode(c) ? DESC_L : DESC_DB);
	flat_seg(c, SEG_SS, (uint16_t)((c->sysenter_cs & ~3u) + 8), 0x3, 0, DESC_DB);
	soft_mode_changed(c);
	c->gpr[CPU_RSP] = soft_long_mode(c) ? c->sysenter_esp : (uint32_t)c->sysenter_esp;
	c->rip = soft_long_mode(c) ? c->sysenter_eip : (uint32_t)c->sysenter_eip;
	LEAVE_RIP(c);
}

HANDLER(sysexit_op)
{
	bool wide = i->size == 8;

	c->cur = i;
	if (!(c->cr0 & CR0_PE) || !(c->sysenter_cs & 0xfffc) || c->cpl)
		raise_gp(c);
	if (wide && (!soft_canonical(c->gpr[CPU_RDX]) || !soft_canonical(c->gpr[CPU_RCX])))
		raise_gp(c);
	c->cpl = 3;
	flat_seg(c, SEG_CS, (uint16_t)((c->sysenter_cs + (wide ? 32 : 16)) | 3), 0xb, 3,
		wide ? DESC_L : DESC_DB);
	flat_seg(c, SEG_SS, (uint16_t)((c->sysenter_cs + (wide ? 40 : 24)) | 3), 0x3, 3, DESC_DB);
	soft_mode_changed(c);
	c->gpr[CPU_RSP] = wide ? c->gpr[CPU_RCX] : SLOT32(c, CPU_RCX * 8);
	c->rip = wide ? c->gpr[CPU_RDX] : SLOT32(c, CPU_RDX * 8);
	LEAVE_RIP(c);
}

/* --- binding
 * -------------------------------------------------------------------------------------------------
 */

static bool bind_plain(struct insn *i, const struct dec *d)
{
	bool wide = d->mode == MODE_64;

	switch (d->op) {
	case 0x9c:
		i->flags |= INSN_STACK;
		i->fn = i->size == 8 ? pushf64 : pushf16;
		return wide;
	case 0x9d:
		i->flags |= INSN_STACK;
		i->fn = i->size == 8 ? popf64 : popf16;
		return wide;
	case 0xf5: i->fn = cmc; return true;
	case 0xf8: i->fn = clc; return true;
	case 0xf9: i->fn = stc; return true;
	case 0xfa: i->fn = cli; return true;
	case 0xfb: i->fn = sti; return true;
	case 0xfc: i->fn = cld; return true;
	case 0xfd: i->fn = std; return true;
	case 0xce: i->fn = into; return true;
	default: return false;
	}
}

bool soft_bind_far(struct insn *i, const struct dec *d)
{
	bool m = i->flags & INSN_MEM;

	if (d->map == MAP_0F) {
		switch (d->op) {
		case 0x05: i->fn = syscall_op; break;
		case 0x07: i->fn = sysret_op; break;
		case 0x34: i->fn = sysenter_op; break;
		case 0x35: i->fn = sysexit_op; break;
		default: return false;
		}
		i->flags |= INSN_END;
		return true;
	}
	if (d->map != MAP_1)
		return false;
	if (bind_plain(i, d))
		return true;
	switch (d->op) {
	case 0x9a:
	case 0xea:
		i->aux = d->op == 0x9a;
		i->disp = d->imm2;
		i->fn = far_direct;
		break;
	case 0xff:
		if ((d->reg & 7) != 3 && (d->reg & 7) != 5)
			return false;
		i->aux = (d->reg & 7) == 3;
		i->fn = m ? far_indirect : NULL;
		break;
	case 0xca:
	case 0xcb: i->fn = far_ret; break;
	case 0xcc:
		i->imm = EXC_BP;
		i->fn = int_n;
		break;
	case 0xcd: i->fn = int_n; break;
	case 0xcf: i->fn = iret; break;
	case 0xf1: i->fn = icebp; break;
	default: return false;
	}
	i->flags |= INSN_END;
	return true;
}
