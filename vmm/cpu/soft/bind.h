/* SPDX-License-Identifier: MIT */
/* From struct dec to struct insn: which handler executes an instruction, and where its operands
 * are. */
#ifndef WSLX_SOFT_BIND_H
#define WSLX_SOFT_BIND_H

#include "vmm/cpu/soft/cpu.h"

/* len: what soft_decode() returned (DEC_UD and DEC_LONG make instructions that raise). off: in the
 * page. Fills *i. */
void soft_bind(struct insn *i, const struct dec *d, int len, unsigned off);

/* The last of its block: control never goes on to i + 1 of itself. */
static inline bool soft_ends_block(const struct insn *i)
{
	return i->flags & INSN_END;
}

/* Ends of blocks: goes on at page offset disp of this page; behind it (4096 and more); and leaves
 * to the run loop. */
const struct insn *soft_h_goto_in(struct soft_vcpu *c, const struct insn *i);
const struct insn *soft_h_goto_out(struct soft_vcpu *c, const struct insn *i);
const struct insn *soft_h_exit(struct soft_vcpu *c, const struct insn *i);

/* No such instruction. */
const struct insn *soft_h_ud(struct soft_vcpu *c, const struct insn *i);

/* Does nothing: need not be in a block. */
const struct insn *soft_h_nop(struct soft_vcpu *c, const struct insn *i);

/* One of the above: the pseudo-instruction behind a block's last. */
static inline bool soft_is_tail(const struct insn *i)
{
	return i->fn == soft_h_goto_in || i->fn == soft_h_goto_out || i->fn == soft_h_exit;
}

/*
 * The binder's parts, one an area of the opcode map. Each returns true when it set i->fn; *i is
 * filled in but for the handler, r and rm being GPR slots of the effective operand size.
 */
bool soft_bind_alu(struct insn *i, const struct dec *d);
bool soft_bind_mov(struct insn *i, const struct dec *d);
bool soft_bind_bits(struct insn *i, const struct dec *d);
bool soft_bind_ctrl(struct insn *i, const struct dec *d);
bool soft_bind_string(struct insn *i, const struct dec *d);
bool soft_bind_sys(struct insn *i, const struct dec *d);
bool soft_bind_legacy(struct insn *i, const struct dec *d);
bool soft_bind_enter(struct insn *i, const struct dec *d);

/* Byte offset of GPR n, or of AH..BH for byte operands without REX. */
static inline uint8_t slot_gpr(unsigned n)
{
	return (uint8_t)(n * 8);
}
static inline uint8_t slot_gpr8(unsigned n, unsigned rex)
{
	return (uint8_t)(n >= 4 && n < 8 && !rex ? (n - 4) * 8 + 1 : n * 8);
}
/* Makes i->r and i->rm byte registers. */
static inline void bind_bytes(struct insn *i, const struct dec *d)
{
	i->size = 1;
	i->r = slot_gpr8(d->reg, d->rex);
	i->rm = slot_gpr8(d->rm, d->rex);
}
static inline void swap_regs(struct insn *i)
{
	uint8_t t = i->r;

	i->r = i->rm;
	i->rm = t;
}
static inline unsigned size_index(unsigned size)
{
	return size == 8 ? 3 : size >> 1;
}

#endif
