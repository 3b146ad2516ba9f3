/* SPDX-License-Identifier: MIT */
/*
 * The x86 decoder: bytes -> struct dec (SDM vol. 2 ch. 2). Pure: no CPU state but the operating
 * mode, no memory but the bytes given. It finds the length and the operand form of every
 * legacy-encoded instruction; whether the instruction exists, and what it does, is the binder's
 * business (bind.h). VEX/EVEX/XOP encodings are not decoded: #UD.
 */
#ifndef WSLX_SOFT_DECODE_H
#define WSLX_SOFT_DECODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum soft_mode { MODE_16, MODE_32, MODE_64 }; /* the code segment's: D = 0, D = 1, L = 1 */

enum dec_map { MAP_1, MAP_0F, MAP_0F38, MAP_0F3A };

enum { DEC_MAX_LEN = 15 };

enum { SEG_ES, SEG_CS, SEG_SS, SEG_DS, SEG_FS, SEG_GS, SEG_LDTR, SEG_TR, SEG_COUNT };

/* Register numbers of EA parts beyond the 16 GPRs. */
enum { DEC_REG_NONE = 16, DEC_REG_IP = 17 };

struct dec {
	uint8_t len;
	uint8_t map; /* enum dec_map */
	uint8_t op;  /* opcode byte in its map */
	uint8_t rep; /* last of F2/F3, or 0 */
	bool p66;    /* operand-size prefix seen */
	bool p67;
	bool lock;
	uint8_t rex; /* 0x40-0x4f, or 0 */
	/* Mandatory prefix of an SSE opcode: 0, 0x66, 0xf3 or 0xf2 (F3/F2 win over 66). */
	uint8_t pfx;

	uint8_t opsize; /* effective, in bytes: 2, 4, 8; 8 too for the 64-bit-by-default ones (push,
			   near jumps) */
	uint8_t addrsize; /* 2, 4, 8 */

	bool has_modrm;
	uint8_t modrm; /* raw byte */
	uint8_t mod, reg,
		rm; /* reg and rm with REX.R, REX.B applied; rm meaningful when mod == 3 */

	/* Memory operand (has_modrm && mod != 3, or a moffs). EA = base + index << scale + disp,
	 * then segment base. */
	bool mem;
	uint8_t base, index; /* 0-15, DEC_REG_NONE, DEC_REG_IP (base only) */
	uint8_t scale;	     /* 0-3 */
	int64_t disp; /* sign-extended; RIP-relative: as encoded (from the end of the instruction)
		       */
	uint8_t seg;  /* effective segment: override, or SS for rSP/rBP bases, else DS */
	bool seg_override;

	uint8_t imm_size; /* bytes of immediate (both together), 0 when none */
	int64_t imm;	  /* sign-extended from its size */
	uint16_t imm2;	  /* second immediate: enter's level, far pointer's selector */
	uint8_t mode;
};

/* Reasons for a negative return. */
enum {
	DEC_MORE = -1, /* the bytes given end inside the instruction */
	DEC_UD = -2, /* no such encoding (unknown opcode, VEX/EVEX); d->len bytes were looked at */
	DEC_LONG = -3, /* more than 15 bytes: #GP */
};

/* Length in bytes, or one of the above. avail: at most 15 are looked at. */
int soft_decode(struct dec *d, const uint8_t *bytes, size_t avail, enum soft_mode mode);

#endif
