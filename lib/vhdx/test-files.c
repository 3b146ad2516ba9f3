/* SPDX-License-Identifier: MIT */
/* Files of ours and of others, whole and damaged. */
#define TEST_TIMEOUT_S 120
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include "lib/base/attr.h"
#include "lib/base/cleanup.h"
#include "lib/base/crc32c.h"
#include "lib/base/le.h"
#include "lib/base/test.h"
#include "lib/vhdx/fake-file.h"
#include "lib/vhdx/fake-qemu.h"

/* Where things are in files made by vhdx_create(). */
enum {
	HEADERS = 64 << 10,
	REGIONS = 192 << 10,
	LOG = 1 << 20,
	METADATA = 2 << 20,
	BAT = 3 << 20,
	BLOCKS = 4 << 20,
	MIB = 1 << 20,
};

static struct fake_file file;
static struct vhdx *disk;
static struct err e;

static int make(uint64_t size, uint32_t block_size, bool fixed)
{
	fake_file_init(&file, false);
	return vhdx_create(&fake_file_io, &file,
		&(struct vhdx_create_opts){.size = size, .block_size = block_size, .fixed = fixed},
		&e);
}

static int open_it(bool readonly)
{
	e = (struct err){0};
	disk = NULL;
	return vhdx_open(&disk, &fake_file_io, &file, readonly, &e);
}

static int shut(void)
{
	int r = disk ? vhdx_close(disk) : 0;

	disk = NULL;
	return r;
}

static void done(void)
{
	shut();
	fake_file_done(&file);
}

static bool all(const uint8_t *p, size_t n, uint8_t value)
{
	while (n--)
		if (*p++ != value)
			return false;
	return true;
}

TEST(reads_what_was_written)
{
	static uint8_t buf[3 * MIB], back[3 * MIB];
	const uint64_t off = 5 * MIB + 1536;

	REQUIRE(make(64 * MIB, 0, false) == 0 && open_it(false) == 0);
	CHECK_EQ(vhdx_info(disk)->size, 64 * MIB);
	CHECK_EQ(vhdx_info(disk)->block_size, MIB);
	CHECK_EQ(vhdx_info(disk)->sector_size, 512);
	CHECK_EQ(vhdx_info(disk)->phys_sector_size, 4096);
	CHECK(!vhdx_info(disk)->fixed);
	CHECK_EQ(vhdx_read(disk, back, sizeof(back), off), 0);
	CHECK(all(back, sizeof(back), 0));
	for (size_t i = 0; i < sizeof(buf); i++)
		buf[i] = (uint8_t)(i * 7 + i / 512);
	CHECK_EQ(vhdx_write(disk, buf, sizeof(buf) - 1024, off), 0);
	CHECK_EQ(shut(), 0);
	REQUIRE(open_it(true) == 0);
	CHECK_EQ(vhdx_read(disk, back, sizeof(back), off), 0);
	CHECK(!memcmp(buf, back, sizeof(back) - 1024));
	CHECK(all(back + sizeof(back) - 1024, 1024, 0));
	CHECK_EQ(vhdx_read(disk, back, 4096, off - 4096), 0);
	CHECK(all(back, 4096, 0));
	CHECK_EQ(vhdx_write(disk, buf, 512, 0), -EROFS);
	CHECK_EQ(vhdx_read(disk, back, 512, 64 * MIB), -EINVAL);
	CHECK_EQ(vhdx_read(disk, back, 512, UINT64_MAX - 511), -EINVAL);
	done();
}

/* 256 blocks and the 16 of a chunk, so that the table has bitmap entries between. */
TEST(bitmap_entries_are_left_out)
{
	uint8_t buf[512], back[512];
	const uint64_t block = 256ull * MIB;

	fake_file_init(&file, false);
	REQUIRE(vhdx_create(&fake_file_io, &file,
			&(struct vhdx_create_opts){.size = 100 * block, .block_size = 256u * MIB},
			&e) == 0);
	REQUIRE(open_it(false) == 0);
	done();
	REQUIRE(make(40ull << 30, 32 * MIB, false) == 0 && open_it(false) == 0);
	/* Chunks of 128 blocks: 4 GiB. */
	memset(buf, 7, sizeof(buf));
	CHECK_EQ(vhdx_write(disk, buf, 512, 4ull << 30), 0);
	CHECK_EQ(shut(), 0);
	CHECK_EQ(le64_get(file.now + BAT + 128 * 8), 0);
	CHECK_EQ(le64_get(file.now + BAT + 129 * 8), BLOCKS | 6);
	REQUIRE(open_it(true) == 0);
	CHECK_EQ(vhdx_read(disk, back, 512, 4ull << 30), 0);
	CHECK(all(back, 512, 7));
	done();
}

TEST(unmapped_space_is_used_again)
{
	static uint8_t buf[8 * MIB];
	uint64_t size;

	REQUIRE(make(64 * MIB, 0, false) == 0 && open_it(false) == 0);
	memset(buf, 0x55, sizeof(buf));
	CHECK_EQ(vhdx_write(disk, buf, sizeof(buf), 0), 0);
	CHECK_EQ(vhdx_flush(disk), 0);
	size = file.size;
	for (unsigned i = 1; i < 8; i++) {
		CHECK_EQ(vhdx_unmap(disk, (i - 1) * 8ull * MIB, 8 * MIB), 0);
		CHECK_EQ(vhdx_unmapped(disk), 8 * MIB);
		CHECK_EQ(vhdx_flush(disk), 0);
		CHECK_EQ(vhdx_unmapped(disk), 0);
		CHECK(all(file.now + BLOCKS, 8 * MIB, 0));
		CHECK_EQ(vhdx_write(disk, buf, 512, i * 8ull * MIB + 1024), 0);
		CHECK_EQ(vhdx_read(disk, buf, MIB, i * 8ull * MIB), 0);
		CHECK(all(buf, 1024, 0) && all(buf + 1024, 512, 0x55) &&
			all(buf + 1536, MIB - 1536, 0));
		memset(buf, 0x55, sizeof(buf));
		CHECK_EQ(vhdx_write(disk, buf, sizeof(buf), i * 8ull * MIB), 0);
	}
	CHECK_EQ(file.size, size);
	/* A part of a block stays in its place. */
	CHECK_EQ(vhdx_unmap(disk, 56ull * MIB + 4096, MIB), 0);
	CHECK_EQ(vhdx_unmapped(disk), 0);
	CHECK_EQ(vhdx_read(disk, buf, 2 * MIB, 56ull * MIB), 0);
	CHECK(all(buf, 4096, 0x55) && all(buf + 4096, MIB, 0) &&
		all(buf + 4096 + MIB, MIB - 4096, 0x55));
	done();
}

/* A hundred changed sectors of the table are one entry of the log, more are several. */
TEST(changes_of_the_table_are_batched)
{
	uint8_t one[512] = {1};
	uint64_t calls;

	REQUIRE(make(64ull << 30, 0, false) == 0 && open_it(false) == 0);
	CHECK_EQ(vhdx_write(disk, one, 512, 0), 0);
	for (unsigned i = 0; i < 100; i++)
		CHECK_EQ(vhdx_write(disk, one, 512, (uint64_t)i * MIB), 0);
	calls = file.calls;
	CHECK_EQ(vhdx_flush(disk), 0);
	/* Flush, entry, flush, one sector of the table. */
	CHECK_EQ(file.calls - calls, 4);
	calls = file.calls;
	CHECK_EQ(vhdx_flush(disk), 0);
	CHECK_EQ(file.calls - calls, 1);
	done();
}

TEST(fixed_disk_keeps_its_blocks)
{
	static uint8_t buf[2 * MIB];
	uint64_t size;

	REQUIRE(make(16 * MIB, 2 * MIB, true) == 0 && open_it(false) == 0);
	CHECK(vhdx_info(disk)->fixed);
	size = file.size;
	memset(buf, 3, sizeof(buf));
	CHECK_EQ(vhdx_write(disk, buf, sizeof(buf), 3 * MIB), 0);
	CHECK_EQ(vhdx_unmap(disk, 0, 16 * MIB), 0);
	CHECK_EQ(vhdx_read(disk, buf, sizeof(buf), 3 * MIB), 0);
	CHECK(all(buf, sizeof(buf), 0));
	CHECK_EQ(shut(), 0);
	CHECK_EQ(file.size, size);
	CHECK_EQ(le64_get(file.now + BAT + 8), (BLOCKS + 2 * MIB) | 6);
	done();
}

TEST(sectors_of_4096_bytes)
{
	fake_file_init(&file, false);
	REQUIRE(vhdx_create(&fake_file_io, &file,
			&(struct vhdx_create_opts){.size = 1ull << 40, .sector_size = 4096},
			&e) == 0);
	REQUIRE(open_it(true) == 0);
	CHECK_EQ(vhdx_info(disk)->sector_size, 4096);
	done();
	fake_file_init(&file, false);
	CHECK_EQ(vhdx_create(&fake_file_io, &file,
			 &(struct vhdx_create_opts){.size = MIB + 512, .sector_size = 4096}, &e),
		-EINVAL);
	CHECK_EQ(vhdx_create(&fake_file_io, &file,
			 &(struct vhdx_create_opts){.size = MIB, .block_size = 3 << 20}, &e),
		-EINVAL);
	CHECK_EQ(vhdx_create(
			 &fake_file_io, &file, &(struct vhdx_create_opts){.size = 65ull << 40}, &e),
		-EFBIG);
	done();
}

TEST(reading_changes_nothing)
{
	static uint8_t before[8 * MIB];
	uint8_t buf[512];

	REQUIRE(make(16 * MIB, 0, false) == 0 && open_it(false) == 0);
	memcpy(before, file.now, sizeof(before));
	CHECK_EQ(vhdx_read(disk, buf, 512, 0), 0);
	CHECK_EQ(vhdx_flush(disk), 0);
	CHECK_EQ(shut(), 0);
	CHECK(!memcmp(before, file.now, sizeof(before)));
	done();
}

/* Small growth stays in the table's MiB; a large one moves it. */
TEST(grows)
{
	static uint8_t buf[MIB];

	REQUIRE(make(10 * MIB + 512, 0, false) == 0 && open_it(false) == 0);
	memset(buf, 9, sizeof(buf));
	CHECK_EQ(vhdx_write(disk, buf, 1024, 10 * MIB - 512), 0);
	CHECK_EQ(vhdx_grow(disk, 10 * MIB, &e), -EINVAL);
	CHECK_EQ(vhdx_grow(disk, 20 * MIB + 100, &e), -EINVAL);
	CHECK_EQ(vhdx_grow(disk, 20 * MIB, &e), 0);
	CHECK_EQ(vhdx_info(disk)->size, 20 * MIB);
	CHECK_EQ(vhdx_write(disk, buf, 512, 20 * MIB - 512), 0);
	CHECK_EQ(vhdx_grow(disk, 300ull << 30, &e), 0);
	CHECK_EQ(vhdx_write(disk, buf, 512, (300ull << 30) - 512), 0);
	CHECK_EQ(shut(), 0);
	REQUIRE(open_it(false) == 0);
	CHECK_EQ(vhdx_info(disk)->size, 300ull << 30);
	CHECK_EQ(vhdx_read(disk, buf, MIB, 10 * MIB - 512), 0);
	CHECK(all(buf, 1024, 9) && all(buf + 1024, MIB - 1024, 0));
	CHECK_EQ(vhdx_read(disk, buf, MIB, 20 * MIB - 512), 0);
	CHECK(all(buf, 512, 9) && all(buf + 512, MIB - 512, 0));
	CHECK_EQ(vhdx_read(disk, buf, 512, (300ull << 30) - 512), 0);
	CHECK(all(buf, 512, 9));
	done();
}

/* Damage, and what becomes of it. */

static void fix_header(unsigned copy)
{
	uint8_t *h = file.now + HEADERS * (copy + 1);

	le32_put(h + 4, 0);
	le32_put(h + 4, crc32c(0, h, 4096));
}

static void fix_regions(void)
{
	for (unsigned i = 0; i < 2; i++) {
		uint8_t *t = file.now + REGIONS + i * 65536;

		le32_put(t + 4, 0);
		le32_put(t + 4, crc32c(0, t, 65536));
	}
}

/* Expects that it is refused so, and that the message says why. */
static bool refused(int r, const char *why)
{
	int got = open_it(false);

	if (got == r && strstr(e.text, why))
		return true;
	printf("# %d: %s; want %d: ...%s...\n", got, e.text, r, why);
	return false;
}

static void fresh(void)
{
	if (make(8 * MIB, 0, true) < 0)
		abort();
}

TEST(damaged_headers)
{
	fresh();
	file.now[0] ^= 1;
	CHECK(refused(-EINVAL, "not a VHDX file"));
	file.now[0] ^= 1;
	file.now[HEADERS + 100] ^= 1;
	CHECK_EQ(open_it(true), 0);
	shut();
	file.now[HEADERS * 2 + 100] ^= 1;
	CHECK(refused(-EINVAL, "both headers"));
	done();
	fresh();
	le16_put(file.now + HEADERS * 2 + 66, 2);
	fix_header(1);
	CHECK(refused(-EOPNOTSUPP, "version 2"));
	/* The older one is not looked at. */
	le16_put(file.now + HEADERS * 2 + 66, 1);
	le64_put(file.now + HEADERS * 2 + 72, 100 * MIB);
	fix_header(1);
	CHECK(refused(-EINVAL, "log lies"));
	le64_put(file.now + HEADERS * 2 + 72, MIB + 4096);
	fix_header(1);
	CHECK(refused(-EINVAL, "log lies"));
	le32_put(file.now + HEADERS * 2 + 68, 128 * MIB);
	fix_header(1);
	CHECK(refused(-EFBIG, "log"));
	done();
	fake_file_init(&file, false);
	CHECK(refused(-EINVAL, "not a VHDX file"));
	done();
}

TEST(damaged_tables)
{
	static const struct {
		uint32_t at, value;
		int r;
		const char *why;
	} cases[] = {
		{REGIONS + 16, 1, -EOPNOTSUPP, "region that is not known"},
		{REGIONS + 16 + 28, 0, 0, ""}, /* required or not: it is known */
		{REGIONS + 16 + 16, 1000 * MIB, -EINVAL, "region 0 lies"},
		{REGIONS + 16 + 16, METADATA, -EINVAL, "region 1 overlaps"},
		{REGIONS + 16 + 16, LOG, -EINVAL, "region 0 overlaps"},
		{REGIONS + 16 + 24, 4096, -EINVAL, "region 0 lies"},
		{REGIONS + 8, 1, -EINVAL, "a region is missing"},
		{REGIONS + 8, 3, -EINVAL, "region 2 lies"},
		{REGIONS + 8, 4000, -EINVAL, "both region tables"},
		{METADATA, 0, -EINVAL, "metadata table"},
		{METADATA + 8, 4 << 16, -EINVAL, "a metadata item is missing"},
		{METADATA + 8, 5000u << 16, -EINVAL, "metadata table"},
		{METADATA + 32, 5, -EOPNOTSUPP, "metadata item that is not known"},
		{METADATA + 32 + 16, 100, -EINVAL, "a metadata item cannot be"},
		{METADATA + 32 + 16, MIB - 4, -EINVAL, "a metadata item cannot be"},
		{METADATA + 32 + 20, 7, -EINVAL, "a metadata item cannot be"},
		{METADATA + 65536, 512, -EINVAL, "block size"},
		{METADATA + 65536, 3 << 20, -EINVAL, "block size"},
		{METADATA + 65536, 512 << 20, -EINVAL, "block size"},
		{METADATA + 65536 + 4, 2, -EOPNOTSUPP, "differencing"},
		{METADATA + 65536 + 8, 0, -EINVAL, "its size"},
		{METADATA + 65536 + 8, 1000, -EINVAL, "its size"},
		{METADATA + 65536 + 12, 1 << 20, -EFBIG, "64 TiB"},
		{METADATA + 65536 + 12, 1 << 10, -EINVAL, "too short"},
		{METADATA + 65536 + 32, 520, -EINVAL, "sector sizes"},
		{BAT, 0, 0, ""},
		{BAT, BLOCKS | 7, -EINVAL, "block 0 is in a state"},
		{BAT, BLOCKS | 4, -EINVAL, "block 0 is in a state"},
		{BAT, 6, -EINVAL, "block 0 overlaps something or is outside"},
		{BAT, (BLOCKS + MIB) | 6, -EINVAL, "block 1 overlaps"},
		{BAT + 8, LOG | 6, -EINVAL, "block 1 overlaps"},
		{BAT + 8, BAT | 6, -EINVAL, "block 1 overlaps"},
		{BAT + 16, 0x7ff00006, -EINVAL, "block 2 overlaps something or is outside"},
	};

	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		int r;

		fresh();
		le32_put(file.now + cases[i].at, cases[i].value);
		if (cases[i].at >= REGIONS && cases[i].at < REGIONS + 65536) {
			memcpy(file.now + REGIONS + 65536, file.now + REGIONS, 65536);
			fix_regions();
		}
		r = open_it(false);
		if (r != cases[i].r || !strstr(e.text, cases[i].why)) {
			printf("# case %u\n", i);
			CHECK_EQ(r, cases[i].r);
			CHECK_STR(e.text, cases[i].why);
		}
		done();
	}
}

/* One damaged region table of two does not matter. */
TEST(second_region_table)
{
	fresh();
	file.now[REGIONS + 5000] ^= 1;
	CHECK_EQ(open_it(true), 0);
	done();
}

/* Space that others left with blocks whose content does not matter: nobody else's, and zero. */
TEST(blocks_that_keep_their_space)
{
	static uint8_t buf[MIB];

	REQUIRE(make(8 * MIB, 0, false) == 0);
	file.size = BLOCKS + 3 * MIB;
	memset(file.now + BLOCKS, 0xee, 3 * MIB);
	le64_put(file.now + BAT, BLOCKS | 3);		       /* unmapped, with a place */
	le64_put(file.now + BAT + 8, BLOCKS | 2);	       /* ... which is taken */
	le64_put(file.now + BAT + 16, (1000ull << 20) | 3);    /* ... outside the file */
	le64_put(file.now + BAT + 24, (BLOCKS + 2 * MIB) | 6); /* content */
	le64_put(file.now + BAT + 32, (BLOCKS + 2 * MIB) | 0); /* means nothing */
	REQUIRE(open_it(false) == 0);
	CHECK_EQ(vhdx_read(disk, buf, MIB, 0), 0);
	CHECK(all(buf, MIB, 0));
	memset(buf, 1, MIB);
	for (unsigned i = 0; i < 8; i++)
		if (i != 3)
			CHECK_EQ(vhdx_write(disk, buf, 512, i * MIB + 512), 0);
	CHECK_EQ(shut(), 0);
	CHECK_EQ(le64_get(file.now + BAT), BLOCKS | 6);
	CHECK_EQ(le64_get(file.now + BAT + 24), (BLOCKS + 2 * MIB) | 6);
	REQUIRE(open_it(true) == 0);
	for (unsigned i = 0; i < 8; i++) {
		CHECK_EQ(vhdx_read(disk, buf, MIB, i * MIB), 0);
		if (i == 3)
			CHECK(all(buf, MIB, 0xee));
		else
			CHECK(all(buf, 512, 0) && all(buf + 512, 512, 1) &&
				all(buf + 1024, MIB - 1024, 0));
	}
	done();
}

/* Logs that others left. */

static const uint8_t log_guid[16] = {1, 2, 3};

/* An entry at a sector of the log, which sets n sectors of the table to values. */
static unsigned put_entry(unsigned at, unsigned tail, uint64_t seq, unsigned n, uint8_t value)
{
	static uint8_t p[(1 + 256) * 4096];
	unsigned sectors = 1 + n;

	memset(p, 0, sizeof(p));
	memcpy(p, "loge", 4);
	le32_put(p + 8, sectors * 4096);
	le32_put(p + 12, tail * 4096);
	le64_put(p + 16, seq);
	le32_put(p + 24, n);
	memcpy(p + 32, log_guid, 16);
	le64_put(p + 48, 5 * MIB);
	le64_put(p + 56, 5 * MIB);
	for (unsigned i = 0; i < n; i++) {
		uint8_t *d = p + 64 + i * 32, *s = p + (1 + i) * 4096;

		memcpy(d, "desc", 4);
		memset(d + 4, value, 12);
		le64_put(d + 16, BLOCKS + i * 4096);
		le64_put(d + 24, seq);
		memset(s, value, 4096);
		memcpy(s, "data", 4);
		le32_put(s + 4, seq >> 32);
		le32_put(s + 4092, (uint32_t)seq);
	}
	le32_put(p + 4, crc32c(0, p, sectors * 4096));
	for (unsigned i = 0; i < sectors; i++)
		memcpy(file.now + LOG + (at + i) % 256 * 4096, p + i * 4096, 4096);
	return (at + sectors) % 256;
}

static void with_log(void)
{
	fresh();
	memcpy(file.now + HEADERS * 2 + 48, log_guid, 16);
	fix_header(1);
}

TEST(log_of_several_entries_around_the_end)
{
	static uint8_t before[8 * MIB];
	unsigned at;

	with_log();
	/* 40 to 43 with the tail in 41; an older run; one whose tail is gone. */
	at = put_entry(200, 200, 40, 10, 0x40);
	at = put_entry(at, 211, 41, 20, 0x41);
	at = put_entry(at, 211, 42, 30, 0x42);
	at = put_entry(at, 211, 43, 1, 0x43);
	put_entry(100, 100, 30, 2, 0x30);
	put_entry(150, 100, 60, 2, 0x60);
	memcpy(before, file.now, sizeof(before));
	CHECK_EQ(open_it(true), -EROFS);
	CHECK(strstr(e.text, "opened for writing once"));
	CHECK(!memcmp(before, file.now, sizeof(before)));
	REQUIRE(open_it(false) == 0);
	CHECK(all(file.now + BLOCKS, 4096, 0x43));
	CHECK(all(file.now + BLOCKS + 4096, 29 * 4096, 0x42));
	CHECK(all(file.now + BLOCKS + 30 * 4096, 4096, 0));
	shut();
	/* Replayed once and for all; the file has changed, what is on the disk has not. */
	CHECK(memcmp(before + HEADERS * 2 + 16, file.now + HEADERS * 2 + 16, 16) != 0);
	CHECK(!memcmp(before + HEADERS * 2 + 32, file.now + HEADERS * 2 + 32, 16));
	CHECK_EQ(open_it(true), 0);
	done();
}

TEST(log_that_asks_too_much)
{
	uint8_t *n = file.now;

	with_log();
	CHECK(refused(-EINVAL, "log is damaged"));
	n = file.now + LOG;
	for (unsigned i = 0; i < 5; i++) {
		static const struct {
			unsigned at;
			uint64_t value;
		} bad[] = {
			{64 + 16, 64 << 10},	  /* the headers */
			{64 + 16, LOG + 8192},	  /* the log itself */
			{64 + 16, 1000ull << 20}, /* behind the file */
			{48, 1000ull << 20},	  /* the file has been cut */
			{56, 1ull << 60},	  /* it is to grow without end */
		};

		put_entry(0, 0, 5, 1, 1);
		le64_put(n + bad[i].at, bad[i].value);
		le32_put(n + 4, 0);
		le32_put(n + 4, crc32c(0, n, 8192));
		CHECK(refused(-EINVAL, "its log asks for what cannot be"));
	}
	/* A torn entry is none. */
	put_entry(0, 0, 5, 1, 1);
	n[4096 + 77] ^= 1;
	CHECK(refused(-EINVAL, "log is damaged"));
	done();
}

/* Zeroes of 2^60 bytes, and an entry that claims every sector of the log over and over. */
TEST(log_that_would_take_for_ever)
{
	uint8_t *n;

	with_log();
	n = file.now + LOG;
	put_entry(0, 0, 5, 1, 1);
	memcpy(n + 64, "zero", 4);
	le64_put(n + 64 + 8, 1ull << 60);
	le32_put(n + 4, 0);
	le32_put(n + 4, crc32c(0, n, 8192));
	CHECK(refused(-EINVAL, "its log asks for what cannot be"));
	for (unsigned i = 0; i < 256; i++) {
		put_entry(i, i, 7 + i, 0, 0);
		le32_put(n + i * 4096 + 8, MIB);
	}
	CHECK(refused(-EINVAL, "log is damaged"));
	done();
}

/* Conversions, with qemu-img as the judge. */

static int temp(const char *name, bool create)
{
	char path[96];

	snprintf(path, sizeof(path), "%s/%s", fake_qemu_dir(), name);
	return open(path, O_RDWR | O_CLOEXEC | (create ? O_CREAT | O_TRUNC : 0), 0600);
}

/* A raw disk with data here and there; its length is no multiple of anything. */
static int sample(const char *name, uint64_t size)
{
	static uint8_t buf[200000];
	int fd = temp(name, true);
	uint64_t x = 1;

	if (fd < 0 || ftruncate(fd, size) < 0)
		abort();
	for (uint64_t at = 0; at + sizeof(buf) < size; at += size / 7) {
		for (size_t i = 0; i < sizeof(buf); i++) {
			x = x * 6364136223846793005ull + 1442695040888963407ull;
			buf[i] = i % 20000 < 9000 ? 0 : x >> 56;
		}
		if (pwrite(fd, buf, sizeof(buf), at) != (ssize_t)sizeof(buf))
			abort();
	}
	if (pwrite(fd, "end", 3, size - 3) != 3)
		abort();
	return fd;
}

TEST(imported_and_judged_by_qemu)
{
	static const struct vhdx_create_opts opts[] = {{0}, {.fixed = true},
		{.block_size = 32 << 20}, {.size = 5ull << 30}, {.sector_size = 4096}};
	const char *dir = fake_qemu_dir();

	REQUIRE(fake_qemu_present());
	for (unsigned i = 0; i < ARRAY_LEN(opts); i++) {
		cleanup_close int raw = sample("raw", (77 << 20) + (i < 3 ? 512 : 1000));
		cleanup_close int out = temp("out.vhdx", true);
		cleanup_close int back = temp("back", true);
		struct stat st;

		CHECK_EQ(vhdx_import(raw, out, &opts[i], NULL, &e), 0);
		/* qemu knows no sectors of 4096 bytes. */
		if (opts[i].sector_size != 4096) {
			CHECK(fake_qemu_img("check -f vhdx %s/out.vhdx", dir));
			CHECK(fake_qemu_img("compare -f raw -F vhdx %s/raw %s/out.vhdx", dir, dir));
		}
		CHECK_EQ(vhdx_export(out, back, NULL, &e), 0);
		CHECK(fake_qemu_img("compare -f raw -F raw %s/raw %s/back", dir, dir));
		CHECK(fstat(back, &st) == 0 && st.st_blocks < 8192); /* of 2 MiB of data */
		CHECK(fstat(out, &st) == 0 && st.st_blocks < 16384);
	}
}

TEST(made_by_qemu)
{
	static const char *const opts[] = {"subformat=dynamic", "subformat=fixed",
		"subformat=dynamic,block_size=1M",
		"subformat=dynamic,block_state_zero=off,log_size=4M"};
	const char *dir = fake_qemu_dir();

	REQUIRE(fake_qemu_present());
	for (unsigned i = 0; i < ARRAY_LEN(opts); i++) {
		cleanup_close int raw = sample("raw", (77 << 20) + 512);
		cleanup_close int in = -1, out = temp("back", true);
		uint8_t buf[5000];

		REQUIRE(fake_qemu_img(
			"convert -f raw -O vhdx -o %s %s/raw %s/in.vhdx", opts[i], dir, dir));
		in = temp("in.vhdx", false);
		CHECK_EQ(vhdx_export(in, out, NULL, &e), 0);
		CHECK(fake_qemu_img("compare -f raw -F raw %s/raw %s/back", dir, dir));
		/* Changed by us, alike in both. */
		memset(buf, 0xab, sizeof(buf));
		REQUIRE(vhdx_open(&disk, &vhdx_fd_io, &in, false, &e) == 0);
		for (uint64_t at = 0; at + sizeof(buf) < 77u << 20; at += 5 << 20) {
			CHECK_EQ(vhdx_write(disk, buf, sizeof(buf), at), 0);
			CHECK_EQ(pwrite(raw, buf, sizeof(buf), at), sizeof(buf));
		}
		CHECK_EQ(shut(), 0);
		CHECK(fake_qemu_img("check -f vhdx %s/in.vhdx", dir));
		CHECK(fake_qemu_img("compare -f raw -F vhdx %s/raw %s/in.vhdx", dir, dir));
	}
}

TEST(grown_and_judged_by_qemu)
{
	const char *dir = fake_qemu_dir();
	cleanup_close int raw = sample("raw", 77 << 20), out = temp("out.vhdx", true), far = -1;
	char buf[4];

	REQUIRE(fake_qemu_present());
	CHECK_EQ(vhdx_import(raw, out, NULL, NULL, &e), 0);
	REQUIRE(vhdx_open(&disk, &vhdx_fd_io, &out, false, &e) == 0);
	CHECK_EQ(vhdx_grow(disk, 300ull << 30, &e), 0);
	CHECK_EQ(vhdx_write(disk, "far", 3, 299ull << 30), 0);
	CHECK_EQ(shut(), 0);
	CHECK(fake_qemu_img("check -f vhdx %s/out.vhdx", dir));
	/* Not all of it, which takes qemu long. */
	CHECK(fake_qemu_img(
		"dd -f vhdx -O raw bs=1M count=77 if=%s/out.vhdx of=%s/near", dir, dir));
	CHECK(fake_qemu_img("compare -f raw -F raw %s/raw %s/near", dir, dir));
	CHECK(fake_qemu_img("dd -f vhdx -O raw bs=1M count=%u skip=%u if=%s/out.vhdx of=%s/far",
		306177, 306176, dir, dir));
	far = temp("far", false);
	CHECK_EQ(pread(far, buf, 4, 0), 4);
	CHECK(!memcmp(buf, "far", 4));
}

TEST_MAIN()
