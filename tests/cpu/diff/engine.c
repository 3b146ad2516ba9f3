/* SPDX-License-Identifier: MIT */
/*
 * The interpreter's side of cpu-diff: one vCPU at CPL 3 with paging, the cases' pages at their virtual addresses. It is
 * driven one instruction at a time below cpu_ops, where an exception can be seen before it is delivered.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/cpu/diff/diff.h"
#include "vmm/core/gmem.h"
#include "vmm/cpu/soft/exc.h"
#include "vmm/cpu/soft/exec.h"

enum {
	RAM = 64 << 20,
	TABLES = 0x100000, /* page tables, one page each */
	/* Guest-physical places; neighbours in virtual memory are not neighbours here. */
	CODE_GPA = 0x400000,
	DATA_GPA = 0x800000,
	DATA_STRIDE = 0x5000,
	CODE_PAGES = DIFF_CODE_SIZE / 4096,
	DATA_PAGES = DIFF_DATA_SIZE / 4096,
};

struct diff_engine {
	struct gmem *gm;
	struct cpu_vm *vm;
	struct cpu_vcpu *vcpu;
	uint64_t next_table;
	uint8_t *data[DATA_PAGES];
};

static uint64_t code_gpa(unsigned page)
{
	return CODE_GPA + (uint64_t)(page * 7 % CODE_PAGES) * 4096;
}

static uint64_t data_gpa(unsigned page)
{
	return DATA_GPA + (uint64_t)(DATA_PAGES - 1 - page) * DATA_STRIDE;
}

static uint64_t *table(struct diff_engine *e, uint64_t gpa)
{
	return gmem_ptr(e->gm, gpa, 4096);
}

static void map(struct diff_engine *e, uint64_t va, uint64_t gpa, uint64_t bits)
{
	uint64_t *t = table(e, TABLES);

	for (int shift = 39; shift > 12; shift -= 9) {
		uint64_t *p = &t[va >> shift & 511];

		if (!*p) {
			*p = e->next_table | 7;
			e->next_table += 4096;
		}
		t = table(e, *p & ~0xfffull);
	}
	t[va >> 12 & 511] = gpa | bits;
}

static void set_seg(struct cpu_seg *s, uint16_t sel, uint16_t attr, uint64_t base)
{
	*s = (struct cpu_seg){.base = base, .limit = 0xffffffff, .selector = sel, .attr = attr};
}

static int set_state(struct diff_engine *e)
{
	static struct cpu_state s;

	memset(&s, 0, sizeof(s));
	for (int k = 0; k < CPU_NSEGS; k++)
		set_seg(&s.seg[k], 0x2b, 0xc0f3, 0);
	set_seg(&s.seg[CPU_CS], 0x33, 0xa0fb, 0);
	s.seg[CPU_GS].base = DIFF_GS_BASE;
	set_seg(&s.tr, 0x40, 0x8b, 0x1000);
	s.tr.limit = 0x67;
	s.cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_PG;
	s.cr3 = TABLES;
	s.cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT;
	s.efer = EFER_LME | EFER_LMA | EFER_NX | EFER_SCE;
	s.xcr0 = 1;
	s.rflags = 0x202;
	s.rip = DIFF_CODE;
	s.run = CPU_RUNNABLE;
	s.xsave[0] = 0x7f;
	s.xsave[1] = 0x03;
	s.xsave[24] = 0x80;
	s.xsave[25] = 0x1f;
	return cpu_soft_ops.set_state(e->vcpu, &s, NULL, 0);
}

static void map_all(struct diff_engine *e)
{
	e->next_table = TABLES + 4096;
	for (unsigned k = 0; k < CODE_PAGES; k++)
		map(e, DIFF_CODE + k * 4096ull, code_gpa(k), 0x65);
	for (unsigned k = 0; k < DATA_PAGES; k++) {
		bool ro = k >= DIFF_RW_SIZE / 4096;

		map(e, DIFF_RW + k * 4096ull, data_gpa(k), (ro ? 0x65 : 0x67) | BIT(63));
		e->data[k] = gmem_ptr(e->gm, data_gpa(k), 4096);
	}
}

int diff_engine_new(struct diff_engine **ret)
{
	static const struct cpu_io io;
	struct diff_engine *e = calloc(1, sizeof(*e));
	struct err err = {0};
	struct cpu_vm_config cfg = {.vcpus = 1, .io = &io};
	int r;

	if (!e)
		return -1;
	r = gmem_new(&e->gm, RAM);
	cfg.gm = e->gm;
	if (r == 0)
		r = cpu_soft_ops.vm_new(&e->vm, &cfg, &err);
	if (r == 0)
		r = cpu_soft_ops.vcpu_new(&e->vcpu, e->vm, 0, &err);
	if (r)
		return r;
	map_all(e);
	r = set_state(e);
	*ret = e;
	return r;
}

void diff_engine_free(struct diff_engine *e)
{
	if (!e)
		return;
	cpu_soft_ops.vcpu_free(e->vcpu);
	cpu_soft_ops.vm_free(e->vm);
	gmem_free(e->gm);
	free(e);
}

void diff_engine_load(struct diff_engine *e, const struct diff_batch *b)
{
	for (unsigned k = 0; k < CODE_PAGES; k++)
		if (gmem_write(e->gm, code_gpa(k), b->code + k * 4096, 4096))
			abort();
	for (unsigned k = 0; k < DATA_PAGES; k++)
		memcpy(e->data[k], b->data + k * 4096, 4096);
}

static bool is_rep(const struct diff_case *c)
{
	for (unsigned k = 0; k < c->len; k++) {
		if (c->code[k] == 0xf2 || c->code[k] == 0xf3)
			return true;
		if (c->code[k] == 0x0f)
			break;
	}
	return false;
}

/* One instruction; a repeated one may take several steps. */
static bool step(struct soft_vcpu *c, const struct diff_case *k)
{
	bool rep = k->class == DIFF_STRING && is_rep(k);

	for (int n = 0; n < 10000; n++) {
		if (!soft_step(c))
			return false;
		if (!rep || c->rip != k->rip)
			return true;
	}
	return true;
}

/* Straight on from rip: until something raises, control leaves [rip, end), or it goes on too long. What has raised, if
 * anything. */
static unsigned run_block(struct soft_vcpu *c, uint64_t end, bool whole, bool loops)
{
	uint64_t start = c->rip;

	for (int n = 0; n < 2000; n++) {
		uint64_t was = c->rip;

		if (!(whole ? soft_run_block(c, !loops) : soft_step(c)))
			return c->exc.vec;
		if (c->rip < start || c->rip >= end)
			return DIFF_NO_VECTOR;
		if (c->rip < was && !loops) /* a jump backwards */
			return DIFF_NO_VECTOR;
	}
	return DIFF_HUNG;
}

static void prepare(
	struct soft_vcpu *c, const struct diff_case *k, struct diff_result *r, uint64_t rip)
{
	memcpy(c->gpr, k->gpr, sizeof(c->gpr));
	soft_rflags_set(c, k->rflags);
	c->rip = rip;
	c->cr2 = 0;
	memcpy(c->xsave, &k->fx, sizeof(k->fx));
	r->vector = DIFF_NO_VECTOR;
	r->error = 0;
}

/* What the guest did, and the data pages as they were. */
static void collect(struct diff_engine *e, const struct diff_batch *b, struct diff_result *r)
{
	const struct soft_vcpu *c = (const struct soft_vcpu *)e->vcpu;

	r->rip = c->rip;
	r->rflags = soft_rflags_get(c);
	r->cr2 = r->vector == EXC_PF ? c->cr2 : 0;
	memcpy(r->gpr, c->gpr, sizeof(r->gpr));
	memcpy(&r->fx, c->xsave, sizeof(r->fx));
	r->nwords = 0;
	for (unsigned p = 0; p < DATA_PAGES; p++)
		diff_collect(r, e->data[p], b->data + p * 4096, p * 4096, 4096);
	for (uint32_t w = 0; w < r->nwords; w++)
		memcpy(e->data[r->word[w].off / 4096] + r->word[w].off % 4096,
			b->data + r->word[w].off, 8);
}

void diff_engine_block(struct diff_engine *e, const struct diff_batch *b, const struct diff_case *k,
	const uint8_t *code, unsigned len, bool whole, unsigned rounds, struct diff_result *r)
{
	struct soft_vcpu *c = (struct soft_vcpu *)e->vcpu;

	if (gmem_write(e->gm, code_gpa(0) + DIFF_INSN_OFF, code, len))
		abort();
	prepare(c, k, r, DIFF_CODE + DIFF_INSN_OFF);
	if (rounds)
		e->data[0][DIFF_COUNTER - DIFF_RW] = (uint8_t)rounds;
	r->vector = (uint8_t)run_block(c, c->rip + len, whole, rounds > 0);
	if (c->exc_raised) {
		r->error = c->exc.has_err ? c->exc.err : 0;
		c->exc_raised = false;
	}
	collect(e, b, r);
}

void diff_engine_run(
	struct diff_engine *e, const struct diff_batch *b, unsigned i, struct diff_result *r)
{
	struct soft_vcpu *c = (struct soft_vcpu *)e->vcpu;
	const struct diff_case *k = &b->c[i];

	prepare(c, k, r, k->rip);
	if (!step(c, k)) {
		r->vector = c->exc.vec;
		r->error = c->exc.has_err ? c->exc.err : 0;
		if (c->exc.soft)
			c->rip += c->exc_len;
		c->exc_raised = false;
	}
	collect(e, b, r);
}
