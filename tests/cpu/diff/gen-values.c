/* SPDX-License-Identifier: MIT */
/* Random values: integers, floating point in three sizes, text, with the edges of each more often than chance has them. */
#include <string.h>
#include "tests/cpu/diff/gen.h"

uint64_t gen_value(struct rng *r)
{
	uint64_t v = rnd(r);
	unsigned k = v >> 8 & 63;

	switch (v & 15) {
	case 0: return 0;
	case 1: return ~0ull;
	case 2: return 1;
	case 3: return 1ull << k;
	case 4: return (1ull << k) - 1;
	case 5: return ~(1ull << k);
	case 6: return (uint64_t)(int64_t)(int8_t)(v >> 16);
	case 7: return v >> 16 & 0xff;
	case 8: return (uint64_t)(int64_t)(int16_t)(v >> 16);
	case 9: return (uint64_t)(int64_t)(int32_t)(v >> 16);
	case 10: return v >> 32;
	default: return rnd(r);
	}
}

static uint32_t float_bits(struct rng *r)
{
	static const uint32_t v[] = {0, 0x80000000, 0x3f800000, 0xbf800000, 0x7f800000, 0xff800000,
		0x7fc00000, 0xffc00000, 0x7f800001, 0x7fbfffff, 1, 0x80000001, 0x007fffff,
		0x00800000, 0x7f7fffff, 0x4f000000, 0xcf000000, 0x5f000000, 0x3f000000, 0x40490fdb,
		0x4b7fffff, 0x33800000, 0x3fffffff};
	uint64_t x = rnd(r);

	switch (x & 7) {
	case 0:
	case 1: return v[(x >> 8) % ARRAY_LEN(v)];
	case 2: return (uint32_t)(x >> 32);
	case 3: /* few significant bits: exact results */
		return ((uint32_t)(x >> 32) & 0x80700000u) | 0x3f800000u;
	default: return ((uint32_t)(x >> 32) & 0x807fffffu) | (0x70u + (x >> 8 & 0x1f)) << 23;
	}
}

static uint64_t double_bits(struct rng *r)
{
	static const uint64_t v[] = {0, 0x8000000000000000, 0x3ff0000000000000, 0xbff0000000000000,
		0x7ff0000000000000, 0xfff0000000000000, 0x7ff8000000000000, 0xfff8000000000000,
		0x7ff0000000000001, 0x7ff7ffffffffffff, 1, 0x8000000000000001, 0x000fffffffffffff,
		0x0010000000000000, 0x7fefffffffffffff, 0x41e0000000000000, 0xc1e0000000000000,
		0x43e0000000000000, 0xc3e0000000000000, 0x3fe0000000000000, 0x400921fb54442d18,
		0x433fffffffffffff, 0x41dfffffffc00000, 0x3810000000000000, 0x47f0000000000000,
		0x380fffffffffffff};
	uint64_t x = rnd(r), y = rnd(r);

	switch (x & 7) {
	case 0:
	case 1: return v[(x >> 8) % ARRAY_LEN(v)];
	case 2: return y;
	case 3: return (y & 0x80f0000000000000) | 0x3ff0000000000000;
	case 4: /* around the range of single precision */
		return (y & 0x800fffffffffffff) | (0x370ull + (x >> 8 & 0x1ff)) << 52;
	default: return (y & 0x800fffffffffffff) | (0x3f0ull + (x >> 8 & 0x1f)) << 52;
	}
}

static void extended_bits(struct rng *r, uint8_t out[16])
{
	uint64_t x = rnd(r), m = rnd(r);
	uint16_t e;

	switch (x & 15) {
	case 0:
		m = 0, e = 0; /* zero */
		break;
	case 1:
		m = 1ull << 63, e = 0x7fff; /* infinity */
		break;
	case 2:
		m |= 3ull << 62, e = 0x7fff; /* quiet NaN */
		break;
	case 3:
		m = (m | 1ull << 63) & ~(1ull << 62), e = 0x7fff; /* signalling NaN */
		break;
	case 4:
		m &= ~(1ull << 63), e = 0; /* denormal */
		break;
	case 5:
		e = (uint16_t)(x >> 16); /* anything, unnormals too */
		break;
	case 6:
		m |= 1ull << 63, e = 0; /* pseudo-denormal */
		break;
	case 7:
		m = 1ull << 63, e = 0x3fff; /* one */
		break;
	case 8: m = (m << 52) | 1ull << 63, e = (uint16_t)(0x3ff0 + (x >> 16 & 0x3f)); break;
	case 9: /* near the ends of double's and single's range */
		m |= 1ull << 63, e = (uint16_t)((x >> 8 & 1 ? 0x3c00 : 0x43fe) + (x >> 16 & 3));
		break;
	case 10: /* near the ends of its own */
		m |= 1ull << 63, e = (uint16_t)((x >> 8 & 1 ? 1 : 0x7ffa) + (x >> 16 & 3));
		break;
	default:
		m |= 1ull << 63,
			e = (uint16_t)(0x3ff0 + (x >> 16 & 0x1f) + (x >> 24 & 1 ? 0x10 : 0));
		break;
	}
	e |= (uint16_t)(x >> 40 & 1) << 15;
	memcpy(out, &m, 8);
	memcpy(out + 8, &e, 2);
	memset(out + 10, 0, 6);
}

static void xmm_bits(struct rng *r, uint8_t out[16])
{
	uint64_t q[2], x = rnd(r);
	uint32_t f[4];

	switch (x & 7) {
	case 0:
		q[0] = rnd(r);
		q[1] = rnd(r);
		memcpy(out, q, 16);
		break;
	case 1:
		q[0] = gen_value(r);
		q[1] = gen_value(r);
		memcpy(out, q, 16);
		break;
	case 2: /* text for PCMPxSTRx, with a zero somewhere */
		for (unsigned k = 0; k < 16; k++)
			out[k] = (uint8_t)('a' + (rnd(r) & 3));
		if (x & 8)
			out[x >> 8 & 15] = 0;
		break;
	case 3:
	case 4:
		for (unsigned k = 0; k < 4; k++)
			f[k] = float_bits(r);
		memcpy(out, f, 16);
		break;
	default:
		q[0] = double_bits(r);
		q[1] = double_bits(r);
		memcpy(out, q, 16);
		break;
	}
}

void gen_data(struct rng *r, uint8_t *data)
{
	for (size_t k = 0; k < DIFF_DATA_SIZE; k += 16) {
		uint8_t t[16];

		if (one_in(r, 6))
			extended_bits(r, t);
		else
			xmm_bits(r, t);
		memcpy(data + k, t, 16);
	}
}

void gen_fx(struct rng *r, struct diff_fx *f)
{
	uint64_t x = rnd(r);
	uint16_t flags = x & 1 ? 0 : (uint16_t)(x >> 8 & 0x3f);

	memset(f, 0, sizeof(*f));
	f->fcw = 0x37f;
	if ((x >> 16 & 3) == 0)
		f->fcw = (uint16_t)(0x7f | (x >> 18 & 0xf) << 8);
	if ((x >> 16 & 7) == 1)
		f->fcw = (uint16_t)(0x40 | (x >> 20 & 0x3f) | (x >> 26 & 0xf) << 8);
	/* A pending exception makes most instructions #MF: not too often. */
	if ((x >> 30 & 7) && (flags & ~f->fcw & 0x3f))
		flags &= f->fcw;
	f->fsw = (uint16_t)(flags | (x >> 33 & 0x7f40));
	if (!(flags & 1))
		f->fsw &= (uint16_t)~0x40;
	if (flags & ~f->fcw & 0x3f)
		f->fsw |= 0x8080;
	switch (x >> 50 & 3) {
	case 0: f->ftw = 0xff; break;
	case 1: f->ftw = (uint8_t)(x >> 52); break;
	default: { /* the first n registers of the stack in use */
		unsigned n = x >> 52 & 7, top = f->fsw >> 11 & 7;

		for (unsigned k = 0; k < n; k++)
			f->ftw |= (uint8_t)(1u << ((top + k) & 7));
		break;
	}
	}
	for (unsigned k = 0; k < 8; k++)
		extended_bits(r, f->st[k]);
	x = rnd(r);
	f->mxcsr = 0x1f80 | (x & 0x3f);
	if ((x >> 6 & 7) == 0)
		f->mxcsr = 0x1f80 | (x >> 9 & 0xe07f);
	if ((x >> 6 & 7) == 1)
		f->mxcsr = x >> 9 & 0xffff;
	for (unsigned k = 0; k < 16; k++)
		xmm_bits(r, f->xmm[k]);
}
