/* SPDX-License-Identifier: MIT */
/* An encoder of the x86-64 instructions that translated code is made of. */
#ifndef WSLX_SOFT_JIT_EMIT_H
#define WSLX_SOFT_JIT_EMIT_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, NO_REG = 0xff };

struct emit {
	uint8_t *p, *end;
	bool full; /* nothing more is written */
};

/* An address: base + index << scale + disp; index may be NO_REG, base may be (the disp alone is meant then). */
struct maddr {
	uint8_t base, index, scale;
	int32_t disp;
};
#define AT(reg, off) ((struct maddr){(reg), NO_REG, 0, (off)})

/* A register or a memory operand. */
struct opnd {
	bool mem;
	uint8_t reg;
	struct maddr m;
};

static inline void e_bytes(struct emit *e, const void *b, unsigned n)
{
	if (e->full || (size_t)(e->end - e->p) < n) {
		e->full = true;
		return;
	}
	memcpy(e->p, b, n);
	e->p += n;
}
static inline void e_u8(struct emit *e, unsigned v)
{
	e_bytes(e, &(uint8_t){(uint8_t)v}, 1);
}
static inline void e_u32(struct emit *e, uint32_t v)
{
	e_bytes(e, &v, 4);
}
static inline void e_u64(struct emit *e, uint64_t v)
{
	e_bytes(e, &v, 8);
}

/*
 * Prefixes and opcode; op: NN, 0fNN, 0f38NN or 0f3aNN, with a mandatory prefix 66, f3 or f2 in bits 24-31. Byte registers
 * are the low ones.
 */
static inline void e_op(
	struct emit *e, unsigned size, unsigned op, unsigned r, unsigned x, unsigned b)
{
	unsigned rex =
		0x40u | (size == 8 ? 8 : 0) | (r >> 3 & 1) << 2 | (x >> 3 & 1) << 1 | (b >> 3 & 1);

	if (size == 2)
		e_u8(e, 0x66);
	if (op >> 24)
		e_u8(e, op >> 24);
	if (rex != 0x40 || size == 1)
		e_u8(e, rex);
	if (op >> 16 & 0xff)
		e_u8(e, op >> 16);
	if (op >> 8 & 0xffff)
		e_u8(e, op >> 8);
	e_u8(e, op);
}

static inline void e_rr(struct emit *e, unsigned size, unsigned op, unsigned reg, unsigned rm)
{
	e_op(e, size, op, reg, 0, rm);
	e_u8(e, 0xc0 | (reg & 7) << 3 | (rm & 7));
}

static inline void e_rm(struct emit *e, unsigned size, unsigned op, unsigned reg, struct maddr m)
{
	bool none = m.base == NO_REG, small = !none && m.disp == (int8_t)m.disp;
	bool zero = !none && !m.disp && (m.base & 7) != RBP;
	unsigned mod = none || zero ? 0 : small ? 1 : 2, b = none ? 5 : m.base;

	e_op(e, size, op, reg, m.index == NO_REG ? 0 : m.index, none ? 0 : b);
	if (m.index != NO_REG || none || (b & 7) == RSP) {
		e_u8(e, mod << 6 | (reg & 7) << 3 | 4);
		e_u8(e, (unsigned)m.scale << 6 | (m.index == NO_REG ? 4 : m.index & 7) << 3 |
				(b & 7));
	} else {
		e_u8(e, mod << 6 | (reg & 7) << 3 | (b & 7));
	}
	if (zero)
		return;
	if (small)
		e_u8(e, (uint8_t)m.disp);
	else
		e_u32(e, (uint32_t)m.disp);
}

static inline void e_x(struct emit *e, unsigned size, unsigned op, unsigned reg, struct opnd o)
{
	if (o.mem)
		e_rm(e, size, op, reg, o.m);
	else
		e_rr(e, size, op, reg, o.reg);
}

/* RIP-relative; the displacement is filled in later: returns where it is. No immediate may follow. */
static inline uint8_t *e_rip(struct emit *e, unsigned size, unsigned op, unsigned reg)
{
	e_op(e, size, op, reg, 0, 0);
	e_u8(e, (reg & 7) << 3 | 5);
	e_u32(e, 0);
	return e->p - 4;
}

/* RORX (BMI2) of 32-bit registers: changes no flags. */
static inline void e_rorx(struct emit *e, unsigned to, unsigned from, unsigned n)
{
	e_u8(e, 0xc4);
	e_u8(e, (~to >> 3 & 1) << 7 | 0x40 | (~from >> 3 & 1) << 5 | 3);
	e_u8(e, 0x7b);
	e_u8(e, 0xf0);
	e_u8(e, 0xc0 | (to & 7) << 3 | (from & 7));
	e_u8(e, n);
}

/* An immediate of an instruction of that size: at most 32 bits. */
static inline void e_imm(struct emit *e, unsigned size, int64_t v)
{
	if (size == 1)
		e_u8(e, (uint8_t)v);
	else if (size == 2)
		e_bytes(e, &(uint16_t){(uint16_t)v}, 2);
	else
		e_u32(e, (uint32_t)v);
}

static inline void e_mov_imm(struct emit *e, unsigned reg, uint64_t v)
{
	if (v <= UINT32_MAX) {
		e_op(e, 4, 0xb8 | (reg & 7), 0, 0, reg);
		e_u32(e, (uint32_t)v);
	} else if ((int64_t)v == (int32_t)v) {
		e_rr(e, 8, 0xc7, 0, reg);
		e_u32(e, (uint32_t)v);
	} else {
		e_op(e, 8, 0xb8 | (reg & 7), 0, 0, reg);
		e_u64(e, v);
	}
}

/* Jumps whose 32-bit displacement is filled in later: return where it is. */
static inline uint8_t *e_jmp(struct emit *e)
{
	e_u8(e, 0xe9);
	e_u32(e, 0);
	return e->p - 4;
}
static inline uint8_t *e_call(struct emit *e)
{
	e_u8(e, 0xe8);
	e_u32(e, 0);
	return e->p - 4;
}
static inline uint8_t *e_jcc(struct emit *e, unsigned cc)
{
	e_u8(e, 0x0f);
	e_u8(e, 0x80 | cc);
	e_u32(e, 0);
	return e->p - 4;
}
static inline void e_jmp_reg(struct emit *e, unsigned reg)
{
	e_rr(e, 4, 0xff, 4, reg);
}
static inline void e_jmp_mem(struct emit *e, struct maddr m)
{
	e_rm(e, 4, 0xff, 4, m);
}
static inline void e_patch(uint8_t *at, const uint8_t *target)
{
	int32_t d = (int32_t)(target - (at + 4));

	memcpy(at, &d, 4);
}

#endif
