/* SPDX-License-Identifier: MIT */
/* When direct execution is thought to pay, and what a vCPU's stubs are told of a page that changes: with the inside of direct.c. */
#include "vmm/cpu/soft/direct/direct.c"

#include "lib/base/test.h"
#include "lib/os/mem.h"
#include "vmm/core/gmem.h"
#include "vmm/cpu/soft/test-rig.h"

enum { FLAGS = 0x67, PDPT = 0x60000, PD = 0x61000, PT = 0x62000, PAGE = 0x400000 };

/* Interrupts end long runs, and one in so many is short: of those alone is learnt what a trap takes. */
TEST(a_program_that_only_computes_says_nothing_about_traps)
{
	struct soft_direct d = {.trip = ticks(TRIP_NS), .enter_total = ticks(ENTER_TOTAL_NS)};
	struct habit computes = {.direct = true}, other = {0};
	const uint64_t tick = ticks(4000000), piece = ticks(100000);

	for (unsigned n = 1; n <= 100000; n++)
		ran_directly(&d, &computes,
			without_trip(&d, n % 64 ? tick : ticks(TRIP_NS + TRIP_NS / 2)), 1);
	CHECK(computes.direct);
	CHECK(d.trip <= 2 * ticks(TRIP_NS));
	for (unsigned n = 0; n < 100; n++)
		ran_translated(&d, &other, piece);
	CHECK(other.direct);
}

TEST(short_runs_are_the_translators)
{
	struct soft_direct d = {.trip = ticks(TRIP_NS), .enter_total = ticks(ENTER_TOTAL_NS)};
	struct habit h = {.direct = true};

	for (unsigned n = 0; n < 10 * JUDGE_RUNS; n++)
		ran_directly(&d, &h, without_trip(&d, ticks(TRIP_NS + 500)), 1);
	CHECK(!h.direct);
	CHECK(h.backoff > 0);
}

static struct rig *rig;
static struct soft_vcpu *c;
static struct hosted *hosted;
static struct soft_direct_pool *pool;

static void set_up(void)
{
	rig = rig_new(1);
	c = (struct soft_vcpu *)rig->cpu[0];
	REQUIRE(cpu_soft_ops.set_state(rig->cpu[0], &rig->s, rig->msrs, rig->nmsrs) == 0);
	soft_direct_configure(DIRECT_MODE_ALWAYS);
	soft_direct_pool_new(&pool, gmem_object(rig->gm), 1);
	REQUIRE(pool);
	c->vm->direct_pool = pool;
	REQUIRE(soft_direct_new(c) == 0);
	hosted = &direct_of(c)->hosted[0];
}

static void tear_down(void)
{
	CHECK_EQ(stub_error(hosted->stub), 0);
	soft_direct_free(c);
	c->vm->direct_pool = NULL;
	soft_direct_pool_free(pool);
	rig_free(rig);
}

static void put(uint64_t table, uint64_t va, unsigned level, uint64_t entry)
{
	*(uint64_t *)rig_ptr(rig, table + (va >> (12 + 9 * level) & 511) * 8) = entry;
}

/* A byte at va as a program in the stub reads it; -1: it cannot. */
static int peek(uint64_t va)
{
	static const uint8_t code[] = {
		0x0f, 0xb6, 0x07, 0x0f, 0x05}; /* movzbl (%rdi), %eax; syscall */
	const uint64_t at = 0x7100000000, gpa = PAGE + 0x100000;
	struct stub_regs r = {.gpr = {[CPU_RDI] = va}, .rip = at, .rflags = 0x202};
	struct stub_exit x = {0};

	memcpy(rig_ptr(rig, gpa), code, sizeof(code));
	memcpy(stub_fx(hosted->stub) + 24, "\x80\x1f", 2);
	stub_map(hosted->stub, at, 4096, OS_PROT_R | OS_PROT_X, gpa);
	CHECK_EQ(stub_run(hosted->stub, &r, &x), 0);
	return x.kind == STUB_SYSCALL ? (int)(r.gpr[CPU_RAX] & 0xff) : -1;
}

/* A copy of the page ends while mappings of it are being collected, by the writable one: the one before that is to be known, or to go, too. */
TEST(a_page_beside_its_writable_alias_is_not_left_behind_in_the_stub)
{
	const uint64_t alias = 0x7000000000, writable = alias + 4096, code = alias + 64 * 4096;
	const uint64_t va[] = {alias, writable, code};
	uint8_t *page;

	set_up();
	put(RIG_PML4, alias, 3, PDPT | FLAGS);
	put(PDPT, alias, 2, PD | FLAGS);
	put(PD, alias, 1, PT | FLAGS);
	put(PT, code, 0, PAGE | (FLAGS & ~2));
	page = rig_ptr(rig, PAGE);
	memset(page, 0x90, 4096);
	memcpy(page + 256, "\x0f\xa2\x90", 3);
	CHECK_EQ(space_fault(hosted->space, c, code, ACC_X), SPACE_MAPPED);
	put(PT, alias, 0, PAGE | (FLAGS & ~2));
	put(PT, writable, 0, PAGE | FLAGS);
	CHECK_EQ(space_fault(hosted->space, c, writable, ACC_W), SPACE_MAPPED);
	CHECK_EQ(peek(writable), 0x90);
	for (unsigned n = 0; n < ARRAY_LEN(va); n++)
		put(PT, va[n], 0, 0);
	CHECK(space_flush(hosted->space, c));
	memset(page, 0x55, 4096); /* another program's secret */
	for (unsigned n = 0; n < ARRAY_LEN(va); n++)
		CHECK_EQ(peek(va[n]), -1);
	space_clear(hosted->space);
	CHECK_EQ(peek(alias), -1);
	tear_down();
}

TEST_MAIN()
