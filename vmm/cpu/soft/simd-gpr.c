/* SPDX-License-Identifier: MIT */
/* SSE instructions with a general register, flags or one element as operand: conversions, compares, inserts, extracts. */
#include "vmm/cpu/soft/simd-int.h"

#define XV(p)  (*(const v16 *)(p))
#define XVU(p) (*(const v16u *)(p))

/* --- thunks in C: the same shape as simd-thunks.S --- */

#define DEFINE_CVT_IN(name, ins, type)                                                             \
	THUNK name(void *d, const void *s)                                                         \
	{                                                                                          \
		v16 x = *(v16 *)d;                                                                 \
                                                                                                   \
		__asm__ volatile(ins " %1, %0" : "+x"(x) : "r"(*(const type *)s));                 \
		*(v16 *)d = x;                                                                     \
		return 0;                                                                          \
	}
DEFINE_CVT_IN(t_cvtsi2ss32, "cvtsi2ssl", uint32_t)
DEFINE_CVT_IN(t_cvtsi2ss64, "cvtsi2ssq", uint64_t)
DEFINE_CVT_IN(t_cvtsi2sd32, "cvtsi2sdl", uint32_t)
DEFINE_CVT_IN(t_cvtsi2sd64, "cvtsi2sdq", uint64_t)

#define DEFINE_CVT_OUT(name, ins, type, src)                                                       \
	THUNK name(void *d, const void *s)                                                         \
	{                                                                                          \
		type r;                                                                            \
                                                                                                   \
		(void)d;                                                                           \
		__asm__ volatile(ins " %1, %0" : "=r"(r) : "m"(*(const src *)s));                  \
		return r;                                                                          \
	}
DEFINE_CVT_OUT(t_cvtss2si32, "cvtss2si", uint32_t, uint32_t)
DEFINE_CVT_OUT(t_cvtss2si64, "cvtss2si", uint64_t, uint32_t)
DEFINE_CVT_OUT(t_cvttss2si32, "cvttss2si", uint32_t, uint32_t)
DEFINE_CVT_OUT(t_cvttss2si64, "cvttss2si", uint64_t, uint32_t)
DEFINE_CVT_OUT(t_cvtsd2si32, "cvtsd2si", uint32_t, uint64_t)
DEFINE_CVT_OUT(t_cvtsd2si64, "cvtsd2si", uint64_t, uint64_t)
DEFINE_CVT_OUT(t_cvttsd2si32, "cvttsd2si", uint32_t, uint64_t)
DEFINE_CVT_OUT(t_cvttsd2si64, "cvttsd2si", uint64_t, uint64_t)

/* They clear OF, SF and AF. */
#define DEFINE_CMP(name, ins, type)                                                                \
	THUNK name(void *d, const void *s)                                                         \
	{                                                                                          \
		uint64_t ax;                                                                       \
                                                                                                   \
		__asm__ volatile(ins " %2, %1\n\tlahf"                                             \
				 : "=a"(ax)                                                        \
				 : "x"(*(const v16 *)d), "m"(*(const type *)s)                     \
				 : "cc");                                                          \
		return ax & (FL_ZF | FL_PF | FL_CF);                                               \
	}
DEFINE_CMP(t_ucomiss, "ucomiss", uint32_t)
DEFINE_CMP(t_comiss, "comiss", uint32_t)
DEFINE_CMP(t_ucomisd, "ucomisd", uint64_t)
DEFINE_CMP(t_comisd, "comisd", uint64_t)

/* --- CVTSI2SS, CVTSI2SD: i->imm = thunk, i->size = 4 or 8 --- */

#define T(i) ((thunk_fn)(uintptr_t)(i)->imm)

static HANDLER(cvt_in)
{
	sse_check(c, i);
	simd_fp(c, i, T(i), XMM(c, i->r), 16, &SLOT64(c, i->rm));
	NEXT(c, i);
}

static HANDLER(cvt_in_m)
{
	sse_check(c, i);
	simd_fp(c, i, T(i), XMM(c, i->r), 16, simd_src(c, i, i->size, false));
	NEXT(c, i);
}

/* CVT(T)SS2SI, CVT(T)SD2SI: i->aux = memory operand's size; the 32-bit thunks return it zero-extended. */
static HANDLER(cvt_out)
{
	sse_check(c, i);
	SLOT64(c, i->r) = simd_fp(c, i, T(i), NULL, 0, XMM(c, i->rm));
	NEXT(c, i);
}

static HANDLER(cvt_out_m)
{
	sse_check(c, i);
	SLOT64(c, i->r) = simd_fp(c, i, T(i), NULL, 0, simd_src(c, i, i->aux, false));
	NEXT(c, i);
}

static HANDLER(cmp_fl)
{
	sse_check(c, i);
	c->fl = (uint16_t)simd_fp(c, i, T(i), XMM(c, i->r), 16, XMM(c, i->rm));
	NEXT(c, i);
}

static HANDLER(cmp_fl_m)
{
	sse_check(c, i);
	c->fl = (uint16_t)simd_fp(c, i, T(i), XMM(c, i->r), 16, simd_src(c, i, i->aux, false));
	NEXT(c, i);
}

static ALWAYS_INLINE uint16_t ptest_fl(const void *d, const void *s)
{
	v16 a = XV(d), b = XVU(s), x = a & b, y = ~a & b;

	return (uint16_t)((x[0] | x[1] ? 0 : FL_ZF) | (y[0] | y[1] ? 0 : FL_CF));
}

static HANDLER(ptest)
{
	sse_check(c, i);
	c->fl = ptest_fl(XMM(c, i->r), XMM(c, i->rm));
	NEXT(c, i);
}

static HANDLER(ptest_m)
{
	sse_check(c, i);
	c->fl = ptest_fl(XMM(c, i->r), simd_src(c, i, 16, true));
	NEXT(c, i);
}

/* --- MOVD, MOVQ --- */

static HANDLER(movd_in)
{
	sse_check(c, i);
	*(v16 *)XMM(c, i->r) = (v16){SLOT32(c, i->rm), 0};
	NEXT(c, i);
}

static HANDLER(movq_in)
{
	sse_check(c, i);
	*(v16 *)XMM(c, i->r) = (v16){SLOT64(c, i->rm), 0};
	NEXT(c, i);
}

static HANDLER(movd_in_m)
{
	uint32_t v;

	sse_check(c, i);
	v = mem_read32(c, soft_ea(c, i));
	*(v16 *)XMM(c, i->r) = (v16){v, 0};
	NEXT(c, i);
}

static HANDLER(movq_in_m)
{
	uint64_t v;

	sse_check(c, i);
	v = mem_read64(c, soft_ea(c, i));
	*(v16 *)XMM(c, i->r) = (v16){v, 0};
	NEXT(c, i);
}

static HANDLER(movd_out)
{
	sse_check(c, i);
	SLOT64(c, i->rm) = *XMM32(c, i->r);
	NEXT(c, i);
}

static HANDLER(movq_out)
{
	sse_check(c, i);
	SLOT64(c, i->rm) = *XMM64(c, i->r);
	NEXT(c, i);
}

static HANDLER(movd_out_m)
{
	sse_check(c, i);
	mem_write32(c, soft_ea(c, i), *XMM32(c, i->r));
	NEXT(c, i);
}

static HANDLER(movq_out_m)
{
	sse_check(c, i);
	mem_write64(c, soft_ea(c, i), *XMM64(c, i->r));
	NEXT(c, i);
}

/* --- masks to a register --- */

#define DEFINE_MASK(name, ins)                                                                     \
	static HANDLER(name)                                                                       \
	{                                                                                          \
		uint32_t m;                                                                        \
                                                                                                   \
		sse_check(c, i);                                                                   \
		__asm__(ins " %1, %0" : "=r"(m) : "x"(XV(XMM(c, i->rm))));                         \
		SLOT64(c, i->r) = m;                                                               \
		NEXT(c, i);                                                                        \
	}
DEFINE_MASK(movmskps, "movmskps")
DEFINE_MASK(movmskpd, "movmskpd")
DEFINE_MASK(pmovmskb, "pmovmskb")

/* --- elements: i->aux = index, already masked --- */

#define DEFINE_ELEMENT(bits)                                                                       \
	static HANDLER(insert##bits)                                                               \
	{                                                                                          \
		sse_check(c, i);                                                                   \
		((uint##bits##_t *)XMM(c, i->r))[i->aux] = (uint##bits##_t)SLOT64(c, i->rm);       \
		NEXT(c, i);                                                                        \
	}                                                                                          \
	static HANDLER(insert##bits##_m)                                                           \
	{                                                                                          \
		sse_check(c, i);                                                                   \
		((uint##bits##_t *)XMM(c, i->r))[i->aux] = mem_read##bits(c, soft_ea(c, i));       \
		NEXT(c, i);                                                                        \
	}                                                                                          \
	static HANDLER(extract##bits) /* to rm */                                                  \
	{                                                                                          \
		sse_check(c, i);                                                                   \
		SLOT64(c, i->rm) = ((uint##bits##_t *)XMM(c, i->r))[i->aux];                       \
		NEXT(c, i);                                                                        \
	}                                                                                          \
	static HANDLER(extract##bits##_m)                                                          \
	{                                                                                          \
		sse_check(c, i);                                                                   \
		mem_write##bits(c, soft_ea(c, i), ((uint##bits##_t *)XMM(c, i->r))[i->aux]);       \
		NEXT(c, i);                                                                        \
	}
DEFINE_ELEMENT(8)
DEFINE_ELEMENT(16)
DEFINE_ELEMENT(32)
DEFINE_ELEMENT(64)

static HANDLER(pextrw_reg) /* 0F C5: from rm to reg */
{
	sse_check(c, i);
	SLOT64(c, i->r) = ((uint16_t *)XMM(c, i->rm))[i->aux];
	NEXT(c, i);
}

static void do_insertps(struct soft_vcpu *c, const struct insn *i, uint32_t v)
{
	uint32_t *x = XMM(c, i->r);

	x[i->aux >> 4 & 3] = v;
	for (int k = 0; k < 4; k++)
		if (i->aux >> k & 1)
			x[k] = 0;
}

static HANDLER(insertps)
{
	sse_check(c, i);
	do_insertps(c, i, XMM32(c, i->rm)[i->aux >> 6]);
	NEXT(c, i);
}

static HANDLER(insertps_m)
{
	sse_check(c, i);
	do_insertps(c, i, mem_read32(c, soft_ea(c, i)));
	NEXT(c, i);
}

/* --- binding --- */

static void thunk(struct insn *i, thunk_fn t)
{
	i->imm = (int64_t)(uintptr_t)t;
}

static bool bind_scalar(struct insn *i, const struct dec *d, bool w)
{
	bool ss = d->pfx == 0xf3;

	if (d->pfx != 0xf3 && d->pfx != 0xf2)
		return false;
	i->size = w ? 8 : 4;
	i->aux = ss ? 4 : 8;
	if (d->op == 0x2a) {
		i->r = (uint8_t)(d->reg * 16);
		i->rm = (uint8_t)(d->rm * 8);
		i->fn = d->mem ? cvt_in_m : cvt_in;
		thunk(i,
			ss ? (w ? t_cvtsi2ss64 : t_cvtsi2ss32) : (w ? t_cvtsi2sd64 : t_cvtsi2sd32));
		return true;
	}
	i->r = (uint8_t)(d->reg * 8);
	i->rm = (uint8_t)(d->rm * 16);
	i->fn = d->mem ? cvt_out_m : cvt_out;
	if (d->op == 0x2c)
		thunk(i, ss ? (w ? t_cvttss2si64 : t_cvttss2si32)
			    : (w ? t_cvttsd2si64 : t_cvttsd2si32));
	else
		thunk(i,
			ss ? (w ? t_cvtss2si64 : t_cvtss2si32) : (w ? t_cvtsd2si64 : t_cvtsd2si32));
	return true;
}

static bool bind_compare(struct insn *i, const struct dec *d)
{
	bool ss = !d->pfx;

	if (d->pfx != 0 && d->pfx != 0x66)
		return false;
	i->r = (uint8_t)(d->reg * 16);
	i->rm = (uint8_t)(d->rm * 16);
	i->aux = ss ? 4 : 8;
	i->fn = d->mem ? cmp_fl_m : cmp_fl;
	if (d->op == 0x2e)
		thunk(i, ss ? t_ucomiss : t_ucomisd);
	else
		thunk(i, ss ? t_comiss : t_comisd);
	return true;
}

static bool bind_mask(struct insn *i, const struct dec *d, insn_fn fn)
{
	if (d->mem)
		return false;
	i->r = (uint8_t)(d->reg * 8);
	i->rm = (uint8_t)(d->rm * 16);
	i->fn = fn;
	return true;
}

static bool bind_0f3a(struct insn *i, const struct dec *d, bool w)
{
	unsigned imm = (uint8_t)d->imm;

	if (d->pfx != 0x66 || !(simd_host_features() & FEAT_SSE41))
		return false;
	i->r = (uint8_t)(d->reg * 16);
	i->rm = (uint8_t)(d->rm * 8);
	switch (d->op) {
	case 0x14:
		i->aux = imm & 15;
		i->fn = d->mem ? extract8_m : extract8;
		return true;
	case 0x15:
		i->aux = imm & 7;
		i->fn = d->mem ? extract16_m : extract16;
		return true;
	case 0x16:
		i->aux = imm & (w ? 1 : 3);
		i->fn = w ? (d->mem ? extract64_m : extract64) : (d->mem ? extract32_m : extract32);
		return true;
	case 0x17: /* EXTRACTPS */
		i->aux = imm & 3;
		i->fn = d->mem ? extract32_m : extract32;
		return true;
	case 0x20:
		i->aux = imm & 15;
		i->fn = d->mem ? insert8_m : insert8;
		return true;
	case 0x21:
		i->rm = (uint8_t)(d->rm * 16);
		i->aux = (uint8_t)imm;
		i->fn = d->mem ? insertps_m : insertps;
		return true;
	case 0x22:
		i->aux = imm & (w ? 1 : 3);
		i->fn = w ? (d->mem ? insert64_m : insert64) : (d->mem ? insert32_m : insert32);
		return true;
	default: return false;
	}
}

bool sse_gpr_bind(struct insn *i, const struct dec *d)
{
	bool w = d->rex & 8;

	if (d->map == MAP_0F3A)
		return bind_0f3a(i, d, w);
	if (d->map == MAP_0F38) {
		if (d->op != 0x17 || d->pfx != 0x66 || !(simd_host_features() & FEAT_SSE41))
			return false;
		i->r = (uint8_t)(d->reg * 16);
		i->rm = (uint8_t)(d->rm * 16);
		i->fn = d->mem ? ptest_m : ptest;
		return true;
	}
	switch (d->op) {
	case 0x2a:
	case 0x2c:
	case 0x2d: return bind_scalar(i, d, w);
	case 0x2e:
	case 0x2f: return bind_compare(i, d);
	case 0x50:
		if (d->pfx != 0 && d->pfx != 0x66)
			return false;
		return bind_mask(i, d, d->pfx ? movmskpd : movmskps);
	}
	if (d->pfx != 0x66)
		return false;
	i->r = (uint8_t)(d->reg * 16);
	i->rm = (uint8_t)(d->rm * 8);
	switch (d->op) {
	case 0x6e:
		i->fn = w ? (d->mem ? movq_in_m : movq_in) : (d->mem ? movd_in_m : movd_in);
		return true;
	case 0x7e:
		i->fn = w ? (d->mem ? movq_out_m : movq_out) : (d->mem ? movd_out_m : movd_out);
		return true;
	case 0xc4:
		i->aux = d->imm & 7;
		i->fn = d->mem ? insert16_m : insert16;
		return true;
	case 0xc5: i->aux = d->imm & 7; return bind_mask(i, d, pextrw_reg);
	case 0xd7: return bind_mask(i, d, pmovmskb);
	default: return false;
	}
}
