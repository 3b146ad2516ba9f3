/* SPDX-License-Identifier: MIT */
#include "lib/image/probe-internal.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include "lib/base/cleanup.h"
#include "lib/base/le.h"
#include "lib/base/test.h"
#include "lib/image/ext4.h"

enum { SIZE = 32 << 20 };

/* A memory file with a fresh file system. */
static int disk(void)
{
	const uint8_t id[16] = {9, 8, 7};
	int fd = memfd_create("disk", MFD_CLOEXEC);
	const struct ext4_config cfg = {
		.fd = fd, .size = SIZE, .uuid = id, .hash_seed = id, .now = time(NULL)};
	struct ext4 *x;
	struct err e;

	if (fd < 0 || ext4_new(&x, &cfg, &e) < 0 || ext4_finish(x, &e) < 0)
		abort();
	ext4_free(x);
	return fd;
}

static void poke(int fd, off_t off, const void *p, size_t len)
{
	if (pwrite(fd, p, len, off) != (ssize_t)len)
		abort();
}

TEST(fresh_ext4)
{
	cleanup_close int fd = disk();
	struct image_info i;
	struct err e = {0};

	CHECK_EQ(image_probe(fd, &i), 0);
	CHECK_EQ(i.kind, IMAGE_EXT4);
	CHECK_EQ(i.size, SIZE);
	CHECK_EQ(i.uuid[0], 9);
	CHECK(!i.needs_recovery && !i.has_errors);
	CHECK_EQ(image_check(fd, "d", &e), 0);
}

TEST(truncated)
{
	cleanup_close int fd = disk();
	struct err e = {0};

	REQUIRE(ftruncate(fd, SIZE - 4096) == 0);
	CHECK_EQ(image_check(fd, "/x/d", &e), -EINVAL);
	CHECK_STR(e.text,
		"disk /x/d cannot be used: it holds an ext4 file system whose end is missing");
}

/* Any bit of the superblock: the checksum sees it, except where the magic itself is gone. */
TEST(damaged_superblock)
{
	cleanup_close int fd = disk();
	struct image_info i;
	uint8_t sb[1024];

	REQUIRE(pread(fd, sb, 1024, 1024) == 1024);
	for (unsigned off = 0; off < 1024; off++) {
		uint8_t bad = sb[off] ^ 1 << off % 8;

		poke(fd, 1024 + off, &bad, 1);
		CHECK_EQ(image_probe(fd, &i), 0);
		if (i.kind == IMAGE_EXT4 || i.kind == IMAGE_TRUNCATED) {
			printf("# byte %u: taken\n", off);
			/* the bit that says that there is a checksum */
			CHECK(off == 101);
		}
		poke(fd, 1024 + off, &sb[off], 1);
	}
}

TEST(zeroed_and_scribbled)
{
	cleanup_close int fd = disk();
	static uint8_t zero[PROBE_BYTES];
	struct image_info i;
	struct err e = {0};

	poke(fd, 0, zero, sizeof(zero));
	CHECK_EQ(image_probe(fd, &i), 0);
	CHECK_EQ(i.kind, IMAGE_EMPTY);
	CHECK_EQ(image_check(fd, "d", &e), -EINVAL);
	poke(fd, 0, "nonsense", 8);
	CHECK_EQ(image_probe(fd, &i), 0);
	CHECK_EQ(i.kind, IMAGE_UNKNOWN);
	REQUIRE(ftruncate(fd, 0) == 0);
	CHECK_EQ(image_probe(fd, &i), 0);
	CHECK_EQ(i.kind, IMAGE_EMPTY);
}

TEST(foreign)
{
	static uint8_t buf[PROBE_BYTES];
	struct image_info i;

	memcpy(buf, "QFI\xfb", 4);
	image_probe_bytes(buf, sizeof(buf), SIZE, &i);
	CHECK_EQ(i.kind, IMAGE_FOREIGN);
	CHECK_STR(i.what, "a qcow2 container");
}

/* A disk of one file system is none of another. */
static bool image_check_another_fs(const uint8_t *head)
{
	cleanup_close int fd = memfd_create("disk", MFD_CLOEXEC);
	struct err e = {0};

	if (fd < 0 || ftruncate(fd, SIZE) < 0 || pwrite(fd, head, PROBE_BYTES, 0) != PROBE_BYTES)
		return false;
	return image_check_fs(fd, "d", "xfs", &e) == 0 &&
	       image_check_fs(fd, "d", "ext4", &e) == -EINVAL &&
	       strstr(e.text, "it holds an xfs file system");
}

TEST(xfs)
{
	static uint8_t buf[PROBE_BYTES];
	struct image_info i;

	memcpy(buf, "XFSB", 4);
	be32_put(buf + 4, 4096);
	be64_put(buf + 8, SIZE / 4096);
	image_probe_bytes(buf, sizeof(buf), SIZE, &i);
	CHECK_EQ(i.kind, IMAGE_XFS);
	CHECK_EQ(i.size, SIZE);
	CHECK_STR(image_fs(i.kind), "xfs");
	CHECK(image_check_another_fs(buf));
	image_probe_bytes(buf, sizeof(buf), SIZE - 1, &i);
	CHECK_EQ(i.kind, IMAGE_TRUNCATED);
	be64_put(buf + 8, UINT64_MAX / 2);
	image_probe_bytes(buf, sizeof(buf), SIZE, &i);
	CHECK_EQ(i.kind, IMAGE_CORRUPT);
	be32_put(buf + 4, 4095);
	image_probe_bytes(buf, sizeof(buf), SIZE, &i);
	CHECK_EQ(i.kind, IMAGE_CORRUPT);
	image_probe_bytes(buf, 40, SIZE, &i);
	CHECK_EQ(i.kind, IMAGE_UNKNOWN);
}

TEST(btrfs)
{
	static uint8_t buf[PROBE_BYTES];
	uint8_t *sb = buf + 0x10000;
	struct image_info i;

	memcpy(sb + 0x40, "_BHRfS_M", 8);
	le64_put(sb + 0x70, SIZE);
	le64_put(sb + 0x88, 1);
	image_probe_bytes(buf, sizeof(buf), SIZE, &i);
	CHECK_EQ(i.kind, IMAGE_BTRFS);
	CHECK_EQ(i.size, SIZE);
	CHECK_STR(image_fs(i.kind), "btrfs");
	image_probe_bytes(buf, sizeof(buf), SIZE / 2, &i);
	CHECK_EQ(i.kind, IMAGE_TRUNCATED);
	le64_put(sb + 0x88, 2);
	image_probe_bytes(buf, sizeof(buf), SIZE, &i);
	CHECK_EQ(i.kind, IMAGE_FOREIGN);
	CHECK(strstr(i.what, "parts of a btrfs"));
	image_probe_bytes(buf, 0x10044, SIZE, &i);
	CHECK_EQ(i.kind, IMAGE_UNKNOWN);
}

TEST_MAIN()
