/* SPDX-License-Identifier: MIT */
/*
 * How handlers end. A block is an array of struct insn in one page of guest code; c->ip_base is the
 * address of that page's first byte. Handlers tail-call the next one where the compiler can be
 * trusted to make a jump of it; elsewhere (sanitizers, -O0) they return it to the run loop. Both
 * may be mixed freely.
 */
#ifndef WSLX_SOFT_EXEC_H
#define WSLX_SOFT_EXEC_H

#include "vmm/cpu/soft/cpu.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__OPTIMIZE__)
#define SOFT_TAIL 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ||                         \
	__has_feature(memory_sanitizer)
#define SOFT_TAIL 0
#endif
#endif
#ifndef SOFT_TAIL
#define SOFT_TAIL 1
#endif

#if defined(__clang__)
#define SOFT_MUSTTAIL __attribute__((musttail))
#else
#define SOFT_MUSTTAIL
#endif

#if SOFT_TAIL
#define GOTO_INSN(c, n)                                                                            \
	do {                                                                                       \
		const struct insn *n_ = (n);                                                       \
		SOFT_MUSTTAIL return n_->fn(c, n_);                                                \
	} while (0)
#else
#define GOTO_INSN(c, n) return (n)
#endif

/* The instruction behind this one in the block. A handler with address-taken locals uses
 * NEXT_PLAIN. */
#define NEXT(c, i)	 GOTO_INSN(c, (i) + 1)
#define NEXT_PLAIN(c, i) return (i) + 1

/* Leaves the block: execution goes on behind this instruction, after a look at events. */
#define LEAVE(c, i)                                                                                \
	do {                                                                                       \
		(c)->rip = (c)->ip_base + (i)->off + (i)->len;                                     \
		return NULL;                                                                       \
	} while (0)
/* Leaves the block; c->rip is set. */
#define LEAVE_RIP(c) return NULL

/*
 * Runs until something needs the caller. c->events is looked at between blocks.
 */
enum cpu_exit soft_run(struct soft_vcpu *c, struct err *e);
/* Acts on INIT and start-up IPIs that wait: they are no state that is saved. */
void soft_settle(struct soft_vcpu *c);

/* Executes the one instruction at c->rip; false: it raised c->exc, and nothing was delivered. For
 * tests. */
bool soft_step(struct soft_vcpu *c);
/* The same with the block at c->rip, translated or not: until control is transferred, or nearly so; or not alone, but with
 * the blocks that follow it, until one is not known. */
bool soft_run_block(struct soft_vcpu *c, bool alone);

/* STI, POPF, IRET, SYSRET...: IF became 1. True when an interrupt waits for it, so that the block
 * is to be left. */
static inline bool soft_if_on(struct soft_vcpu *c)
{
	if (likely(!c->intr_wait))
		return false;
	c->intr_wait = false;
	atomic_fetch_or_explicit(&c->events, EV_INTR, memory_order_relaxed);
	return true;
}

#endif
