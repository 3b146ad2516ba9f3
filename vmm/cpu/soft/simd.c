/* SPDX-License-Identifier: MIT */
/* SSE, MMX and x87: nothing yet; every such instruction is #UD. */
#include "vmm/cpu/soft/simd.h"

bool soft_simd_bind(struct insn *i, const struct dec *d)
{
	return false;
}

int soft_simd_new(struct soft_vcpu *c)
{
	return 0;
}

void soft_simd_free(struct soft_vcpu *c)
{
}

void soft_simd_reset(struct soft_vcpu *c)
{
	c->xcr0 = 1;
}

void soft_simd_enter(struct soft_vcpu *c)
{
}

void soft_simd_leave(struct soft_vcpu *c)
{
}
