/* SPDX-License-Identifier: MIT */
/*
 * Integer arithmetic and logic: ADD..CMP, TEST, INC, DEC, NEG, NOT, shifts and rotates, MUL, DIV.
 * The host computes results and flags with the very instruction.
 */
#include "vmm/cpu/soft/alu.h"
#include "vmm/cpu/soft/fuse.h"

/* rr: rm OP= r. rm: r OP= [mem]. mr: [mem] OP= r. ri, mi: with an immediate. */
#define DEF_READ(bits, name, op, cfin, WB)                                                         \
	HANDLER(name##bits##_rr)                                                                   \
	{                                                                                          \
		uint##bits##_t d = GET(bits, c, i->rm), s = GET(bits, c, i->r);                    \
		uint16_t f;                                                                        \
		OP2(bits, op, cfin, d, s, f);                                                      \
		c->fl = f;                                                                         \
		WB(bits, i->rm, d);                                                                \
		NEXT(c, i);                                                                        \
	}                                                                                          \
	HANDLER(name##bits##_rm)                                                                   \
	{                                                                                          \
		uint##bits##_t s = MEM_READ(bits, c, soft_ea(c, i)), d = GET(bits, c, i->r);       \
		uint16_t f;                                                                        \
		OP2(bits, op, cfin, d, s, f);                                                      \
		c->fl = f;                                                                         \
		WB(bits, i->r, d);                                                                 \
		NEXT(c, i);                                                                        \
	}                                                                                          \
	HANDLER(name##bits##_ri)                                                                   \
	{                                                                                          \
		uint##bits##_t d = GET(bits, c, i->rm), s = (uint##bits##_t)i->imm;                \
		uint16_t f;                                                                        \
		OP2(bits, op, cfin, d, s, f);                                                      \
		c->fl = f;                                                                         \
		WB(bits, i->rm, d);                                                                \
		NEXT(c, i);                                                                        \
	}

#define DEF_READ_K(K, bits, name, op, cfin, WB)                                                    \
	HANDLER(name##bits##_rm##K)                                                                \
	{                                                                                          \
		FAST_R(K, bits, p, name##bits##_rm);                                               \
		uint##bits##_t s = *p, d = GET(bits, c, i->r);                                     \
		uint16_t f;                                                                        \
		OP2(bits, op, cfin, d, s, f);                                                      \
		c->fl = f;                                                                         \
		WB(bits, i->r, d);                                                                 \
		NEXT(c, i);                                                                        \
	}
#define DEF_READ_KS(bits, name, op, cfin, WB) FOR_KINDS(DEF_READ_K, bits, name, op, cfin, WB)
#define DEF_RMW_K(K, bits, name, op, cfin)                                                         \
	HANDLER(name##bits##_mr##K)                                                                \
	{                                                                                          \
		FAST_W(K, bits, p, name##bits##_mr);                                               \
		uint##bits##_t s = GET(bits, c, i->r);                                             \
		uint16_t f;                                                                        \
		OP2M(bits, "", op, cfin, p, s, f);                                                 \
		c->fl = f;                                                                         \
		NEXT(c, i);                                                                        \
	}                                                                                          \
	HANDLER(name##bits##_mi##K)                                                                \
	{                                                                                          \
		FAST_W(K, bits, p, name##bits##_mi);                                               \
		uint##bits##_t s = (uint##bits##_t)i->imm;                                         \
		uint16_t f;                                                                        \
		OP2M(bits, "", op, cfin, p, s, f);                                                 \
		c->fl = f;                                                                         \
		NEXT(c, i);                                                                        \
	}
#define DEF_RMW_KS(bits, name, op, cfin) FOR_KINDS(DEF_RMW_K, bits, name, op, cfin)
#define DEF_CMPM_K(K, bits, name, op)                                                              \
	HANDLER(name##bits##_mr##K)                                                                \
	{                                                                                          \
		FAST_R(K, bits, p, name##bits##_mr);                                               \
		uint##bits##_t d = *p, s = GET(bits, c, i->r);                                     \
		uint16_t f;                                                                        \
		OP2(bits, op, "", d, s, f);                                                        \
		c->fl = f;                                                                         \
		NEXT(c, i);                                                                        \
	}                                                                                          \
	HANDLER(name##bits##_mi##K)                                                                \
	{                                                                                          \
		FAST_R(K, bits, p, name##bits##_mi);                                               \
		uint##bits##_t d = *p, s = (uint##bits##_t)i->imm;                                 \
		uint16_t f;                                                                        \
		OP2(bits, op, "", d, s, f);                                                        \
		c->fl = f;                                                                         \
		NEXT(c, i);                                                                        \
	}
#define DEF_CMPM_KS(bits, name, op) FOR_KINDS(DEF_CMPM_K, bits, name, op)

#define DEF_MEM(bits, form, lock, name, op, cfin, SRC, LOCK, UNLOCK)                               \
	HANDLER(name##bits##form)                                                                  \
	{                                                                                          \
		uint64_t lin = soft_ea(c, i);                                                      \
		uint##bits##_t s = SRC, *p = mem_rmw(c, lin, bits / 8);                            \
		uint16_t f;                                                                        \
		if (likely(p != NULL)) {                                                           \
			OP2M(bits, lock, op, cfin, p, s, f);                                       \
		} else {                                                                           \
			uint##bits##_t d;                                                          \
			LOCK(c);                                                                   \
			d = MEM_READ(bits, c, lin);                                                \
			OP2(bits, op, cfin, d, s, f);                                              \
			MEM_WRITE(bits, c, lin, d);                                                \
			UNLOCK(c);                                                                 \
		}                                                                                  \
		c->fl = f;                                                                         \
		NEXT(c, i);                                                                        \
	}
#define NOLOCK(c) ((void)0)
#define DEF_RMW(bits, name, op, cfin)                                                              \
	DEF_MEM(bits, _mr, "", name, op, cfin, GET(bits, c, i->r), NOLOCK, NOLOCK)                 \
	DEF_MEM(bits, _mi, "", name, op, cfin, (uint##bits##_t)i->imm, NOLOCK, NOLOCK)             \
	DEF_MEM(bits, _mr_lock, "lock; ", name, op, cfin, GET(bits, c, i->r), SPLIT_LOCK,          \
		SPLIT_UNLOCK)                                                                      \
	DEF_MEM(bits, _mi_lock, "lock; ", name, op, cfin, (uint##bits##_t)i->imm, SPLIT_LOCK,      \
		SPLIT_UNLOCK)

#define DEF_CMPM(bits, name, op)                                                                   \
	HANDLER(name##bits##_mr)                                                                   \
	{                                                                                          \
		uint##bits##_t d = MEM_READ(bits, c, soft_ea(c, i)), s = GET(bits, c, i->r);       \
		uint16_t f;                                                                        \
		OP2(bits, op, "", d, s, f);                                                        \
		c->fl = f;                                                                         \
		NEXT(c, i);                                                                        \
	}                                                                                          \
	HANDLER(name##bits##_mi)                                                                   \
	{                                                                                          \
		uint##bits##_t d = MEM_READ(bits, c, soft_ea(c, i)), s = (uint##bits##_t)i->imm;   \
		uint16_t f;                                                                        \
		OP2(bits, op, "", d, s, f);                                                        \
		c->fl = f;                                                                         \
		NEXT(c, i);                                                                        \
	}

#define WB_SET(bits, slot, v)  SET(bits, c, slot, v)
#define WB_NONE(bits, slot, v) ((void)(v))
#define FOR_SIZES(X, ...)                                                                          \
	X(8, __VA_ARGS__)                                                                          \
	X(16, __VA_ARGS__)                                                                         \
	X(32, __VA_ARGS__)                                                                         \
	X(64, __VA_ARGS__)

#define DEF_ALU(name, op, cfin)                                                                    \
	FOR_SIZES(DEF_READ, name, op, cfin, WB_SET)                                                \
	FOR_SIZES(DEF_RMW, name, op, cfin)                                                         \
	FOR_SIZES(DEF_READ_KS, name, op, cfin, WB_SET)                                             \
	FOR_SIZES(DEF_RMW_KS, name, op, cfin)
DEF_ALU(add, "add", NO_CF_IN)
DEF_ALU(or, "or", NO_CF_IN)
DEF_ALU(adc, "adc", CF_IN)
DEF_ALU(sbb, "sbb", CF_IN)
DEF_ALU(and, "and", NO_CF_IN)
DEF_ALU(sub, "sub", NO_CF_IN)
DEF_ALU(xor, "xor", NO_CF_IN)
FOR_SIZES(DEF_READ, cmp, "cmp", NO_CF_IN, WB_NONE)
FOR_SIZES(DEF_CMPM, cmp, "cmp")
FOR_SIZES(DEF_READ_KS, cmp, "cmp", NO_CF_IN, WB_NONE)
FOR_SIZES(DEF_CMPM_KS, cmp, "cmp")
FOR_SIZES(DEF_READ, test, "test", NO_CF_IN, WB_NONE)
FOR_SIZES(DEF_CMPM, test, "test")
FOR_SIZES(DEF_READ_KS, test, "test", NO_CF_IN, WB_NONE)
FOR_SIZES(DEF_CMPM_KS, test, "test")

#define SIZES(name, form)                                                                          \
	{                                                                                          \
		name##8##form, name##16##form, name##32##form, name##64##form                      \
	}
#define MEM_SIZES(name, form)                                                                      \
	{                                                                                          \
		MEM_FNS(name##8##form), MEM_FNS(name##16##form), MEM_FNS(name##32##form),          \
			MEM_FNS(name##64##form)                                                    \
	}
#define ALU_ROWS(X, form)                                                                          \
	{                                                                                          \
		X(add, form), X(or, form), X(adc, form), X(sbb, form), X(and, form), X(sub, form), \
			X(xor, form), X(cmp, form), X(test, form)                                  \
	}
#define LOCK_ROWS(form)                                                                            \
	{                                                                                          \
		SIZES(add, form), SIZES(or, form), SIZES(adc, form), SIZES(sbb, form),             \
			SIZES(and, form), SIZES(sub, form), SIZES(xor, form)                       \
	}
const insn_fn soft_alu_rr[9][4] = ALU_ROWS(SIZES, _rr), soft_alu_ri[9][4] = ALU_ROWS(SIZES, _ri);
const struct mem_fns soft_alu_rm[9][4] = ALU_ROWS(MEM_SIZES, _rm);
const struct mem_fns soft_alu_mr[9][4] = ALU_ROWS(MEM_SIZES, _mr);
const struct mem_fns soft_alu_mi[9][4] = ALU_ROWS(MEM_SIZES, _mi);
static const insn_fn alu_mr_lock[7][4] = LOCK_ROWS(_mr_lock);
static const insn_fn alu_mi_lock[7][4] = LOCK_ROWS(_mi_lock);

/* xor r,r and sub r,r: the usual way to write zero */
HANDLER(zero32)
{
	c->fl = FL_ZF | FL_PF;
	SLOT64(c, i->rm) = 0;
	NEXT(c, i);
}

/* --- one operand
 * --------------------------------------------------------------------------------------------- */

#define OP1(bits, op, d, f) __asm__(op SFX(bits) " %0" ASM_SAVE_FL : "+q"(d), "=a"(f) : : "cc")
#define OP1M(bits, lock, op, p, f)                                                                 \
	__asm__ volatile(lock op SFX(bits) " %0" ASM_SAVE_FL                                       \
			 : "+m"(*(p)), "=a"(f)                                                     \
			 :                                                                         \
			 : "cc", "memory")
#define FL_NEW(f)     (f)
#define FL_KEEP_CF(f) (uint16_t)(((f) & ~FL_CF) | (c->fl & FL_CF))
#define FL_KEEP(f)    ((void)(f), c->fl)

#define DEF_ONE_M(bits, form, lock, name, op, FL, LOCK, UNLOCK)                                    \
	HANDLER(name##bits##form)                                                                  \
	{                                                                                          \
		uint64_t lin = soft_ea(c, i);                                                      \
		uint##bits##_t *p = mem_rmw(c, lin, bits / 8);                                     \
		uint16_t f;                                                                        \
		if (likely(p != NULL)) {                                                           \
			OP1M(bits, lock, op, p, f);                                                \
		} else {                                                                           \
			uint##bits##_t d;                                                          \
			LOCK(c);                                                                   \
			d = MEM_READ(bits, c, lin);                                                \
			OP1(bits, op, d, f);                                                       \
			MEM_WRITE(bits, c, lin, d);                                                \
			UNLOCK(c);                                                                 \
		}                                                                                  \
		c->fl = FL(f);                                                                     \
		NEXT(c, i);                                                                        \
	}
#define DEF_ONE_K(K, bits, name, op, FL)                                                           \
	HANDLER(name##bits##_m##K)                                                                 \
	{                                                                                          \
		FAST_W(K, bits, p, name##bits##_m);                                                \
		uint16_t f;                                                                        \
		OP1M(bits, "", op, p, f);                                                          \
		c->fl = FL(f);                                                                     \
		NEXT(c, i);                                                                        \
	}
#define DEF_ONE(bits, name, op, FL)                                                                \
	HANDLER(name##bits##_r)                                                                    \
	{                                                                                          \
		uint##bits##_t d = GET(bits, c, i->rm);                                            \
		uint16_t f;                                                                        \
		OP1(bits, op, d, f);                                                               \
		c->fl = FL(f);                                                                     \
		SET(bits, c, i->rm, d);                                                            \
		NEXT(c, i);                                                                        \
	}                                                                                          \
	DEF_ONE_M(bits, _m, "", name, op, FL, NOLOCK, NOLOCK)                                      \
	DEF_ONE_M(bits, _m_lock, "lock; ", name, op, FL, SPLIT_LOCK, SPLIT_UNLOCK)                 \
	FOR_KINDS(DEF_ONE_K, bits, name, op, FL)
FOR_SIZES(DEF_ONE, inc, "inc", FL_KEEP_CF)
FOR_SIZES(DEF_ONE, dec, "dec", FL_KEEP_CF)
FOR_SIZES(DEF_ONE, neg, "neg", FL_NEW)
FOR_SIZES(DEF_ONE, not, "not", FL_KEEP)
enum { ONE_INC, ONE_DEC, ONE_NOT, ONE_NEG };
#define ONE_ROWS(X, form)                                                                          \
	{                                                                                          \
		X(inc, form), X(dec, form), X(not, form), X(neg, form)                             \
	}
static const insn_fn one_r[4][4] = ONE_ROWS(SIZES, _r), one_lock[4][4] = ONE_ROWS(SIZES, _m_lock);
static const struct mem_fns one_m[4][4] = ONE_ROWS(MEM_SIZES, _m);

/* --- shifts and rotates
 * -------------------------------------------------------------------------------------- */

/* The general form: any count, all flags through the host's. aux: 0: count in imm, 1: in CL. */
#define SHIFT_OP(bits, op, d, n, f)                                                                \
	__asm__(ASM_LOAD_FL op SFX(bits) " %%cl, %0" ASM_SAVE_FL                                   \
		: "+q"(d), "+a"(f)                                                                 \
		: "c"((uint8_t)(n))                                                                \
		: "cc")
#define DEF_SHIFT(bits, name, op)                                                                  \
	HANDLER(name##bits##_r)                                                                    \
	{                                                                                          \
		uint##bits##_t d = GET(bits, c, i->rm);                                            \
		uint16_t f = c->fl;                                                                \
		SHIFT_OP(bits, op, d, i->aux ? SLOT8(c, CPU_RCX * 8) : (uint8_t)i->imm, f);        \
		c->fl = f;                                                                         \
		SET(bits, c, i->rm, d);                                                            \
		NEXT(c, i);                                                                        \
	}                                                                                          \
	HANDLER(name##bits##_m)                                                                    \
	{                                                                                          \
		uint64_t lin = soft_ea(c, i);                                                      \
		uint##bits##_t *p = mem_rmw(c, lin, bits / 8), d;                                  \
		uint16_t f = c->fl;                                                                \
		d = p ? *p : MEM_READ(bits, c, lin);                                               \
		SHIFT_OP(bits, op, d, i->aux ? SLOT8(c, CPU_RCX * 8) : (uint8_t)i->imm, f);        \
		if (likely(p != NULL))                                                             \
			*p = d;                                                                    \
		else                                                                               \
			MEM_WRITE(bits, c, lin, d);                                                \
		c->fl = f;                                                                         \
		NEXT(c, i);                                                                        \
	}
FOR_SIZES(DEF_SHIFT, rol, "rol")
FOR_SIZES(DEF_SHIFT, ror, "ror")
FOR_SIZES(DEF_SHIFT, rcl, "rcl")
FOR_SIZES(DEF_SHIFT, rcr, "rcr")
FOR_SIZES(DEF_SHIFT, shl, "shl")
FOR_SIZES(DEF_SHIFT, shr, "shr")
FOR_SIZES(DEF_SHIFT, sar, "sar")
#define SHIFT_FORMS(name)                                                                          \
	{                                                                                          \
		SIZES(name, _r), SIZES(name, _m)                                                   \
	}
static const insn_fn shift_fns[8][2][4] = {SHIFT_FORMS(rol), SHIFT_FORMS(ror), SHIFT_FORMS(rcl),
	SHIFT_FORMS(rcr), SHIFT_FORMS(shl), SHIFT_FORMS(shr), SHIFT_FORMS(shl), SHIFT_FORMS(sar)};

/* Shifts of registers by a constant that is not 0 set all flags: nothing to load. */
#define DEF_SHIFT_I(bits, name, op)                                                                \
	HANDLER(name##bits##_i)                                                                    \
	{                                                                                          \
		uint##bits##_t d = GET(bits, c, i->rm);                                            \
		uint16_t f;                                                                        \
		__asm__(op SFX(bits) " %%cl, %0" ASM_SAVE_FL                                       \
			: "+q"(d), "=a"(f)                                                         \
			: "c"((uint8_t)i->imm)                                                     \
			: "cc");                                                                   \
		c->fl = f;                                                                         \
		SET(bits, c, i->rm, d);                                                            \
		NEXT(c, i);                                                                        \
	}
#define DEF_SHIFT_I2(name, op) DEF_SHIFT_I(32, name, op) DEF_SHIFT_I(64, name, op)
DEF_SHIFT_I2(shl, "shl")
DEF_SHIFT_I2(shr, "shr")
DEF_SHIFT_I2(sar, "sar")
static const insn_fn shift_i_fns[8][2] = {[4] = {shl32_i, shl64_i},
	[5] = {shr32_i, shr64_i},
	[6] = {shl32_i, shl64_i},
	[7] = {sar32_i, sar64_i}};

/* SHLD, SHRD. */
#define DEF_DSHIFT(bits, name, op)                                                                 \
	HANDLER(name##bits)                                                                        \
	{                                                                                          \
		bool m = i->flags & INSN_MEM;                                                      \
		uint64_t lin = m ? soft_ea(c, i) : 0;                                              \
		uint##bits##_t *p = m ? mem_rmw(c, lin, bits / 8) : NULL, d,                       \
			       s = GET(bits, c, i->r);                                             \
		uint8_t n = i->aux ? SLOT8(c, CPU_RCX * 8) : (uint8_t)i->imm;                      \
		uint16_t f = c->fl;                                                                \
		d = !m ? GET(bits, c, i->rm) : p ? *p : MEM_READ(bits, c, lin);                    \
		__asm__(ASM_LOAD_FL op SFX(bits) " %%cl, %2, %0" ASM_SAVE_FL                       \
			: "+r"(d), "+a"(f)                                                         \
			: "r"(s), "c"(n)                                                           \
			: "cc");                                                                   \
		if (!m)                                                                            \
			SET(bits, c, i->rm, d);                                                    \
		else if (p)                                                                        \
			*p = d;                                                                    \
		else                                                                               \
			MEM_WRITE(bits, c, lin, d);                                                \
		c->fl = f;                                                                         \
		NEXT(c, i);                                                                        \
	}
#define DEF_DSHIFT3(name, op)                                                                      \
	DEF_DSHIFT(16, name, op) DEF_DSHIFT(32, name, op) DEF_DSHIFT(64, name, op)
DEF_DSHIFT3(shld, "shld")
DEF_DSHIFT3(shrd, "shrd")
static const insn_fn dshift_fns[2][4] = {
	{NULL, shld16, shld32, shld64}, {NULL, shrd16, shrd32, shrd64}};

/* --- multiplication and division
 * ----------------------------------------------------------------------------- */

/*
 * MUL and IMUL leave SF, ZF, AF and PF undefined; what the host makes of them is stored. AMD's processors make nothing of them: they
 * keep what was there, which the translator does not have ready. So it is always the same that was there.
 */
#define OLD_FLAGS "cmp %%esp, %%esp; "
#define DEF_MUL(bits, name, op)                                                                    \
	HANDLER(name##bits)                                                                        \
	{                                                                                          \
		uint##bits##_t s = (uint##bits##_t)rm_get(c, i, bits / 8);                         \
		uint##bits##_t lo = GET(bits, c, CPU_RAX * 8), hi;                                 \
		uint64_t save;                                                                     \
		uint16_t f;                                                                        \
		__asm__("mov %[in], %%rax; " OLD_FLAGS op SFX(                                     \
			bits) " %[s]; mov %%rax, %[save]" ASM_SAVE_FL                              \
			: "=&d"(hi), "=&a"(f), [save] "=&r"(save)                                  \
			: [s] "r"(s), [in] "r"((uint64_t)lo)                                       \
			: "cc");                                                                   \
		c->fl = f;                                                                         \
		SET(bits, c, CPU_RAX * 8, save);                                                   \
		SET(bits, c, CPU_RDX * 8, hi);                                                     \
		NEXT(c, i);                                                                        \
	}
#define DEF_MUL3(name, op) DEF_MUL(16, name, op) DEF_MUL(32, name, op) DEF_MUL(64, name, op)
DEF_MUL3(mul, "mul")
DEF_MUL3(imul, "imul")
#define DEF_MUL8(name, op)                                                                         \
	HANDLER(name##8)                                                                           \
	{                                                                                          \
		uint8_t s = (uint8_t)rm_get(c, i, 1);                                              \
		uint64_t save;                                                                     \
		uint16_t f;                                                                        \
		__asm__("mov %[in], %%rax; " OLD_FLAGS op "b %[s]; mov %%rax, %[save]" ASM_SAVE_FL \
			: "=&a"(f), [save] "=&r"(save)                                             \
			: [s] "q"(s), [in] "r"((uint64_t)SLOT8(c, CPU_RAX * 8))                    \
			: "cc");                                                                   \
		c->fl = f;                                                                         \
		SET16(c, CPU_RAX * 8, save);                                                       \
		NEXT(c, i);                                                                        \
	}
DEF_MUL8(mul, "mul")
DEF_MUL8(imul, "imul")

/* imul r, r/m and imul r, r/m, imm */
#define DEF_IMUL2(bits, form, A, B)                                                                \
	HANDLER(imul##bits##form)                                                                  \
	{                                                                                          \
		uint##bits##_t s = (uint##bits##_t)(B), d = (uint##bits##_t)(A);                   \
		uint16_t f;                                                                        \
		OP2(bits, "imul", OLD_FLAGS, d, s, f);                                             \
		c->fl = f;                                                                         \
		SET(bits, c, i->r, d);                                                             \
		NEXT(c, i);                                                                        \
	}
#define DEF_IMUL2_ALL(bits)                                                                        \
	DEF_IMUL2(bits, _rr, GET(bits, c, i->r), GET(bits, c, i->rm))                              \
	DEF_IMUL2(bits, _rm, GET(bits, c, i->r), MEM_READ(bits, c, soft_ea(c, i)))                 \
	DEF_IMUL2(bits, _rri, GET(bits, c, i->rm), i->imm)                                         \
	DEF_IMUL2(bits, _rmi, MEM_READ(bits, c, soft_ea(c, i)), i->imm)
DEF_IMUL2_ALL(16)
DEF_IMUL2_ALL(32)
DEF_IMUL2_ALL(64)
#define SIZES3(name, form)                                                                         \
	{                                                                                          \
		NULL, name##16##form, name##32##form, name##64##form                               \
	}
static const insn_fn imul_fns[4][4] = {
	SIZES3(imul, _rr), SIZES3(imul, _rm), SIZES3(imul, _rri), SIZES3(imul, _rmi)};

HANDLER(div8)
{
	unsigned s = (unsigned)rm_get(c, i, 1), n = SLOT16(c, CPU_RAX * 8);

	c->cur = i;
	if (!s || n / s > 0xff)
		soft_raise(c, EXC_DE, 0);
	SET16(c, CPU_RAX * 8, n % s << 8 | n / s);
	NEXT(c, i);
}

HANDLER(idiv8)
{
	int s = (int8_t)rm_get(c, i, 1), n = (int16_t)SLOT16(c, CPU_RAX * 8);

	c->cur = i;
	if (!s || n / s != (int8_t)(n / s))
		soft_raise(c, EXC_DE, 0);
	SET16(c, CPU_RAX * 8, (unsigned)(uint8_t)(n % s) << 8 | (uint8_t)(n / s));
	NEXT(c, i);
}

#define DEF_DIV(bits, wide)                                                                        \
	HANDLER(div##bits)                                                                         \
	{                                                                                          \
		uint##bits##_t s = (uint##bits##_t)rm_get(c, i, bits / 8);                         \
		uint##bits##_t lo = GET(bits, c, CPU_RAX * 8), hi = GET(bits, c, CPU_RDX * 8);     \
		c->cur = i;                                                                        \
		if (hi >= s) /* covers s == 0 */                                                   \
			soft_raise(c, EXC_DE, 0);                                                  \
		__asm__("div" SFX(bits) " %2" : "+a"(lo), "+d"(hi) : "r"(s) : "cc");               \
		SET(bits, c, CPU_RAX * 8, lo);                                                     \
		SET(bits, c, CPU_RDX * 8, hi);                                                     \
		NEXT(c, i);                                                                        \
	}                                                                                          \
	HANDLER(idiv##bits)                                                                        \
	{                                                                                          \
		int##bits##_t s = (int##bits##_t)rm_get(c, i, bits / 8);                           \
		uint##bits##_t lo = GET(bits, c, CPU_RAX * 8), hi = GET(bits, c, CPU_RDX * 8);     \
		wide n = (wide)((unsigned wide)hi << bits | lo), q;                                \
		c->cur = i;                                                                        \
		/* The most negative number divided by -1 overflows here too. */                   \
		if (!s || (s == -1 && n == (wide)((unsigned wide)1 << (2 * bits - 1))))            \
			soft_raise(c, EXC_DE, 0);                                                  \
		q = n / s;                                                                         \
		if (q != (int##bits##_t)q)                                                         \
			soft_raise(c, EXC_DE, 0);                                                  \
		SET(bits, c, CPU_RAX * 8, (uint##bits##_t)q);                                      \
		SET(bits, c, CPU_RDX * 8, (uint##bits##_t)(n - q * s));                            \
		NEXT(c, i);                                                                        \
	}
DEF_DIV(16, int)
DEF_DIV(32, long)
DEF_DIV(64, __int128)
static const insn_fn muldiv_fns[4][4] = {{mul8, mul16, mul32, mul64},
	{imul8, imul16, imul32, imul64}, {div8, div16, div32, div64},
	{idiv8, idiv16, idiv32, idiv64}};

/* --- binding
 * -------------------------------------------------------------------------------------------------
 */

/* op r/m, reg; op reg, r/m; op acc, imm (opcode bits 2-0: 0 to 5). */
static bool bind_alu_op(struct insn *i, const struct dec *d, unsigned op, unsigned form)
{
	bool m = i->flags & INSN_MEM, lock = i->flags & INSN_LOCK;
	unsigned z;

	if (!(form & 1))
		bind_bytes(i, d);
	z = size_index(i->size);
	if (lock) {
		if (!m || form > 1 || op >= ALU_CMP)
			return false;
		i->fn = alu_mr_lock[op][z];
	} else if (form >= 4) {
		i->rm = slot_gpr(CPU_RAX);
		i->fn = soft_alu_ri[op][z];
	} else if (m) {
		i->fn = pick_mem(i, form & 2 ? &soft_alu_rm[op][z] : &soft_alu_mr[op][z]);
	} else {
		if (form & 2)
			swap_regs(i);
		i->fn = soft_alu_rr[op][z];
		if (i->r == i->rm && z >= 2 && (op == 5 || op == 6))
			i->fn = zero32;
	}
	if (op >= ALU_CMP)
		soft_fuse_mark(i, op,
			form >= 4  ? FUSE_RI
			: !m	   ? FUSE_RR
			: form & 2 ? FUSE_RM
				   : FUSE_MR);
	return true;
}

static bool bind_alu_imm(struct insn *i, const struct dec *d, unsigned op)
{
	unsigned z = size_index(i->size);

	if (i->flags & INSN_LOCK) {
		if (!(i->flags & INSN_MEM) || op >= ALU_CMP)
			return false;
		i->fn = alu_mi_lock[op][z];
	} else {
		i->fn = i->flags & INSN_MEM ? pick_mem(i, &soft_alu_mi[op][z]) : soft_alu_ri[op][z];
		if (op >= ALU_CMP)
			soft_fuse_mark(i, op, i->flags & INSN_MEM ? FUSE_MI : FUSE_RI);
	}
	return true;
}

static bool bind_shift(struct insn *i, const struct dec *d)
{
	unsigned op = d->reg & 7, z;

	if (i->flags & INSN_LOCK)
		return false;
	if (!(d->op & 1))
		bind_bytes(i, d);
	z = size_index(i->size);
	if ((d->op & 0xfe) == 0xd0)
		i->imm = 1;
	else if (d->op >= 0xd2)
		i->aux = 1;
	i->fn = shift_fns[op][!!(i->flags & INSN_MEM)][z];
	if (!i->aux && !(i->flags & INSN_MEM) && z >= 2 && op >= 4 && i->imm & (z == 3 ? 63 : 31))
		i->fn = shift_i_fns[op][z - 2];
	return true;
}

static bool bind_one(struct insn *i, const struct dec *d, unsigned which)
{
	unsigned z = size_index(i->size);

	if (!(i->flags & INSN_MEM)) {
		i->fn = one_r[which][z];
		return !(i->flags & INSN_LOCK);
	}
	i->fn = i->flags & INSN_LOCK ? one_lock[which][z] : pick_mem(i, &one_m[which][z]);
	return true;
}

static bool bind_group3(struct insn *i, const struct dec *d)
{
	unsigned op = d->reg & 7;

	if (!(d->op & 1))
		bind_bytes(i, d);
	if (op == 2 || op == 3)
		return bind_one(i, d, op);
	if (i->flags & INSN_LOCK)
		return false;
	if (op < 2)
		return bind_alu_imm(i, d, ALU_TEST);
	i->fn = muldiv_fns[op - 4][size_index(i->size)];
	return true;
}

static bool bind_alu_0f(struct insn *i, const struct dec *d)
{
	switch (d->op) {
	case 0xa4:
	case 0xa5:
	case 0xac:
	case 0xad:
		i->aux = d->op & 1;
		i->fn = dshift_fns[d->op >= 0xac][size_index(i->size)];
		return !(i->flags & INSN_LOCK);
	case 0xaf:
		i->fn = imul_fns[!!(i->flags & INSN_MEM)][size_index(i->size)];
		return !(i->flags & INSN_LOCK);
	default: return false;
	}
}

bool soft_bind_alu(struct insn *i, const struct dec *d)
{
	unsigned op = d->op;

	if (d->map == MAP_0F)
		return bind_alu_0f(i, d);
	if (d->map != MAP_1)
		return false;
	if (op < 0x40 && (op & 7) < 6)
		return bind_alu_op(i, d, op >> 3, op & 7);
	switch (op) {
	case 0x40 ... 0x4f: /* legacy INC, DEC */
		i->rm = slot_gpr(op & 7);
		return bind_one(i, d, op < 0x48 ? ONE_INC : ONE_DEC);
	case 0x69:
	case 0x6b:
		i->fn = imul_fns[2 + !!(i->flags & INSN_MEM)][size_index(i->size)];
		return !(i->flags & INSN_LOCK);
	case 0x80:
	case 0x82: bind_bytes(i, d); return bind_alu_imm(i, d, d->reg & 7);
	case 0x81:
	case 0x83: return bind_alu_imm(i, d, d->reg & 7);
	case 0x84: bind_bytes(i, d); __attribute__((fallthrough));
	case 0x85:
		if (i->flags & INSN_LOCK)
			return false;
		i->fn = i->flags & INSN_MEM
				? pick_mem(i, &soft_alu_mr[ALU_TEST][size_index(i->size)])
				: soft_alu_rr[ALU_TEST][size_index(i->size)];
		soft_fuse_mark(i, ALU_TEST, i->flags & INSN_MEM ? FUSE_MR : FUSE_RR);
		return true;
	case 0xa8:
	case 0xa9:
		if (op == 0xa8)
			i->size = 1;
		i->rm = slot_gpr(CPU_RAX);
		i->fn = soft_alu_ri[ALU_TEST][size_index(i->size)];
		soft_fuse_mark(i, ALU_TEST, FUSE_RI);
		return true;
	case 0xc0:
	case 0xc1:
	case 0xd0 ... 0xd3: return bind_shift(i, d);
	case 0xf6:
	case 0xf7: return bind_group3(i, d);
	case 0xfe:
	case 0xff:
		if ((d->reg & 7) > 1)
			return false;
		if (op == 0xfe)
			bind_bytes(i, d);
		return bind_one(i, d, d->reg & 7);
	default: return false;
	}
}
