/* SPDX-License-Identifier: MIT */
/* Where translated code goes when it does not know the way: called as handlers are, with one argument more. */
#ifndef WSLX_SOFT_JIT_LINK_H
#define WSLX_SOFT_JIT_LINK_H

#include "vmm/cpu/soft/jit/jit.h"

/* The direct jump i; at site's offset in the code cache is what may be patched. */
const struct insn *soft_jit_link(struct soft_vcpu *c, const struct insn *i, uint64_t site);
const struct insn *soft_jit_link_out(struct soft_vcpu *c, const struct insn *i, uint64_t site);
/* The direct jump i, but events wait. */
const struct insn *soft_jit_events(struct soft_vcpu *c, const struct insn *i, uint64_t unused);
/* The indirect jump, call or return, its effects done, to target. insn_and_kind: struct insn's offset from c->jit_insns, and in
 * its low bits which of the three. */
const struct insn *soft_jit_jump(struct soft_vcpu *c, uint64_t target, uint64_t insn_and_kind);
static inline const struct insn *jit_insn(const struct soft_vcpu *c, uint64_t insn_and_kind)
{
	return (const struct insn *)(const void *)(c->jit_insns + (insn_and_kind & ~31ull));
}

#endif
