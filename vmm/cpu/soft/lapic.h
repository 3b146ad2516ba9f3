/* SPDX-License-Identifier: MIT */
/*
 * The local APIC (SDM vol. 3 ch. 11; xAPIC page and x2APIC MSRs, TSC-deadline timer), and waiting
 * in HLT.
 */
#ifndef WSLX_SOFT_LAPIC_H
#define WSLX_SOFT_LAPIC_H

#include "vmm/cpu/soft/cpu.h"

int soft_lapic_new(struct soft_lapic **ret, struct soft_vcpu *c);
void soft_lapic_free(struct soft_lapic *l);
void soft_lapic_reset(
	struct soft_lapic *l, bool init); /* INIT keeps the APIC id and IA32_APIC_BASE */

/* The xAPIC page: true when gpa lies in it (enabled, not x2APIC). The access is the vCPU's own, len
 * 1, 2, 4 or 8. */
bool soft_lapic_mmio(struct soft_lapic *l, gpa_t gpa);
uint64_t soft_lapic_mmio_read(struct soft_lapic *l, gpa_t gpa, unsigned len);
void soft_lapic_mmio_write(struct soft_lapic *l, gpa_t gpa, unsigned len, uint64_t v);

/* Own thread. The vector that could be delivered now (above the PPR), or -1; ack moves it to
 * service and returns it. */
int soft_lapic_pending(struct soft_lapic *l);
int soft_lapic_ack(struct soft_lapic *l);
uint8_t soft_lapic_get_cr8(struct soft_lapic *l);
void soft_lapic_set_cr8(
	struct soft_lapic *l, uint8_t v); /* posts EV_INTR when that unblocks something */

/* Any thread: an MSI message reaches the APICs it addresses (EV_INTR, EV_NMI, EV_INIT, EV_SIPI are
 * posted). */
void soft_lapic_msi(struct soft_vm *vm, uint64_t addr, uint32_t data);

/* x2APIC registers: r = MSR - 0x800. false: #GP. */
bool soft_lapic_rdmsr(struct soft_lapic *l, unsigned r, uint64_t *ret);
bool soft_lapic_wrmsr(struct soft_lapic *l, unsigned r, uint64_t v);
/* IA32_APIC_BASE; host: loading saved state, when any mode may follow any other. */
uint64_t soft_lapic_get_base(struct soft_lapic *l);
bool soft_lapic_set_base(struct soft_lapic *l, uint64_t v, bool host);
/* IA32_TSC_DEADLINE. host: the value is kept whatever the timer's mode. */
uint64_t soft_lapic_get_tsc_deadline(struct soft_lapic *l);
void soft_lapic_set_tsc_deadline(struct soft_lapic *l, uint64_t v, bool host);
/* The guest's TSC jumped. */
void soft_lapic_tsc_changed(struct soft_lapic *l);

void soft_lapic_get_page(struct soft_lapic *l, uint8_t page[1024]);
void soft_lapic_set_page(struct soft_lapic *l, const uint8_t page[1024]);

/*
 * Own thread, run_state == CPU_HALTED or CPU_WAIT_SIPI: returns when c->events has one of mask set
 * (spins for a while, then sleeps). The TSC-deadline timer's expiry posts EV_INTR like any other
 * interrupt, asleep or not.
 */
void soft_halt_wait(struct soft_vcpu *c, uint32_t mask);

#endif
