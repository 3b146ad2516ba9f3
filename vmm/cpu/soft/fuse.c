/* SPDX-License-Identifier: MIT */
/* See fuse.h. The condition is taken from the host's flags before they are stored, and saves a dispatch. */
#include "vmm/cpu/soft/fuse.h"
#include "vmm/cpu/soft/alu.h"
#include "vmm/cpu/soft/jump.h"

#define OP2_CC(bits, op, cc, d, s, f, taken)                                                       \
	__asm__(op SFX(bits) " %[src], %[dst]" ASM_SAVE_FL                                         \
		: "=a"(f), "=@cc" #cc(taken)                                                       \
		: [dst] "q"(d), [src] "q"(s))

#define FINISH(bits, op, cc, d, s)                                                                 \
	do {                                                                                       \
		uint16_t f_;                                                                       \
		bool taken_;                                                                       \
		OP2_CC(bits, op, cc, d, s, f_, taken_);                                            \
		c->fl = f_;                                                                        \
		if (taken_)                                                                        \
			JUMP_IN(c, i + 1);                                                         \
		GOTO_INSN(c, i + 2);                                                               \
	} while (0)

#define DEF_REG(n, cc, bits, name, op)                                                             \
	HANDLER(name##bits##_rr_j##cc)                                                             \
	{                                                                                          \
		uint##bits##_t d = GET(bits, c, i->rm), s = GET(bits, c, i->r);                    \
		FINISH(bits, op, cc, d, s);                                                        \
	}                                                                                          \
	HANDLER(name##bits##_ri_j##cc)                                                             \
	{                                                                                          \
		uint##bits##_t d = GET(bits, c, i->rm), s = (uint##bits##_t)i->imm;                \
		FINISH(bits, op, cc, d, s);                                                        \
	}
#define DEF_MEM(n, cc, bits, name, op, which)                                                      \
	HANDLER(name##bits##_rm_j##cc)                                                             \
	{                                                                                          \
		FAST_R(_b, bits, p, soft_alu_rm[which][BITS_INDEX(bits)].full);                    \
		uint##bits##_t s = *p, d = GET(bits, c, i->r);                                     \
		FINISH(bits, op, cc, d, s);                                                        \
	}                                                                                          \
	HANDLER(name##bits##_mr_j##cc)                                                             \
	{                                                                                          \
		FAST_R(_b, bits, p, soft_alu_mr[which][BITS_INDEX(bits)].full);                    \
		uint##bits##_t d = *p, s = GET(bits, c, i->r);                                     \
		FINISH(bits, op, cc, d, s);                                                        \
	}                                                                                          \
	HANDLER(name##bits##_mi_j##cc)                                                             \
	{                                                                                          \
		FAST_R(_b, bits, p, soft_alu_mi[which][BITS_INDEX(bits)].full);                    \
		uint##bits##_t d = *p, s = (uint##bits##_t)i->imm;                                 \
		FINISH(bits, op, cc, d, s);                                                        \
	}
#define BITS_INDEX(bits) (bits == 8 ? 0 : bits == 16 ? 1 : bits == 32 ? 2 : 3)

#define FOR_CC_NAMES(X, ...)                                                                       \
	X(0, o, __VA_ARGS__)                                                                       \
	X(1, no, __VA_ARGS__)                                                                      \
	X(2, b, __VA_ARGS__)                                                                       \
	X(3, ae, __VA_ARGS__)                                                                      \
	X(4, z, __VA_ARGS__)                                                                       \
	X(5, nz, __VA_ARGS__)                                                                      \
	X(6, be, __VA_ARGS__)                                                                      \
	X(7, a, __VA_ARGS__)                                                                       \
	X(8, s, __VA_ARGS__)                                                                       \
	X(9, ns, __VA_ARGS__)                                                                      \
	X(10, p, __VA_ARGS__)                                                                      \
	X(11, np, __VA_ARGS__)                                                                     \
	X(12, l, __VA_ARGS__)                                                                      \
	X(13, ge, __VA_ARGS__)                                                                     \
	X(14, le, __VA_ARGS__)                                                                     \
	X(15, g, __VA_ARGS__)

#define DEF_PAIRS(bits, name, op, which)                                                           \
	FOR_CC_NAMES(DEF_REG, bits, name, op)                                                      \
	FOR_CC_NAMES(DEF_MEM, bits, name, op, which)
DEF_PAIRS(8, cmp, "cmp", ALU_CMP)
DEF_PAIRS(32, cmp, "cmp", ALU_CMP)
DEF_PAIRS(64, cmp, "cmp", ALU_CMP)
DEF_PAIRS(8, test, "test", ALU_TEST)
DEF_PAIRS(32, test, "test", ALU_TEST)
DEF_PAIRS(64, test, "test", ALU_TEST)

#define CELL(n, cc, bits, name, form) name##bits##form##_j##cc,
#define ROW(name, form)                                                                            \
	{                                                                                          \
		{FOR_CC_NAMES(CELL, 8, name, form)}, {NULL}, {FOR_CC_NAMES(CELL, 32, name, form)}, \
		{                                                                                  \
			FOR_CC_NAMES(CELL, 64, name, form)                                         \
		}                                                                                  \
	}
#define ROWS(name) ROW(name, _rr), ROW(name, _ri), ROW(name, _rm), ROW(name, _mr), ROW(name, _mi)
static const insn_fn fused[2 * FUSE_FORMS][4][16] = {ROWS(cmp), ROWS(test)};

/* The handler that an instruction marked so has when its address is base + displacement. */
static insn_fn plain(unsigned mark, unsigned z)
{
	unsigned op = ALU_CMP + mark / FUSE_FORMS;

	switch (mark % FUSE_FORMS) {
	case FUSE_RR: return soft_alu_rr[op][z];
	case FUSE_RI: return soft_alu_ri[op][z];
	case FUSE_RM: return soft_alu_rm[op][z].b;
	case FUSE_MR: return soft_alu_mr[op][z].b;
	default: return soft_alu_mi[op][z].b;
	}
}

void soft_fuse(struct insn *i)
{
	unsigned mark = i->aux - 1u, z = size_index(i->size), cc = i[1].aux & 15;

	/* aux belongs to other handlers too: so compare them. */
	if (mark >= ARRAY_LEN(fused) || i->size > 8 || i->fn != plain(mark, z) ||
		i[1].fn != soft_jcc_in(cc))
		return;
	if (fused[mark][z][cc])
		i->fn = fused[mark][z][cc];
}
