/* SPDX-License-Identifier: MIT */
/* Paging and the TLB, as the rest of the CPU uses them beside mem.h. */
#ifndef WSLX_SOFT_MMU_H
#define WSLX_SOFT_MMU_H

#include "vmm/cpu/soft/cpu.h"

enum { ACC_W = 1, ACC_U = 2, ACC_X = 4 };

struct walk {
	uint64_t gpa;  /* page */
	uint64_t size; /* of the guest's page */
	bool nx, global;
};

/* Host address of a GPA in RAM (to the end of its page), else NULL. */
static inline void *soft_ram(const struct soft_vm *vm, uint64_t gpa)
{
	if (likely(gpa < vm->lo_size))
		return vm->lo_hva + gpa;
	if (gpa - GMEM_HOLE_END < vm->hi_size)
		return vm->hi_hva + (gpa - GMEM_HOLE_END);
	return NULL;
}

void soft_tlb_init(struct soft_vcpu *c);

/* The fetch entry of lin's page; raises when it cannot be executed. */
const struct tlbx *soft_fetch_fill(struct soft_vcpu *c, uint64_t lin);

/* Makes writes to the page take the slow path. */
void soft_tlb_protect(struct soft_vcpu *c, uint64_t gpa);

/* Linear address of seg:off, checked as far as flat segments need. */
uint64_t soft_seg_lin(struct soft_vcpu *c, unsigned seg, uint64_t off);

NORETURN void soft_raise_noncanonical(struct soft_vcpu *c, uint64_t lin);

/* For debugging and tests: no fault, no accessed bit needed. */
bool soft_translate_probe(struct soft_vcpu *c, uint64_t lin, uint64_t *ret_gpa);

#endif
