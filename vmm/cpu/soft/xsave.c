/* SPDX-License-Identifier: MIT */
/*
 * FXSAVE, FXRSTOR, XSAVE, XSAVEOPT, XRSTOR, LDMXCSR, STMXCSR, XGETBV, XSETBV (SDM vol. 1 ch. 13). The state components
 * are x87 and SSE. XINUSE says that both are always in use, so XSAVEOPT is XSAVE.
 */
#include "vmm/cpu/soft/msr.h"
#include "vmm/cpu/soft/simd-int.h"

enum { XS_X87 = 1, XS_SSE = 2, XS_ALL = 3, XS_SIZE = 576, FX_WRITTEN = 416, FX_WRITTEN_32 = 288 };

/* The image as the guest's mode and operand size want it: without REX.W, FIP and FDP are 32-bit with a selector (zero). */
static void image_for_guest(struct soft_vcpu *c, const struct insn *i, struct fx_image *f)
{
	x87_sync(c);
	simd_mxcsr_get(c);
	memcpy(f, IMAGE(c), sizeof(*f));
	f->rsvd = 0;
	f->mxcsr_mask = simd_mxcsr_mask();
	if (!i->aux) {
		f->fip = (uint32_t)f->fip;
		f->fdp = (uint32_t)f->fdp;
	}
}

/* Takes the x87 part over. Bits that do not exist are dropped, ES follows from the flags. */
static void load_x87(struct soft_vcpu *c, const struct insn *i, const struct fx_image *f)
{
	struct fx_image *m = IMAGE(c);

	x87_spill(c);
	memcpy(m, f, 24);
	memcpy(m->st, f->st, sizeof(m->st));
	for (int k = 0; k < 8; k++)
		memset(m->st[k] + 10, 0, 6);
	m->rsvd = 0;
	m->fcw = (m->fcw & 0x1f3f) | 0x40;
	m->fop &= 0x7ff;
	m->fsw &= 0x7f7f;
	if (m->fsw & ~m->fcw & FCW_MASKS)
		m->fsw |= 0x8080;
	if (!i->aux) {
		m->fip = (uint32_t)m->fip;
		m->fdp = (uint32_t)m->fdp;
	}
}

static void load_xmm(struct soft_vcpu *c, const struct fx_image *f)
{
	unsigned n = c->mode == MODE_64 ? 16 : 8;

	memcpy(IMAGE(c)->xmm, f->xmm, n * 16);
}

static uint64_t aligned_ea(struct soft_vcpu *c, const struct insn *i, unsigned align)
{
	uint64_t lin = soft_ea(c, i);

	if (lin & (align - 1))
		simd_misaligned(c, lin);
	return lin;
}

static HANDLER(fxsave)
{
	struct fx_image *f = (struct fx_image *)SIMD(c)->scratch;
	uint64_t lin;

	x87_check(c, i);
	lin = aligned_ea(c, i, 16);
	mem_probe_write(
		c, lin, sizeof(*f)); /* the last 96 bytes are not written, but they must be there */
	image_for_guest(c, i, f);
	mem_write_bytes(c, lin, f, c->mode == MODE_64 ? FX_WRITTEN : FX_WRITTEN_32);
	NEXT(c, i);
}

static HANDLER(fxrstor)
{
	struct fx_image *f = (struct fx_image *)SIMD(c)->scratch;
	uint64_t lin;

	x87_check(c, i);
	lin = aligned_ea(c, i, 16);
	mem_read_bytes(c, lin, f, sizeof(*f));
	if (f->mxcsr & ~simd_mxcsr_mask())
		raise_gp(c);
	load_x87(c, i, f);
	load_xmm(c, f);
	simd_mxcsr_set(c, f->mxcsr);
	NEXT(c, i);
}

static HANDLER(ldmxcsr)
{
	uint32_t v;

	sse_check(c, i);
	v = mem_read32(c, soft_ea(c, i));
	if (v & ~simd_mxcsr_mask())
		raise_gp(c);
	simd_mxcsr_set(c, v);
	NEXT(c, i);
}

static HANDLER(stmxcsr)
{
	sse_check(c, i);
	mem_write32(c, soft_ea(c, i), simd_mxcsr_get(c));
	NEXT(c, i);
}

/* #UD without CR4.OSXSAVE, #NM with CR0.TS; the requested components. */
static uint64_t xsave_mask(struct soft_vcpu *c, const struct insn *i)
{
	c->cur = i;
	if (!(c->cr4 & CR4_OSXSAVE))
		raise_ud(c);
	if (c->cr0 & CR0_TS)
		raise_nm(c);
	return ((c->gpr[2] << 32) | (uint32_t)c->gpr[0]) & c->xcr0;
}

static HANDLER(xsave)
{
	struct fx_image *f = (struct fx_image *)SIMD(c)->scratch;
	uint64_t mask = xsave_mask(c, i), lin = aligned_ea(c, i, 64), bv;
	unsigned end = c->mode == MODE_64 ? FX_WRITTEN : FX_WRITTEN_32;

	mem_probe_write(c, lin, XS_SIZE);
	bv = mem_read64(c, lin + 512);
	image_for_guest(c, i, f);
	if ((mask & XS_ALL) == XS_ALL) {
		mem_write_bytes(c, lin, f, end);
	} else if (mask & XS_X87) {
		mem_write_bytes(c, lin, f, 24);
		mem_write_bytes(c, lin + 32, f->st, sizeof(f->st));
	} else if (mask & XS_SSE) {
		mem_write_bytes(c, lin + 24, &f->mxcsr, 8);
		mem_write_bytes(c, lin + 160, f->xmm, end - 160);
	}
	mem_write64(c, lin + 512, (bv & ~mask) | (mask & XS_ALL));
	NEXT(c, i);
}

static HANDLER(xrstor)
{
	struct fx_image *f = (struct fx_image *)SIMD(c)->scratch;
	uint64_t mask = xsave_mask(c, i), lin = aligned_ea(c, i, 64);
	const uint64_t *header = (const uint64_t *)(SIMD(c)->scratch + 512);

	mem_read_bytes(c, lin, f, XS_SIZE);
	/* XSTATE_BV within XCR0; XCOMP_BV and the rest of the first 24 bytes zero: no compaction here. */
	if (header[0] & ~c->xcr0 || header[1] || header[2])
		raise_gp(c);
	if (mask & XS_SSE && f->mxcsr & ~simd_mxcsr_mask())
		raise_gp(c);
	if (mask & XS_X87) {
		if (header[0] & XS_X87) {
			load_x87(c, i, f);
		} else {
			x87_spill(c);
			x87_init_image(IMAGE(c));
		}
	}
	if (mask & XS_SSE) {
		if (!(header[0] & XS_SSE))
			memset(f->xmm, 0, sizeof(f->xmm));
		load_xmm(c, f);
		simd_mxcsr_set(c, f->mxcsr);
	}
	NEXT(c, i);
}

static HANDLER(xgetbv)
{
	c->cur = i;
	if (!(c->cr4 & CR4_OSXSAVE))
		raise_ud(c);
	if ((uint32_t)c->gpr[1] != 0)
		raise_gp(c);
	c->gpr[0] = (uint32_t)c->xcr0;
	c->gpr[2] = c->xcr0 >> 32;
	NEXT(c, i);
}

static HANDLER(xsetbv)
{
	uint64_t v = (c->gpr[2] << 32) | (uint32_t)c->gpr[0];

	c->cur = i;
	if (!(c->cr4 & CR4_OSXSAVE))
		raise_ud(c);
	if (c->cpl || (uint32_t)c->gpr[1] != 0 || !(v & XS_X87) || v & ~soft_xcr0_valid(c))
		raise_gp(c);
	c->xcr0 = v;
	LEAVE(c, i);
}

bool xsave_bind(struct insn *i, const struct dec *d)
{
	static const insn_fn group15[8] = {
		fxsave, fxrstor, ldmxcsr, stmxcsr, xsave, xrstor, xsave, NULL};

	if (d->pfx)
		return false;
	if (d->op == 0x01) {
		if (d->modrm != 0xd0 && d->modrm != 0xd1)
			return false;
		i->fn = d->modrm == 0xd0 ? xgetbv : xsetbv;
		return true;
	}
	if (d->op != 0xae || !d->mem)
		return false;
	i->fn = group15[d->reg & 7];
	i->aux = d->rex & 8;
	return i->fn != NULL;
}
