/* SPDX-License-Identifier: MIT */
/* A stub executes what is mapped in it, and nothing else. The programs are in a memory object, as a guest's are. */
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>
#include "lib/base/test.h"
#include "lib/os/mem.h"
#include "lib/os/stub.h"

extern const uint8_t os_stub_code[], os_stub_code_end[];

enum { VA = 0x40000000, PAGE = 4096, PAGES = 4, PAGE_FAULT = 14, PROTECTION = 13 };

struct rig {
	struct os_memobj *ram;
	uint8_t *mem;
	struct stub *s;
	struct stub_regs r;
	struct stub_exit x;
};

static struct rig setup(void)
{
	struct rig g = {0};
	const char *why = "";
	void *p;

	CHECK_EQ(os_memobj_new(&g.ram, "test-stub", PAGES * PAGE), 0);
	CHECK_EQ(os_memobj_map(g.ram, 0, PAGES * PAGE, OS_PROT_R | OS_PROT_W, &p), 0);
	g.mem = p;
	CHECK_EQ(stub_new(&g.s, g.ram, &why), 0);
	CHECK_EQ(stub_ready(g.s, &why), 0);
	stub_map(g.s, VA, PAGE, OS_PROT_R | OS_PROT_X, 0);
	stub_map(g.s, VA + PAGE, PAGE, OS_PROT_R | OS_PROT_W, PAGE);
	for (unsigned n = 0; n < 16; n++)
		g.r.gpr[n] = 0x1111111111111111ull * n;
	g.r.gpr[4] = VA + 2 * PAGE;
	g.r.rip = VA;
	g.r.rflags = 0x202;
	memcpy(stub_fx(g.s), "\x7f\x03", 2);
	memcpy(stub_fx(g.s) + 24, "\x80\x1f", 2);
	return g;
}

static void teardown(struct rig *g)
{
	stub_free(g->s);
	os_mem_unmap(g->mem, PAGES * PAGE);
	os_memobj_free(g->ram);
}

#define CODE(g, bytes) memcpy((g)->mem, bytes, sizeof(bytes))

/* inc of every register but rsp; syscall */
TEST(registers_go_in_and_come_back)
{
	struct rig g = setup();
	struct stub_regs was;

	CODE(&g,
		"\x48\xff\xc0\x48\xff\xc1\x48\xff\xc2\x48\xff\xc3\x48\xff\xc5\x48\xff\xc6\x48\xff\xc7\x49\xff\xc0\x49\xff\xc1\x49\xff\xc2"
		"\x49\xff\xc3\x49\xff\xc4\x49\xff\xc5\x49\xff\xc6\x49\xff\xc7\x66\x0f\x6f\xc8\xf9\xfd\xcc");
	for (unsigned n = 0; n < 16; n++)
		stub_fx(g.s)[160 + n] = (uint8_t)(n + 1);
	g.r.fs_base = 0x123456789000;
	g.r.gs_base = 0x23456789a000;
	was = g.r;
	CHECK_EQ(stub_run(g.s, &g.r, &g.x), 0);
	CHECK_EQ(g.x.kind, STUB_DEBUG);
	CHECK_EQ(g.x.vector, 3);
	for (unsigned n = 0; n < 16; n++)
		CHECK_EQ(g.r.gpr[n], was.gpr[n] + (n != 4));
	CHECK_EQ(g.r.rip, VA + 52);
	CHECK_EQ(g.r.rflags & 0x401, 0x401); /* CF, DF */
	CHECK_EQ(g.r.fs_base, was.fs_base);
	CHECK_EQ(g.r.gs_base, was.gs_base);
	CHECK(!memcmp(stub_fx(g.s) + 176, stub_fx(g.s) + 160, 16));
	CHECK_EQ(stub_fx(g.s)[160], 1);
	teardown(&g);
}

TEST(no_system_call_reaches_the_kernel)
{
	static const uint64_t calls[] = {0, 1, 9, 11, 15, 39, 57, 60, 231, 0x40000001, ~0ull};
	struct rig g = setup();

	CODE(&g, "\x0f\x05\xcc\xcd\x80");
	for (unsigned n = 0; n < sizeof(calls) / sizeof(calls[0]); n++) {
		g.r.rip = VA;
		g.r.gpr[0] = calls[n];
		CHECK_EQ(stub_run(g.s, &g.r, &g.x), 0);
		CHECK_EQ(g.x.kind, STUB_SYSCALL);
		CHECK_EQ(g.r.rip, VA + 2);
		CHECK_EQ(g.r.gpr[0], calls[n]);
	}
	g.r.rip = VA + 3;
	g.r.gpr[0] = 1;
	CHECK_EQ(stub_run(g.s, &g.r, &g.x), 0);
	CHECK_EQ(g.x.kind, STUB_SYSCALL);
	CHECK_EQ(g.r.rip, VA + 5);
	teardown(&g);
}

TEST(missing_pages_fault_until_they_are_mapped)
{
	struct rig g = setup();

	CODE(&g, "\x48\x8b\x07\x48\x89\x06\xcc"); /* mov (%rdi), %rax; mov %rax, (%rsi); int3 */
	memcpy(g.mem + 2 * PAGE, "portable", 8);
	g.r.gpr[7] = VA + 0x10000;
	g.r.gpr[6] = VA + 0x20008;
	CHECK_EQ(stub_run(g.s, &g.r, &g.x), 0);
	CHECK(g.x.kind == STUB_EXCEPTION && g.x.vector == PAGE_FAULT);
	CHECK_EQ(g.x.cr2, VA + 0x10000);
	CHECK_EQ(g.x.err & 0x1e, 4);
	CHECK_EQ(g.r.rip, VA);
	stub_map(g.s, VA + 0x10000, PAGE, OS_PROT_R, 2 * PAGE);
	stub_map(g.s, VA + 0x20000, PAGE, OS_PROT_R, 3 * PAGE);
	/* The host's page tables have it after the first access that is allowed: once with a load. */
	g.r.gpr[7] = VA + 0x20008;
	CHECK_EQ(stub_run(g.s, &g.r, &g.x), 0);
	CHECK_EQ(g.x.cr2, VA + 0x20008);
	g.r.gpr[7] = VA + 0x10000;
	g.r.rip = VA;
	CHECK_EQ(stub_run(g.s, &g.r, &g.x), 0);
	CHECK_EQ(g.x.cr2, VA + 0x20008);
	CHECK_EQ(g.x.err & 0x1f, 7); /* there, but not for writing */
	stub_map(g.s, VA + 0x20000, PAGE, OS_PROT_R | OS_PROT_W, 3 * PAGE);
	CHECK_EQ(stub_run(g.s, &g.r, &g.x), 0);
	CHECK_EQ(g.x.kind, STUB_DEBUG);
	CHECK(!memcmp(g.mem + 3 * PAGE + 8, "portable", 8));
	stub_unmap(g.s, VA + 0x10000, PAGE, 1);
	g.r.rip = VA;
	CHECK_EQ(stub_run(g.s, &g.r, &g.x), 0);
	CHECK_EQ(g.x.cr2, VA + 0x10000);
	stub_unmap_all(g.s);
	CHECK_EQ(stub_run(g.s, &g.r, &g.x), 0);
	CHECK_EQ(g.x.cr2, VA);
	CHECK_EQ(g.x.err & 0x10, 0x10);
	teardown(&g);
}

/* Programs died now and then: those whose stub had held one with a stack in the last 2 MiB of the lower half. */
TEST(the_last_mappings_of_the_lower_half_end)
{
	const uint64_t last = 0x7fffffe00000;
	struct rig g = setup();

	stub_map(g.s, last + PAGE, PAGE, OS_PROT_R | OS_PROT_W, 0);
	CHECK_EQ(stub_apply(g.s), 0);
	stub_unmap(g.s, last, 2ull << 20, 1);
	CHECK_EQ(stub_apply(g.s), 0);
	CODE(&g, "\x48\x8b\x07\xcc"); /* mov (%rdi), %rax; int3 */
	g.r.gpr[7] = last + PAGE;
	CHECK_EQ(stub_run(g.s, &g.r, &g.x), 0);
	CHECK_EQ(g.x.cr2, last + PAGE);
	teardown(&g);
}

/* Or an interrupt would wait for all of them. */
TEST(many_mappings_are_unmapped_in_parts)
{
	enum { REGIONS = 40, EACH = 500 };
	struct rig g = setup();
	unsigned parts = 0;
	int e;

	for (unsigned n = 0; n < REGIONS; n++)
		for (unsigned k = 0; k < EACH; k++)
			stub_map(g.s, VA + (n + 1) * (2ull << 20) + k * PAGE, PAGE,
				OS_PROT_R | OS_PROT_W, k % 2 * PAGE);
	CHECK_EQ(stub_apply(g.s), 0);
	CODE(&g, "\x48\x8b\x07\xcc"); /* mov (%rdi), %rax; int3 */
	g.r.gpr[7] = VA + REGIONS * (2ull << 20) + 8;
	CHECK_EQ(stub_run(g.s, &g.r, &g.x), 0);
	CHECK_EQ(g.x.kind, STUB_DEBUG);
	for (unsigned n = 0; n < REGIONS; n++)
		stub_unmap(g.s, VA + (n + 1) * (2ull << 20), 2ull << 20, EACH);
	while ((e = stub_apply_part(g.s)) > 0)
		parts++;
	CHECK_EQ(e, 0);
	CHECK(parts >= REGIONS / 2 - 1);
	CHECK_EQ(stub_apply_part(g.s), 0);
	g.r.rip = VA;
	CHECK_EQ(stub_run(g.s, &g.r, &g.x), 0);
	CHECK_EQ(g.x.cr2, VA + REGIONS * (2ull << 20) + 8);
	teardown(&g);
}

TEST(what_would_tell_of_the_host_traps)
{
	static const uint8_t code[][4] = {
		{0x0f, 0x31}, {0x0f, 0x01, 0xf9}, {0x0f, 0xa2}, {0xf4}, {0xfa}, {0xe4, 0x80}};
	struct rig g = setup();

	for (unsigned n = 0; n < sizeof(code) / sizeof(code[0]); n++) {
		if (code[n][0] == 0x0f && !stub_hides_host())
			continue;
		memcpy(g.mem, code[n], 4);
		g.r.rip = VA;
		CHECK_EQ(stub_run(g.s, &g.r, &g.x), 0);
		CHECK(g.x.kind == STUB_EXCEPTION && g.x.vector == PROTECTION);
		CHECK_EQ(g.r.rip, VA);
	}
	teardown(&g);
}

static void *interrupt(void *arg)
{
	usleep(20000);
	stub_interrupt(arg);
	return NULL;
}

/* Runs a program that may go round in circles in our code. false: that was the stub's end, and it is a new one. */
static bool run_hostile(struct rig *g, const void *code, size_t len)
{
	pthread_t t;
	int r;

	memcpy(g->mem, code, len);
	CHECK_EQ(pthread_create(&t, NULL, interrupt, g->s), 0);
	r = stub_run(g->s, &g->r, &g->x);
	pthread_join(t, NULL);
	if (r == 0)
		return true;
	teardown(g);
	*g = setup();
	return false;
}

/* jmp *%rax, into our own code: whatever it does there, the monitor goes on and the orders stay what they are. */
TEST(a_program_that_jumps_into_our_code)
{
	struct rig g = setup();

	for (uint64_t to = stub_base();
		to < stub_base() + (uint64_t)(os_stub_code_end - os_stub_code); to++) {
		g.r.rip = VA;
		g.r.gpr[0] = to;
		g.r.gpr[4] = VA + 2 * PAGE;
		run_hostile(&g, "\xff\xe0", 2);
	}
	/* It still works. */
	CODE(&g, "\xcc");
	do
		g.r.rip = VA;
	while (stub_run(g.s, &g.r, &g.x) == 0 && g.x.kind == STUB_INTERRUPTED);
	CHECK(stub_error(g.s) || g.x.kind == STUB_DEBUG);
	teardown(&g);
}

/* mov $9, %eax; syscall's arguments; jmp *%rbx to each place of our code where there is a SYSCALL */
TEST(a_program_cannot_map_memory_by_our_code)
{
	struct rig g = setup();
	unsigned found = 0;

	memcpy(g.mem + 3 * PAGE, "secret", 6);
	for (uint64_t to = stub_base();
		to < stub_base() + (uint64_t)(os_stub_code_end - os_stub_code); to++) {
		g.r.rip = VA;
		g.r.gpr[0] =
			9; /* mmap(VA + 0x30000, 4096, rw, shared|fixed, every descriptor that may be RAM, 3 pages) */
		g.r.gpr[3] = to;
		g.r.gpr[4] = VA + 2 * PAGE;
		g.r.gpr[7] = VA + 0x30000;
		g.r.gpr[6] = PAGE;
		g.r.gpr[2] = 3;
		g.r.gpr[10] = 0x11;
		g.r.gpr[8] = (uint64_t)os_memobj_fd(g.ram);
		g.r.gpr[9] = 3 * PAGE;
		if (!run_hostile(&g, "\xff\xe3", 2))
			continue;
		found += g.x.kind == STUB_SYSCALL;
		CODE(&g, "\x8a\x07\xcc"); /* mov (%rdi), %al; int3 */
		do {
			g.r.rip = VA;
			g.r.gpr[7] = VA + 0x30000;
		} while (stub_run(g.s, &g.r, &g.x) == 0 && g.x.kind == STUB_INTERRUPTED);
		if (stub_error(
			    g.s)) { /* interrupted while parked by its own will: that is the end, too */
			teardown(&g);
			g = setup();
			continue;
		}
		CHECK(g.x.kind == STUB_EXCEPTION && g.x.vector == PAGE_FAULT);
	}
	CHECK(found > 0);
	teardown(&g);
}

/* Writes over all of the signal stack, then loops: the interrupt finds whatever is there. */
TEST(a_program_that_spoils_the_signal_stack)
{
	struct rig g = setup();

	/* rep stosb; int3 */
	CODE(&g, "\xf3\xaa\xcc");
	for (unsigned byte = 0; byte < 256; byte += 85) {
		g.r.rip = VA;
		g.r.gpr[0] = byte;
		g.r.gpr[7] = stub_base() + STUB_STACK;
		g.r.gpr[1] = STUB_LEN - STUB_STACK;
		if (stub_run(g.s, &g.r, &g.x) < 0) {
			teardown(&g);
			g = setup();
			CODE(&g, "\xf3\xaa\xcc");
			continue;
		}
		CHECK_EQ(g.x.kind, STUB_DEBUG);
		CHECK_EQ(g.r.rip, VA + 3);
	}
	/* The orders and the code are not writable. */
	for (uint64_t at = stub_base(); at < stub_base() + STUB_STACK; at += PAGE) {
		g.r.rip = VA;
		g.r.gpr[7] = at;
		g.r.gpr[1] = 1;
		CHECK_EQ(stub_run(g.s, &g.r, &g.x), 0);
		CHECK(g.x.kind == STUB_EXCEPTION && g.x.vector == PAGE_FAULT);
	}
	teardown(&g);
}

/* Makes up a signal frame that blocks every signal, returns from it to a loop. */
TEST(a_program_that_cannot_be_interrupted_is_killed)
{
	static const uint8_t code[] = {0x48, 0x8b, 0x3a,  /* mov (%rdx), %rdi: the frame */
		0x48, 0xc7, 0xc0, 0xff, 0xff, 0xff, 0xff, /* mov $-1, %rax */
		0x48, 0x89, 0x87, 0x28, 0x01, 0x00, 0x00, /* mov %rax, 0x128(%rdi): uc_sigmask */
		0x48, 0x8d, 0x05, 0x09, 0x00, 0x00, 0x00, /* lea 1f(%rip), %rax */
		0x48, 0x89, 0x87, 0xa8, 0x00, 0x00, 0x00, /* mov %rax, 0xa8(%rdi): rip */
		0xff, 0xe3,				  /* jmp *%rbx */
		0xeb, 0xfe};				  /* 1: jmp 1b */
	struct rig g = setup();
	uint64_t at = 0;
	pthread_t t;

	memcpy(g.mem, code, sizeof(code));
	while (at < 200 &&
		memcmp(os_stub_code + at, "\xb8\x0f\0\0\0\x0f\x05", 7)) /* mov $15, %eax; syscall */
		at++;
	REQUIRE(at < 200);
	g.r.gpr[2] = stub_base() + STUB_ORDERS + ORDERS_FRAME;
	g.r.gpr[3] = stub_base() + at - 7; /* the load of rsp before it */
	CHECK_EQ(pthread_create(&t, NULL, interrupt, g.s), 0);
	CHECK(stub_run(g.s, &g.r, &g.x) < 0);
	CHECK_EQ(stub_error(g.s), -ETIMEDOUT);
	pthread_join(t, NULL);
	teardown(&g);
}

TEST(a_loop_can_be_interrupted)
{
	struct rig g = setup();
	pthread_t t;

	CODE(&g, "\xeb\xfe");
	CHECK_EQ(pthread_create(&t, NULL, interrupt, g.s), 0);
	CHECK_EQ(stub_run(g.s, &g.r, &g.x), 0);
	CHECK_EQ(g.x.kind, STUB_INTERRUPTED);
	CHECK_EQ(g.r.rip, VA);
	pthread_join(t, NULL);
	/* Between runs: the next one ends at once. */
	stub_interrupt(g.s);
	CHECK_EQ(stub_run(g.s, &g.r, &g.x), 0);
	CHECK_EQ(g.x.kind, STUB_INTERRUPTED);
	teardown(&g);
}

TEST(an_order_that_fails_ends_the_stub)
{
	struct rig g = setup();

	stub_map(g.s, VA + 1, PAGE, OS_PROT_R, 0); /* not a page's address */
	CHECK(stub_run(g.s, &g.r, &g.x) < 0);
	CHECK(stub_run(g.s, &g.r, &g.x) < 0);
	teardown(&g);
}

TEST_MAIN()
