/* SPDX-License-Identifier: MIT */
/*
 * A region: what is translated as one piece of code, entered at its head only. It holds the instructions from the head
 * on and, as far as links are known and room permits, the blocks of the same page that they jump to. Guest registers
 * that the region uses live in the same host registers throughout, loaded at the entry and stored at the exits.
 */
#ifndef WSLX_SOFT_JIT_REGION_H
#define WSLX_SOFT_JIT_REGION_H

#include "vmm/cpu/soft/jit/emit.h"
#include "vmm/cpu/soft/jit/jit.h"

enum {
	R_MAX_NODES = 32,
	R_MAX_INSNS = 256,
	R_MAX_EXITS = 384,
	R_MAX_FIXUPS = 768,
	R_HOST_REGS = 10,
};
/* In translated code; rax, rcx and rdx are scratch. */
enum { R_TLB = RSI, R_CPU = RDI };

struct region {
	struct soft_vcpu *c;
	struct emit e;
	uint64_t page;		 /* key of a block at its start */
	const struct jit_op *op; /* of the instruction being translated */
	bool fl_live;		 /* the host's flags are the guest's */
	bool save_fl;		 /* the flags of this instruction may be looked at by another */
	bool fail;		 /* out of something: undo this instruction */

	/* Registers: what must be undone when an instruction fails. */
	struct region_regs {
		uint8_t host[16]; /* of guest register n, or NO_REG */
		unsigned nhost;
		uint16_t written;
	} regs;

	struct region_node {
		const struct block *block;
		uint8_t *code; /* NULL: not yet */
	} node[R_MAX_NODES];
	unsigned nnodes, ninsns;
	struct region_exit { /* to fn of i, or to whatever i->fn is then (NULL) */
		const struct insn *i;
		insn_fn fn;
		uint8_t *code;
	} exit[R_MAX_EXITS];
	unsigned nexits;
	struct region_fixup {
		uint8_t *at;
		uint16_t target;
		bool to_exit; /* or to a node */
	} fixup[R_MAX_FIXUPS];
	unsigned nfixups;
};

/* A host register for the guest register at slot; set r->fail when there is none. */
unsigned region_reg(struct region *r, unsigned slot);
/* The same, to be written. */
unsigned region_wreg(struct region *r, unsigned slot);
/* The jump whose displacement is at at goes out of the region. */
void region_exit_at(struct region *r, uint8_t *at, const struct insn *i, insn_fn fn);

/* insn.c: emits one instruction that does not transfer control. False (or r->fail): not translatable. */
bool region_insn(struct region *r, const struct insn *i);
/* Pushes the address behind the call i. */
void region_call(struct region *r, const struct insn *i);
/* Makes the host's flags the guest's. */
void region_load_flags(struct region *r);
/* The instruction overwrites all arithmetic flags (1), neither looks at them nor leaves (0), else -1. */
int region_flags_effect(const struct insn *i, const struct jit_op *op);

#endif
