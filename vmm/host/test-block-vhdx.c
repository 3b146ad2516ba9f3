/* SPDX-License-Identifier: MIT */
/* What is the back end's own: the rest is lib/vhdx's, and tested there. */
#include "vmm/host/block-vhdx.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include "lib/base/attr.h"
#include "lib/base/test.h"
#include "lib/os/thread.h"
#include "lib/vhdx/vhdx.h"

enum { MIB = 1 << 20, SIZE = 64 * MIB };

static struct loop *loop;
static char path[] = "/tmp/wslx-test-disk.XXXXXX";
static struct err e;

static int reopen(struct blk **ret, bool readonly)
{
	e = (struct err){0};
	return blk_vhdx_open(ret,
		&(struct blk_file_config){
			.path = path, .fd = -1, .readonly = readonly, .loop = loop},
		&e);
}

static struct blk *fresh(void)
{
	struct blk *b = NULL;
	int fd;

	if (!loop && loop_new(&loop) < 0)
		abort();
	strcpy(path + sizeof(path) - 7, "XXXXXX");
	fd = mkstemp(path);
	if (fd < 0 ||
		vhdx_create(&vhdx_fd_io, &fd, &(struct vhdx_create_opts){.size = SIZE}, &e) < 0)
		abort();
	close(fd);
	if (reopen(&b, false) < 0) {
		printf("# %s\n", e.text);
		abort();
	}
	return b;
}

static void gone(struct blk *b)
{
	blk_free(b);
	unlink(path);
}

static int io(struct blk *b, enum blk_op op, uint64_t off, void *buf, uint64_t len)
{
	struct iovec iov[3] = {{buf, len / 3}, {buf, 0}, {(char *)buf + len / 3, len - len / 3}};
	struct blk_req r = {.op = op, .off = off, .len = len, .iov = iov, .iovcnt = 3};

	return blk_submit(b, &r);
}

static int result;

static void on_done(struct blk_req *r, int res)
{
	result = res;
}

static int slow(struct blk *b, enum blk_op op, bool may_unmap, uint64_t off, uint64_t len)
{
	struct blk_req r = {
		.op = op, .off = off, .len = len, .may_unmap = may_unmap, .done = on_done};
	int res = blk_submit(b, &r);

	if (res != BLK_PENDING)
		return res;
	result = 1;
	blk_drain(b);
	return result;
}

static bool all(const uint8_t *p, size_t n, uint8_t value)
{
	while (n--)
		if (*p++ != value)
			return false;
	return true;
}

TEST(reads_writes_and_unmaps)
{
	static uint8_t buf[4 * MIB], back[4 * MIB];
	struct blk *b = fresh(), *other;
	struct stat st;

	CHECK_EQ(b->geo.size, SIZE);
	CHECK_EQ(b->geo.block_size, 512);
	CHECK_EQ(b->geo.phys_block_size, 4096);
	CHECK_EQ(reopen(&other, false), -EBUSY);
	memset(buf, 0xaa, sizeof(buf));
	memset(back, 1, sizeof(back));
	CHECK_EQ(io(b, BLK_READ, MIB - 512, back, 3 * MIB), 0);
	CHECK(all(back, 3 * MIB, 0) && all(back + 3 * MIB, MIB, 1));
	CHECK_EQ(io(b, BLK_WRITE, MIB - 512, buf, 3 * MIB), 0);
	CHECK_EQ(io(b, BLK_READ, MIB - 1024, back, 3 * MIB + 1024), 0);
	CHECK(all(back, 512, 0) && all(back + 512, 3 * MIB, 0xaa));
	CHECK_EQ(slow(b, BLK_ZERO, /* may_unmap= */ false, MIB, 512), 0);
	CHECK_EQ(slow(b, BLK_DISCARD, true, 2 * MIB, MIB), 0);
	CHECK_EQ(io(b, BLK_READ, MIB - 512, back, 3 * MIB), 0);
	CHECK(all(back, 512, 0xaa) && all(back + 512, 512, 0) &&
		all(back + 1024, MIB - 512, 0xaa) && all(back + MIB + 512, MIB, 0) &&
		all(back + 2 * MIB + 512, MIB - 512, 0xaa));
	CHECK_EQ(slow(b, BLK_FLUSH, false, 0, 0), 0);
	CHECK_EQ(io(b, BLK_WRITE, SIZE - 512, buf, 1024), -EINVAL);
	CHECK_EQ(slow(b, BLK_DISCARD, true, SIZE, 512), -EINVAL);
	/* A whole block's space is another's. */
	stat(path, &st);
	CHECK_EQ(io(b, BLK_WRITE, 20 * MIB, buf, 512), 0);
	CHECK_EQ(st.st_size, 8 * MIB);
	stat(path, &st);
	CHECK_EQ(st.st_size, 8 * MIB);
	gone(b);
}

TEST(what_was_flushed_is_there_again)
{
	static uint8_t buf[MIB];
	struct blk *b = fresh();

	memset(buf, 0x5a, sizeof(buf));
	CHECK_EQ(io(b, BLK_WRITE, 7 * MIB + 512, buf, MIB), 0);
	blk_free(b);
	REQUIRE(reopen(&b, true) == 0);
	memset(buf, 0, sizeof(buf));
	CHECK_EQ(io(b, BLK_READ, 7 * MIB + 512, buf, MIB), 0);
	CHECK(all(buf, MIB, 0x5a));
	CHECK_EQ(io(b, BLK_WRITE, 0, buf, 512), -EROFS);
	CHECK_EQ(slow(b, BLK_DISCARD, true, 0, 512), -EROFS);
	gone(b);
}

TEST(a_raw_disk_is_refused)
{
	struct blk *b = fresh();

	blk_free(b);
	CHECK_EQ(truncate(path, 0), 0);
	CHECK_EQ(truncate(path, SIZE), 0);
	CHECK_EQ(reopen(&b, false), -EINVAL);
	CHECK(strstr(e.text, path) && strstr(e.text, "not a VHDX file"));
	unlink(path);
}

/* Threads that write, read and discard blocks of their own, so that these change places all the
 * time, beside flushes. */

enum { THREADS = 3, ROUNDS = 150 };

static struct blk *shared;
static atomic_int bad;

static void busy(void *ctx)
{
	unsigned me = (unsigned)(uintptr_t)ctx;
	static _Thread_local uint8_t buf[64 << 10];
	uint32_t x = me + 1;

	for (unsigned i = 0; i < ROUNDS; i++) {
		uint64_t block;

		x = x * 1664525 + 1013904223;
		block = (x >> 16) % 16 * THREADS + me;
		memset(buf, (int)(i + 1), sizeof(buf));
		bad += io(shared, BLK_WRITE, block * MIB + 4096, buf, sizeof(buf)) != 0;
		os_thread_yield();
		memset(buf, 0, sizeof(buf));
		bad += io(shared, BLK_READ, block * MIB + 4096, buf, sizeof(buf)) != 0;
		bad += !all(buf, sizeof(buf), (uint8_t)(i + 1));
	}
}

TEST(blocks_change_places_under_threads)
{
	struct os_thread *t[THREADS];
	static struct blk_req r[2 * ROUNDS];
	unsigned n = 0;

	shared = fresh();
	bad = 0;
	for (unsigned i = 0; i < THREADS; i++)
		REQUIRE(os_thread_start(&t[i], "test", busy, (void *)(uintptr_t)i) == 0);
	/* The blocks behind those, which nobody else uses. */
	for (unsigned i = 0; i < ROUNDS; i++) {
		uint8_t one[512] = {1};

		CHECK_EQ(io(shared, BLK_WRITE, (48 + i % 16) * (uint64_t)MIB, one, 512), 0);
		r[n] = (struct blk_req){.op = BLK_DISCARD,
			.off = (48 + i % 16) * (uint64_t)MIB,
			.len = MIB,
			.done = on_done};
		CHECK_EQ(blk_submit(shared, &r[n++]), BLK_PENDING);
		r[n] = (struct blk_req){.op = BLK_FLUSH, .done = on_done};
		CHECK_EQ(blk_submit(shared, &r[n++]), BLK_PENDING);
		if (i % 8 == 7)
			blk_drain(shared);
	}
	for (unsigned i = 0; i < THREADS; i++)
		os_thread_join(t[i]);
	blk_drain(shared);
	CHECK_EQ(bad, 0);
	gone(shared);
}

TEST_MAIN()
