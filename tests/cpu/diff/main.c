/* SPDX-License-Identifier: MIT */
/*
 * cpu-diff [--seed N] [--count N] [--class a,b] [--only CASE] [--twice] [--stop N]
 *
 * Runs count random instructions natively and in the interpreter and compares. The same seed gives the same cases; --only
 * repeats one of them and prints it whole. --twice compares the native side with itself, which shows whether the
 * harness is sound on this machine. Exit status 0: no difference; 1: some; 2: could not run.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <Zydis/Zydis.h>
#include "tests/cpu/diff/diff.h"
#include "vmm/cpu/soft/host-cpu.h"

enum {
	FLAGS = 0x244cd5, /* what an instruction in user mode can change, but IF */
	FSW_ES = 0x80,
};

struct opts {
	uint64_t seed, count, only;
	unsigned classes, stop;
	bool one, twice;
};

struct totals {
	uint64_t cases[DIFF_CLASSES], faults[DIFF_CLASSES], bad;
};

static const char *const gpr_name[16] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
	"r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"};

/* Branches end at their target: a trap on the padding or a missing page there says where. */
static void normalize(const struct diff_case *c, struct diff_result *r)
{
	bool at_target = r->rip != c->rip && r->vector == 14 && r->cr2 == r->rip;
	bool on_pad = r->vector == 3 && r->rip != c->rip + 1;

	if (on_pad)
		r->rip--;
	if (at_target || on_pad) {
		r->vector = DIFF_NO_VECTOR;
		r->error = 0;
	}
	if (r->vector != 14)
		r->cr2 = 0;
}

static bool word_equal(const struct diff_result *a, const struct diff_result *b)
{
	if (a->nwords != b->nwords)
		return false;
	for (uint32_t k = 0; k < a->nwords; k++)
		if (a->word[k].off != b->word[k].off || a->word[k].val != b->word[k].val)
			return false;
	return true;
}

/*
 * AMD's processors save FOP, FIP and FDP only beside a pending exception, and zeroes otherwise (APM vol. 2 §11.4.4); the
 * guest's do always, as Intel's.
 */
static bool pointers_lost(const struct diff_result *native)
{
	return !soft_cpuid_intel() && !(native->fx.fsw & FSW_ES);
}

/* AMD: a store of what raises an exception to where none may go; an operand that is not aligned. */
static bool other_order(
	const struct diff_case *c, const struct diff_result *native, const struct diff_result *mine)
{
	if (soft_cpuid_intel() || !(c->loose & DIFF_AMD_ORDER))
		return false;
	if (c->class == DIFF_X87)
		return native->vector >= 12 && native->vector <= 14 &&
		       mine->vector == DIFF_NO_VECTOR && mine->fx.fsw & FSW_ES;
	return c->class == DIFF_SSE && mine->vector == 13 && native->vector != 13;
}

/* NULL, or the name of the first thing that differs. */
static const char *differs(
	const struct diff_case *c, const struct diff_result *a, const struct diff_result *b)
{
	bool faulted = a->vector != DIFF_NO_VECTOR;
	unsigned loose = faulted ? c->loose : c->loose & DIFF_LOOSE_FIP;
	/* A fault leaves the flags alone, defined or not. */
	uint64_t fmask = faulted ? FLAGS : FLAGS & ~(uint64_t)c->undef;
	size_t x87 = pointers_lost(a) ? 6 : loose & DIFF_LOOSE_FIP ? 8 : 24;
	uint32_t err = a->error ^ b->error;

	if (c->loose & DIFF_LOOSE_UPPER && !(uint32_t)c->gpr[1])
		loose |= DIFF_LOOSE_UPPER; /* nothing to repeat */
	if (!soft_cpuid_intel() && c->loose & (faulted ? DIFF_AMD_ORDER : DIFF_AMD_IMAGE))
		loose |= DIFF_LOOSE_MEMORY;
	if (a->vector == 1 || other_order(c, a, b)) /* 1: single step: POPF set TF */
		return NULL;
	if (a->vector != b->vector)
		return "vector";
	/* Systems differ in what they say of a missing page in the kernel's half. */
	if (a->vector == 14 && a->cr2 >> 47)
		err &= ~1u;
	if (faulted && err && !(loose & DIFF_LOOSE_CR2))
		return "error code";
	if (a->cr2 != b->cr2 && !(loose & DIFF_LOOSE_CR2))
		return "cr2";
	if (a->rip != b->rip)
		return "rip";
	for (int k = 0; k < 16; k++) {
		bool upper = loose & DIFF_LOOSE_UPPER && (k == 1 || k == 6 || k == 7);

		if ((a->gpr[k] ^ b->gpr[k]) & (upper ? UINT32_MAX : UINT64_MAX))
			return gpr_name[k];
	}
	if ((a->rflags ^ b->rflags) & fmask && !(loose & DIFF_LOOSE_FLAGS))
		return "flags";
	if (memcmp(a->fx.xmm, b->fx.xmm, sizeof(a->fx.xmm)))
		return "xmm";
	/* Inexactness beside an unmasked exception: see simd_fp_slow(). */
	if ((a->fx.mxcsr ^ b->fx.mxcsr) & (a->vector == 19 ? ~0x20u : ~0u) &&
		!(loose & DIFF_LOOSE_MXCSR))
		return "mxcsr";
	if (memcmp(&a->fx, &b->fx, x87) && !(loose & DIFF_LOOSE_X87))
		return "x87 control";
	if (memcmp(a->fx.st, b->fx.st, sizeof(a->fx.st)) && !(loose & DIFF_LOOSE_X87))
		return "x87 registers";
	if (!word_equal(a, b) && !(loose & DIFF_LOOSE_MEMORY))
		return "memory";
	return NULL;
}

/* A branch through random data fell on another case's code: natively that has run too. */
static bool runs_on(
	const struct diff_batch *b, const struct diff_case *c, const struct diff_result *mine)
{
	uint64_t at = mine->rip - DIFF_CODE;

	return mine->vector == DIFF_NO_VECTOR && mine->rip != c->rip + c->len &&
	       at < DIFF_CODE_SIZE && b->code[at] != 0xcc;
}

static void dump_fx(const struct diff_fx *f)
{
	printf("    fcw %04x fsw %04x ftw %02x fop %03x fip %lx fdp %lx mxcsr %04x\n", f->fcw,
		f->fsw, f->ftw, f->fop, (unsigned long)f->fip, (unsigned long)f->fdp, f->mxcsr);
	for (int k = 0; k < 8; k++) {
		uint64_t m;
		uint16_t e;

		memcpy(&m, f->st[k], 8);
		memcpy(&e, f->st[k] + 8, 2);
		printf("    st%d %04x:%016lx%s", k, e, (unsigned long)m, k & 1 ? "\n" : "");
	}
	for (int k = 0; k < 16; k++) {
		uint64_t q[2];

		memcpy(q, f->xmm[k], 16);
		printf("    xmm%-2d %016lx %016lx%s", k, (unsigned long)q[1], (unsigned long)q[0],
			k & 1 ? "\n" : "");
	}
}

static void dump_regs(const uint64_t *gpr, uint64_t rflags, uint64_t rip)
{
	for (int k = 0; k < 16; k++)
		printf("    %-3s %016lx%s", gpr_name[k], (unsigned long)gpr[k],
			k % 4 == 3 ? "\n" : "");
	printf("    rip %lx rflags %06lx\n", (unsigned long)rip, (unsigned long)rflags);
}

/* What is not as it was before. */
static void dump_changes(const char *who, const struct diff_case *c, const struct diff_result *r)
{
	const struct diff_fx *f = &r->fx, *g = &c->fx;

	printf("  %s: vector %u error %x cr2 %lx rip %lx rflags %06lx\n", who, r->vector, r->error,
		(unsigned long)r->cr2, (unsigned long)r->rip, (unsigned long)r->rflags);
	for (int k = 0; k < 16; k++)
		if (r->gpr[k] != c->gpr[k])
			printf("    %-3s %016lx\n", gpr_name[k], (unsigned long)r->gpr[k]);
	if (memcmp(f, g, 28))
		printf("    fcw %04x fsw %04x ftw %02x fop %03x fip %lx fdp %lx mxcsr %04x\n",
			f->fcw, f->fsw, f->ftw, f->fop, (unsigned long)f->fip,
			(unsigned long)f->fdp, f->mxcsr);
	for (int k = 0; k < 8; k++) {
		if (memcmp(f->st[k], g->st[k], 16))
			printf("    st%d %04x:%016lx\n", k, *(const uint16_t *)(f->st[k] + 8),
				*(const unsigned long *)f->st[k]);
	}
	for (int k = 0; k < 16; k++) {
		const unsigned long *q = (const unsigned long *)f->xmm[k];

		if (memcmp(f->xmm[k], g->xmm[k], 16))
			printf("    xmm%d %016lx %016lx\n", k, q[1], q[0]);
	}
	for (uint32_t k = 0; k < r->nwords && k < 16; k++)
		printf("    [%x] %016lx\n", DIFF_RW + r->word[k].off,
			(unsigned long)r->word[k].val);
}

static void report(uint64_t number, const char *what, const struct diff_case *c,
	const struct diff_result *a, const struct diff_result *b, bool full)
{
	char text[128];
	bool fx = c->class >= DIFF_SSE;

	diff_disassemble(c, text, sizeof(text));
	printf("case %lu: %s differs: %s  [", (unsigned long)number, what, text);
	for (int k = 0; k < c->len; k++)
		printf("%s%02x", k ? " " : "", c->code[k]);
	printf("]\n  before:\n");
	dump_regs(c->gpr, c->rflags, c->rip);
	if (fx && full)
		dump_fx(&c->fx);
	dump_changes("native", c, a);
	dump_changes("interpreter", c, b);
}

static void summary(const struct totals *t, const char *what)
{
	uint64_t all = 0;

	for (int k = 0; k < DIFF_CLASSES; k++) {
		all += t->cases[k];
		if (t->cases[k])
			printf("# %-7s %10lu instructions, %lu faulted\n", diff_class_names[k],
				(unsigned long)t->cases[k], (unsigned long)t->faults[k]);
	}
	printf("# %lu instructions compared with %s, %lu mismatches\n", (unsigned long)all, what,
		(unsigned long)t->bad);
}

static int parse_classes(const char *s, unsigned *ret)
{
	*ret = 0;
	while (*s) {
		size_t n = strcspn(s, ",");
		unsigned k;

		for (k = 0; k < DIFF_CLASSES; k++)
			if (strlen(diff_class_names[k]) == n && !strncmp(s, diff_class_names[k], n))
				break;
		if (k == DIFF_CLASSES)
			return -1;
		*ret |= 1u << k;
		s += n + (s[n] == ',');
	}
	return 0;
}

static int parse(int argc, char **argv, struct opts *o)
{
	static const struct option longopts[] = {{"seed", 1, NULL, 's'}, {"count", 1, NULL, 'n'},
		{"class", 1, NULL, 'c'}, {"only", 1, NULL, 'o'}, {"twice", 0, NULL, 't'},
		{"stop", 1, NULL, 'S'}, {NULL, 0, NULL, 0}};
	int k;

	*o = (struct opts){
		.seed = 1, .count = 1000000, .classes = (1u << DIFF_CLASSES) - 1, .stop = 5};
	while ((k = getopt_long(argc, argv, "", longopts, NULL)) >= 0) {
		switch (k) {
		case 's': o->seed = strtoull(optarg, NULL, 0); break;
		case 'n': o->count = strtoull(optarg, NULL, 0); break;
		case 'c':
			if (parse_classes(optarg, &o->classes))
				return -1;
			break;
		case 'o':
			o->only = strtoull(optarg, NULL, 0);
			o->one = true;
			break;
		case 't': o->twice = true; break;
		case 'S': o->stop = (unsigned)strtoul(optarg, NULL, 0); break;
		default: return -1;
		}
	}
	return optind == argc ? 0 : -1;
}

/* Runs batch b's cases in the interpreter (or takes again, the same batch's second native run) and compares. */
static void compare(const struct opts *o, struct diff_engine *e, struct diff_batch *b,
	uint64_t first, const struct diff_result *again, struct totals *t)
{
	static struct diff_result mine;

	if (!again)
		diff_engine_load(e, b);
	for (unsigned i = 0; i < b->n; i++) {
		const struct diff_case *c = &b->c[i];
		const char *what;

		if (o->one && first + i != o->only)
			continue;
		if (again)
			mine = again[i];
		else
			diff_engine_run(e, b, i, &mine);
		normalize(c, &b->r[i]);
		normalize(c, &mine);
		what = runs_on(b, c, &mine) ? NULL : differs(c, &b->r[i], &mine);
		t->cases[c->class]++;
		t->faults[c->class] += b->r[i].vector != DIFF_NO_VECTOR;
		t->bad += what != NULL;
		if (o->one || (what && t->bad <= o->stop))
			report(first + i, what ? what : "nothing", c, &b->r[i], &mine, o->one);
	}
}

int main(int argc, char **argv)
{
	static struct diff_result saved[DIFF_BATCH];
	struct diff_native *n;
	struct diff_engine *e = NULL;
	struct totals t = {0};
	struct timespec t0, t1;
	struct opts o;
	uint64_t batches, b0 = 0;
	double secs;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (parse(argc, argv, &o)) {
		fprintf(stderr,
			"usage: cpu-diff [--seed N] [--count N] [--class %s,...] [--only CASE] [--twice] "
			"[--stop N]\n",
			diff_class_names[0]);
		return 2;
	}
	if (diff_native_new(&n) || (!o.twice && diff_engine_new(&e))) {
		fprintf(stderr, "cpu-diff: cannot set up\n");
		return 2;
	}
	batches = (o.count + DIFF_BATCH - 1) / DIFF_BATCH;
	if (o.one) {
		b0 = o.only / DIFF_BATCH;
		batches = 1;
	}
	printf("# seed %lu, %lu instructions\n", (unsigned long)o.seed,
		(unsigned long)(batches * DIFF_BATCH));
	clock_gettime(CLOCK_MONOTONIC, &t0);
	/* One batch runs natively while the one before it is compared. */
	for (uint64_t k = 0; k <= batches; k++) {
		unsigned cur = k & 1, prev = cur ^ 1;

		if (k < batches) {
			diff_generate(diff_native_batch(n, cur), o.seed, (b0 + k) * DIFF_BATCH,
				DIFF_BATCH, o.classes);
			if (k && diff_native_wait(n, prev))
				goto died;
			if (o.twice) {
				if (diff_native_start(n, cur) || diff_native_wait(n, cur))
					goto died;
				memcpy(saved, diff_native_batch(n, cur)->r, sizeof(saved));
			}
			if (diff_native_start(n, cur))
				goto died;
			if (o.twice) {
				if (diff_native_wait(n, cur))
					goto died;
				compare(&o, e, diff_native_batch(n, cur), (b0 + k) * DIFF_BATCH,
					saved, &t);
				if (diff_native_start(n, cur))
					goto died;
			}
		} else if (diff_native_wait(n, prev)) {
			goto died;
		}
		if (k && !o.twice)
			compare(&o, e, diff_native_batch(n, prev), (b0 + k - 1) * DIFF_BATCH, NULL,
				&t);
		if (t.bad >= o.stop)
			break;
	}
	clock_gettime(CLOCK_MONOTONIC, &t1);
	secs = (double)(t1.tv_sec - t0.tv_sec) + (double)(t1.tv_nsec - t0.tv_nsec) * 1e-9;
	summary(&t, o.twice ? "themselves" : "the processor");
	printf("# %.1f s\n", secs);
	diff_native_free(n);
	diff_engine_free(e);
	return t.bad != 0;
died:
	fprintf(stderr, "cpu-diff: the native side died\n");
	return 2;
}
