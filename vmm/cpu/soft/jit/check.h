/* SPDX-License-Identifier: MIT */
/* Lockstep: what translated code did, done once more by the interpreter (JIT_CHECK). */
#ifndef WSLX_SOFT_JIT_CHECK_H
#define WSLX_SOFT_JIT_CHECK_H

#include "vmm/cpu/soft/jit/cache.h"
#include "vmm/cpu/soft/jit/jit.h"

int jit_check_new(struct soft_jit *j);
void jit_check_free(struct soft_jit *j);
/* The translation of k from idx on is entered at code. */
void jit_check_add(struct soft_jit *j, const struct block *k, unsigned idx, const uint8_t *code);
void jit_check_flush(struct soft_jit *j);
/* The handler of instructions that have one. */
const struct insn *jit_checked(struct soft_vcpu *c, const struct insn *i);

/* Where translated code leaves to, in the place of link.h's. */
const struct insn *jit_check_leave(struct soft_vcpu *c, const struct insn *i, uint64_t fn);
const struct insn *jit_check_leave_insn(struct soft_vcpu *c, const struct insn *i, uint64_t unused);
const struct insn *jit_check_direct(struct soft_vcpu *c, const struct insn *i, uint64_t unused);
const struct insn *jit_check_indirect(struct soft_vcpu *c, uint64_t target, uint64_t insn_and_kind);

#endif
