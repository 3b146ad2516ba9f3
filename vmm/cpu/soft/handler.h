/* SPDX-License-Identifier: MIT */
/* What handlers share: typed access to registers and memory, flags, conditions. Internal to the
 * semantics files. */
#ifndef WSLX_SOFT_HANDLER_H
#define WSLX_SOFT_HANDLER_H

#include "vmm/cpu/soft/bind.h"
#include "vmm/cpu/soft/exec.h"
#include "vmm/cpu/soft/mem.h"

#define HANDLER(name) static const struct insn *name(struct soft_vcpu *c, const struct insn *i)

/* Register slots by width; a 32-bit write clears the upper half. */
#define GET(bits, c, slot)    (*(uint##bits##_t *)((char *)(c) + (slot)))
#define SET8(c, slot, v)      (SLOT8(c, slot) = (uint8_t)(v))
#define SET16(c, slot, v)     (SLOT16(c, slot) = (uint16_t)(v))
#define SET32(c, slot, v)     (SLOT64(c, slot) = (uint32_t)(v))
#define SET64(c, slot, v)     (SLOT64(c, slot) = (uint64_t)(v))
#define SET(bits, c, slot, v) SET##bits(c, slot, v)

#define SFX8	  "b"
#define SFX16	  "w"
#define SFX32	  "l"
#define SFX64	  "q"
#define SFX(bits) SFX##bits

/* Loads the host's arithmetic flags from FL form in AX (clobbers AL); stores them to AX. */
#define ASM_LOAD_FL "addb $0x7f, %%al; sahf; "
#define ASM_SAVE_FL "; lahf; seto %%al"

#define CC_O(f)	 ((f)&FL_OF)
#define CC_B(f)	 ((f)&FL_CF)
#define CC_Z(f)	 ((f)&FL_ZF)
#define CC_BE(f) ((f) & (FL_CF | FL_ZF))
#define CC_S(f)	 ((f)&FL_SF)
#define CC_P(f)	 ((f)&FL_PF)
#define CC_L(f)	 (((f) ^ (f) >> 15) & 1)
#define CC_LE(f) (((f)&FL_ZF) || CC_L(f))
/* X(number, name, condition on f) */
#define FOR_CC(X)                                                                                  \
	X(0, o, CC_O(f))                                                                           \
	X(1, no, !CC_O(f))                                                                         \
	X(2, b, CC_B(f))                                                                           \
	X(3, ae, !CC_B(f))                                                                         \
	X(4, z, CC_Z(f))                                                                           \
	X(5, nz, !CC_Z(f))                                                                         \
	X(6, be, CC_BE(f))                                                                         \
	X(7, a, !CC_BE(f))                                                                         \
	X(8, s, CC_S(f))                                                                           \
	X(9, ns, !CC_S(f))                                                                         \
	X(10, p, CC_P(f))                                                                          \
	X(11, np, !CC_P(f))                                                                        \
	X(12, l, CC_L(f))                                                                          \
	X(13, ge, !CC_L(f))                                                                        \
	X(14, le, CC_LE(f))                                                                        \
	X(15, g, !CC_LE(f))

#define MEM_READ(bits, c, lin)	   mem_read##bits(c, lin)
#define MEM_WRITE(bits, c, lin, v) mem_write##bits(c, lin, v)

/*
 * Handlers with a memory operand come in four kinds: the full one, and _b, _bi and _s for addresses that are base + disp,
 * base + index + disp, and segment base + base + disp in 64-bit mode. The latter hold nothing but the TLB hit, so that
 * they need no stack frame; when it is a miss they become the full one of the same instruction (SELF).
 */
struct mem_fns {
	insn_fn full, b, bi, s;
};
#define MEM_FNS(name)                                                                              \
	{                                                                                          \
		name, name##_b, name##_bi, name##_s                                                \
	}
#define FOR_KINDS(X, ...)                                                                          \
	X(_b, __VA_ARGS__)                                                                         \
	X(_bi, __VA_ARGS__)                                                                        \
	X(_s, __VA_ARGS__)
#define LIN_b(c, i)  (SLOT64(c, (i)->base) + (uint64_t)(int64_t)(i)->disp)
#define LIN_bi(c, i) (LIN_b(c, i) + (SLOT64(c, (i)->index) << (i)->scale))
#define LIN_s(c, i)  (LIN_b(c, i) + SLOT64(c, SLOT_SEGBASE + 8 * ((i)->ea & EA_SEG)))

/* Declares p: the operand's host address; or leaves for SELF. */
#define FAST_AT(right, bits, lin, p, SELF)                                                         \
	const uint64_t lin_ = (lin);                                                               \
	const struct tlbe *e_ = tlb_entry(c, lin_);                                                \
	if (unlikely(((lin_ + (bits / 8 - 1)) & PAGE_MASK_) != e_->right))                         \
		return SELF(c, i);                                                                 \
	guest_u##bits *const p = (guest_u##bits *)(uintptr_t)(lin_ + e_->addend)
#define FAST_R(K, bits, p, SELF) FAST_AT(r, bits, LIN##K(c, i), p, SELF)
#define FAST_W(K, bits, p, SELF) FAST_AT(w, bits, LIN##K(c, i), p, SELF)

static inline insn_fn pick_mem(const struct insn *i, const struct mem_fns *f)
{
	if (!(i->ea & EA_SLOW))
		return i->index == SLOT_ZERO ? f->b : f->bi;
	if ((i->ea & EA_SLOW) == EA_ADDSEG && i->index == SLOT_ZERO)
		return f->s;
	return f->full;
}

#define SPLIT_LOCK(c)	(os_mutex_lock(&(c)->vm->split_lock), (void)((c)->split = true))
#define SPLIT_UNLOCK(c) ((c)->split = false, os_mutex_unlock(&(c)->vm->split_lock))

static inline uint64_t mem_read_n(struct soft_vcpu *c, uint64_t lin, unsigned size)
{
	switch (size) {
	case 1: return mem_read8(c, lin);
	case 2: return mem_read16(c, lin);
	case 4: return mem_read32(c, lin);
	default: return mem_read64(c, lin);
	}
}

static inline void mem_write_n(struct soft_vcpu *c, uint64_t lin, unsigned size, uint64_t v)
{
	switch (size) {
	case 1: mem_write8(c, lin, (uint8_t)v); break;
	case 2: mem_write16(c, lin, (uint16_t)v); break;
	case 4: mem_write32(c, lin, (uint32_t)v); break;
	default: mem_write64(c, lin, v);
	}
}

static inline uint64_t slot_get(struct soft_vcpu *c, unsigned slot, unsigned size)
{
	switch (size) {
	case 1: return SLOT8(c, slot);
	case 2: return SLOT16(c, slot);
	case 4: return SLOT32(c, slot);
	default: return SLOT64(c, slot);
	}
}

static inline void slot_set(struct soft_vcpu *c, unsigned slot, unsigned size, uint64_t v)
{
	switch (size) {
	case 1: SET8(c, slot, v); break;
	case 2: SET16(c, slot, v); break;
	case 4: SET32(c, slot, v); break;
	default: SET64(c, slot, v);
	}
}

/* r/m operand of the insn's size, for handlers where speed does not matter. */
static inline uint64_t rm_get(struct soft_vcpu *c, const struct insn *i, unsigned size)
{
	if (i->flags & INSN_MEM)
		return mem_read_n(c, soft_ea(c, i), size);
	return slot_get(c, i->rm, size);
}

static inline void rm_set(struct soft_vcpu *c, const struct insn *i, unsigned size, uint64_t v)
{
	if (i->flags & INSN_MEM)
		mem_write_n(c, soft_ea(c, i), size, v);
	else
		slot_set(c, i->rm, size, v);
}

#endif
