/* SPDX-License-Identifier: MIT */
/* The clock is ours: a sample is ten seconds of two processors, in ticks of 10 ms. */
#include "lib/base/test.h"

#include "guest/reclaim.h"

enum { SAMPLE = 2 * RECLAIM_SAMPLE_S * 100 };
#define MIB ((uint64_t)1 << 20)

static uint64_t busy_now, total_now;

static enum reclaim_act sample(struct reclaim *r, uint64_t busy, uint64_t cache, uint64_t *bytes)
{
	busy_now += busy;
	total_now += SAMPLE;
	return reclaim_sample(r, busy_now, total_now, cache, bytes);
}

/* So many samples with this load; each must come to nothing. */
static void expect_nothing(struct reclaim *r, unsigned n, uint64_t busy, uint64_t cache)
{
	uint64_t bytes;

	for (unsigned i = 0; i < n; i++)
		CHECK_EQ(sample(r, busy, cache, &bytes), RECLAIM_NOTHING);
}

TEST(a_vm_is_idle_only_after_two_minutes)
{
	struct reclaim r = {.how = VM_RECLAIM_GRADUAL, .ram = 4096 * MIB};
	uint64_t bytes = 0;

	expect_nothing(&r, RECLAIM_WINDOW, 0, 1000 * MIB);
	CHECK_EQ(sample(&r, 0, 1000 * MIB, &bytes), RECLAIM_STEP);
	CHECK_EQ(bytes, 128 * MIB); /* 4 GiB / 32 */
}

TEST(half_a_percent_is_idle_and_more_is_not)
{
	struct reclaim r = {.how = VM_RECLAIM_GRADUAL, .ram = 4096 * MIB};
	uint64_t bytes;

	expect_nothing(&r, RECLAIM_WINDOW, SAMPLE / 200, 1000 * MIB);
	CHECK_EQ(sample(&r, SAMPLE / 200, 1000 * MIB, &bytes), RECLAIM_STEP);
	r = (struct reclaim){.how = VM_RECLAIM_GRADUAL, .ram = 4096 * MIB};
	expect_nothing(&r, 10 * RECLAIM_WINDOW, SAMPLE / 200 + 1, 1000 * MIB);
}

TEST(a_busy_guest_keeps_its_cache)
{
	struct reclaim r = {.how = VM_RECLAIM_GRADUAL, .ram = 4096 * MIB};
	uint64_t bytes;

	expect_nothing(&r, RECLAIM_WINDOW, 0, 1000 * MIB);
	CHECK_EQ(sample(&r, 0, 1000 * MIB, &bytes), RECLAIM_STEP);
	/* One busy sample, and it takes two minutes again. */
	expect_nothing(&r, 1, SAMPLE / 2, 872 * MIB);
	expect_nothing(&r, RECLAIM_WINDOW - 1, 0, 872 * MIB);
	CHECK_EQ(sample(&r, 0, 872 * MIB, &bytes), RECLAIM_STEP);
}

TEST(gradual_stops_where_little_is_left_and_compacts_once)
{
	struct reclaim r = {.how = VM_RECLAIM_GRADUAL, .ram = 4096 * MIB};
	uint64_t bytes, cache = 400 * MIB;
	unsigned steps = 0;

	expect_nothing(&r, RECLAIM_WINDOW, 0, cache);
	while (sample(&r, 0, cache, &bytes) == RECLAIM_STEP && steps < 10) {
		cache -= bytes;
		steps++;
	}
	CHECK_EQ(steps, 3);
	CHECK_EQ(cache, RECLAIM_KEEP);
	CHECK_EQ(r.worked, false); /* the sample that ended the loop compacted */
	expect_nothing(&r, 20, 0, cache);
	/* What comes meanwhile goes too. */
	CHECK_EQ(sample(&r, 0, cache + MIB, &bytes), RECLAIM_STEP);
	CHECK_EQ(bytes, MIB);
	CHECK_EQ(sample(&r, 0, cache, &bytes), RECLAIM_COMPACT);
}

TEST(what_cannot_be_given_back_is_not_tried_again_and_again)
{
	struct reclaim r = {.how = VM_RECLAIM_GRADUAL, .ram = 4096 * MIB};
	uint64_t bytes;

	expect_nothing(&r, RECLAIM_WINDOW, 0, 1000 * MIB);
	CHECK_EQ(sample(&r, 0, 1000 * MIB, &bytes), RECLAIM_STEP);
	reclaim_failed(&r);
	CHECK_EQ(sample(&r, 0, 1000 * MIB, &bytes), RECLAIM_COMPACT);
	expect_nothing(&r, 20, 0, 1000 * MIB);
	expect_nothing(&r, 1, SAMPLE, 1000 * MIB);
	expect_nothing(&r, RECLAIM_WINDOW - 1, 0, 1000 * MIB);
	CHECK_EQ(sample(&r, 0, 1000 * MIB, &bytes), RECLAIM_STEP);
}

TEST(drop_happens_once_each_time_the_vm_is_idle)
{
	struct reclaim r = {.how = VM_RECLAIM_DROP, .ram = 4096 * MIB};
	uint64_t bytes;

	expect_nothing(&r, RECLAIM_WINDOW, 0, 1000 * MIB);
	CHECK_EQ(sample(&r, 0, 1000 * MIB, &bytes), RECLAIM_ALL);
	CHECK_EQ(sample(&r, 0, 500 * MIB, &bytes), RECLAIM_COMPACT);
	expect_nothing(&r, 20, 0, 1000 * MIB);
	expect_nothing(&r, 1, SAMPLE, 1000 * MIB);
	expect_nothing(&r, RECLAIM_WINDOW - 1, 0, 1000 * MIB);
	CHECK_EQ(sample(&r, 0, 1000 * MIB, &bytes), RECLAIM_ALL);
}

TEST(a_small_vm_steps_by_32_mib)
{
	struct reclaim r = {.how = VM_RECLAIM_GRADUAL, .ram = 256 * MIB};
	uint64_t bytes = 0;

	expect_nothing(&r, RECLAIM_WINDOW, 0, 200 * MIB);
	CHECK_EQ(sample(&r, 0, 200 * MIB, &bytes), RECLAIM_STEP);
	CHECK_EQ(bytes, 32 * MIB);
}

TEST_MAIN()
