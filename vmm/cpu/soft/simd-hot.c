/* SPDX-License-Identifier: MIT */
/*
 * Handlers of their own for the instructions that compiled code and libc's string functions use most: the same operation
 * as the thunk's, without a second indirect call. bind_form() in simd.c asks here first.
 */
#include "vmm/cpu/soft/simd-int.h"

/* reg, mem: type of the second operand; a memory operand is a reference that the instruction reads by itself. */
#define DEFINE_OP(name, ins, type, align)                                                          \
	static HANDLER(name##_r)                                                                   \
	{                                                                                          \
		v16 d;                                                                             \
                                                                                                   \
		sse_check(c, i);                                                                   \
		d = *(const v16 *)XMM(c, i->r);                                                    \
		__asm__(ins " %1, %0" : "+x"(d) : "m"(*(const v16 *)XMM(c, i->rm)));               \
		*(v16 *)XMM(c, i->r) = d;                                                          \
		NEXT(c, i);                                                                        \
	}                                                                                          \
	static HANDLER(name##_m)                                                                   \
	{                                                                                          \
		const void *s;                                                                     \
		v16 d;                                                                             \
                                                                                                   \
		sse_check(c, i);                                                                   \
		s = simd_src(c, i, sizeof(type), align);                                           \
		d = *(const v16 *)XMM(c, i->r);                                                    \
		__asm__(ins " %1, %0" : "+x"(d) : "m"(*(const type *)s));                          \
		*(v16 *)XMM(c, i->r) = d;                                                          \
		NEXT(c, i);                                                                        \
	}

/* The same for instructions that use MXCSR: when an exception is unmasked, simd.c's handlers take the thunk. */
#define DEFINE_FP(name, ins, type, align)                                                          \
	static HANDLER(name##_r)                                                                   \
	{                                                                                          \
		v16 d;                                                                             \
                                                                                                   \
		sse_check(c, i);                                                                   \
		if (unlikely(SIMD(c)->mx_slow))                                                    \
			return simd_fp_r(c, i);                                                    \
		d = *(const v16 *)XMM(c, i->r);                                                    \
		__asm__ volatile(ins " %1, %0" : "+x"(d) : "m"(*(const v16 *)XMM(c, i->rm)));      \
		*(v16 *)XMM(c, i->r) = d;                                                          \
		NEXT(c, i);                                                                        \
	}                                                                                          \
	static HANDLER(name##_m)                                                                   \
	{                                                                                          \
		const void *s;                                                                     \
		v16 d;                                                                             \
                                                                                                   \
		sse_check(c, i);                                                                   \
		if (unlikely(SIMD(c)->mx_slow))                                                    \
			return simd_fp_m(sizeof(type))(c, i);                                      \
		s = simd_src(c, i, sizeof(type), align);                                           \
		d = *(const v16 *)XMM(c, i->r);                                                    \
		__asm__ volatile(ins " %1, %0" : "+x"(d) : "m"(*(const type *)s));                 \
		*(v16 *)XMM(c, i->r) = d;                                                          \
		NEXT(c, i);                                                                        \
	}

/* clang-format off */
#define FOR_OPS(X) \
	X(0, 0x14, unpcklps) X(0, 0x54, andps) X(0, 0x55, andnps) \
	X(0, 0x56, orps) X(0, 0x57, xorps) X(0x66, 0x14, unpcklpd) \
	X(0x66, 0x54, andpd) X(0x66, 0x55, andnpd) X(0x66, 0x56, orpd) \
	X(0x66, 0x57, xorpd) X(0x66, 0x60, punpcklbw) X(0x66, 0x61, punpcklwd) \
	X(0x66, 0x62, punpckldq) X(0x66, 0x64, pcmpgtb) X(0x66, 0x66, pcmpgtd) \
	X(0x66, 0x6c, punpcklqdq) X(0x66, 0x74, pcmpeqb) X(0x66, 0x75, pcmpeqw) \
	X(0x66, 0x76, pcmpeqd) X(0x66, 0xd4, paddq) X(0x66, 0xda, pminub) \
	X(0x66, 0xdb, pand) X(0x66, 0xde, pmaxub) X(0x66, 0xdf, pandn) \
	X(0x66, 0xeb, por) X(0x66, 0xef, pxor) X(0x66, 0xf4, pmuludq) \
	X(0x66, 0xf8, psubb) X(0x66, 0xfa, psubd) X(0x66, 0xfb, psubq) \
	X(0x66, 0xfc, paddb) X(0x66, 0xfd, paddw) X(0x66, 0xfe, paddd)
/* clang-format on */

/* clang-format off */
#define FOR_FP(X) \
	X(0xf2, 0x51, sqrtsd, uint64_t, false) X(0xf2, 0x58, addsd, uint64_t, false) X(0xf2, 0x59, mulsd, uint64_t, false) \
	X(0xf2, 0x5a, cvtsd2ss, uint64_t, false) X(0xf2, 0x5c, subsd, uint64_t, false) X(0xf2, 0x5d, minsd, uint64_t, false) \
	X(0xf2, 0x5e, divsd, uint64_t, false) X(0xf2, 0x5f, maxsd, uint64_t, false) X(0xf3, 0x58, addss, uint32_t, false) \
	X(0xf3, 0x59, mulss, uint32_t, false) X(0xf3, 0x5a, cvtss2sd, uint32_t, false) X(0xf3, 0x5c, subss, uint32_t, false) \
	X(0xf3, 0x5e, divss, uint32_t, false) X(0x66, 0x58, addpd, v16, true) X(0x66, 0x59, mulpd, v16, true) \
	X(0x66, 0x5c, subpd, v16, true) X(0x66, 0x5e, divpd, v16, true) X(0, 0x58, addps, v16, true) \
	X(0, 0x59, mulps, v16, true) X(0, 0x5c, subps, v16, true) X(0, 0x5e, divps, v16, true)
/* clang-format on */

#define OP(pfx, op, ins)	      DEFINE_OP(ins, #ins, v16, true)
#define FP(pfx, op, ins, type, align) DEFINE_FP(ins, #ins, type, align)
FOR_OPS(OP)
FOR_FP(FP)
#undef OP
#undef FP

bool simd_bind_hot(struct insn *i, const struct dec *d)
{
#define OP(pfx, op, ins)                                                                           \
	case (pfx) << 8 | (op):                                                                    \
		i->fn = d->mem ? ins##_m : ins##_r;                                                \
		return true;
#define FP(pfx, op, ins, type, align) OP(pfx, op, ins)
	if (d->map != MAP_0F)
		return false;
	switch (d->pfx << 8 | d->op) {
		FOR_OPS(OP)
		FOR_FP(FP)
	default: return false;
	}
#undef OP
#undef FP
}
