/* SPDX-License-Identifier: MIT */
/*
 * The cache of decoded blocks, one per vCPU, and what keeps it true to memory.
 *
 * A block is a run of instructions inside one guest-physical page, found by the physical address of
 * its first byte and the mode; it does not depend on the linear address. Pages with blocks are
 * marked in gmem; a write to one (a slow-path write of any vCPU, or a device's) drops the page's
 * blocks on every vCPU: at once on the writer's, by request on the others' before their next
 * transfer of control. A dropped block's handlers are all replaced by one that leaves the block, so
 * that links to it and the vCPU executing it need not be found; its memory is reused when all
 * blocks go.
 */
#ifndef WSLX_SOFT_BLOCK_H
#define WSLX_SOFT_BLOCK_H

#include "vmm/cpu/soft/cpu.h"

enum { BLOCK_MAX_INSNS = 64, JC_BITS = 14, JC_SIZE = 1 << JC_BITS };

struct jit_ops;

struct block {
	uint64_t key; /* soft_block_key(); BLOCK_DROPPED when its page was written */
	struct block *hash_next, *page_next;
	struct jit_ops *ops;		 /* the translator's; NULL without it */
	struct insn insns[] ALIGNED(32); /* two to a cache line */
};
#define BLOCK_DROPPED (~0ull)

/* gpa: of the first byte. MODE_64 contributes nothing, for the sake of the handlers. */
static inline uint64_t soft_block_key(uint64_t gpa, unsigned mode)
{
	return gpa | (uint64_t)(mode ^ MODE_64) << 56;
}

int soft_blocks_new(struct soft_vcpu *c);
void soft_blocks_free(struct soft_vcpu *c);

/* The first instruction of the block at c->rip; sets c->ip_base. Raises when it cannot be fetched.
 */
const struct insn *soft_block_get(struct soft_vcpu *c);
/* The single instruction at c->rip, not cached. */
const struct insn *soft_block_step(struct soft_vcpu *c);

/*
 * A direct branch without a (valid) link: finds the target (i->disp from c->ip_base), stores the
 * link, returns the target's first instruction; or NULL with rip set. Drop-all happening meanwhile
 * is harmless: i's memory stays mapped.
 */
const struct insn *soft_link(struct soft_vcpu *c, const struct insn *i);

/* For indirect branches: blocks by a hash of their key; never NULL. */
static inline const struct block **soft_jump_cache(struct soft_vcpu *c, uint64_t key)
{
	return &c->jump_cache[(key ^ key >> 12) & (JC_SIZE - 1)];
}

/* A writable TLB entry is about to be made for the page. */
void soft_code_may_write(struct soft_vcpu *c, uint64_t gpa);
/* The vCPU is about to write to a page with code (gmem_is_code()), or may have written to it. */
void soft_code_written(struct soft_vcpu *c, uint64_t gpa);
/*
 * The page has got a fetch TLB entry. A window's page may have been written by the host's programs, of which nobody hears: what was
 * decoded of it stays only if it is what it was. So a program that is started anew is the file as it is then.
 */
void soft_code_fetched(struct soft_vcpu *c, uint64_t gpa);
/* The page's bytes are about to be copied, to be executed elsewhere: soft_direct_code_gone() says when they are not these any more. */
void soft_code_copied(struct soft_vcpu *c, uint64_t gpa);
/* gmem's hook: a device wrote. Any thread. */
void soft_code_hook(void *vm, gpa_t page);
/* EV_CODE: does what other vCPUs asked for. */
void soft_code_requests(struct soft_vcpu *c);
void soft_blocks_drop_all(struct soft_vcpu *c);

#endif
