/* SPDX-License-Identifier: MIT */
/*
 * cpu-diff: the differential test of the software CPU. Random instructions with random registers, flags and memory run
 * natively in a child process and in the interpreter; everything a program can see must come out the same.
 *
 * One case is one instruction in a slot of a code region, at the same virtual address on both sides. A batch of cases is
 * written to shared memory, run by the child without a system call in between (faults are caught by signal handlers),
 * and compared by the parent. A case depends on the seed and its number only.
 */
#ifndef WSLX_TESTS_CPU_DIFF_H
#define WSLX_TESTS_CPU_DIFF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "lib/base/attr.h"

enum {
	DIFF_BATCH = 512, /* cases in a batch */
	DIFF_SLOT = 128,  /* bytes of code region a case */
	DIFF_INSN_OFF =
		48, /* where in its slot the instruction starts, if it does not straddle the page's end */

	DIFF_CODE = 0x10000000, /* a batch's slots; executable */
	DIFF_CODE_SIZE = DIFF_BATCH * DIFF_SLOT,
	DIFF_RW =
		0x10101000, /* two writable pages, then a read-only one; unmapped pages on both sides */
	DIFF_RW_SIZE = 0x2000,
	DIFF_RO = DIFF_RW + DIFF_RW_SIZE,
	DIFF_RO_SIZE = 0x1000,
	DIFF_DATA_SIZE = DIFF_RW_SIZE + DIFF_RO_SIZE,
	DIFF_COUNTER = DIFF_RW + 0x7f8,
	DIFF_VECTOR_CELL = 0x70000000, /* native side only: holds the address to leave a slot to */
	DIFF_GS_BASE = DIFF_RW + 0x800,

	DIFF_MAX_WORDS = 160, /* changed 64-bit words of memory recorded */
	DIFF_NO_VECTOR = 0xff,
	DIFF_HUNG = 0xfe,
};

enum diff_class {
	DIFF_INT,    /* one-byte opcodes */
	DIFF_INT2,   /* two- and three-byte integer opcodes */
	DIFF_STRING, /* with and without REP */
	DIFF_SSE,
	DIFF_MMX,
	DIFF_X87,
	DIFF_CLASSES
};

enum { /* after a fault */
	DIFF_LOOSE_MEMORY = 1,
	DIFF_LOOSE_CR2 = 2, /* which of several pages faulted */
	DIFF_LOOSE_X87 = 4,
	DIFF_LOOSE_FLAGS = 8,
	DIFF_LOOSE_FIP = 16,   /* always */
	DIFF_LOOSE_UPPER = 32, /* upper halves of rCX, rSI, rDI */
	DIFF_LOOSE_MXCSR = 64,
	/* Always, on AMD's processors: */
	DIFF_AMD_ORDER = 128, /* another exception comes first; SHA asks for no alignment */
	DIFF_AMD_IMAGE = 256, /* another MXCSR mask, no pointers without a pending exception */
};

extern const char *const diff_class_names[DIFF_CLASSES];

/* FXSAVE image, SDM vol. 1 §10.5.1. */
struct diff_fx {
	uint16_t fcw, fsw;
	uint8_t ftw, rsvd;
	uint16_t fop;
	uint64_t fip, fdp;
	uint32_t mxcsr, mxcsr_mask;
	uint8_t st[8][16];
	uint8_t xmm[16][16];
	uint8_t pad[96];
} ALIGNED(64);
_Static_assert(sizeof(struct diff_fx) == 512, "the processor's layout");

struct diff_case {
	struct diff_fx fx;
	uint64_t gpr[16];
	uint64_t rflags, rip;
	uint8_t code[16];
	uint8_t len;
	uint8_t class;	/* enum diff_class */
	bool expect_ud; /* valid on this host, but no instruction of the guest's CPU */
	uint32_t undef; /* RFLAGS bits that are undefined afterwards */
	uint32_t loose; /* DIFF_LOOSE_*: what need not be the same */
};

struct diff_word {
	uint32_t off; /* from DIFF_RW */
	uint32_t pad;
	uint64_t val;
};

struct diff_result {
	struct diff_fx fx;
	uint64_t gpr[16];
	uint64_t rflags, rip;
	uint64_t cr2;
	uint32_t vector, error;
	uint32_t nwords;
	struct diff_word word[DIFF_MAX_WORDS];
};

/* Shared between parent and child; the code region and the data's first contents are mapped on their own. */
struct diff_batch {
	uint8_t code[DIFF_CODE_SIZE]; /* first: whole pages, mapped executable by the child */
	uint8_t data[DIFF_DATA_SIZE];
	uint32_t n;
	struct diff_case c[DIFF_BATCH];
	struct diff_result r[DIFF_BATCH];
};

/* gen.c: fills the batch with the cases [first, first + n) of seed. classes: bit mask of 1 << enum diff_class. */
void diff_generate(
	struct diff_batch *b, uint64_t seed, uint64_t first, unsigned n, unsigned classes);
/* Text of a case's instruction. */
void diff_disassemble(const struct diff_case *c, char *buf, size_t len);

/* native.c: a child that runs batches. Two batches, so that one runs while the other is prepared or compared. */
struct diff_native;
int diff_native_new(struct diff_native **ret);
void diff_native_free(struct diff_native *n);
struct diff_batch *diff_native_batch(struct diff_native *n, unsigned i);
int diff_native_start(struct diff_native *n, unsigned i);
/* 0, or -ECHILD when the child died (and cannot go on). */
int diff_native_wait(struct diff_native *n, unsigned i);

/* Appends the words that differ between now and was to r->word[]; base: offset of both from DIFF_RW. */
void diff_collect(
	struct diff_result *r, const uint8_t *now, const uint8_t *was, uint32_t base, uint32_t len);

/* engine.c: the interpreter's side. */
struct diff_engine;
int diff_engine_new(struct diff_engine **ret);
void diff_engine_free(struct diff_engine *e);
/* Loads the batch's code and memory, then runs single cases. */
void diff_engine_load(struct diff_engine *e, const struct diff_batch *b);
/*
 * Runs len bytes of code with the case's registers, one instruction at a time or in whole blocks. rounds: how often it goes
 * through a loop, counted down in the byte at DIFF_COUNTER; 0: a jump backwards is the end.
 */
void diff_engine_block(struct diff_engine *e, const struct diff_batch *b, const struct diff_case *k,
	const uint8_t *code, unsigned len, bool whole, unsigned rounds, struct diff_result *r);
void diff_engine_run(
	struct diff_engine *e, const struct diff_batch *b, unsigned i, struct diff_result *r);

#endif
