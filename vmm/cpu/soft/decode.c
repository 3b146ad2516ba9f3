/* SPDX-License-Identifier: MIT */
/* The x86 decoder (SDM vol. 2 ch. 2 and appendix A): a table of what follows each opcode, and the
 * prefix, ModRM and SIB rules. */
#include "vmm/cpu/soft/decode.h"
#include <string.h>

/* What follows an opcode, and how its operand size is found. */
enum {
	M = 1 << 0,	   /* ModRM */
	I8 = 1 << 1,	   /* imm8, sign-extended */
	IZ = 1 << 2,	   /* imm16/32 by operand size, sign-extended */
	IV = 1 << 3,	   /* imm16/32/64 by operand size */
	I16 = 1 << 4,	   /* imm16, zero-extended */
	OFS = 1 << 5,	   /* moffs, by address size */
	FAR = 1 << 6,	   /* ptr16:16/32 */
	D64 = 1 << 7,	   /* operand size defaults to 64 bits in 64-bit mode */
	F64 = 1 << 8,	   /* ... and cannot be changed */
	N64 = 1 << 9,	   /* #UD in 64-bit mode */
	UD = 1 << 10,	   /* no such opcode */
	G3 = 1 << 11,	   /* group 3: immediate only with /0 and /1 */
	PFX = 1 << 12,	   /* prefix or escape: never looked up */
	JZ = 1 << 13,	   /* rel16/32: as IZ, but 32 bits in 64-bit mode whatever the prefixes */
	REGONLY = 1 << 14, /* mod is taken to be 3 */
};
#define R4(x)  x, x, x, x
#define R8(x)  R4(x), R4(x)
#define R16(x) R8(x), R8(x)
#define ALU    M, M, M, M, I8, IZ

/* clang-format off */
static const uint16_t map1[256] = {
	/* 00 */ ALU, N64, N64, ALU, N64, PFX,
	/* 10 */ ALU, N64, N64, ALU, N64, N64,
	/* 20 */ ALU, PFX, N64, ALU, PFX, N64,
	/* 30 */ ALU, PFX, N64, ALU, PFX, N64,
	/* 40 */ R16(0),
	/* 50 */ R16(D64),
	/* 60 */ N64, N64, M | N64, M, PFX, PFX, PFX, PFX, IZ | D64, M | IZ, I8 | D64, M | I8, 0, 0, 0, 0,
	/* 70 */ R16(I8 | F64),
	/* 80 */ M | I8, M | IZ, M | I8 | N64, M | I8, R8(M), M, M, M, M | D64,
	/* 90 */ R8(0), 0, 0, FAR | N64, 0, D64, D64, 0, 0,
	/* a0 */ R4(OFS), 0, 0, 0, 0, I8, IZ, 0, 0, 0, 0, 0, 0,
	/* b0 */ R8(I8), R8(IV),
	/* c0 */ M | I8, M | I8, I16 | F64, F64, M | N64, M | N64, M | I8, M | IZ,
	/* c8 */ I16 | I8 | D64, D64, I16, 0, 0, I8, N64, 0,
	/* d0 */ R4(M), I8 | N64, I8 | N64, N64, 0, R8(M),
	/* e0 */ R4(I8 | F64), I8, I8, I8, I8, JZ | F64, JZ | F64, FAR | N64, I8 | F64, 0, 0, 0, 0,
	/* f0 */ PFX, 0, PFX, PFX, 0, 0, M | I8 | G3, M | IZ | G3, 0, 0, 0, 0, 0, 0, M, M,
};

static const uint16_t map0f[256] = {
	/* 00 */ M, M, M, M, UD, 0, 0, 0, 0, 0, UD, 0, UD, M, UD, UD,
	/* 10 */ R16(M),
	/* 20 */ R4(M | REGONLY), R4(UD), R8(M),
	/* 30 */ 0, 0, 0, 0, 0, 0, UD, UD, PFX, UD, PFX, UD, R4(UD),
	/* 40 */ R16(M),
	/* 50 */ R16(M),
	/* 60 */ R16(M),
	/* 70 */ M | I8, M | I8, M | I8, M | I8, M, M, M, 0, UD, UD, UD, UD, M, M, M, M,
	/* 80 */ R16(JZ | F64),
	/* 90 */ R16(M),
	/* a0 */ D64, D64, 0, M, M | I8, M, UD, UD, D64, D64, 0, M, M | I8, M, M, M,
	/* b0 */ R8(M), M, M, M | I8, M, M, M, M, M,
	/* c0 */ M, M, M | I8, M, M | I8, M | I8, M | I8, M, R8(0),
	/* d0 */ R16(M),
	/* e0 */ R16(M),
	/* f0 */ R16(M),
};
/* clang-format on */

struct cursor {
	const uint8_t *p;
	size_t at, avail;
	int bad;
};

static uint64_t take(struct cursor *k, unsigned n)
{
	uint64_t v = 0;

	/* What a byte that is not there would ask for says nothing. */
	if (k->bad)
		return 0;
	if (k->at + n > DEC_MAX_LEN) {
		k->bad = DEC_LONG;
		return 0;
	}
	if (k->at + n > k->avail) {
		k->bad = DEC_MORE;
		return 0;
	}
	memcpy(&v, k->p + k->at, n);
	k->at += n;
	return v;
}

static int64_t take_signed(struct cursor *k, unsigned n)
{
	uint64_t v = take(k, n);

	return n == 8 ? (int64_t)v : (int64_t)(v << (64 - 8 * n)) >> (64 - 8 * n);
}

static void decode_ea16(struct dec *d, struct cursor *k)
{
	static const uint8_t bases[8] = {3, 3, 5, 5, 6, 7, 5, 3};
	static const uint8_t indexes[4] = {6, 7, 6, 7};
	unsigned rm = d->modrm & 7;

	d->base = bases[rm];
	d->index = rm < 4 ? indexes[rm] : DEC_REG_NONE;
	if (d->mod == 0 && rm == 6) {
		d->base = DEC_REG_NONE;
		d->disp = take_signed(k, 2);
	} else if (d->mod == 1) {
		d->disp = take_signed(k, 1);
	} else if (d->mod == 2) {
		d->disp = take_signed(k, 2);
	}
	if (!d->seg_override && d->base == 5)
		d->seg = SEG_SS;
}

static void decode_ea(struct dec *d, struct cursor *k)
{
	unsigned rm = d->modrm & 7;

	d->mem = true;
	if (d->addrsize == 2) {
		decode_ea16(d, k);
		return;
	}
	d->index = DEC_REG_NONE;
	if (rm == 4) {
		unsigned sib = (unsigned)take(k, 1);

		d->scale = (uint8_t)(sib >> 6);
		d->index = (uint8_t)((sib >> 3 & 7) | (d->rex & 2) << 2);
		if (d->index == 4)
			d->index = DEC_REG_NONE;
		d->base = (uint8_t)((sib & 7) | (d->rex & 1) << 3);
		if ((sib & 7) == 5 && d->mod == 0)
			d->base = DEC_REG_NONE;
	} else {
		d->base = (uint8_t)(rm | (d->rex & 1) << 3);
		if (rm == 5 && d->mod == 0)
			d->base = d->mode == MODE_64 ? DEC_REG_IP : DEC_REG_NONE;
	}
	if (d->mod == 1)
		d->disp = take_signed(k, 1);
	else if (d->mod == 2 || (d->mod == 0 && d->base >= DEC_REG_NONE))
		d->disp = take_signed(k, 4);
	if (!d->seg_override && (d->base == 4 || d->base == 5))
		d->seg = SEG_SS;
}

/* Prefixes; returns the opcode byte (in map 1, or the 0F escape). */
static unsigned decode_prefixes(struct dec *d, struct cursor *k)
{
	for (;;) {
		unsigned b = (unsigned)take(k, 1);

		if (k->bad)
			return 0;
		switch (b) {
		case 0x26:
		case 0x2e:
		case 0x36:
		case 0x3e:
			/* Ignored in 64-bit mode, where they also do not undo an FS or GS override.
			 */
			if (d->mode != MODE_64) {
				d->seg = (uint8_t)(b >> 3 & 3);
				d->seg_override = true;
			}
			break;
		case 0x64:
		case 0x65:
			d->seg = b == 0x64 ? SEG_FS : SEG_GS;
			d->seg_override = true;
			break;
		case 0x66: d->p66 = true; break;
		case 0x67: d->p67 = true; break;
		case 0xf0: d->lock = true; break;
		case 0xf2:
		case 0xf3: d->rep = (uint8_t)b; break;
		default:
			if (d->mode == MODE_64 && (b & 0xf0) == 0x40) {
				d->rex = (uint8_t)b;
				continue;
			}
			return b;
		}
		d->rex = 0; /* counts only right before the opcode */
	}
}

static void find_sizes(struct dec *d, unsigned f)
{
	if (d->mode == MODE_64) {
		d->opsize = (d->rex & 8) ? 8 : d->p66 ? 2 : 4;
		if ((f & F64) || ((f & D64) && !d->p66))
			d->opsize = 8;
		d->addrsize = d->p67 ? 4 : 8;
	} else {
		d->opsize = (d->mode == MODE_32) != d->p66 ? 4 : 2;
		d->addrsize = (d->mode == MODE_32) != d->p67 ? 4 : 2;
	}
}

static void decode_imm(struct dec *d, struct cursor *k, unsigned f)
{
	unsigned z = d->opsize == 2 ? 2 : 4;
	size_t start = k->at;

	if ((f & G3) && (d->reg & 7) > 1)
		return;
	if (f & OFS) {
		d->mem = true;
		d->base = d->index = DEC_REG_NONE;
		d->disp = d->addrsize == 8 ? take_signed(k, 8) : (int64_t)take(k, d->addrsize);
		return;
	}
	if (f & FAR) {
		d->imm = (int64_t)take(k, z);
		d->imm2 = (uint16_t)take(k, 2);
	} else if (f & I16) {
		d->imm = (int64_t)take(k, 2);
		if (f & I8)
			d->imm2 = (uint8_t)take(k, 1);
	} else if (f & I8) {
		d->imm = take_signed(k, 1);
	} else if (f & IZ) {
		d->imm = take_signed(k, z);
	} else if (f & IV) {
		d->imm = take_signed(k, d->opsize);
	} else if (f & JZ) {
		d->imm = take_signed(k, d->mode == MODE_64 ? 4 : z);
	}
	d->imm_size = (uint8_t)(k->at - start);
}

static unsigned find_opcode(struct dec *d, struct cursor *k)
{
	unsigned b = decode_prefixes(d, k);

	if (k->bad)
		return UD;
	if (b == 0x0f) {
		b = (unsigned)take(k, 1);
		d->map = MAP_0F;
		if (b == 0x38 || b == 0x3a) {
			d->map = b == 0x38 ? MAP_0F38 : MAP_0F3A;
			b = (unsigned)take(k, 1);
		}
	}
	d->op = (uint8_t)b;
	switch (d->map) {
	case MAP_1: return map1[b];
	case MAP_0F: return map0f[b];
	case MAP_0F38: return M;
	default: return M | I8;
	}
}

int soft_decode(struct dec *d, const uint8_t *bytes, size_t avail, enum soft_mode mode)
{
	struct cursor k = {.p = bytes, .avail = avail};
	unsigned f;

	*d = (struct dec){.mode = (uint8_t)mode, .seg = SEG_DS};
	f = find_opcode(d, &k);
	if (k.bad)
		return k.bad;
	d->pfx = d->rep ? d->rep : d->p66 ? 0x66 : 0;
	/* LES, LDS and BOUND have no register form; VEX and EVEX took that space. */
	if (d->map == MAP_1 && (d->op == 0xc4 || d->op == 0xc5 || d->op == 0x62) &&
		mode != MODE_64) {
		uint64_t next = take(&k, 1);

		if (k.bad)
			return k.bad;
		if (next >= 0xc0)
			f |= UD;
		k.at--;
	}
	if ((f & (UD | PFX)) || ((f & N64) && mode == MODE_64)) {
		d->len = (uint8_t)k.at;
		return DEC_UD;
	}
	find_sizes(d, f);
	if (f & M) {
		d->modrm = (uint8_t)take(&k, 1);
		d->has_modrm = true;
		d->mod = f & REGONLY ? 3 : d->modrm >> 6;
		d->reg = (uint8_t)((d->modrm >> 3 & 7) | (d->rex & 4) << 1);
		d->rm = (uint8_t)((d->modrm & 7) | (d->rex & 1) << 3);
		/* Near indirect branches and pushes default to 64 bits; far ones do not. */
		if (mode == MODE_64 && d->map == MAP_1 && d->op == 0xff) {
			unsigned r = d->reg & 7;

			if (r == 2 || r == 4)
				d->opsize = 8;
			else if (r == 6)
				d->opsize = d->p66 && !(d->rex & 8) ? 2 : 8;
		}
		if (d->mod != 3)
			decode_ea(d, &k);
	}
	decode_imm(d, &k, f);
	if (k.bad)
		return k.bad;
	d->len = (uint8_t)k.at;
	return d->len;
}
