/* SPDX-License-Identifier: MIT */
#include "vmm/core/gmem.h"

#include <errno.h>
#include "lib/base/test.h"

static const uint64_t mib = 1 << 20;

TEST(sizes)
{
	struct gmem *gm = NULL;

	CHECK_EQ(gmem_new(&gm, 0), -EINVAL);
	CHECK_EQ(gmem_new(&gm, mib), -EINVAL);
	CHECK_EQ(gmem_new(&gm, 1ull << 41), -EINVAL);
}

TEST(read_write_bounds)
{
	struct gmem *gm;
	char buf[8] = "1234567";

	REQUIRE(gmem_new(&gm, 4 * mib) == 0);
	CHECK_EQ(gmem_write(gm, 4 * mib - 8, buf, 8), 0);
	memset(buf, 0, sizeof(buf));
	CHECK_EQ(gmem_read(gm, 4 * mib - 8, buf, 8), 0);
	CHECK_STR(buf, "1234567");
	CHECK_EQ(gmem_write(gm, 4 * mib - 7, buf, 8), -EFAULT);
	CHECK_EQ(gmem_read(gm, 4 * mib, buf, 1), -EFAULT);
	CHECK_EQ(gmem_read(gm, UINT64_MAX, buf, 8), -EFAULT);
	CHECK_EQ(gmem_read(gm, 4 * mib, buf, 0), 0);
	CHECK(gmem_ptr(gm, 0, 4 * mib) != NULL);
	CHECK(gmem_ptr(gm, 0, 4 * mib + 1) == NULL);
	CHECK(gmem_ptr(gm, 1, UINT64_MAX) == NULL);
	gmem_free(gm);
}

TEST(the_hole)
{
	struct gmem *gm;
	const struct gmem_region *r;
	struct iovec iov[1];
	unsigned n = 0;

	REQUIRE(gmem_new(&gm, GMEM_HOLE_START + 2 * mib) == 0);
	REQUIRE(gmem_regions(gm, &r) == 2);
	CHECK_EQ(r[1].gpa, GMEM_HOLE_END);
	CHECK_EQ(r[1].offset, GMEM_HOLE_START);
	CHECK(gmem_ptr(gm, GMEM_HOLE_START - 1, 1) != NULL);
	CHECK(gmem_ptr(gm, GMEM_HOLE_START - 1, 2) == NULL);
	CHECK(gmem_ptr(gm, GMEM_HOLE_START, 1) == NULL);
	CHECK(gmem_ptr(gm, GMEM_HOLE_END, 2 * mib) != NULL);
	CHECK_EQ(gmem_iov(gm, GMEM_HOLE_END, 16, iov, &n, 1), 0);
	CHECK_EQ(n, 1);
	CHECK_EQ(gmem_iov(gm, GMEM_HOLE_END, 16, iov, &n, 1), -E2BIG);
	CHECK_EQ(gmem_iov(gm, GMEM_HOLE_START, 16, iov, &n, 1), -EFAULT);
	gmem_free(gm);
}

TEST(fill)
{
	struct gmem *gm;
	uint8_t *buf = calloc(1, mib), *got = calloc(1, mib);

	REQUIRE(gmem_new(&gm, 4 * mib) == 0);
	for (unsigned i = 0x1234; i < mib; i += 0x12345)
		buf[i] = i >> 8 | 1;
	CHECK_EQ(gmem_fill(gm, 0x123456, buf, mib), 0);
	CHECK_EQ(gmem_read(gm, 0x123456, got, mib), 0);
	CHECK(memcmp(buf, got, mib) == 0);
	CHECK_EQ(gmem_fill(gm, 4 * mib - 1, buf, 2), -EFAULT);
	CHECK_EQ(gmem_fill(gm, 4 * mib, buf, 0), 0);
	CHECK_EQ(gmem_fill(gm, UINT64_MAX, buf, 2), -EFAULT);
	free(buf);
	free(got);
	gmem_free(gm);
}

TEST(dirty_pages)
{
	struct gmem *gm;
	uint64_t bits[17];
	char c = 1;

	REQUIRE(gmem_new(&gm, 4 * mib) == 0);
	CHECK_EQ(gmem_write(gm, 0x1000, &c, 1), 0);
	gmem_dirty_fetch(gm, bits, 17);
	CHECK_EQ(bits[0], 0); /* tracking was off */
	gmem_dirty_enable(gm, true);
	CHECK_EQ(gmem_write(gm, 0x1fff, "ab", 2), 0);
	gmem_wrote(gm, 0x40000, 1);
	gmem_mark_dirty(gm, 0x5123);
	gmem_wrote(gm, 64 * mib, 1);
	gmem_dirty_fetch(gm, bits, 17);
	CHECK_EQ(bits[0], 0x26);
	CHECK_EQ(bits[1], 1);
	CHECK_EQ(bits[16], 0);
	gmem_dirty_fetch(gm, bits, 17);
	CHECK_EQ(bits[0], 0);
	gmem_free(gm);
}

static gpa_t hook_page[4];
static unsigned hooks;

static void hook(void *ctx, gpa_t page)
{
	if (hooks < 4)
		hook_page[hooks] = page;
	hooks++;
}

TEST(code_marks)
{
	struct gmem *gm;
	uint8_t page[4096] = {0};

	REQUIRE(gmem_new(&gm, GMEM_HOLE_START + 2 * mib) == 0);
	gmem_set_code_hook(gm, hook, NULL);
	gmem_mark_code(gm, 0x3000);
	gmem_mark_code(gm, GMEM_HOLE_END + 0x1000);
	CHECK(gmem_is_code(gm, 0x3abc));
	CHECK(!gmem_is_code(gm, 0x4000));
	CHECK_EQ(gmem_write(gm, 0x2001, page, 4096), 0);
	CHECK_EQ(hooks, 1);
	CHECK_EQ(hook_page[0], 0x3000);
	CHECK_EQ(gmem_write(gm, GMEM_HOLE_END + 0x1000, page, 1), 0);
	CHECK_EQ(hooks, 2);
	CHECK_EQ(hook_page[1], GMEM_HOLE_END + 0x1000);
	gmem_clear_code(gm, 0x3000);
	CHECK_EQ(gmem_write(gm, 0x3000, page, 1), 0);
	CHECK_EQ(hooks, 2);
	gmem_free(gm);
}

TEST(discarded_pages_read_as_zero)
{
	struct gmem *gm;
	uint8_t ones[3 * 4096], got[3 * 4096];

	memset(ones, 0xff, sizeof(ones));
	REQUIRE(gmem_new(&gm, 4 * mib) == 0);
	CHECK_EQ(gmem_write(gm, 0x1000, ones, sizeof(ones)), 0);
	CHECK_EQ(gmem_discard(gm, 0x1800, 0x2000), 0); /* only page 2 is whole */
	CHECK_EQ(gmem_read(gm, 0x1000, got, sizeof(got)), 0);
	CHECK_EQ(got[0xfff], 0xff);
	CHECK_EQ(got[0x1000], 0);
	CHECK_EQ(got[0x1fff], 0);
	CHECK_EQ(got[0x2000], 0xff);
	CHECK_EQ(gmem_discard(gm, 4 * mib - 0x1000, 0x2000), -EFAULT);
	CHECK_EQ(gmem_discard(gm, UINT64_MAX - 10, 4096), -EFAULT);
	gmem_free(gm);
}

TEST_MAIN()
