/* SPDX-License-Identifier: MIT */
/*
 * How handlers transfer control between blocks: see ctrl.c. Internal to the semantics files.
 */
#ifndef WSLX_SOFT_JUMP_H
#define WSLX_SOFT_JUMP_H

#include "vmm/cpu/soft/block.h"
#include "vmm/cpu/soft/exec.h"
#include "vmm/cpu/soft/mem.h"

/* To i->disp from ip_base, by way of an event or a link to be made. */
const struct insn *soft_jump_slow(struct soft_vcpu *c, const struct insn *i);
/* The handler of a conditional jump within its page. */
insn_fn soft_jcc_in(unsigned cc);

static ALWAYS_INLINE bool soft_events(struct soft_vcpu *c)
{
	return unlikely(atomic_load_explicit(&c->events, memory_order_relaxed) != 0);
}

/* To i->disp in the same page. */
#define JUMP_IN(c, i)                                                                              \
	do {                                                                                       \
		const struct block *k_ = (i)->link;                                                \
		if (soft_events(c) || unlikely(!k_))                                               \
			return soft_jump_slow(c, i);                                               \
		GOTO_INSN(c, k_->insns);                                                           \
	} while (0)

/* To i->disp from ip_base, another page; 64-bit mode. */
#define JUMP_OUT(c, i)                                                                             \
	do {                                                                                       \
		uint64_t t_ = (c)->ip_base + (uint64_t)(int64_t)(i)->disp;                         \
		const struct tlbx *x_ = &(c)->tlb->x[t_ >> 12 & (TLBX_SIZE - 1)];                  \
		const struct block *k_ = (i)->link;                                                \
		if (soft_events(c) || unlikely(!k_ || x_->tag != (t_ & PAGE_MASK_) ||              \
					       k_->key != (x_->gpa | (t_ & 0xfff))))               \
			return soft_jump_slow(c, i);                                               \
		(c)->ip_base = t_ & PAGE_MASK_;                                                    \
		GOTO_INSN(c, k_->insns);                                                           \
	} while (0)

/* To any address; 64-bit mode. */
#define JUMP_TO(c, t)                                                                              \
	do {                                                                                       \
		uint64_t t_ = (t);                                                                 \
		const struct tlbx *x_ = &(c)->tlb->x[t_ >> 12 & (TLBX_SIZE - 1)];                  \
		uint64_t key_ = x_->gpa | (t_ & 0xfff);                                            \
		const struct block *k_ = *soft_jump_cache(c, key_);                                \
		if (soft_events(c) || unlikely(x_->tag != (t_ & PAGE_MASK_) || k_->key != key_)) { \
			(c)->rip = t_;                                                             \
			return NULL;                                                               \
		}                                                                                  \
		(c)->ip_base = t_ & PAGE_MASK_;                                                    \
		GOTO_INSN(c, k_->insns);                                                           \
	} while (0)

#endif
