/* SPDX-License-Identifier: MIT */
/*
 * cpu-diff-blocks: random blocks of up to eight of cpu-diff's instructions, run by the interpreter one at a time and by the
 * translator as a block. What the interpreter makes of single instructions cpu-diff compares with the processor; here
 * everything a program can see must be the same, also after a fault in the middle of a block. Every third block is a loop.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/cpu/diff/diff.h"
#include "vmm/cpu/soft/jit/jit.h"

enum { MAX_INSNS = 8, MAX_LEN = MAX_INSNS * 15 + 16, MAX_ROUNDS = 5 };

static uint64_t random_state;

static unsigned below(unsigned n)
{
	random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
	return (unsigned)(random_state >> 33) % n;
}

static bool is_prefix(uint8_t b)
{
	return (b & 0xf0) == 0x40 || b == 0x66 || b == 0x67 || b == 0xf0 || b == 0xf2 ||
	       b == 0xf3 || (b & 0xe7) == 0x26 || b == 0x64 || b == 0x65;
}

/* Appends an instruction; jumps go forward and out of the block, or in a loop to the next instruction. Those that go anywhere
 * are left out of loops. */
static unsigned append(uint8_t *code, unsigned at, const struct diff_case *c, bool loop)
{
	uint8_t *p = code + at;
	unsigned k = 0;

	memcpy(p, c->code, c->len);
	while (k < c->len && is_prefix(p[k]))
		k++;
	if (loop) {
		if ((p[k] & 0xf6) == 0xc2 || p[k] == 0xcf || p[k] == 0xff)
			return at;
		if ((p[k] & 0xf0) == 0x70 || (p[k] & 0xfc) == 0xe0 || p[k] == 0xeb)
			p[c->len - 1] = 0;
		else if (p[k] == 0xe8 || p[k] == 0xe9 ||
			 (p[k] == 0x0f && (p[k + 1] & 0xf0) == 0x80))
			memset(p + c->len - 4, 0, 4);
		return at + c->len;
	}
	if ((p[k] & 0xf0) == 0x70 || (p[k] & 0xfc) == 0xe0 || p[k] == 0xeb)
		p[c->len - 1] = 0x7f;
	else if (p[k] == 0xe8 || p[k] == 0xe9 || (p[k] == 0x0f && (p[k + 1] & 0xf0) == 0x80))
		memcpy(p + c->len - 4, &(uint32_t){0x80 + below(0x2000)}, 4);
	return at + c->len;
}

/* Ends the code: the way back, then an undefined instruction. */
static unsigned finish(uint8_t *code, unsigned at, bool loop)
{
	static const uint8_t count[] = {0x80, 0x2c, 0x25}; /* sub byte [disp32], 1 */

	if (loop) {
		memcpy(code + at, count, 3);
		memcpy(code + at + 3, &(uint32_t){DIFF_COUNTER}, 4);
		code[at + 7] = 1;
		code[at + 8] = 0x0f; /* jnz */
		code[at + 9] = 0x85;
		memcpy(code + at + 10, &(int32_t){-(int32_t)(at + 14)}, 4);
		at += 14;
	}
	code[at] = 0x0f;
	code[at + 1] = 0x0b;
	return at + 2;
}

static const char *differs(const struct diff_result *a, const struct diff_result *b, uint32_t undef)
{
	if (a->vector != b->vector)
		return "exception";
	if (a->error != b->error || a->cr2 != b->cr2)
		return "error code or CR2";
	if (a->rip != b->rip)
		return "RIP";
	if ((a->rflags ^ b->rflags) & ~undef)
		return "flags";
	if (memcmp(a->gpr, b->gpr, sizeof(a->gpr)))
		return "registers";
	if (memcmp(&a->fx, &b->fx, sizeof(a->fx)))
		return "FP state";
	if (a->nwords != b->nwords || memcmp(a->word, b->word, a->nwords * sizeof(a->word[0])))
		return "memory";
	return NULL;
}

static void report(uint64_t n, const char *what, const struct diff_case *k, const uint8_t *code,
	unsigned len, const struct diff_result *a, const struct diff_result *b)
{
	printf("block %lu: %s differs:", (unsigned long)n, what);
	for (unsigned i = 0; i < len; i++)
		printf(" %02x", code[i]);
	printf("\n  interpreter: vector %#x rip %lx flags %lx\n  translator:  vector %#x rip %lx flags %lx\n",
		a->vector, (unsigned long)a->rip, (unsigned long)a->rflags, b->vector,
		(unsigned long)b->rip, (unsigned long)b->rflags);
	for (unsigned i = 0; i < 16; i++)
		if (a->gpr[i] != b->gpr[i])
			printf("  r%u was %lx: %lx and %lx\n", i, (unsigned long)k->gpr[i],
				(unsigned long)a->gpr[i], (unsigned long)b->gpr[i]);
}

int main(int argc, char **argv)
{
	static struct diff_batch batch;
	static struct diff_result a, b;
	uint64_t count = argc > 1 ? strtoull(argv[1], NULL, 0) : 1000000;
	uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
	uint64_t insns = 0, faults = 0, bad = 0;
	struct diff_engine *interp, *jit;

	if (diff_engine_new(&interp))
		return 2;
	soft_jit_configure(JIT_ON, 1);
	if (diff_engine_new(&jit))
		return 2;
	random_state = seed;
	for (uint64_t n = 0; insns < count && bad < 5; n++) {
		uint8_t code[MAX_LEN];
		bool loop = n % 3 == 2;
		unsigned len = 0, k = 1 + below(MAX_INSNS),
			 rounds = loop ? 1 + below(MAX_ROUNDS) : 0;
		const struct diff_case *regs;
		const char *what;
		uint32_t undef;

		if (n % 1024 == 0) {
			diff_generate(&batch, seed, n, DIFF_BATCH, 0x3f);
			diff_engine_load(interp, &batch);
			diff_engine_load(jit, &batch);
		}
		regs = &batch.c[below(DIFF_BATCH)];
		undef = regs->undef;
		len = append(code, len, regs, loop);
		for (unsigned m = 1; m < k; m++) {
			const struct diff_case *c = &batch.c[below(DIFF_BATCH)];

			len = append(code, len, c, loop);
			undef |= c->undef;
		}
		len = finish(code, len, loop);
		diff_engine_block(interp, &batch, regs, code, len, false, rounds, &a);
		/* An instruction of the loop writes to the counter. */
		if (a.vector == DIFF_HUNG) {
			diff_engine_load(interp, &batch);
			diff_engine_load(jit, &batch);
			continue;
		}
		diff_engine_block(jit, &batch, regs, code, len, true, rounds, &b);
		if (a.nwords == DIFF_MAX_WORDS || b.nwords == DIFF_MAX_WORDS) {
			diff_engine_load(interp, &batch);
			diff_engine_load(jit, &batch);
		}
		insns += k;
		faults += a.vector != DIFF_NO_VECTOR;
		what = differs(&a, &b, undef);
		if (what) {
			bad++;
			report(n, what, regs, code, len, &a, &b);
		}
	}
	printf("# %lu instructions, %lu blocks raised, %lu mismatches\n", (unsigned long)insns,
		(unsigned long)faults, (unsigned long)bad);
	diff_engine_free(interp);
	diff_engine_free(jit);
	return bad != 0;
}
