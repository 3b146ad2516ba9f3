/* SPDX-License-Identifier: MIT */
#include "lib/base/test.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "lib/os/window.h"

enum { SLOT = 2 << 20, SLOTS = 4 };

struct rig {
	struct os_window *w;
	volatile uint8_t *p;
	int fd;
};

static void set_up(struct rig *r, off_t len)
{
	REQUIRE(os_window_new(&r->w, SLOTS * SLOT) == 0);
	r->p = os_window_base(r->w);
	r->fd = memfd_create("t", MFD_CLOEXEC);
	REQUIRE(r->fd >= 0 && ftruncate(r->fd, len) == 0);
}

static void tear_down(struct rig *r)
{
	os_window_free(r->w);
	close(r->fd);
}

static uint8_t in_file(struct rig *r, off_t off)
{
	uint8_t b = 0xff;

	CHECK_EQ(pread(r->fd, &b, 1, off), 1);
	return b;
}

TEST(a_mapped_file_agrees_both_ways)
{
	struct rig r;

	set_up(&r, 2 * SLOT);
	CHECK_EQ(r.p[SLOT], 0);
	REQUIRE(os_window_map(r.w, SLOT, 2 * SLOT, r.fd, 0, true) == 0);
	CHECK_EQ(os_window_mapped(r.w), 2);
	r.p[SLOT + 5] = 7;
	r.p[2 * SLOT + 6] = 8;
	CHECK_EQ(in_file(&r, 5), 7);
	CHECK_EQ(in_file(&r, SLOT + 6), 8);
	CHECK_EQ(pwrite(r.fd, "x", 1, 9), 1);
	CHECK_EQ(r.p[SLOT + 9], 'x');
	CHECK_EQ(os_window_unmap(r.w, SLOT, SLOT), 0);
	CHECK_EQ(r.p[SLOT + 5], 0);
	CHECK_EQ(r.p[2 * SLOT + 6], 8);
	os_window_clear(r.w);
	CHECK_EQ(os_window_mapped(r.w), 0);
	CHECK_EQ(r.p[2 * SLOT + 6], 0);
	tear_down(&r);
}

TEST(a_file_that_gets_shorter_reads_as_zero_and_comes_back)
{
	struct rig r;

	set_up(&r, SLOT);
	REQUIRE(os_window_map(r.w, 0, SLOT, r.fd, 0, true) == 0);
	r.p[100] = 1;
	r.p[8192] = 2;
	REQUIRE(ftruncate(r.fd, 4096) == 0);
	CHECK_EQ(r.p[8192], 0);
	r.p[8193] = 3; /* lost */
	r.p[SLOT - 1] = 3;
	CHECK_EQ(r.p[100], 1);
	CHECK(os_window_mend(r.w)); /* still short */
	CHECK_EQ(r.p[8193], 3);
	REQUIRE(ftruncate(r.fd, SLOT) == 0 && pwrite(r.fd, "ab", 2, 8192) == 2);
	os_window_mend(r.w);
	CHECK_EQ(r.p[8192], 'a');
	CHECK_EQ(r.p[8193], 'b');
	CHECK(!os_window_mend(r.w));
	tear_down(&r);
}

TEST(a_short_file_is_found_without_a_signal)
{
	struct rig r;

	set_up(&r, SLOT);
	REQUIRE(os_window_map(r.w, 0, SLOT, r.fd, 0, true) == 0);
	CHECK(!os_window_cut(r.w, false));
	REQUIRE(ftruncate(r.fd, 100) == 0);
	CHECK(os_window_cut(r.w, false));
	CHECK(!os_window_cut(r.w, false));
	/* One that was short from the start is none that has become shorter. */
	REQUIRE(os_window_map(r.w, 0, SLOT, r.fd, 0, true) == 0);
	CHECK(!os_window_cut(r.w, false));
	CHECK(os_window_cut(r.w, true));
	CHECK_EQ(r.p[4096], 0);
	tear_down(&r);
}

TEST(a_write_to_what_may_only_be_read_changes_no_file)
{
	struct rig r;

	set_up(&r, SLOT);
	REQUIRE(pwrite(r.fd, "abc", 3, 0) == 3);
	REQUIRE(os_window_map(r.w, 0, SLOT, r.fd, 0, false) == 0);
	CHECK_EQ(r.p[1], 'b');
	r.p[1] = 'x';
	CHECK_EQ(in_file(&r, 1), 'b');
	tear_down(&r);
}

TEST(nothing_outside_the_window_is_mapped)
{
	struct rig r;
	int ends[2], ro, path;
	char name[64];

	set_up(&r, SLOT);
	CHECK_EQ(os_window_map(r.w, SLOTS * SLOT, SLOT, r.fd, 0, true), -EINVAL);
	CHECK_EQ(os_window_map(r.w, 0, (SLOTS + 1) * SLOT, r.fd, 0, true), -EINVAL);
	CHECK_EQ(os_window_map(r.w, SLOT, -(uint64_t)SLOT, r.fd, 0, true), -EINVAL);
	CHECK_EQ(os_window_map(r.w, -(uint64_t)SLOT, 2 * SLOT, r.fd, 0, true), -EINVAL);
	CHECK_EQ(os_window_map(r.w, 4096, SLOT, r.fd, 0, true), -EINVAL);
	CHECK_EQ(os_window_map(r.w, 0, 4096, r.fd, 0, true), -EINVAL);
	CHECK_EQ(os_window_map(r.w, 0, 0, r.fd, 0, true), -EINVAL);
	CHECK_EQ(os_window_map(r.w, 0, SLOT, r.fd, 1, true), -EINVAL);
	CHECK_EQ(os_window_map(r.w, 0, SLOT, r.fd, INT64_MAX - 4095, true), -EINVAL);
	CHECK_EQ(os_window_unmap(r.w, 0, (SLOTS + 1) * SLOT), -EINVAL);
	/* no regular file, or not opened for it */
	REQUIRE(pipe(ends) == 0);
	CHECK_EQ(os_window_map(r.w, 0, SLOT, ends[0], 0, false), -EACCES);
	CHECK_EQ(os_window_map(r.w, 0, SLOT, -1, 0, false), -EACCES);
	snprintf(name, sizeof(name), "/proc/self/fd/%d", r.fd);
	ro = open(name, O_RDONLY | O_CLOEXEC);
	path = open(name, O_PATH | O_CLOEXEC);
	REQUIRE(ro >= 0 && path >= 0);
	CHECK_EQ(os_window_map(r.w, 0, SLOT, ro, 0, true), -EACCES);
	CHECK_EQ(os_window_map(r.w, 0, SLOT, path, 0, false), -EACCES);
	CHECK_EQ(os_window_mapped(r.w), 0);
	CHECK_EQ(os_window_map(r.w, 0, SLOT, ro, 0, false), 0);
	CHECK_EQ(os_window_mapped(r.w), 1);
	close(ends[0]);
	close(ends[1]);
	close(ro);
	close(path);
	tear_down(&r);
}

TEST(a_new_file_takes_the_place_of_another)
{
	struct rig r;
	int other;

	set_up(&r, SLOT);
	other = memfd_create("o", MFD_CLOEXEC);
	REQUIRE(other >= 0 && ftruncate(other, SLOT) == 0 && pwrite(other, "o", 1, 0) == 1);
	for (int i = 0; i < 3000; i++) /* more than descriptors and mappings would last for */
		REQUIRE(os_window_map(r.w, 0, SLOT, i % 2 ? other : r.fd, 0, true) == 0);
	CHECK_EQ(os_window_mapped(r.w), 1);
	CHECK_EQ(r.p[0], 'o');
	close(other);
	tear_down(&r);
}

TEST_MAIN()
