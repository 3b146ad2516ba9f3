/* SPDX-License-Identifier: MIT */
/*
 * MMX, and the SSE instructions with an MMX operand. MMX registers are the x87 registers' mantissas by physical number; the
 * first MMX instruction sets TOP to 0 and all tags to valid. They live in the image, never in the host (x87.c).
 */
#include "vmm/cpu/soft/simd-int.h"

#define MM(c, n)   ((void *)IMAGE(c)->st[n])
#define MM64(c, n) ((uint64_t *)IMAGE(c)->st[n])
#define T(i)	   ((thunk_fn)(uintptr_t)(i)->imm)

/* Makes physical register 0 the first in the image. */
static void rotate_to_top0(struct fx_image *f)
{
	unsigned top = f->fsw >> 11 & 7;
	uint8_t st[8][16];

	if (!top)
		return;
	for (unsigned k = 0; k < 8; k++)
		memcpy(st[(k + top) & 7], f->st[k], 16);
	memcpy(f->st, st, sizeof(st));
	f->fsw &= (uint16_t)~0x3800;
}

/* The checks, before any memory operand is read. */
static ALWAYS_INLINE void mmx_check(struct soft_vcpu *c, const struct insn *i)
{
	c->cur = i;
	if (unlikely(c->cr0 & CR0_EM))
		raise_ud(c);
	if (unlikely(c->cr0 & CR0_TS))
		raise_nm(c);
	x87_wait(c);
}

/* The transition to MMX state; after the last thing that may fault. */
static ALWAYS_INLINE void mmx_begin(struct soft_vcpu *c)
{
	struct fx_image *f = IMAGE(c);

	x87_spill(c);
	rotate_to_top0(f);
	f->ftw = 0xff;
}

static ALWAYS_INLINE void mm_written(struct soft_vcpu *c, unsigned n)
{
	IMAGE(c)->st[n][8] = 0xff;
	IMAGE(c)->st[n][9] = 0xff;
}

/* --- mm = op(mm, mm/memory): i->size = bytes of the memory operand --- */

static HANDLER(h_mm)
{
	mmx_check(c, i);
	mmx_begin(c);
	T(i)(MM(c, i->r), MM(c, i->rm));
	mm_written(c, i->r);
	NEXT(c, i);
}

static HANDLER(h_mm_m)
{
	const void *src;

	mmx_check(c, i);
	src = simd_src(c, i, i->size, false);
	mmx_begin(c);
	T(i)(MM(c, i->r), src);
	mm_written(c, i->r);
	NEXT(c, i);
}

static HANDLER(h_mm_shift) /* by immediate */
{
	uint64_t *n = (uint64_t *)SIMD(c)->scratch;

	mmx_check(c, i);
	mmx_begin(c);
	*n = i->aux;
	T(i)(MM(c, i->rm), n);
	mm_written(c, i->rm);
	NEXT(c, i);
}

static HANDLER(emms)
{
	mmx_check(c, i);
	x87_spill(c);
	rotate_to_top0(IMAGE(c));
	IMAGE(c)->ftw = 0;
	NEXT(c, i);
}

/* --- moves --- */

static HANDLER(mov_in) /* MOVD, MOVQ mm, r/m */
{
	uint64_t v;

	mmx_check(c, i);
	if (i->flags & INSN_MEM)
		v = i->size == 8 ? mem_read64(c, soft_ea(c, i)) : mem_read32(c, soft_ea(c, i));
	else
		v = i->size == 8 ? SLOT64(c, i->rm) : SLOT32(c, i->rm);
	mmx_begin(c);
	*MM64(c, i->r) = v;
	mm_written(c, i->r);
	NEXT(c, i);
}

/* The register that MMX will call n, before the transition. */
static uint64_t mm_peek(struct soft_vcpu *c, unsigned n)
{
	uint64_t v;

	x87_sync(c);
	memcpy(&v, IMAGE(c)->st[(n - (IMAGE(c)->fsw >> 11)) & 7], 8);
	return v;
}

static HANDLER(mov_out)
{
	uint64_t v;

	mmx_check(c, i);
	v = mm_peek(c, i->r);
	if (i->flags & INSN_MEM) {
		if (i->size == 8)
			mem_write64(c, soft_ea(c, i), v);
		else
			mem_write32(c, soft_ea(c, i), (uint32_t)v);
	} else {
		SLOT64(c, i->rm) = i->size == 8 ? v : (uint32_t)v;
	}
	mmx_begin(c);
	NEXT(c, i);
}

static HANDLER(movq_rr)
{
	mmx_check(c, i);
	mmx_begin(c);
	*MM64(c, i->r) = *MM64(c, i->rm);
	mm_written(c, i->r);
	NEXT(c, i);
}

static HANDLER(movq2dq)
{
	mmx_check(c, i);
	mmx_begin(c);
	*(v16 *)XMM(c, i->r * 16) = (v16){*MM64(c, i->rm), 0};
	NEXT(c, i);
}

static HANDLER(movdq2q)
{
	mmx_check(c, i);
	mmx_begin(c);
	*MM64(c, i->r) = *XMM64(c, i->rm * 16);
	mm_written(c, i->r);
	NEXT(c, i);
}

static HANDLER(pinsrw)
{
	uint16_t v;

	mmx_check(c, i);
	v = i->flags & INSN_MEM ? mem_read16(c, soft_ea(c, i)) : SLOT16(c, i->rm);
	mmx_begin(c);
	((uint16_t *)MM(c, i->r))[i->aux] = v;
	mm_written(c, i->r);
	NEXT(c, i);
}

static HANDLER(pextrw)
{
	mmx_check(c, i);
	mmx_begin(c);
	SLOT64(c, i->r) = ((uint16_t *)MM(c, i->rm))[i->aux];
	NEXT(c, i);
}

static HANDLER(pmovmskb)
{
	unsigned m = 0;

	mmx_check(c, i);
	mmx_begin(c);
	for (unsigned k = 0; k < 8; k++)
		m |= (unsigned)((uint8_t *)MM(c, i->rm))[k] >> 7 << k;
	SLOT64(c, i->r) = m;
	NEXT(c, i);
}

static HANDLER(maskmovq)
{
	uint64_t src, mask, lin;
	unsigned first = 8, last = 0;

	mmx_check(c, i);
	src = mm_peek(c, i->r);
	mask = mm_peek(c, i->rm);
	lin = soft_ea(c, i);
	for (unsigned k = 0; k < 8; k++) {
		if (!(mask >> (8 * k) & 0x80))
			continue;
		first = MIN(first, k);
		last = k;
	}
	if (first < 8)
		mem_probe_write(c, lin + first, last - first + 1);
	for (unsigned k = first; k <= last; k++)
		if (mask >> (8 * k) & 0x80)
			mem_write8(c, lin + k, (uint8_t)(src >> (8 * k)));
	mmx_begin(c);
	NEXT(c, i);
}

/* --- conversions between MMX and SSE; they use MXCSR --- */

#define DEFINE_CVT_MM(name, ins, type)                                                             \
	THUNK name(void *d, const void *s)                                                         \
	{                                                                                          \
		__asm__ volatile(ins " %1, %%mm0\n\tmovq %%mm0, %0\n\temms"                        \
				 : "=m"(*(uint64_t *)d)                                            \
				 : "m"(*(const type *)s)                                           \
				 : "mm0");                                                         \
		return 0;                                                                          \
	}
DEFINE_CVT_MM(t_cvtps2pi, "cvtps2pi", uint64_t)
DEFINE_CVT_MM(t_cvttps2pi, "cvttps2pi", uint64_t)
DEFINE_CVT_MM(t_cvtpd2pi, "cvtpd2pi", v16)
DEFINE_CVT_MM(t_cvttpd2pi, "cvttpd2pi", v16)

#define DEFINE_CVT_XMM(name, ins)                                                                  \
	THUNK name(void *d, const void *s)                                                         \
	{                                                                                          \
		v16 x = *(v16 *)d;                                                                 \
                                                                                                   \
		__asm__ volatile(ins " %1, %0\n\temms" : "+x"(x) : "m"(*(const uint64_t *)s));     \
		*(v16 *)d = x;                                                                     \
		return 0;                                                                          \
	}
DEFINE_CVT_XMM(t_cvtpi2ps, "cvtpi2ps")
DEFINE_CVT_XMM(t_cvtpi2pd, "cvtpi2pd")

static HANDLER(cvt_to_mm)
{
	const void *src;

	sse_check(c, i);
	mmx_check(c, i);
	src = i->flags & INSN_MEM ? simd_src(c, i, i->size, i->size == 16) : XMM(c, i->rm * 16);
	mmx_begin(c);
	simd_fp(c, i, T(i), MM(c, i->r), 8, src);
	mm_written(c, i->r);
	NEXT(c, i);
}

/* CVTPI2PS, CVTPI2PD: a memory operand makes no transition. */
static HANDLER(cvt_to_xmm)
{
	const void *src;

	sse_check(c, i);
	if (i->flags & INSN_MEM) {
		src = simd_src(c, i, 8, false);
		x87_spill(c);
	} else {
		mmx_check(c, i);
		mmx_begin(c);
		src = MM(c, i->rm);
	}
	simd_fp(c, i, T(i), XMM(c, i->r * 16), 16, src);
	NEXT(c, i);
}

/* --- binding --- */

static void thunk(struct insn *i, const void *t)
{
	i->imm = (int64_t)(uintptr_t)t;
}

static bool bind_op(struct insn *i, const struct dec *d, const char *array)
{
	thunk(i, array + 16 * d->op);
	i->size = d->map == MAP_0F && d->op >= 0x60 && d->op <= 0x62 ? 4 : 8;
	i->fn = d->mem ? h_mm_m : h_mm;
	return true;
}

/* Opcodes of 0F without prefix that are mm = op(mm, mm/m64). */
static bool plain_op(unsigned op)
{
	return (op >= 0x60 && op <= 0x6b) || (op >= 0x74 && op <= 0x76) ||
	       (op >= 0xd1 && op <= 0xd5) || (op >= 0xd8 && op <= 0xe5) ||
	       (op >= 0xe8 && op <= 0xef) || (op >= 0xf1 && op <= 0xf6) ||
	       (op >= 0xf8 && op <= 0xfe);
}

static bool bind_shift(struct insn *i, const struct dec *d)
{
	static const uint8_t variable[3][3] = {
		{0xd1, 0xe1, 0xf1}, {0xd2, 0xe2, 0xf2}, {0xd3, 0, 0xf3}};
	unsigned reg = d->reg & 7;

	if (d->mem || reg & 1 || reg < 2 || !variable[d->op - 0x71][reg / 2 - 1])
		return false;
	i->aux = (uint8_t)d->imm;
	thunk(i, soft_thunk_mmx_0f + 16 * variable[d->op - 0x71][reg / 2 - 1]);
	i->fn = h_mm_shift;
	return true;
}

static bool bind_convert(struct insn *i, const struct dec *d)
{
	bool pd = d->pfx == 0x66;

	if (d->op == 0x2a) {
		thunk(i, (const void *)(uintptr_t)(pd ? t_cvtpi2pd : t_cvtpi2ps));
		i->r = d->reg;
		i->fn = cvt_to_xmm;
		return true;
	}
	i->rm = d->rm;
	i->size = pd ? 16 : 8;
	if (d->op == 0x2c)
		thunk(i, (const void *)(uintptr_t)(pd ? t_cvttpd2pi : t_cvttps2pi));
	else
		thunk(i, (const void *)(uintptr_t)(pd ? t_cvtpd2pi : t_cvtps2pi));
	i->fn = cvt_to_mm;
	return true;
}

static bool bind_imm(struct insn *i, const char *array, uint8_t imm, bool mem)
{
	thunk(i, array + 16 * imm);
	i->size = 8;
	i->fn = mem ? h_mm_m : h_mm;
	return true;
}

static bool bind_move(struct insn *i, const struct dec *d)
{
	switch (d->op) {
	case 0x6e:
	case 0x7e:
		i->rm = (uint8_t)(d->rm * 8);
		i->size = d->rex & 8 ? 8 : 4;
		i->fn = d->op == 0x6e ? mov_in : mov_out;
		return true;
	case 0x6f:
		i->size = 8;
		i->fn = d->mem ? mov_in : movq_rr;
		return true;
	case 0x7f:
		i->size = 8;
		if (!d->mem) {
			i->r = d->rm & 7;
			i->rm = d->reg & 7;
		}
		i->fn = d->mem ? mov_out : movq_rr;
		return true;
	case 0xe7: /* MOVNTQ */
		i->size = 8;
		i->fn = mov_out;
		return d->mem;
	case 0xc4:
		i->rm = (uint8_t)(d->rm * 8);
		i->aux = d->imm & 3;
		i->fn = pinsrw;
		return true;
	case 0xc5:
		i->r = (uint8_t)(d->reg * 8);
		i->aux = d->imm & 3;
		i->fn = pextrw;
		return !d->mem;
	case 0xd7:
		i->r = (uint8_t)(d->reg * 8);
		i->fn = pmovmskb;
		return !d->mem;
	case 0xf7:
		simd_implicit_rdi(i, d);
		i->fn = maskmovq;
		return !d->mem;
	default: return false;
	}
}

bool mmx_bind(struct insn *i, const struct dec *d)
{
	i->r = d->reg & 7;
	i->rm = d->rm & 7;
	if (d->map == MAP_0F38) {
		bool ok = d->op <= 0x0b || (d->op >= 0x1c && d->op <= 0x1e);

		return ok && !d->pfx && simd_host_features() & FEAT_SSSE3 &&
		       bind_op(i, d, soft_thunk_mmx_0f38);
	}
	if (d->map == MAP_0F3A)
		return d->op == 0x0f && !d->pfx && simd_host_features() & FEAT_SSSE3 &&
		       bind_imm(i, soft_thunk_palignr_mmx, (uint8_t)d->imm, d->mem);
	if (d->op == 0xd6 && !d->mem) {
		if (d->pfx == 0xf3) {
			i->r = d->reg;
			i->fn = movq2dq;
			return true;
		}
		if (d->pfx == 0xf2) {
			i->rm = d->rm;
			i->fn = movdq2q;
			return true;
		}
	}
	if ((d->op == 0x2a || d->op == 0x2c || d->op == 0x2d) && (!d->pfx || d->pfx == 0x66))
		return bind_convert(i, d);
	if (d->pfx)
		return false;
	if (d->op == 0x77) {
		i->fn = emms;
		return true;
	}
	if (plain_op(d->op))
		return bind_op(i, d, soft_thunk_mmx_0f);
	if (d->op == 0x70)
		return bind_imm(i, soft_thunk_pshufw, (uint8_t)d->imm, d->mem);
	if (d->op >= 0x71 && d->op <= 0x73)
		return bind_shift(i, d);
	return bind_move(i, d);
}
