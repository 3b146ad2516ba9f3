/* SPDX-License-Identifier: MIT */
/* Which pages have instructions that tell of the host, and what they are where these fault. */
#include <stdlib.h>
#include <string.h>
#include "lib/base/attr.h"
#include "lib/base/test.h"
#include "vmm/cpu/soft/direct/taint.h"

enum { PAGE = 4096 };

static const uint8_t cpuid[] = {0x0f, 0xa2}, rdtsc[] = {0x0f, 0x31}, rdtscp[] = {0x0f, 0x01, 0xf9};

static uint8_t page[PAGE], before[PAGE], patched[PAGE];

/* A function as compilers make them, again and again. */
static void fill(uint8_t *p)
{
	static const uint8_t code[] = {0x55, 0x48, 0x89, 0xe5, 0x48, 0x83, 0xec, 0x10, 0x89, 0x7d,
		0xfc, 0x8b, 0x45, 0xfc, 0x83, 0xc0, 0x01, 0x89, 0x45, 0xf8, 0x48, 0x8d, 0x75, 0xf8,
		0x8b, 0x45, 0xf8, 0xc9, 0xc3, 0x0f, 0x1f, 0x00};

	for (unsigned n = 0; n < PAGE; n += sizeof(code))
		memcpy(p + n, code, sizeof(code));
}

static void set_up(void)
{
	fill(page);
	fill(before);
	memset(patched, 0, PAGE);
}

/* Instead of LEA and what follows it, of the function at an offset. */
enum { HERE = 20 };

#define PUT(at, bytes) memcpy(page + (at) + HERE, bytes, sizeof(bytes))

TEST(what_asks_the_processor_faults_in_a_copy)
{
	set_up();
	CHECK_EQ(soft_taint(page, before, true, patched), TAINT_NONE);
	PUT(0, cpuid);
	PUT(1024, rdtsc);
	PUT(2048, rdtscp);
	PUT(PAGE - 32, cpuid);
	CHECK_EQ(soft_taint(page, before, true, patched), TAINT_COPY);
	for (unsigned n = 0; n < PAGE; n++) {
		bool second = n == HERE + 1 || n == 1024 + HERE + 1 || n == 2048 + HERE + 1 ||
			      n == PAGE - 32 + HERE + 1;

		CHECK_EQ(patched[n], second ? 0x0b : page[n]);
	}
	CHECK_EQ(soft_taint(page, before, false, NULL), TAINT_NONE);
}

TEST(prefixes_do_not_hide_it)
{
	set_up();
	PUT(1024, "\x48\x0f\xa2");
	PUT(2048, "\xf3\x0f\x31");
	CHECK_EQ(soft_taint(page, before, true, patched), TAINT_COPY);
	CHECK_EQ(patched[1024 + HERE + 2], 0x0b);
	CHECK_EQ(patched[2048 + HERE + 2], 0x0b);
}

/* mov (%rdi),%rcx; xor %eax,%eax. cmp $0xa20f,%ax; test $0x310f0000,%ebx. */
TEST(bytes_of_other_instructions_are_left_alone)
{
	set_up();
	PUT(1024, "\x48\x8b\x0f\x31\xc0");
	PUT(2048, "\x66\x3d\x0f\xa2");
	PUT(3072, "\xf7\xc3\x00\x00\x0f\x31\x90");
	CHECK_EQ(soft_taint(page, before, true, patched), TAINT_NONE);
}

TEST(an_instruction_that_begins_in_the_page_before_is_known_by_it)
{
	set_up();
	memcpy(page, "\x0f\x31\xc0\x90\x90", 5);
	memcpy(before + PAGE - 3, "\x90\x48\x8b", 3);
	CHECK_EQ(soft_taint(page, before, true, patched), TAINT_NONE);
	CHECK_EQ(soft_taint(page, NULL, true, patched), TAINT_PAGE);
	memcpy(before + PAGE - 3, "\x90\x90\x90", 3);
	CHECK_EQ(soft_taint(page, before, true, patched), TAINT_COPY);
}

TEST(instructions_that_lie_across_two_pages_are_pairs)
{
	CHECK(soft_taint_pair(0x0f, 0xa2) && soft_taint_pair(0x0f, 0x31) &&
		soft_taint_pair(0x0f, 0x01));
	CHECK(!soft_taint_pair(0x0f, 0x1f) && !soft_taint_pair(0x8b, 0xa2));
	set_up();
	page[PAGE - 2] = 0x0f;
	page[PAGE - 1] = 0x01;
	CHECK_EQ(soft_taint(page, before, true, patched), TAINT_PAGE);
}

/* Whoever reads the page must find it as it is. Tables between functions are of no use to decoders. */
TEST(data_is_not_changed)
{
	unsigned seed = 1;

	for (unsigned round = 0; round < 2000; round++) {
		set_up();
		for (unsigned n = 1024; n < 2048; n++)
			page[n] = (uint8_t)(rand_r(&seed) >> 8);
		for (unsigned n = 1024; n < 2047; n++)
			if (page[n] == 0x0f && (page[n + 1] == 0xa2 || page[n + 1] == 0x31))
				page[n] = 0;
		memcpy(page + 1536, round % 2 ? cpuid : rdtsc, 2);
		CHECK(soft_taint(page, before, true, patched) != TAINT_COPY);
	}
	/* an array of small numbers */
	set_up();
	memset(page + 1024, 0, 1024);
	for (unsigned n = 1024; n < 2048; n += 8)
		memcpy(page + n, &(uint32_t){0x1000 + n}, 4);
	memcpy(page + 1536, rdtsc, 2);
	CHECK(soft_taint(page, before, true, patched) != TAINT_COPY);
}

TEST(what_cannot_fault_is_the_whole_pages)
{
	set_up();
	PUT(1024, "\xf3\x0f\xc7\xf8"); /* rdpid %rax */
	CHECK_EQ(soft_taint(page, before, false, NULL), TAINT_PAGE);
	set_up();
	PUT(1024, "\xf3\x41\x0f\xc7\xff"); /* rdpid %r15 */
	CHECK_EQ(soft_taint(page, before, false, NULL), TAINT_PAGE);
	set_up();
	PUT(1024, "\xb8\x7b\x00\x00\x00\x0f\x03\xc0"); /* mov $0x7b,%eax; lsl %eax,%eax */
	CHECK_EQ(soft_taint(page, before, false, NULL), TAINT_PAGE);
}

/* Each takes microseconds to be looked at, and a guest can have as many pages of them as it likes. */
TEST(a_page_full_of_chances_is_given_up)
{
	set_up();
	for (unsigned n = 0; n + 8 <= PAGE; n += 8)
		memcpy(page + n, "\x48\x8b\x0f\x31\xc0\x90\x90\x90", 8);
	CHECK_EQ(soft_taint(page, before, true, patched), TAINT_PAGE);
}

TEST_MAIN()
