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
	uint64_t rights; /* PTE_W | PTE_U, of all levels together */
	uint64_t *pte,
		*pde; /* the last level's entry, and that of level 2: the same for a large page. In guest memory */
};

enum { PTE_P = 1, PTE_W = 2, PTE_U = 4, PTE_A = 0x20, PTE_D = 0x40, PTE_PS = 0x80, PTE_G = 0x100 };
#define PTE_NX	 BIT(63)
#define PTE_ADDR 0x000ffffffffff000ull

/* lin for the access (ACC_*), as the processor would, accessed and dirty bits included. false: it faults. With paging only. */
bool soft_walk_probe(struct soft_vcpu *c, uint64_t lin, unsigned acc, struct walk *w);

/* Host address of a GPA in a window, else NULL. */
void *soft_window(const struct soft_vm *vm, uint64_t gpa);

/* Is this RAM, and no window? */
static inline bool soft_is_ram(const struct soft_vm *vm, uint64_t gpa)
{
	return gpa < vm->lo_size || gpa - GMEM_HOLE_END < vm->hi_size;
}

/* Host address of a GPA in RAM or a window (to the end of its page), else NULL. */
static inline void *soft_ram(const struct soft_vm *vm, uint64_t gpa)
{
	if (likely(gpa < vm->lo_size))
		return vm->lo_hva + gpa;
	if (gpa - GMEM_HOLE_END < vm->hi_size)
		return vm->hi_hva + (gpa - GMEM_HOLE_END);
	return unlikely(vm->nwindows) ? soft_window(vm, gpa) : NULL;
}

void soft_tlb_init(struct soft_vcpu *c);

/* The fetch entry of lin's page; raises when it cannot be executed. */
const struct tlbx *soft_fetch_fill(struct soft_vcpu *c, uint64_t lin);

/* Makes writes to the page, or to all of them, take the slow path. */
void soft_tlb_protect(struct soft_vcpu *c, uint64_t gpa);
void soft_tlb_protect_all(struct soft_vcpu *c);

/* Linear address of seg:off, checked as far as flat segments need. */
uint64_t soft_seg_lin(struct soft_vcpu *c, unsigned seg, uint64_t off);

NORETURN void soft_raise_noncanonical(struct soft_vcpu *c, uint64_t lin);

/* For debugging and tests: no fault, no accessed bit needed. */
bool soft_translate_probe(struct soft_vcpu *c, uint64_t lin, uint64_t *ret_gpa);

#endif
