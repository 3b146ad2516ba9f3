/* SPDX-License-Identifier: MIT */
/* SSE moves: loads, stores and register moves without arithmetic. SDM vol. 2, MOVAPS and its kin. */
#include "vmm/cpu/soft/simd-int.h"

/* Whole registers. */
static HANDLER(mov_rr)
{
	sse_check(c, i);
	*(v16 *)XMM(c, i->r) = *(const v16 *)XMM(c, i->rm);
	NEXT(c, i);
}

static HANDLER(mov_rr_store) /* the store opcodes: rm is the destination */
{
	sse_check(c, i);
	*(v16 *)XMM(c, i->rm) = *(const v16 *)XMM(c, i->r);
	NEXT(c, i);
}

static ALWAYS_INLINE void load16(struct soft_vcpu *c, const struct insn *i, bool aligned)
{
	uint64_t lin;
	const void *p;

	sse_check(c, i);
	lin = soft_ea(c, i);
	if (aligned && unlikely(lin & 15))
		raise_gp(c);
	p = mem_fast_r(c, lin, 16);
	if (likely(p != NULL))
		*(v16 *)XMM(c, i->r) = *(const v16u *)p;
	else
		mem_read_bytes(c, lin, XMM(c, i->r), 16);
}

static ALWAYS_INLINE void store16(struct soft_vcpu *c, const struct insn *i, bool aligned)
{
	uint64_t lin;
	void *p;

	sse_check(c, i);
	lin = soft_ea(c, i);
	if (aligned && unlikely(lin & 15))
		raise_gp(c);
	p = mem_fast_w(c, lin, 16);
	if (likely(p != NULL))
		*(v16u *)p = *(const v16 *)XMM(c, i->r);
	else
		mem_write_bytes(c, lin, XMM(c, i->r), 16);
}

static HANDLER(load_a)
{
	load16(c, i, true);
	NEXT(c, i);
}

static HANDLER(load_u)
{
	load16(c, i, false);
	NEXT(c, i);
}

static HANDLER(store_a)
{
	store16(c, i, true);
	NEXT(c, i);
}

static HANDLER(store_u)
{
	store16(c, i, false);
	NEXT(c, i);
}

/* MOVSS, MOVSD, MOVQ: a load clears the rest of the register, a register move of MOVSS and MOVSD does not. */
static HANDLER(movss_load)
{
	uint32_t v;

	sse_check(c, i);
	v = mem_read32(c, soft_ea(c, i));
	*(v16 *)XMM(c, i->r) = (v16){v, 0};
	NEXT(c, i);
}

static HANDLER(movsd_load)
{
	uint64_t v;

	sse_check(c, i);
	v = mem_read64(c, soft_ea(c, i));
	*(v16 *)XMM(c, i->r) = (v16){v, 0};
	NEXT(c, i);
}

static HANDLER(movss_store)
{
	sse_check(c, i);
	mem_write32(c, soft_ea(c, i), *XMM32(c, i->r));
	NEXT(c, i);
}

static HANDLER(movsd_store)
{
	sse_check(c, i);
	mem_write64(c, soft_ea(c, i), *XMM64(c, i->r));
	NEXT(c, i);
}

static HANDLER(movss_rr)
{
	sse_check(c, i);
	*XMM32(c, i->r) = *XMM32(c, i->rm);
	NEXT(c, i);
}

static HANDLER(movss_rr_store)
{
	sse_check(c, i);
	*XMM32(c, i->rm) = *XMM32(c, i->r);
	NEXT(c, i);
}

static HANDLER(movsd_rr)
{
	sse_check(c, i);
	*XMM64(c, i->r) = *XMM64(c, i->rm);
	NEXT(c, i);
}

static HANDLER(movsd_rr_store)
{
	sse_check(c, i);
	*XMM64(c, i->rm) = *XMM64(c, i->r);
	NEXT(c, i);
}

static HANDLER(movq_rr)
{
	sse_check(c, i);
	*(v16 *)XMM(c, i->r) = (v16){*XMM64(c, i->rm), 0};
	NEXT(c, i);
}

static HANDLER(movq_rr_store)
{
	sse_check(c, i);
	*(v16 *)XMM(c, i->rm) = (v16){*XMM64(c, i->r), 0};
	NEXT(c, i);
}

/* Halves. */
static HANDLER(load_lo)
{
	sse_check(c, i);
	*XMM64(c, i->r) = mem_read64(c, soft_ea(c, i));
	NEXT(c, i);
}

static HANDLER(load_hi)
{
	sse_check(c, i);
	XMM64(c, i->r)[1] = mem_read64(c, soft_ea(c, i));
	NEXT(c, i);
}

static HANDLER(store_hi)
{
	sse_check(c, i);
	mem_write64(c, soft_ea(c, i), XMM64(c, i->r)[1]);
	NEXT(c, i);
}

static HANDLER(movhlps)
{
	sse_check(c, i);
	*XMM64(c, i->r) = XMM64(c, i->rm)[1];
	NEXT(c, i);
}

static HANDLER(movlhps)
{
	sse_check(c, i);
	XMM64(c, i->r)[1] = *XMM64(c, i->rm);
	NEXT(c, i);
}

/* MASKMOVDQU: bytes of xmm(reg) whose mask byte in xmm(rm) is negative, to DS:rDI (the binder's caller set the EA). */
static HANDLER(maskmovdqu)
{
	const uint8_t *src = XMM(c, i->r), *mask = XMM(c, i->rm);
	unsigned first = 16, last = 0;
	uint64_t lin;

	sse_check(c, i);
	lin = soft_ea(c, i);
	for (unsigned k = 0; k < 16; k++) {
		if (!(mask[k] & 0x80))
			continue;
		first = MIN(first, k);
		last = k;
	}
	if (first < 16)
		mem_probe_write(c, lin + first, last - first + 1);
	for (unsigned k = first; k <= last; k++)
		if (mask[k] & 0x80)
			mem_write8(c, lin + k, src[k]);
	NEXT(c, i);
}

void simd_implicit_rdi(struct insn *i, const struct dec *d)
{
	i->base = 7 * 8;
	i->index = SLOT_ZERO;
	i->scale = 0;
	i->disp = 0;
	i->ea = (uint8_t)(d->seg_override ? d->seg : SEG_DS);
	if (d->mode != MODE_64)
		i->ea |= EA_LEGACY | EA_ADDSEG;
	else if (i->ea >= SEG_FS)
		i->ea |= EA_ADDSEG;
	if (d->addrsize == 4)
		i->ea |= EA_A32;
	else if (d->addrsize == 2)
		i->ea |= EA_A16;
}

struct mov {
	uint8_t map, pfx, op;
	insn_fn rr, mem; /* NULL: #UD */
};

static const struct mov movs[] = {
	{MAP_0F, 0, 0x10, mov_rr, load_u},
	{MAP_0F, 0x66, 0x10, mov_rr, load_u},
	{MAP_0F, 0xf3, 0x10, movss_rr, movss_load},
	{MAP_0F, 0xf2, 0x10, movsd_rr, movsd_load},
	{MAP_0F, 0, 0x11, mov_rr_store, store_u},
	{MAP_0F, 0x66, 0x11, mov_rr_store, store_u},
	{MAP_0F, 0xf3, 0x11, movss_rr_store, movss_store},
	{MAP_0F, 0xf2, 0x11, movsd_rr_store, movsd_store},
	{MAP_0F, 0, 0x12, movhlps, load_lo},
	{MAP_0F, 0x66, 0x12, NULL, load_lo},
	{MAP_0F, 0, 0x13, NULL, movsd_store},
	{MAP_0F, 0x66, 0x13, NULL, movsd_store},
	{MAP_0F, 0, 0x16, movlhps, load_hi},
	{MAP_0F, 0x66, 0x16, NULL, load_hi},
	{MAP_0F, 0, 0x17, NULL, store_hi},
	{MAP_0F, 0x66, 0x17, NULL, store_hi},
	{MAP_0F, 0, 0x28, mov_rr, load_a},
	{MAP_0F, 0x66, 0x28, mov_rr, load_a},
	{MAP_0F, 0, 0x29, mov_rr_store, store_a},
	{MAP_0F, 0x66, 0x29, mov_rr_store, store_a},
	{MAP_0F, 0, 0x2b, NULL, store_a},
	{MAP_0F, 0x66, 0x2b, NULL, store_a},
	{MAP_0F, 0x66, 0x6f, mov_rr, load_a},
	{MAP_0F, 0xf3, 0x6f, mov_rr, load_u},
	{MAP_0F, 0x66, 0x7f, mov_rr_store, store_a},
	{MAP_0F, 0xf3, 0x7f, mov_rr_store, store_u},
	{MAP_0F, 0xf3, 0x7e, movq_rr, movsd_load},
	{MAP_0F, 0x66, 0xd6, movq_rr_store, movsd_store},
	{MAP_0F, 0x66, 0xe7, NULL, store_a},
	{MAP_0F, 0xf2, 0xf0, NULL, load_u},
	{MAP_0F, 0x66, 0xf7, maskmovdqu, NULL},
	{MAP_0F38, 0x66, 0x2a, NULL, load_a},
};

bool sse_mov_bind(struct insn *i, const struct dec *d)
{
	for (size_t k = 0; k < ARRAY_LEN(movs); k++) {
		const struct mov *m = &movs[k];

		if (m->op != d->op || m->map != d->map || m->pfx != d->pfx)
			continue;
		i->fn = d->mem ? m->mem : m->rr;
		if (!i->fn || (d->map == MAP_0F38 && !(simd_host_features() & FEAT_SSE41)))
			return false;
		i->r = (uint8_t)(d->reg * 16);
		i->rm = (uint8_t)(d->rm * 16);
		if (i->fn == maskmovdqu)
			simd_implicit_rdi(i, d);
		return true;
	}
	return false;
}
