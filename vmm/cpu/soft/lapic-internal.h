/* SPDX-License-Identifier: MIT */
/* The local APIC's insides: shared by lapic*.c and halt.c only. */
#ifndef WSLX_SOFT_LAPIC_INTERNAL_H
#define WSLX_SOFT_LAPIC_INTERNAL_H

#include "vmm/cpu/soft/clock.h"
#include "vmm/cpu/soft/lapic.h"

/* Register numbers: offset / 16 in the xAPIC page, MSR - 0x800 in x2APIC mode (SDM vol. 3 tables 11-1, 11-6). */
enum {
	APIC_ID = 0x02,
	APIC_VERSION = 0x03,
	APIC_TPR = 0x08,
	APIC_APR = 0x09,
	APIC_PPR = 0x0a,
	APIC_EOI = 0x0b,
	APIC_RRD = 0x0c,
	APIC_LDR = 0x0d,
	APIC_DFR = 0x0e,
	APIC_SVR = 0x0f,
	APIC_ISR = 0x10, /* 8 registers each */
	APIC_TMR = 0x18,
	APIC_IRR = 0x20,
	APIC_ESR = 0x28,
	APIC_CMCI = 0x2f,
	APIC_ICR = 0x30,
	APIC_ICR2 = 0x31,
	APIC_LVT_TIMER = 0x32,
	APIC_LVT_THERMAL = 0x33,
	APIC_LVT_PERF = 0x34,
	APIC_LVT_LINT0 = 0x35,
	APIC_LVT_LINT1 = 0x36,
	APIC_LVT_ERROR = 0x37,
	APIC_TIMER_ICR = 0x38, /* initial count */
	APIC_TIMER_CCR = 0x39, /* current count */
	APIC_TIMER_DCR = 0x3e, /* divide configuration */
	APIC_SELF_IPI = 0x3f,
	APIC_REGS = 0x40,
};

enum { SVR_ENABLED = 1 << 8, LVT_MASKED = 1 << 16, LVT_VECTOR = 0xff };
enum { TIMER_ONE_SHOT, TIMER_PERIODIC, TIMER_TSC_DEADLINE };
enum {
	DELIVER_FIXED,
	DELIVER_LOWEST,
	DELIVER_SMI,
	DELIVER_NMI = 4,
	DELIVER_INIT,
	DELIVER_SIPI,
	DELIVER_EXTINT
};
enum { ESR_SEND_VECTOR = 1 << 5, ESR_RECV_VECTOR = 1 << 6 };

#define BASE_BSP     BIT(8)
#define BASE_X2APIC  BIT(10)
#define BASE_ENABLED BIT(11)

/*
 * The vCPU's thread owns everything; "any thread" fields may be read elsewhere, and message delivery sets bits of TMR,
 * IRR and esr_next from any thread.
 */
struct soft_lapic {
	struct soft_vcpu *c;
	_Atomic uint32_t reg[APIC_REGS]; /* any thread */
	_Atomic uint64_t base;		 /* IA32_APIC_BASE; any thread */
	_Atomic uint32_t esr_next;	 /* errors since the guest last wrote ESR; any thread */

	/* Timer. Times are os_now(); UINT64_MAX: not running. */
	uint64_t start_ns;	     /* when the count was written, or the period began */
	uint64_t deadline_ns;	     /* when it expires next */
	uint64_t tsc_deadline;	     /* IA32_TSC_DEADLINE; 0: disarmed */
	_Atomic uint64_t watched_ns; /* what the VM's timer thread waits for; any thread */
	bool waiting;		     /* in soft_halt_wait(), which looks at deadline_ns itself */
	uint64_t spin_ns;	     /* how long soft_halt_wait() spins at first */
};

static inline uint32_t apic_get(const struct soft_lapic *l, unsigned r)
{
	return atomic_load_explicit(&l->reg[r], memory_order_relaxed);
}
static inline void apic_put(struct soft_lapic *l, unsigned r, uint32_t v)
{
	atomic_store_explicit(&l->reg[r], v, memory_order_relaxed);
}
static inline uint64_t apic_base(const struct soft_lapic *l)
{
	return atomic_load_explicit(&l->base, memory_order_relaxed);
}
static inline bool apic_x2(const struct soft_lapic *l)
{
	return apic_base(l) & BASE_X2APIC;
}
static inline bool apic_enabled(const struct soft_lapic *l)
{
	return (apic_base(l) & BASE_ENABLED) && (apic_get(l, APIC_SVR) & SVR_ENABLED);
}

/* lapic-ipi.c */

/* Sets the vector's IRR bit and posts EV_INTR; dropped while the APIC is disabled. Any thread. */
void apic_accept(struct soft_lapic *l, uint8_t vector, bool level);
/* Records an error and raises the error LVT's interrupt. Any thread. */
void apic_error(struct soft_lapic *l, uint32_t bit);
/* The interrupt command register was written. */
void apic_send_icr(struct soft_lapic *l, uint64_t icr);

/* lapic-timer.c; own thread */

void apic_timer_reset(struct soft_lapic *l);
/* LVT, initial count or divider changed; restart: the count starts anew. */
void apic_timer_changed(struct soft_lapic *l, bool restart);
uint32_t apic_timer_count(struct soft_lapic *l);
/* The registers were loaded; count: what was left of the initial count. */
void apic_timer_restore(struct soft_lapic *l, uint32_t count);
/* Raises the timer's interrupt if it is time. */
void apic_timer_check(struct soft_lapic *l);
/* Tells the timer thread what to wait for now. */
void apic_timer_watch(struct soft_lapic *l);

#endif
