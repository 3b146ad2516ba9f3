/* SPDX-License-Identifier: MIT */
/*
 * A decoded instruction as the interpreter executes it: a handler and its operands, 32 bytes.
 * Arrays of these make up a block; a handler ends with NEXT(c, i), or with one of the block-ending
 * macros of exec.h. The binder (bind.h) makes them from struct dec.
 */
#ifndef WSLX_SOFT_INSN_H
#define WSLX_SOFT_INSN_H

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>

struct soft_vcpu;
struct insn;
struct block;

/* Executes *i; returns the next instruction to execute, or NULL to go back to the run loop (rip
 * set). */
typedef const struct insn *(*insn_fn)(struct soft_vcpu *c, const struct insn *i);

/*
 * An SSE/MMX/x87/fxsave instruction keeps its encoding, so that a thunk can re-emit it with other
 * operands. modrm's register fields are completed by rex (R = 4, B = 1); a memory operand's EA is
 * in the insn, see soft_ea().
 */
struct insn_raw {
	uint8_t map;   /* enum dec_map */
	uint8_t op;    /* opcode; x87: d8-df with MAP_1 */
	uint8_t pfx;   /* 0, 0x66, 0xf3, 0xf2 */
	uint8_t rex;   /* 0 or 0x40-0x4f */
	uint8_t modrm; /* raw */
	uint8_t imm8;  /* 0 when none */
	uint16_t user; /* the binder's own (a thunk's number) */
};

struct insn {
	insn_fn fn;
	union {
		int64_t imm;
		const struct block
			*link; /* direct branches: where the target block was last found */
		struct insn_raw raw;
	};
	int32_t disp; /* memory: displacement (RIP-relative: from the page of the block); branches:
			 target, see exec.h */
	uint16_t off; /* of the first byte, from c->ip_base (0..4095) */
	uint8_t len;
	uint8_t size; /* operand size in bytes: 1, 2, 4, 8 (10, 16 .. for the binder's own use) */
	uint8_t r;  /* register operand (modrm.reg): byte offset in struct soft_vcpu, so that AH is
		       RAX + 1 */
	uint8_t rm; /* register operand (modrm.rm when mod == 3): the same */
	uint8_t base, index; /* EA parts: byte offsets in struct soft_vcpu of 64-bit slots;
				SLOT_ZERO when absent */
	uint8_t scale;
	uint8_t ea; /* EA_* below; 0: plain 64-bit base + index << scale + disp, no segment base */
	uint8_t flags; /* INSN_* */
	uint8_t aux;   /* a handler's own: condition code, shift count, ... */
};
static_assert(sizeof(struct insn) == 32, "four instructions in two cache lines");

enum {
	EA_SEG = 0x07, /* SEG_*: whose base to add when EA_ADDSEG is set, and which fault (#SS for
			  SS) */
	EA_ADDSEG = 0x08,
	EA_A32 = 0x10,	  /* truncate the offset to 32 bits */
	EA_A16 = 0x20,	  /* to 16 bits */
	EA_LEGACY = 0x40, /* not 64-bit mode: check the segment, wrap the linear address at 4 GiB */
	EA_DISP_BIG = 0x80, /* disp does not fit: add 4 GiB to it */
	EA_SLOW = EA_ADDSEG | EA_A32 | EA_A16 | EA_LEGACY | EA_DISP_BIG,
};

enum {
	INSN_MEM = 0x01, /* has a memory operand (mod != 3) */
	INSN_LOCK = 0x02,
	INSN_REP = 0x04,   /* F3 */
	INSN_REPNE = 0x08, /* F2 */
	INSN_REXW = 0x10,
	INSN_P66 = 0x20,
	INSN_STACK = 0x40, /* its implicit accesses are to the stack */
	INSN_END = 0x80,   /* ends its block */
};

#endif
