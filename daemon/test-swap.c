/* SPDX-License-Identifier: MIT */
#include "lib/base/test.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include "daemon/swap.h"
#include "lib/base/io.h"

static char dir[64], path[100];

static void set_up(void)
{
	strcpy(dir, "/tmp/test-swap-XXXXXX");
	if (!mkdtemp(dir))
		abort();
	snprintf(path, sizeof(path), "%s/swap", dir);
}

static void tear_down(void)
{
	unlink(path);
	CHECK_EQ(rmdir(dir), 0); /* nothing else was left there */
}

static off_t size_of(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 ? st.st_size : -1;
}

TEST(a_file_of_ours_has_no_name)
{
	struct err e = {0};
	int fd;

	set_up();
	fd = swap_file_open(NULL, dir, 3 << 20, &e);
	REQUIRE(fd >= 0);
	CHECK_EQ(size_of(fd), 3 << 20);
	close(fd);
	/* Nor has one that was made where the user wants it. */
	fd = swap_file_open(path, "/nowhere", 5 << 20, &e);
	REQUIRE(fd >= 0);
	CHECK_EQ(size_of(fd), 5 << 20);
	CHECK(access(path, F_OK) < 0);
	close(fd);
	tear_down();
}

TEST(an_existing_file_is_used_only_if_it_is_swap)
{
	char page[2 << 20] = {0};
	struct err e = {0};
	int fd, again;

	set_up();
	memcpy(page + 4086, "SWAPSPACE2", 10);
	page[1024] = 1;
	REQUIRE(io_replace_file(path, page, sizeof(page), 0600) == 0);
	fd = swap_file_open(path, dir, 8 << 20, &e);
	REQUIRE(fd >= 0);
	CHECK_EQ(size_of(fd), 2 << 20);
	again = swap_file_open(path, dir, 8 << 20, &e);
	CHECK_EQ(again, -EBUSY);
	close(fd);
	CHECK(access(path, F_OK) == 0);

	REQUIRE(io_replace_file(path, "", 0, 0600) == 0);
	fd = swap_file_open(path, dir, 8 << 20, &e);
	REQUIRE(fd >= 0);
	CHECK_EQ(size_of(fd), 8 << 20);
	close(fd);

	REQUIRE(io_replace_file(path, "my thesis", 9, 0600) == 0);
	CHECK_EQ(swap_file_open(path, dir, 8 << 20, &e), -EINVAL);
	CHECK(strstr(e.text, "something other than swap") != NULL);
	unlink(path);
	REQUIRE(mkdir(path, 0700) == 0);
	CHECK(swap_file_open(path, dir, 8 << 20, &e) < 0);
	rmdir(path);
	tear_down();
}

TEST_MAIN()
