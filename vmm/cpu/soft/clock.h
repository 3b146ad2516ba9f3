/* SPDX-License-Identifier: MIT */
/*
 * Time of a VM: the paravirtual clock (Linux Documentation/virt/kvm/x86/msr.rst, cpuid.rst), and one thread that wakes
 * vCPUs whose APIC timer expires while they execute (a halted vCPU waits for its own).
 */
#ifndef WSLX_SOFT_CLOCK_H
#define WSLX_SOFT_CLOCK_H

#include "vmm/cpu/soft/cpu.h"

enum {
	MSR_KVM_WALL_CLOCK = 0x11,
	MSR_KVM_SYSTEM_TIME = 0x12,
	MSR_KVM_WALL_CLOCK_NEW = 0x4b564d00,
	MSR_KVM_SYSTEM_TIME_NEW = 0x4b564d01,
};

/* The vCPU's SYSTEM_TIME MSR was written (bit 0: enabled): publishes the time page. The address must be 4-aligned. */
void soft_clock_publish(struct soft_vcpu *c, uint64_t msr);
/* The WALL_CLOCK MSR was written: stores the time of day at which the VM's clock was zero. */
void soft_clock_wall(struct soft_vcpu *c, uint64_t msr);
/* Guest nanoseconds now. Any thread. */
uint64_t soft_clock_ns(struct soft_clock *k);
/* A restored TSC value: returns the offset to use, the same for all vCPUs whose values were saved together. */
uint64_t soft_clock_tsc_offset(struct soft_clock *k, uint64_t guest_tsc);

/*
 * Where the host's TSC, read by host_tsc(), has begun anew since the last look, as it does over a suspend to RAM on many machines, the
 * guest's go on where they would be. A vCPU's thread, again and again.
 */
void soft_clock_look(struct soft_clock *k, uint64_t (*host_tsc)(void));

/* Nanoseconds that n ticks of the TSC take, rounded up; saturates. */
uint64_t soft_tsc_to_ns(uint64_t n);

/* The timer thread, which the first call starts, watches *deadline_ns (os_now() time) for c from now on, and posts EV_INTR when it passes. */
int soft_clock_watch(struct soft_clock *k, struct soft_vcpu *c, _Atomic uint64_t *deadline_ns);
void soft_clock_unwatch(struct soft_clock *k, struct soft_vcpu *c);
/* A watched deadline became t. */
void soft_clock_earlier(struct soft_clock *k, uint64_t t);

#endif
