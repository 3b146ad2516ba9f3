/* SPDX-License-Identifier: MIT */
/* What of an address space a stub is given: what its page tables say, and nothing in the place of the stub's own pages. */
#include <string.h>
#include "lib/base/test.h"
#include "lib/os/mem.h"
#include "vmm/cpu/soft/direct/space.h"
#include "vmm/cpu/soft/mmu.h"
#include "vmm/cpu/soft/test-rig.h"

enum { LARGE = 2 << 20, FLAGS = 0x67, PS = 0x80 };
enum { PDPT = 0x60000, PD = 0x61000, PT = 0x62000, PAGE = 0x400000 };

static struct rig *rig;
static struct stub *stub;
static struct space *space;
static struct soft_vcpu *c;

static void set_up(void)
{
	const char *why = "";

	rig = rig_new(1);
	c = (struct soft_vcpu *)rig->cpu[0];
	REQUIRE(cpu_soft_ops.set_state(rig->cpu[0], &rig->s, rig->msrs, rig->nmsrs) == 0);
	REQUIRE(stub_new(&stub, gmem_object(rig->gm), &why) == 0 && stub_ready(stub, &why) == 0);
	REQUIRE(space_new(&space, stub, RIG_RAM >> 12) == 0);
}

static void tear_down(void)
{
	CHECK_EQ(stub_apply(stub), 0);
	CHECK_EQ(stub_error(stub), 0);
	space_free(space);
	stub_free(stub);
	rig_free(rig);
}

static void put(uint64_t table, uint64_t va, unsigned level, uint64_t entry)
{
	*(uint64_t *)rig_ptr(rig, table + (va >> (12 + 9 * level) & 511) * 8) = entry;
}

/* A page table, or a large page. */
static void map(uint64_t va, uint64_t pde)
{
	put(RIG_PML4, va, 3, PDPT | FLAGS);
	put(PDPT, va, 2, PD | FLAGS);
	put(PD, va, 1, pde);
}

static bool can_write(uint64_t va)
{
	static const uint8_t code[] = {0xc6, 0x07, 0x01, 0x0f, 0x05}; /* movb $1, (%rdi); syscall */
	const uint64_t at = 0x7100000000, gpa = PAGE + 0x10000;
	struct stub_regs r = {.gpr = {[CPU_RDI] = va}, .rip = at, .rflags = 0x202};
	struct stub_exit x;

	memcpy(rig_ptr(rig, gpa), code, sizeof(code));
	memcpy(stub_fx(stub) + 24, "\x80\x1f", 2);
	stub_map(stub, at, 4096, OS_PROT_R | OS_PROT_X, gpa);
	CHECK_EQ(stub_run(stub, &r, &x), 0);
	return x.kind == STUB_SYSCALL;
}

TEST(nothing_is_mapped_beside_the_stubs_own_pages)
{
	set_up();
	const uint64_t va = stub_base() & ~(uint64_t)(LARGE - 1);
	const uint64_t beside = stub_base() == va ? va + LARGE - 4096 : va;

	map(va, PAGE | FLAGS | PS);
	CHECK_EQ(space_fault(space, c, beside, ACC_W), SPACE_FOREIGN);
	CHECK_EQ(space_fault(space, c, stub_base(), ACC_X), SPACE_FOREIGN);
	CHECK_EQ(space_fault(space, c, va + LARGE - 1, 0), SPACE_FOREIGN);
	/* nor by small pages, which would be unmapped by the 2 MiB */
	map(va, PT | FLAGS);
	put(PT, beside, 0, PAGE | FLAGS);
	CHECK_EQ(space_fault(space, c, beside, ACC_W), SPACE_FOREIGN);
	tear_down();
}

TEST(a_large_page_elsewhere_is_mapped)
{
	const uint64_t va = 0x7000000000;

	set_up();
	map(va, PAGE | FLAGS | PS);
	CHECK_EQ(space_fault(space, c, va + 4096, ACC_W), SPACE_MAPPED);
	/* hosts refuse this one */
	map(0, PAGE | FLAGS | PS);
	CHECK_EQ(space_fault(space, c, 0x10000, 0), SPACE_FOREIGN);
	tear_down();
}

/* An upper level that allows more without a flush: the next fault has to take it in, or it would never end. */
TEST(rights_that_an_upper_level_gains_are_used)
{
	const uint64_t va = 0x7000000000;

	set_up();
	map(va, PT | (FLAGS & ~2));
	put(PT, va, 0, PAGE | FLAGS);
	CHECK_EQ(space_fault(space, c, va, 0), SPACE_MAPPED);
	CHECK_EQ(space_fault(space, c, va, ACC_W), SPACE_FAULTS);
	map(va, PT | FLAGS);
	CHECK_EQ(space_fault(space, c, va, ACC_W), SPACE_MAPPED);
	CHECK(can_write(va));
	tear_down();
}

/* Executes nops and CPUID at va, which the stub or the copy has to stop at. */
static bool stops_at_cpuid(uint64_t va)
{
	struct stub_regs r = {.rip = va, .rflags = 0x202};
	struct stub_exit x;

	memcpy(stub_fx(stub) + 24, "\x80\x1f", 2);
	CHECK_EQ(stub_run(stub, &r, &x), 0);
	return x.kind == STUB_EXCEPTION && r.rip == va + 256 && r.gpr[CPU_RBX] == 0;
}

/* Where CPUID does not fault, in a copy, which is worth nothing when the page has been written to. */
TEST(cpuid_stops_a_program_wherever_it_is)
{
	const uint64_t va = 0x7000000000, other = va + 4096;
	uint8_t *code;

	set_up();
	map(va, PT | FLAGS);
	put(PT, va, 0, PAGE | (FLAGS & ~2));
	put(PT, other, 0, PAGE | (FLAGS & ~2));
	code = rig_ptr(rig, PAGE);
	memset(code, 0x90, 4096);
	memcpy(code + 256, "\x0f\xa2\x90", 3);
	for (int round = 0; round < 3; round++) {
		CHECK_EQ(space_fault(space, c, va, 0), SPACE_MAPPED); /* to be read */
		CHECK_EQ(space_fault(space, c, va, ACC_X), SPACE_MAPPED);
		CHECK_EQ(space_fault(space, c, other, ACC_X), SPACE_MAPPED);
		CHECK(stops_at_cpuid(va));
		CHECK(stops_at_cpuid(other));
		CHECK_EQ(memcmp(code + 256, "\x0f\xa2", 2), 0);
		space_code_gone(space, PAGE);
		code[100 + round] = 0xcc;
		if (!stub_hides_host()) {
			struct stub_regs r = {.rip = va, .rflags = 0x202};
			struct stub_exit x;

			CHECK_EQ(stub_run(stub, &r, &x), 0);
			CHECK(x.vector == EXC_PF && r.rip == va);
			CHECK_EQ(space_fault(space, c, va, ACC_X), SPACE_MAPPED);
			r = (struct stub_regs){.rip = va, .rflags = 0x202};
			CHECK_EQ(stub_run(stub, &r, &x), 0);
			CHECK(x.kind == STUB_DEBUG && r.rip == va + 101 + round);
		}
		code[100 + round] = 0x90;
		space_code_gone(space, PAGE);
	}
	tear_down();
}

/* A program with more of them than there are copies. */
TEST(pages_beyond_the_copies_are_not_executed)
{
	const uint64_t va = 0x7000000000;
	unsigned mapped = 0;

	set_up();
	map(va, PT | FLAGS);
	for (unsigned n = 0; n < STUB_COPIES + 4; n++) {
		memset(rig_ptr(rig, PAGE + n * 4096), 0x90, 4096);
		memcpy(rig_ptr(rig, PAGE + n * 4096 + 256), "\x0f\xa2\x90", 3);
		put(PT, va + n * 4096, 0, (PAGE + n * 4096) | (FLAGS & ~2));
	}
	for (unsigned n = 0; n < STUB_COPIES + 4; n++)
		mapped += space_fault(space, c, va + n * 4096, ACC_X) == SPACE_MAPPED;
	CHECK_EQ(mapped, STUB_COPIES + (stub_hides_host() ? 4 : 0));
	CHECK(stops_at_cpuid(va));
	space_clear(space);
	CHECK_EQ(space_fault(space, c, va + (STUB_COPIES + 1) * 4096, ACC_X), SPACE_MAPPED);
	CHECK(stops_at_cpuid(va + (STUB_COPIES + 1) * 4096));
	tear_down();
}

TEST_MAIN()
