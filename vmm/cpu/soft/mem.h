/* SPDX-License-Identifier: MIT */
/*
 * Memory as instructions see it: linear addresses, with the current privilege level's rights. The
 * fast path is a TLB hit; everything else (walks, page crossings, MMIO, pages with translated code)
 * is in mmu.c. Any access may raise (it jumps away): c->cur must be set. A write has no effect when
 * it raises, whatever it crosses.
 */
#ifndef WSLX_SOFT_MEM_H
#define WSLX_SOFT_MEM_H

#include <string.h>
#include "vmm/cpu/soft/cpu.h"

#define PAGE_MASK_ (~0xfffull)

uint64_t soft_ea_slow(struct soft_vcpu *c, const struct insn *i);

/* Linear address of the memory operand; sets c->cur. */
static ALWAYS_INLINE uint64_t soft_ea(struct soft_vcpu *c, const struct insn *i)
{
	c->cur = i;
	if (unlikely(i->ea & EA_SLOW))
		return soft_ea_slow(c, i);
	return SLOT64(c, i->base) + (SLOT64(c, i->index) << i->scale) + (int64_t)i->disp;
}

/* The offset alone (LEA). */
uint64_t soft_ea_offset(struct soft_vcpu *c, const struct insn *i);

uint64_t mem_read_slow(struct soft_vcpu *c, uint64_t lin, unsigned size);
void mem_write_slow(struct soft_vcpu *c, uint64_t lin, unsigned size, uint64_t v);

static ALWAYS_INLINE struct tlbe *tlb_entry(struct soft_vcpu *c, uint64_t lin)
{
	return &c->tlb->d[lin >> 12 & (TLB_SIZE - 1)];
}

/* Host pointer when [lin, lin+size) is one readable (writable) page of RAM in the TLB, else NULL.
 * Never raises. */
static ALWAYS_INLINE void *mem_fast_r(struct soft_vcpu *c, uint64_t lin, unsigned size)
{
	struct tlbe *e = tlb_entry(c, lin);

	if (likely(((lin + size - 1) & PAGE_MASK_) == e->r))
		return (void *)(uintptr_t)(lin + e->addend);
	return NULL;
}

static ALWAYS_INLINE void *mem_fast_w(struct soft_vcpu *c, uint64_t lin, unsigned size)
{
	struct tlbe *e = tlb_entry(c, lin);

	if (likely(((lin + size - 1) & PAGE_MASK_) == e->w))
		return (void *)(uintptr_t)(lin + e->addend);
	return NULL;
}

/* Guest memory seen as the host's: of any alignment, and changed by other vCPUs while we look. */
typedef volatile uint8_t guest_u8;
typedef volatile uint16_t guest_u16 ALIGNED(1);
typedef volatile uint32_t guest_u32 ALIGNED(1);
typedef volatile uint64_t guest_u64 ALIGNED(1);

#define MEM_DEFINE(bits)                                                                           \
	static ALWAYS_INLINE uint##bits##_t mem_read##bits(struct soft_vcpu *c, uint64_t lin)      \
	{                                                                                          \
		const void *p = mem_fast_r(c, lin, bits / 8);                                      \
                                                                                                   \
		return likely(p != NULL) ? *(const guest_u##bits *)p                               \
					 : (uint##bits##_t)mem_read_slow(c, lin, bits / 8);        \
	}                                                                                          \
	static ALWAYS_INLINE void mem_write##bits(                                                 \
		struct soft_vcpu *c, uint64_t lin, uint##bits##_t v)                               \
	{                                                                                          \
		void *p = mem_fast_w(c, lin, bits / 8);                                            \
                                                                                                   \
		if (likely(p != NULL))                                                             \
			*(guest_u##bits *)p = v;                                                   \
		else                                                                               \
			mem_write_slow(c, lin, bits / 8, v);                                       \
	}

MEM_DEFINE(8)
MEM_DEFINE(16)
MEM_DEFINE(32)
MEM_DEFINE(64)

/* Any length (page-crossing is fine); buf is complete or nothing is written. */
void mem_read_bytes(struct soft_vcpu *c, uint64_t lin, void *buf, unsigned len);
void mem_write_bytes(struct soft_vcpu *c, uint64_t lin, const void *buf, unsigned len);

static inline void mem_read128(struct soft_vcpu *c, uint64_t lin, void *out)
{
	const void *p = mem_fast_r(c, lin, 16);

	if (likely(p != NULL))
		memcpy(out, p, 16);
	else
		mem_read_bytes(c, lin, out, 16);
}
static inline void mem_write128(struct soft_vcpu *c, uint64_t lin, const void *in)
{
	void *p = mem_fast_w(c, lin, 16);

	if (likely(p != NULL))
		memcpy(p, in, 16);
	else
		mem_write_bytes(c, lin, in, 16);
}

/* Raises unless all of [lin, lin+len) can be written (read); A and D bits are set. len <= 4096. */
void mem_probe_write(struct soft_vcpu *c, uint64_t lin, unsigned len);
void mem_probe_read(struct soft_vcpu *c, uint64_t lin, unsigned len);

/*
 * For read-modify-write: the host address of [lin, lin+size), checked for writing; the caller may
 * use atomics on it. NULL when it crosses a page or is not RAM: the caller then takes
 * vm->split_lock when locked, reads, computes and writes through mem_read and mem_write
 * (mem_probe_write() has been done already).
 */
void *mem_rmw_slow(struct soft_vcpu *c, uint64_t lin, unsigned size);
static ALWAYS_INLINE void *mem_rmw(struct soft_vcpu *c, uint64_t lin, unsigned size)
{
	void *p = mem_fast_w(c, lin, size);

	return likely(p != NULL) ? p : mem_rmw_slow(c, lin, size);
}

/* Supervisor accesses made by the CPU itself (descriptor tables, TSS), whatever the CPL. */
uint64_t mem_sys_read(struct soft_vcpu *c, uint64_t lin, unsigned size);
void mem_sys_write(struct soft_vcpu *c, uint64_t lin, unsigned size, uint64_t v);

/* TLB maintenance. */
void tlb_flush_all(struct soft_vcpu *c); /* global entries too */
void tlb_flush_nonglobal(struct soft_vcpu *c);
void tlb_flush_page(struct soft_vcpu *c, uint64_t lin);

#endif
