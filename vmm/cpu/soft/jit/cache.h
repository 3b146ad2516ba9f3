/* SPDX-License-Identifier: MIT */
/*
 * A vCPU's code cache: one memory object, mapped for writing at one place and for execution at another. It begins with the
 * routines that all translated code shares.
 */
#ifndef WSLX_SOFT_JIT_CACHE_H
#define WSLX_SOFT_JIT_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct os_memobj;
struct trans;
struct jit_check;

/* What a store of translated code is about to overwrite; JIT_CHECK. */
struct jit_store {
	uint8_t *at;
	uint64_t size;
	uint8_t before[64], after[64];
};

struct soft_jit {
	struct os_memobj *obj;
	uint8_t *rw, *rx;
	ptrdiff_t to_rx; /* rx - rw */
	/* From start (behind the shared routines) on what is executed, from cold on the ways in and out of it. */
	size_t size, start, used, cold, cold_used;
	uint32_t threshold;
	unsigned flushes;	  /* how often it was emptied */
	bool bmi2;		  /* the host has it */
	struct jit_check *check;  /* NULL: not JIT_CHECK. See check.c */
	struct jit_store *stores; /* the next of its log */
	struct trans *trans;

	/* Shared routines, where they are written. See common.c. */
	uint8_t *enter;		 /* S0: where to go on */
	uint8_t *leave;		 /* S0: insn, S1: handler */
	uint8_t *leave_insn;	 /* S0: insn's offset from c->jit_insns; to its fn */
	uint8_t *leave_link;	 /* S0: insn, S1: site's offset */
	uint8_t *leave_link_out; /* the same */
	uint8_t *leave_events;	 /* S0: insn */
	uint8_t *leave_jump;	 /* S0: target, S1: insn and kind */
	uint8_t *jump[2];	 /* by privilege; S0: target, c->jit_tmp: insn and kind */
	uint8_t *flags;		 /* subroutine: c->lazy to c->fl; changes S0 and S1 */
	uint8_t *load_sse;	 /* subroutine: ZF when it must not be used; changes S0 */
	uint8_t *log_store;	 /* subroutine, JIT_CHECK: S0: host address, S1: size */
	uint8_t *never;		 /* a key that no page has */
};

/* common.c: writes them. */
void soft_jit_common(struct soft_jit *j);

#endif
