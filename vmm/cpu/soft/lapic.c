/* SPDX-License-Identifier: MIT */
/*
 * The local APIC: registers, priorities and end of interrupt (SDM vol. 3 ch. 11; x2APIC §11.12). Messages between
 * APICs are in lapic-ipi.c, the timer in lapic-timer.c.
 */
#include "vmm/cpu/soft/lapic.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "lib/base/le.h"
#include "vmm/cpu/soft/lapic-internal.h"
#include "vmm/cpu/soft/msr.h"
#include "vmm/cpu/soft/simd.h"

/* Integrated APIC, LVT entries 0-5. Suppression of EOI broadcasts is not offered. */
enum { VERSION = 0x14 | 5 << 16 };
enum { DEFAULT_BASE = 0xfee00000 };

static int highest(const struct soft_lapic *l, unsigned first)
{
	for (int i = 7; i >= 0; i--) {
		uint32_t v = apic_get(l, first + (unsigned)i);

		if (v)
			return i * 32 + 31 - __builtin_clz(v);
	}
	return -1;
}

static uint8_t ppr(const struct soft_lapic *l)
{
	int isr = highest(l, APIC_ISR);
	unsigned tpr = apic_get(l, APIC_TPR), serving = isr < 0 ? 0 : (unsigned)isr & 0xf0;

	return (uint8_t)((tpr & 0xf0) >= serving ? tpr : serving);
}

/* The highest requested vector if its priority class is above the processor's. */
static int deliverable(const struct soft_lapic *l)
{
	int irr = apic_enabled(l) ? highest(l, APIC_IRR) : -1;

	return irr >= 0 && (irr & 0xf0) > (ppr(l) & 0xf0) ? irr : -1;
}

int soft_lapic_pending(struct soft_lapic *l)
{
	apic_timer_check(l);
	return deliverable(l);
}

int soft_lapic_ack(struct soft_lapic *l)
{
	int v = deliverable(l);

	if (v < 0)
		return -1;
	atomic_fetch_and(&l->reg[APIC_IRR + v / 32], ~(1u << v % 32));
	apic_put(l, APIC_ISR + (unsigned)v / 32,
		apic_get(l, APIC_ISR + (unsigned)v / 32) | 1u << v % 32);
	return v;
}

static void recheck(struct soft_lapic *l)
{
	if (deliverable(l) >= 0)
		soft_post(l->c, EV_INTR);
}

static void end_of_interrupt(struct soft_lapic *l)
{
	const struct cpu_io *io = l->c->vm->io;
	int v = highest(l, APIC_ISR);
	uint32_t bit;

	if (v < 0)
		return;
	bit = 1u << v % 32;
	apic_put(l, APIC_ISR + (unsigned)v / 32, apic_get(l, APIC_ISR + (unsigned)v / 32) & ~bit);
	if ((apic_get(l, APIC_TMR + (unsigned)v / 32) & bit) && io && io->eoi) {
		soft_simd_leave(l->c);
		io->eoi(io->ctx, (uint8_t)v);
		soft_simd_enter(l->c);
	}
	recheck(l);
}

uint8_t soft_lapic_get_cr8(struct soft_lapic *l)
{
	return (uint8_t)(apic_get(l, APIC_TPR) >> 4);
}

static void set_tpr(struct soft_lapic *l, uint8_t v)
{
	apic_put(l, APIC_TPR, v);
	recheck(l);
}

void soft_lapic_set_cr8(struct soft_lapic *l, uint8_t v)
{
	set_tpr(l, (uint8_t)(v << 4));
}

/* The logical id of x2APIC mode follows from the APIC id (§11.12.10.2). */
static void set_ids(struct soft_lapic *l)
{
	unsigned id = l->c->index;

	apic_put(l, APIC_ID, apic_x2(l) ? id : id << 24);
	if (apic_x2(l))
		apic_put(l, APIC_LDR, id >> 4 << 16 | 1u << (id & 15));
}

static void reset_regs(struct soft_lapic *l)
{
	for (unsigned i = 0; i < APIC_REGS; i++)
		apic_put(l, i, 0);
	for (unsigned i = APIC_LVT_TIMER; i <= APIC_LVT_ERROR; i++)
		apic_put(l, i, LVT_MASKED);
	apic_put(l, APIC_VERSION, VERSION);
	apic_put(l, APIC_DFR, UINT32_MAX);
	apic_put(l, APIC_SVR, 0xff);
	atomic_store(&l->esr_next, 0);
	set_ids(l);
	apic_timer_reset(l);
}

void soft_lapic_reset(struct soft_lapic *l, bool init)
{
	if (!init)
		atomic_store(&l->base, DEFAULT_BASE | BASE_ENABLED | (l->c->index ? 0 : BASE_BSP));
	reset_regs(l);
}

int soft_lapic_new(struct soft_lapic **ret, struct soft_vcpu *c)
{
	struct soft_lapic *l = calloc(1, sizeof(*l));
	int r;

	if (!l)
		return -ENOMEM;
	l->c = c;
	soft_lapic_reset(l, false);
	r = soft_clock_watch(c->vm->clock, c, &l->watched_ns);
	if (r < 0) {
		soft_lapic_free(l);
		return r;
	}
	*ret = l;
	return 0;
}

void soft_lapic_free(struct soft_lapic *l)
{
	if (!l)
		return;
	soft_clock_unwatch(l->c->vm->clock, l->c);
	free(l);
}

/* Which bits of each local vector table entry exist: vector, mode, trigger and polarity (LINTs), mask, timer mode. */
static uint32_t lvt_bits(unsigned r)
{
	switch (r) {
	case APIC_LVT_TIMER: return 0x000700ff;
	case APIC_LVT_LINT0:
	case APIC_LVT_LINT1: return 0x0001a7ff;
	case APIC_LVT_ERROR: return 0x000100ff;
	default: return 0x000107ff;
	}
}

static void write_svr(struct soft_lapic *l, uint32_t v)
{
	apic_put(l, APIC_SVR, v & 0x1ff);
	if (!(v & SVR_ENABLED))
		for (unsigned i = APIC_LVT_TIMER; i <= APIC_LVT_ERROR; i++)
			apic_put(l, i, apic_get(l, i) | LVT_MASKED);
	recheck(l);
}

/* Registers that both modes write alike. false: not writable (x2APIC: #GP). */
static bool write_reg(struct soft_lapic *l, unsigned r, uint32_t v)
{
	switch (r) {
	case APIC_TPR: set_tpr(l, (uint8_t)v); return true;
	case APIC_EOI: end_of_interrupt(l); return true;
	case APIC_SVR: write_svr(l, v); return true;
	case APIC_ESR: apic_put(l, APIC_ESR, atomic_exchange(&l->esr_next, 0)); return true;
	case APIC_LVT_TIMER:
	case APIC_LVT_THERMAL:
	case APIC_LVT_PERF:
	case APIC_LVT_LINT0:
	case APIC_LVT_LINT1:
	case APIC_LVT_ERROR:
		v &= lvt_bits(r);
		if (!(apic_get(l, APIC_SVR) & SVR_ENABLED))
			v |= LVT_MASKED;
		apic_put(l, r, v);
		if (r == APIC_LVT_TIMER)
			apic_timer_changed(l, false);
		return true;
	case APIC_TIMER_ICR:
		apic_put(l, r, v);
		apic_timer_changed(l, true);
		return true;
	case APIC_TIMER_DCR:
		apic_put(l, r, v & 0xb);
		apic_timer_changed(l, false);
		return true;
	default: return false;
	}
}

static uint32_t read_reg(struct soft_lapic *l, unsigned r)
{
	switch (r) {
	case APIC_PPR: return ppr(l);
	case APIC_TIMER_CCR: return apic_timer_count(l);
	case APIC_EOI: return 0;
	default: break;
	}
	if (r >= APIC_IRR && r < APIC_IRR + 8)
		apic_timer_check(l); /* polling with interrupts off */
	return apic_get(l, r);
}

/* --- xAPIC page --- */

bool soft_lapic_mmio(struct soft_lapic *l, gpa_t gpa)
{
	uint64_t base = apic_base(l);

	return (base & (BASE_ENABLED | BASE_X2APIC)) == BASE_ENABLED &&
	       ALIGN_DOWN(base, 4096) == ALIGN_DOWN(gpa, 4096);
}

uint64_t soft_lapic_mmio_read(struct soft_lapic *l, gpa_t gpa, unsigned len)
{
	unsigned off = gpa & 0xfff, shift = off % 16 * 8;

	/* A register is 4 bytes of every 16; the rest reads as zero. */
	if (off >= APIC_REGS * 16 || shift >= 32)
		return 0;
	return ((uint64_t)read_reg(l, off / 16) >> shift) &
	       (len < 8 ? BIT(len * 8) - 1 : UINT64_MAX);
}

void soft_lapic_mmio_write(struct soft_lapic *l, gpa_t gpa, unsigned len, uint64_t val)
{
	unsigned off = gpa & 0xfff, r = off / 16;
	uint32_t v = (uint32_t)val;

	if (off % 16 || len < 4 || r >= APIC_REGS)
		return; /* §11.4.1: only whole registers */
	switch (r) {
	case APIC_LDR: apic_put(l, r, v & 0xff000000); break;
	case APIC_DFR: apic_put(l, r, v | 0x0fffffff); break;
	case APIC_ICR2: apic_put(l, r, v & 0xff000000); break;
	case APIC_ICR:
		apic_put(l, r, v & 0xccfff);
		apic_send_icr(l, (uint64_t)apic_get(l, APIC_ICR2) << 32 | (v & 0xccfff));
		break;
	default: write_reg(l, r, v); break;
	}
}

/* --- x2APIC MSRs --- */

static bool x2_readable(unsigned r)
{
	if (r >= APIC_ISR && r < APIC_IRR + 8)
		return true;
	switch (r) {
	case APIC_ID:
	case APIC_VERSION:
	case APIC_TPR:
	case APIC_PPR:
	case APIC_LDR:
	case APIC_SVR:
	case APIC_ESR:
	case APIC_ICR:
	case APIC_LVT_TIMER:
	case APIC_LVT_THERMAL:
	case APIC_LVT_PERF:
	case APIC_LVT_LINT0:
	case APIC_LVT_LINT1:
	case APIC_LVT_ERROR:
	case APIC_TIMER_ICR:
	case APIC_TIMER_CCR:
	case APIC_TIMER_DCR: return true;
	default: return false;
	}
}

bool soft_lapic_rdmsr(struct soft_lapic *l, unsigned r, uint64_t *ret)
{
	if (!apic_x2(l) || !x2_readable(r))
		return false;
	*ret = read_reg(l, r);
	if (r == APIC_ICR)
		*ret |= (uint64_t)apic_get(l, APIC_ICR2) << 32;
	return true;
}

bool soft_lapic_wrmsr(struct soft_lapic *l, unsigned r, uint64_t v)
{
	if (!apic_x2(l))
		return false;
	if (r == APIC_ICR) {
		if (v & 0xfff32000)
			return false;
		apic_put(l, APIC_ICR, (uint32_t)v);
		apic_put(l, APIC_ICR2, (uint32_t)(v >> 32));
		apic_send_icr(l, v);
		return true;
	}
	if (v >> 32)
		return false;
	switch (r) {
	case APIC_SELF_IPI:
		if (v > 0xff)
			return false;
		apic_send_icr(l, v | 1 << 18);
		return true;
	case APIC_EOI:
	case APIC_ESR:
		if (v)
			return false;
		break;
	case APIC_TPR:
		if (v > 0xff)
			return false;
		break;
	default: break;
	}
	return write_reg(l, r, (uint32_t)v);
}

/* --- IA32_APIC_BASE --- */

uint64_t soft_lapic_get_base(struct soft_lapic *l)
{
	return apic_base(l);
}

bool soft_lapic_set_base(struct soft_lapic *l, uint64_t v, bool host)
{
	uint64_t old = apic_base(l), mode = v & (BASE_ENABLED | BASE_X2APIC);
	uint64_t old_mode = old & (BASE_ENABLED | BASE_X2APIC);

	if (v >> SOFT_PHYS_BITS || (v & 0x2ff) || mode == BASE_X2APIC)
		return false;
	/* §11.12.5: x2APIC mode is entered from xAPIC mode only, and left by disabling only. */
	if (!host && old_mode == (BASE_ENABLED | BASE_X2APIC) && mode == BASE_ENABLED)
		return false;
	if (!host && old_mode == 0 && mode == (BASE_ENABLED | BASE_X2APIC))
		return false;
	atomic_store(&l->base, v);
	if (mode == old_mode)
		return true;
	if (!mode && !host)
		reset_regs(l);
	set_ids(l);
	return true;
}

/* --- the whole state --- */

void soft_lapic_get_page(struct soft_lapic *l, uint8_t page[1024])
{
	uint32_t count = apic_timer_count(l); /* first: what expires meanwhile is in it or in IRR */

	memset(page, 0, 1024);
	for (unsigned i = 0; i < APIC_REGS; i++)
		le32_put(page + i * 16, i == APIC_TIMER_CCR ? count : read_reg(l, i));
}

void soft_lapic_set_page(struct soft_lapic *l, const uint8_t page[1024])
{
	uint32_t count = le32_get(page + APIC_TIMER_CCR * 16);

	for (unsigned i = 0; i < APIC_REGS; i++)
		apic_put(l, i, le32_get(page + i * 16));
	apic_put(l, APIC_VERSION, VERSION);
	apic_put(l, APIC_PPR, 0);
	apic_put(l, APIC_TIMER_CCR, 0);
	for (unsigned i = APIC_LVT_TIMER; i <= APIC_LVT_ERROR; i++)
		apic_put(l, i, apic_get(l, i) & lvt_bits(i));
	set_ids(l);
	apic_timer_restore(l, count);
	recheck(l);
}
