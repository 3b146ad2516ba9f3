/* SPDX-License-Identifier: MIT */
#include "lib/base/test.h"

#include "daemon/clock.h"

#define S  1000000000ull
#define MS 1000000ll
static const uint64_t t = 1700000000 * S;

TEST(a_clock_that_agrees_is_left_alone)
{
	CHECK_EQ(clock_correction(t, t + 2 * MS, t + MS), 0);
	CHECK_EQ(clock_correction(t, t + 2 * MS, t + MS + 9 * MS), 0);
	CHECK_EQ(clock_correction(t, t, t - 9 * MS), 0);
}

TEST(the_correction_is_what_is_missing)
{
	CHECK_EQ(clock_correction(t, t + 2 * MS, t + MS - 3600 * S), (int64_t)(3600 * S));
	CHECK_EQ(clock_correction(t, t + 2 * MS, t + MS + 500 * MS), -500 * MS);
}

TEST(a_slow_answer_says_less)
{
	/* The guest was asked for a second: its clock may be right. */
	CHECK_EQ(clock_correction(t, t + S, t + 10 * MS), 0);
	CHECK_EQ(clock_correction(t, t + S, t + 990 * MS), 0);
	CHECK_EQ(clock_correction(t, t + S, t - S), (int64_t)(S + S / 2));
}

TEST(a_clock_set_backwards_meanwhile_says_nothing)
{
	CHECK_EQ(clock_correction(t, t - S, t), 0);
	CHECK_EQ(clock_correction(t, t, 0), 0);
}

TEST_MAIN()
