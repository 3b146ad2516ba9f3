/* SPDX-License-Identifier: MIT */
/* For tests: vCPUs that have a local APIC, MSRs and a clock but execute nothing, and what exec.c would do for them. */
#ifndef WSLX_SOFT_LAPIC_RIG_H
#define WSLX_SOFT_LAPIC_RIG_H

#include <stdlib.h>
#include <string.h>
#include "vmm/cpu/soft/block.h"
#include "vmm/cpu/soft/lapic.h"
#include "vmm/cpu/soft/msr.h"
#include "vmm/cpu/soft/simd.h"

void soft_post(struct soft_vcpu *c, uint32_t bits)
{
	atomic_fetch_or(&c->events, bits);
	if (atomic_load(&c->asleep))
		os_event_set(&c->wake);
}

bool soft_set_efer(struct soft_vcpu *c, uint64_t v)
{
	c->efer = v;
	return true;
}

void soft_set_segbase(struct soft_vcpu *c, unsigned seg, uint64_t base)
{
	c->segbase[seg] = base;
}

void soft_code_requests(struct soft_vcpu *c)
{
}

void soft_simd_enter(struct soft_vcpu *c)
{
}

void soft_simd_leave(struct soft_vcpu *c)
{
}

struct rig {
	struct soft_vm vm;
	struct cpu_io io;
	unsigned eois;
	uint8_t eoi_vector;
};

static void on_eoi(void *ctx, uint8_t vector)
{
	struct rig *r = ctx;

	r->eois++;
	r->eoi_vector = vector;
}

static struct rig *setup(unsigned vcpus)
{
	struct rig *r = calloc(1, sizeof(*r));

	r->io.eoi = on_eoi;
	r->io.ctx = r;
	r->vm.io = &r->io;
	r->vm.nvcpus = vcpus;
	if (gmem_new(&r->vm.gm, 2 << 20) < 0 || soft_clock_new(&r->vm.clock, &r->vm) < 0)
		abort();
	for (unsigned i = 0; i < vcpus; i++) {
		struct soft_vcpu *c = aligned_alloc(64, ALIGN_UP(sizeof(*c), 64));

		memset(c, 0, sizeof(*c));
		c->index = i;
		c->vm = &r->vm;
		os_event_init(&c->wake);
		if (soft_lapic_new(&c->lapic, c) < 0 || soft_msr_new(c) < 0)
			abort();
		r->vm.vcpu[i] = c;
	}
	return r;
}

static void teardown(struct rig *r)
{
	for (unsigned i = 0; i < r->vm.nvcpus; i++) {
		struct soft_vcpu *c = r->vm.vcpu[i];

		soft_lapic_free(c->lapic);
		soft_msr_free(c);
		os_event_done(&c->wake);
		free(c);
	}
	soft_clock_free(r->vm.clock);
	gmem_free(r->vm.gm);
	free(r);
}

#endif
