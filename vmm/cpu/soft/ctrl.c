/* SPDX-License-Identifier: MIT */
/*
 * Near transfers of control in 64-bit mode (and the mode-independent direct jumps), and how blocks
 * are chained.
 *
 * A direct branch whose target lies in its own page follows i->link without a question: the page's
 * mapping cannot have changed under a running block. One that leaves the page checks the fetch TLB
 * and the linked block's physical address; an indirect one finds the block by physical address in
 * the jump cache. Every transfer looks at c->events.
 */
#include "vmm/cpu/soft/block.h"
#include "vmm/cpu/soft/exc.h"
#include "vmm/cpu/soft/handler.h"
#include "vmm/cpu/soft/jump.h"
#include "vmm/cpu/soft/mmu.h"

NOINLINE const struct insn *soft_jump_slow(struct soft_vcpu *c, const struct insn *i)
{
	if (atomic_load_explicit(&c->events, memory_order_relaxed)) {
		c->rip = c->ip_base + (uint64_t)(int64_t)i->disp;
		return NULL;
	}
	return soft_link(c, i);
}

const struct insn *soft_h_goto_in(struct soft_vcpu *c, const struct insn *i)
{
	JUMP_IN(c, i);
}

const struct insn *soft_h_goto_out(struct soft_vcpu *c, const struct insn *i)
{
	if (c->mode != MODE_64)
		return soft_jump_slow(c, i);
	JUMP_OUT(c, i);
}

const struct insn *soft_h_exit(struct soft_vcpu *c, const struct insn *i)
{
	c->rip = c->ip_base + i->off;
	return NULL;
}

HANDLER(jmp_in)
{
	JUMP_IN(c, i);
}

HANDLER(jmp_out)
{
	JUMP_OUT(c, i);
}

#define DEF_JCC(n, cc, cond)                                                                       \
	HANDLER(j##cc##_in)                                                                        \
	{                                                                                          \
		unsigned f = c->fl;                                                                \
		if (cond)                                                                          \
			JUMP_IN(c, i);                                                             \
		NEXT(c, i);                                                                        \
	}                                                                                          \
	HANDLER(j##cc##_out)                                                                       \
	{                                                                                          \
		unsigned f = c->fl;                                                                \
		if (cond)                                                                          \
			JUMP_OUT(c, i);                                                            \
		NEXT(c, i);                                                                        \
	}
FOR_CC(DEF_JCC)
#define JCC_ROW(n, cc, cond) {j##cc##_in, j##cc##_out},
static const insn_fn jcc_fns[16][2] = {FOR_CC(JCC_ROW)};

static NOINLINE const struct insn *call_full(struct soft_vcpu *c, const struct insn *i)
{
	uint64_t sp = c->gpr[CPU_RSP] - 8;

	c->cur = i;
	mem_write64(c, sp, c->ip_base + i->off + i->len);
	c->gpr[CPU_RSP] = sp;
	return soft_jump_slow(c, i);
}

insn_fn soft_jcc_in(unsigned cc)
{
	return jcc_fns[cc][0];
}

HANDLER(call_in)
{
	FAST_AT(w, 64, c->gpr[CPU_RSP] - 8, p, call_full);
	*p = c->ip_base + i->off + i->len;
	c->gpr[CPU_RSP] -= 8;
	JUMP_IN(c, i);
}

HANDLER(call_out)
{
	FAST_AT(w, 64, c->gpr[CPU_RSP] - 8, p, call_full);
	*p = c->ip_base + i->off + i->len;
	c->gpr[CPU_RSP] -= 8;
	JUMP_OUT(c, i);
}

static ALWAYS_INLINE void check_target(struct soft_vcpu *c, uint64_t t)
{
	if (unlikely(!soft_canonical(t)))
		soft_raise(c, EXC_GP, 0);
}

HANDLER(call_ind)
{
	uint64_t t, sp;

	c->cur = i;
	t = i->flags & INSN_MEM ? mem_read64(c, soft_ea(c, i)) : SLOT64(c, i->rm);
	/* The return address is pushed before the target is looked at. */
	sp = c->gpr[CPU_RSP] - 8;
	mem_write64(c, sp, c->ip_base + i->off + i->len);
	check_target(c, t);
	c->gpr[CPU_RSP] = sp;
	JUMP_TO(c, t);
}

HANDLER(jmp_ind)
{
	uint64_t t;

	c->cur = i;
	t = i->flags & INSN_MEM ? mem_read64(c, soft_ea(c, i)) : SLOT64(c, i->rm);
	check_target(c, t);
	JUMP_TO(c, t);
}

HANDLER(ret64_full)
{
	uint64_t sp = c->gpr[CPU_RSP], t;

	c->cur = i;
	t = mem_read64(c, sp);
	check_target(c, t);
	c->gpr[CPU_RSP] = sp + 8 + (uint16_t)i->imm;
	JUMP_TO(c, t);
}

HANDLER(ret64)
{
	uint64_t to;
	FAST_AT(r, 64, c->gpr[CPU_RSP], p, ret64_full);

	to = *p;
	if (unlikely(!soft_canonical(to)))
		return ret64_full(c, i);
	c->gpr[CPU_RSP] += 8 + (uint16_t)i->imm;
	JUMP_TO(c, to);
}

HANDLER(jmp_reg)
{
	uint64_t to = SLOT64(c, i->rm);

	if (unlikely(!soft_canonical(to)))
		return jmp_ind(c, i);
	JUMP_TO(c, to);
}

HANDLER(call_reg)
{
	uint64_t to = SLOT64(c, i->rm);
	FAST_AT(w, 64, c->gpr[CPU_RSP] - 8, p, call_ind);

	if (unlikely(!soft_canonical(to)))
		return call_ind(c, i);
	*p = c->ip_base + i->off + i->len;
	c->gpr[CPU_RSP] -= 8;
	JUMP_TO(c, to);
}

/* LOOPNE, LOOPE, LOOP, JrCXZ: aux = opcode & 3; the count register's width is the address size. */
HANDLER(loop_any)
{
	uint64_t n = c->gpr[CPU_RCX];
	bool taken;

	if (i->aux != 3)
		n--;
	if (i->ea & EA_A32)
		n = (uint32_t)n;
	else if (i->ea & EA_A16)
		n = (uint16_t)n;
	switch (i->aux) {
	case 0: taken = n && !CC_Z(c->fl); break;
	case 1: taken = n && CC_Z(c->fl); break;
	case 2: taken = n; break;
	default: taken = !n;
	}
	if (i->aux != 3) {
		if (i->ea & EA_A16)
			SLOT16(c, CPU_RCX * 8) = (uint16_t)n;
		else
			c->gpr[CPU_RCX] = n;
	}
	if (taken)
		return soft_jump_slow(c, i);
	NEXT(c, i);
}

/* Branches outside 64-bit mode, and those that leave a 16-bit code segment's first 64 KiB: the slow
 * way. */
HANDLER(jmp_slow)
{
	uint64_t t = c->ip_base + (uint64_t)(int64_t)i->disp;

	c->rip = i->size == 2 ? (uint16_t)t : (uint32_t)t;
	return NULL;
}

#define DEF_JCC_SLOW(n, cc, cond)                                                                  \
	HANDLER(j##cc##_slow)                                                                      \
	{                                                                                          \
		unsigned f = c->fl;                                                                \
		if (cond)                                                                          \
			return jmp_slow(c, i);                                                     \
		NEXT(c, i);                                                                        \
	}
FOR_CC(DEF_JCC_SLOW)
#define JCC_SLOW_ROW(n, cc, cond) j##cc##_slow,
static const insn_fn jcc_slow_fns[16] = {FOR_CC(JCC_SLOW_ROW)};

/* --- binding
 * -------------------------------------------------------------------------------------------------
 */

/* Sets i->disp to the target; false: it does not fit (a branch over 2 GiB less a page). */
static bool bind_target(struct insn *i, const struct dec *d, bool *ret_in)
{
	int64_t t = (int64_t)i->off + i->len + d->imm;

	i->disp = (int32_t)t;
	i->link = NULL;
	*ret_in = t >= 0 && t < 4096;
	return i->disp == t;
}

bool soft_bind_ctrl(struct insn *i, const struct dec *d)
{
	bool in, wide = d->mode == MODE_64, jcc;
	unsigned op = d->op;

	if (i->flags & INSN_LOCK || d->map > MAP_0F)
		return false;
	jcc = d->map == MAP_1 ? (op & 0xf0) == 0x70 : (op & 0xf0) == 0x80;
	if (jcc) {
		if (!bind_target(i, d, &in))
			return false;
		i->aux = op & 15;
		i->fn = !wide ? jcc_slow_fns[op & 15] : jcc_fns[op & 15][!in];
		if (!wide && in && i->size == 4)
			i->fn = jcc_fns[op & 15][0];
		return true;
	}
	if (d->map != MAP_1)
		return false;
	switch (op) {
	case 0xe9:
	case 0xeb:
		i->flags |= INSN_END;
		i->fn = !bind_target(i, d, &in) ? NULL : !wide ? jmp_slow : in ? jmp_in : jmp_out;
		return i->fn;
	case 0xe0 ... 0xe3:
		i->aux = op & 3;
		i->fn = loop_any;
		return bind_target(i, d, &in);
	default: break;
	}
	if (!wide)
		return false;
	switch (op) {
	case 0xe8:
		i->flags |= INSN_END | INSN_STACK;
		i->fn = bind_target(i, d, &in) && in ? call_in : call_out;
		return true;
	case 0xc2:
	case 0xc3:
		i->flags |= INSN_END | INSN_STACK;
		i->fn = ret64;
		return true;
	case 0xff:
		if ((d->reg & 7) != 2 && (d->reg & 7) != 4)
			return false;
		i->flags |= INSN_END | ((d->reg & 7) == 2 ? INSN_STACK : 0);
		if (i->flags & INSN_MEM)
			i->fn = (d->reg & 7) == 2 ? call_ind : jmp_ind;
		else
			i->fn = (d->reg & 7) == 2 ? call_reg : jmp_reg;
		return true;
	default: return false;
	}
}
