/* SPDX-License-Identifier: MIT */
/* CPUID, MSRs, kvmclock: the profile that the guest sees. */
#ifndef WSLX_SOFT_MSR_H
#define WSLX_SOFT_MSR_H

#include "vmm/cpu/soft/cpu.h"

enum { SOFT_PHYS_BITS = 46 };

enum { CPUID_EAX, CPUID_EBX, CPUID_ECX, CPUID_EDX };

/* What CPUID returns on this vCPU now (OSXSAVE, APIC id and such follow its state). Cheap: cached
 * leaves. */
void soft_cpuid(struct soft_vcpu *c, uint32_t leaf, uint32_t sub, uint32_t out[4]);

/* CR4 bits that exist in this profile; and the XCR0 bits that XSETBV takes. */
uint64_t soft_cr4_valid(const struct soft_vcpu *c);
uint64_t soft_xcr0_valid(const struct soft_vcpu *c);

/* RDMSR, WRMSR at CPL 0, all of them (the ones in struct soft_vcpu too). false: #GP. */
bool soft_rdmsr(struct soft_vcpu *c, uint32_t msr, uint64_t *ret);
bool soft_wrmsr(struct soft_vcpu *c, uint32_t msr, uint64_t v);

int soft_msr_new(struct soft_vcpu *c);
void soft_msr_free(struct soft_vcpu *c);
void soft_msr_reset(struct soft_vcpu *c, bool init);

/* Writes the vCPU's time page again, if it has one; the VM is stopped. */
void soft_msr_publish_clock(struct soft_vcpu *c);

/* For cpu_ops: the MSRs that are saved (those in struct cpu_state are not among them). */
void soft_msr_save(struct soft_vcpu *c, struct cpu_msr *msrs, unsigned *n);
int soft_msr_load(struct soft_vcpu *c, const struct cpu_msr *msrs, unsigned n);

int soft_clock_new(struct soft_clock **ret, struct soft_vm *vm);
void soft_clock_free(struct soft_clock *k);
void soft_clock_save(struct soft_clock *k, struct state_w *w);
int soft_clock_load(struct soft_clock *k, struct state_r *r);

#endif
