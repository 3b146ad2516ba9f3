/* SPDX-License-Identifier: MIT */
/*
 * The translator: host code for hot decoded blocks. It is optional at every instruction: translated code is entered
 * where an instruction's handler would be (insn->fn points to it), and whatever it cannot do (an instruction it does
 * not know, a TLB miss, a fault, a write to a page with code) it leaves to the interpreter's handler of that very
 * instruction, all guest state being in its place. docs/softcpu.md says more.
 */
#ifndef WSLX_SOFT_JIT_H
#define WSLX_SOFT_JIT_H

#include "vmm/cpu/soft/block.h"
#include "vmm/cpu/soft/decode.h"

struct soft_jit;

/* What the translator has to know of an instruction beyond struct insn. */
struct jit_op {
	insn_fn fn; /* the interpreter's, whatever insn->fn is now */
	uint8_t map, op, reg;
	bool known; /* the rest is valid: not an invalid encoding, nor a block's tail */
	uint8_t pfx, rex, modrm, imm8;
};

/* Beside a block's insns. */
struct jit_ops {
	uint32_t hot;	     /* executions until it is translated */
	uint16_t n;	     /* of op[], the tail included */
	uint8_t cpl3;	     /* what it was translated for */
	uint64_t *key;	     /* translated: a copy of the block's key, beside the code */
	const uint8_t *body; /* where translated code goes to; NULL: not translated */
	struct jit_op op[];
};

/*
 * For vCPUs made from now on: whether to translate (the default is not), after how many executions. JIT_CHECK does everything
 * twice, the second time by the interpreter, compares, and ends the process when there is a difference: lockstep.
 */
enum jit_mode { JIT_OFF, JIT_ON, JIT_CHECK };
void soft_jit_configure(enum jit_mode mode, unsigned threshold);
/* And how many bytes of code each may have; 0: the usual. */
void soft_jit_limit(size_t bytes);
/* Leaves c->jit NULL when translation is off, or the host gives no executable memory. */
int soft_jit_new(struct soft_vcpu *c);
void soft_jit_free(struct soft_vcpu *c);
/* All blocks were dropped; one is about to be. */
void soft_jit_flush(struct soft_vcpu *c);
void soft_jit_drop(struct soft_vcpu *c, const struct block *k);

/* A handler: counts the executions of the block that begins with i. */
const struct insn *soft_jit_count(struct soft_vcpu *c, const struct insn *i);

/* Executes handlers and translated code from i until one of them returns NULL. Translated code may change the registers
 * that belong to its caller: it must not be called otherwise. */
void soft_jit_enter(struct soft_vcpu *c, const struct insn *i) __attribute__((sysv_abi));

#endif
