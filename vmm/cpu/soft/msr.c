/* SPDX-License-Identifier: MIT */
/* CPUID and MSRs: nothing yet but EFER, STAR and the segment bases. */
#include "vmm/cpu/soft/msr.h"
#include <string.h>

void soft_cpuid(struct soft_vcpu *c, uint32_t leaf, uint32_t sub, uint32_t out[4])
{
	memset(out, 0, 4 * sizeof(out[0]));
}

uint64_t soft_cr4_valid(const struct soft_vcpu *c)
{
	return CR4_PSE | CR4_PAE | CR4_PGE | CR4_MCE | CR4_DE | CR4_TSD | CR4_OSFXSR |
	       CR4_OSXMMEXCPT | CR4_FSGSBASE;
}

uint64_t soft_xcr0_valid(const struct soft_vcpu *c)
{
	return 3;
}

bool soft_rdmsr(struct soft_vcpu *c, uint32_t msr, uint64_t *ret)
{
	switch (msr) {
	case 0xc0000080: *ret = c->efer; return true;
	case 0xc0000081: *ret = c->star; return true;
	case 0xc0000082: *ret = c->lstar; return true;
	case 0xc0000084: *ret = c->sfmask; return true;
	case 0xc0000100: *ret = c->segbase[SEG_FS]; return true;
	case 0xc0000101: *ret = c->segbase[SEG_GS]; return true;
	case 0xc0000102: *ret = c->kernel_gs_base; return true;
	default: return false;
	}
}

bool soft_wrmsr(struct soft_vcpu *c, uint32_t msr, uint64_t v)
{
	switch (msr) {
	case 0xc0000080: return soft_set_efer(c, v);
	case 0xc0000081: c->star = v; return true;
	case 0xc0000082: c->lstar = v; return true;
	case 0xc0000084: c->sfmask = v; return true;
	case 0xc0000100: soft_set_segbase(c, SEG_FS, v); return true;
	case 0xc0000101: soft_set_segbase(c, SEG_GS, v); return true;
	case 0xc0000102: c->kernel_gs_base = v; return true;
	default: return false;
	}
}

int soft_msr_new(struct soft_vcpu *c)
{
	return 0;
}

void soft_msr_free(struct soft_vcpu *c)
{
}

void soft_msr_reset(struct soft_vcpu *c, bool init)
{
}

void soft_msr_save(struct soft_vcpu *c, struct cpu_msr *msrs, unsigned *n)
{
	*n = 0;
}

int soft_msr_load(struct soft_vcpu *c, const struct cpu_msr *msrs, unsigned n)
{
	return 0;
}

int soft_clock_new(struct soft_clock **ret, struct soft_vm *vm)
{
	*ret = NULL;
	return 0;
}

void soft_clock_free(struct soft_clock *k)
{
}

void soft_clock_save(struct soft_clock *k, struct state_w *w)
{
}

int soft_clock_load(struct soft_clock *k, struct state_r *r)
{
	return 0;
}
