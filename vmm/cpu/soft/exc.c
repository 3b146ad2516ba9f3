/* SPDX-License-Identifier: MIT */
/*
 * Delivery of exceptions and interrupts (SDM vol. 3 ch. 6): through the IDT in IA-32e and protected
 * mode, through the interrupt vector table in real mode. Task gates and virtual-8086 mode do not
 * exist here.
 *
 * A fault inside a delivery comes back by soft_raise() with c->in_delivery set, and is combined
 * with the first one.
 */
#include "vmm/cpu/soft/exc.h"
#include "vmm/cpu/soft/exec.h"
#include "vmm/cpu/soft/mem.h"
#include "vmm/cpu/soft/mmu.h"

enum { ERR_EXT = 1, ERR_IDT = 2 };

struct event {
	unsigned vec;
	bool has_err, soft, ext;
	uint32_t err;
	uint64_t ret_rip;
	bool fault; /* push RF = 1 */
};

bool soft_exc_has_error(unsigned vec)
{
	return vec == EXC_DF || (vec >= EXC_TS && vec <= EXC_PF) || vec == EXC_AC;
}

static bool contributory(unsigned vec)
{
	return vec == EXC_DE || (vec >= EXC_TS && vec <= EXC_GP);
}

static uint32_t idt_err(const struct event *ev)
{
	return ev->vec << 3 | ERR_IDT | (ev->soft ? 0 : ERR_EXT);
}

/* Writes the frame of n slots of the given size below sp, with the rights of the new CPL. */
static void push_frame(
	struct soft_vcpu *c, uint64_t lin, const void *frame, unsigned len, unsigned cpl)
{
	struct soft_tlb *tlb = c->tlb;
	uint8_t old = c->cpl;

	/* The handler's level decides; c->cpl is put back by whoever catches a fault, see
	 * soft_deliver_exc(). */
	c->deliv_cpl = old;
	c->cpl = (uint8_t)cpl;
	c->tlb = &c->tlbs[cpl == 3];
	mem_write_bytes(c, lin, frame, len);
	c->cpl = old;
	c->tlb = tlb;
}

static void deliver_long(struct soft_vcpu *c, const struct event *ev)
{
	uint64_t gate = c->idtr.base + ev->vec * 16, lo, hi, sp, frame[6];
	unsigned type, ist, cpl, n = 0;
	struct soft_desc d;
	uint16_t sel;

	if (ev->vec * 16u + 15 > c->idtr.limit)
		soft_raise(c, EXC_GP, idt_err(ev));
	lo = mem_sys_read(c, gate, 8);
	hi = mem_sys_read(c, gate + 8, 8);
	type = lo >> 40 & 0x1f;
	if (type != 0xe && type != 0xf)
		soft_raise(c, EXC_GP, idt_err(ev));
	if (ev->soft && (lo >> 45 & 3) < c->cpl)
		soft_raise(c, EXC_GP, idt_err(ev));
	if (!(lo >> 47 & 1))
		soft_raise(c, EXC_NP, idt_err(ev));
	sel = (uint16_t)(lo >> 16);
	ist = lo >> 32 & 7;
	if (!(sel & ~3))
		soft_raise(c, EXC_GP, ERR_EXT);
	soft_desc_read(c, &d, sel, EXC_GP);
	if ((d.attr & (DESC_S | DESC_CODE)) != (DESC_S | DESC_CODE) || desc_dpl(d.attr) > c->cpl ||
		(d.attr & (DESC_L | DESC_DB)) != DESC_L)
		soft_raise(c, EXC_GP, (sel & ~3u) | ERR_EXT);
	if (!(d.attr & DESC_P))
		soft_raise(c, EXC_NP, (sel & ~3u) | ERR_EXT);
	cpl = d.attr & DESC_CONF ? c->cpl : desc_dpl(d.attr);
	if (ist || cpl < c->cpl) {
		unsigned off = ist ? 0x24 + 8 * (ist - 1) : 4 + 8 * cpl;

		if (off + 7 > c->seg[SEG_TR].limit)
			soft_raise(c, EXC_TS, c->seg[SEG_TR].sel);
		sp = mem_sys_read(c, c->segbase_hidden[SEG_TR] + off, 8);
	} else {
		sp = c->gpr[CPU_RSP];
	}
	sp &= ~0xfull;
	if (ev->has_err)
		frame[n++] = ev->err;
	frame[n++] = ev->ret_rip;
	frame[n++] = c->seg[SEG_CS].sel;
	frame[n++] = soft_rflags_get(c) | (ev->fault ? RF_RF : 0);
	frame[n++] = c->gpr[CPU_RSP];
	frame[n++] = c->seg[SEG_SS].sel;
	sp -= n * 8;
	if (!soft_canonical(sp) || !soft_canonical(sp + n * 8 - 1))
		soft_raise(c, EXC_SS, 0);
	push_frame(c, sp, frame, n * 8, cpl);

	/* Nothing faults from here on. */
	c->gpr[CPU_RSP] = sp;
	if (cpl != c->cpl) {
		struct soft_desc ss = {.attr = (uint16_t)(DESC_P | DESC_S | DESC_RW | DESC_A |
							  cpl << 5 | DESC_DB)};

		soft_set_seg(c, SEG_SS, (uint16_t)cpl, &ss);
	}
	soft_set_cs(c, (uint16_t)((sel & ~3) | cpl), &d, cpl);
	c->eflags &= ~(uint32_t)(RF_TF | RF_NT | RF_RF | RF_VM | (type == 0xe ? RF_IF : 0));
	c->rip = (lo & 0xffff) | (lo >> 32 & 0xffff0000) | hi << 32;
}

static void deliver_prot(struct soft_vcpu *c, const struct event *ev)
{
	uint64_t g;
	uint32_t frame[6], sp;
	unsigned type, cpl, n = 0;
	struct soft_desc d, ss;
	uint16_t sel, ss_sel = c->seg[SEG_SS].sel;
	bool outer;

	if (ev->vec * 8u + 7 > c->idtr.limit)
		soft_raise(c, EXC_GP, idt_err(ev));
	g = mem_sys_read(c, c->idtr.base + ev->vec * 8, 8);
	type = g >> 40 & 0x1f;
	if (type != 0xe && type != 0xf)
		soft_raise(c, EXC_GP, idt_err(ev));
	if (ev->soft && (g >> 45 & 3) < c->cpl)
		soft_raise(c, EXC_GP, idt_err(ev));
	if (!(g >> 47 & 1))
		soft_raise(c, EXC_NP, idt_err(ev));
	sel = (uint16_t)(g >> 16);
	if (!(sel & ~3))
		soft_raise(c, EXC_GP, ERR_EXT);
	soft_desc_read(c, &d, sel, EXC_GP);
	if ((d.attr & (DESC_S | DESC_CODE)) != (DESC_S | DESC_CODE) || desc_dpl(d.attr) > c->cpl)
		soft_raise(c, EXC_GP, (sel & ~3u) | ERR_EXT);
	if (!(d.attr & DESC_P))
		soft_raise(c, EXC_NP, (sel & ~3u) | ERR_EXT);
	cpl = d.attr & DESC_CONF ? c->cpl : desc_dpl(d.attr);
	outer = cpl < c->cpl;
	sp = (uint32_t)c->gpr[CPU_RSP];
	if (outer) {
		uint64_t tss = c->segbase_hidden[SEG_TR] + 4 + 8 * cpl;

		if (4 + 8 * cpl + 5 > c->seg[SEG_TR].limit)
			soft_raise(c, EXC_TS, c->seg[SEG_TR].sel);
		sp = (uint32_t)mem_sys_read(c, tss, 4);
		ss_sel = (uint16_t)mem_sys_read(c, tss + 4, 2);
		soft_desc_read(c, &ss, ss_sel, EXC_TS);
		if ((ss.attr & (DESC_S | DESC_CODE | DESC_RW)) != (DESC_S | DESC_RW) ||
			desc_dpl(ss.attr) != cpl)
			soft_raise(c, EXC_TS, ss_sel & ~3u);
	}
	if (ev->has_err)
		frame[n++] = ev->err;
	frame[n++] = (uint32_t)ev->ret_rip;
	frame[n++] = c->seg[SEG_CS].sel;
	frame[n++] = (uint32_t)soft_rflags_get(c) | (ev->fault ? RF_RF : 0);
	if (outer) {
		frame[n++] = (uint32_t)c->gpr[CPU_RSP];
		frame[n++] = c->seg[SEG_SS].sel;
	}
	sp -= n * 4;
	push_frame(c, (uint32_t)(sp + (outer ? ss.base : c->segbase[SEG_SS])), frame, n * 4, cpl);
	c->gpr[CPU_RSP] = sp;
	if (outer)
		soft_set_seg(c, SEG_SS, ss_sel, &ss);
	soft_set_cs(c, (uint16_t)((sel & ~3) | cpl), &d, cpl);
	c->eflags &= ~(uint32_t)(RF_TF | RF_NT | RF_RF | RF_VM | (type == 0xe ? RF_IF : 0));
	c->rip = (g & 0xffff) | (g >> 32 & 0xffff0000);
}

static void deliver_real(struct soft_vcpu *c, const struct event *ev)
{
	uint32_t ivt;
	uint16_t frame[3], sp = (uint16_t)(c->gpr[CPU_RSP] - 6);

	if (ev->vec * 4u + 3 > c->idtr.limit)
		soft_raise(c, EXC_GP, 0);
	ivt = (uint32_t)mem_sys_read(c, c->idtr.base + ev->vec * 4, 4);
	frame[0] = (uint16_t)ev->ret_rip;
	frame[1] = c->seg[SEG_CS].sel;
	frame[2] = (uint16_t)soft_rflags_get(c);
	mem_write_bytes(c, (uint32_t)(c->segbase[SEG_SS] + sp), frame, sizeof(frame));
	SLOT16(c, SLOT_RSP) = sp;
	c->seg[SEG_CS].sel = (uint16_t)(ivt >> 16);
	c->segbase_hidden[SEG_CS] = (ivt >> 16) << 4;
	soft_mode_changed(c);
	c->eflags &= ~(uint32_t)(RF_TF | RF_IF | RF_AC);
	c->rip = (uint16_t)ivt;
}

static void deliver(struct soft_vcpu *c, const struct event *ev)
{
	c->in_delivery = true;
	c->deliv_vec = (uint8_t)ev->vec;
	c->deliv_ext = ev->ext;
	c->deliv_cpl = c->cpl;
	if (soft_long_mode(c))
		deliver_long(c, ev);
	else if (c->cr0 & CR0_PE)
		deliver_prot(c, ev);
	else
		deliver_real(c, ev);
	c->in_delivery = false;
}

bool soft_deliver_exc(struct soft_vcpu *c)
{
	struct event ev = {.vec = c->exc.vec,
		.has_err = c->exc.has_err,
		.soft = c->exc.soft,
		.err = c->exc.err};

	if (c->in_delivery) {
		/* The level may have been changed for the frame's sake. */
		c->cpl = c->deliv_cpl;
		c->tlb = &c->tlbs[c->cpl == 3];
		ev.soft = false;
		if (c->deliv_vec == EXC_DF && !c->deliv_ext) {
			c->in_delivery = false;
			return false;
		}
		if (!c->deliv_ext && (contributory(c->deliv_vec) || c->deliv_vec == EXC_PF) &&
			(contributory(ev.vec) || (ev.vec == EXC_PF && c->deliv_vec == EXC_PF))) {
			ev.vec = EXC_DF;
			ev.err = 0;
			ev.has_err = true;
		}
	}
	if (!(c->cr0 & CR0_PE))
		ev.has_err = false;
	ev.fault = !ev.soft && ev.vec != EXC_DF;
	ev.ret_rip = c->rip + (ev.soft ? c->exc_len : 0);
	/* INT n is not an exception: a fault in its delivery is delivered as itself. */
	ev.ext = ev.soft;
	deliver(c, &ev);
	return true;
}

void soft_deliver_ext(struct soft_vcpu *c, unsigned vec)
{
	deliver(c, &(struct event){.vec = vec, .ext = true, .ret_rip = c->rip});
}

void soft_deliver_db(struct soft_vcpu *c)
{
	deliver(c, &(struct event){.vec = EXC_DB, .ret_rip = c->rip});
}
