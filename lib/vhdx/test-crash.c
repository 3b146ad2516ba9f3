/* SPDX-License-Identifier: MIT */
/*
 * The power fails at any write: nothing flushed is lost, what was not is old or new, and the file
 * is one that others accept. Contents are compared with a model that knows, for each sector of 512
 * bytes, every value that it may have.
 */
#define TEST_TIMEOUT_S 300
#include <errno.h>
#include <fcntl.h>
#include "lib/base/attr.h"
#include "lib/base/le.h"
#include "lib/base/test.h"
#include "lib/vhdx/fake-file.h"
#include "lib/vhdx/fake-qemu.h"

enum {
	SECTOR = 512,
	DISK = 12 << 20,
	DISK_MAX = 20 << 20,
	SECTORS = DISK_MAX / SECTOR,
	VALUES = 8,
	BIGGEST = 3 << 20,
};

static struct fake_file file;
static struct vhdx *disk;
static uint64_t disk_size, grown_size; /* grown_size: it may be that instead */

/* values[0]: what a read gives; the others it may have instead after a crash. 0: zeroes. */
static struct {
	uint32_t values[VALUES];
	unsigned n;
} model[SECTORS];
static uint32_t stamp;
static bool crowded; /* a sector has no room for another value */

static uint64_t seed;

static uint64_t rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static void fill(uint8_t *sector, uint32_t value)
{
	for (unsigned i = 0; i < SECTOR; i += 4)
		le32_put(sector + i, value);
}

static void expect(uint64_t off, uint64_t len, uint32_t value)
{
	for (uint64_t s = off / SECTOR; s < (off + len) / SECTOR; s++) {
		model[s].values[model[s].n++] = model[s].values[0];
		model[s].values[0] = value;
		crowded |= model[s].n == VALUES;
	}
}

static void settled(void)
{
	for (unsigned s = 0; s < SECTORS; s++)
		model[s].n = 1;
	crowded = false;
	if (grown_size)
		disk_size = grown_size;
	grown_size = 0;
}

static int open_disk(bool readonly)
{
	struct err e = {0};
	int r = vhdx_open(&disk, &fake_file_io, &file, readonly, &e);

	if (r < 0 && !readonly)
		printf("# open: %s\n", e.text);
	return r;
}

static void range(uint64_t *off, uint64_t *len)
{
	uint64_t max = rnd() % 8 ? 64 << 10 : BIGGEST;

	*off = rnd() % (disk_size / SECTOR) * SECTOR;
	*len = (rnd() % (max / SECTOR) + 1) * SECTOR;
	if (rnd() % 6 == 0) {
		*off = ALIGN_DOWN(*off, (uint64_t)1 << 20);
		*len = (rnd() % 3 + 1) << 20;
	}
	*len = MIN(*len, disk_size - *off);
}

static int one_write(void)
{
	static uint8_t buf[BIGGEST];
	uint64_t off, len;

	range(&off, &len);
	stamp++;
	for (uint64_t i = 0; i < len; i += SECTOR)
		fill(buf + i, stamp);
	expect(off, len, stamp);
	return vhdx_write(disk, buf, len, off);
}

static int one_unmap(void)
{
	uint64_t off, len;

	range(&off, &len);
	expect(off, len, 0);
	return vhdx_unmap(disk, off, len);
}

static int one_grow(void)
{
	int r;

	if (disk_size == DISK_MAX || rnd() % 8)
		return 0;
	grown_size = disk_size + (rnd() % 3 + 1) * SECTOR * 1024;
	grown_size = MIN(grown_size, (uint64_t)DISK_MAX);
	r = vhdx_grow(disk, grown_size, NULL);
	if (r == 0) {
		/* Growing flushes. */
		settled();
	}
	return r;
}

static int one_op(void)
{
	int r;

	switch (rnd() % 16) {
	case 0:
	case 1:
	case 2:
	case 3:
	case 4: return one_unmap();
	case 5:
	case 6: break;
	case 7: return one_grow();
	default:
		if (!crowded)
			return one_write();
	}
	r = vhdx_flush(disk);
	if (r == 0)
		settled();
	return r;
}

/* Every sector has one of its values, which is its only one from now on. */
static bool contents_ok(void)
{
	static uint8_t buf[1 << 20], want[SECTOR];

	for (uint64_t at = 0; at < disk_size; at += sizeof(buf)) {
		uint64_t n = MIN(sizeof(buf), disk_size - at);

		if (vhdx_read(disk, buf, n, at) < 0)
			return false;
		for (uint64_t i = 0; i < n; i += SECTOR) {
			uint64_t s = (at + i) / SECTOR;
			uint32_t got = le32_get(buf + i);
			unsigned k = 0;

			while (k < model[s].n && model[s].values[k] != got)
				k++;
			fill(want, got);
			if (k == model[s].n || memcmp(want, buf + i, SECTOR) != 0) {
				printf("# sector %llu is %u, was %u (%u values)\n",
					(unsigned long long)s, got, model[s].values[0], model[s].n);
				return false;
			}
			model[s].values[0] = got;
			model[s].n = 1;
		}
	}
	crowded = false;
	return true;
}

static bool accepted_by_qemu(void)
{
	static uint8_t buf[1 << 20], raw[1 << 20];
	int fd = fake_qemu_raw(file.now, file.size);
	bool same = fd >= 0;

	for (uint64_t at = 0; same && at < disk_size; at += sizeof(buf)) {
		uint64_t n = MIN(sizeof(buf), disk_size - at);

		same = vhdx_read(disk, buf, n, at) == 0 && pread(fd, raw, n, at) == (ssize_t)n &&
		       !memcmp(buf, raw, n);
	}
	close(fd);
	return same;
}

/* One life of a disk, with as many power failures as said. */
static bool life(uint64_t s, unsigned failures, bool qemu)
{
	struct vhdx_create_opts o = {.size = DISK, .fixed = s % 5 == 4};
	bool ok = true;

	seed = s * 0x9e3779b97f4a7c15ull + 1;
	memset(model, 0, sizeof(model));
	settled();
	disk_size = DISK;
	fake_file_init(&file, true);
	ok = vhdx_create(&fake_file_io, &file, &o, NULL) == 0 && open_disk(false) == 0;
	for (unsigned i = 0; ok && i < failures; i++) {
		int r = 0;

		file.countdown = (long)(rnd() % 400);
		while (r == 0 && !file.dead)
			r = one_op();
		if (!file.dead) {
			printf("# life %llu: operation failed: %d\n", (unsigned long long)s, r);
			ok = false;
		}
		vhdx_close(disk);
		fake_file_crash(&file, rnd);
		if (open_disk(true) == 0)
			vhdx_close(disk); /* or it says that it has a log */
		if (qemu) {
			/* Before us: it has its own ideas of the log. */
			ok = ok && fake_qemu_check(file.now, file.size);
		}
		ok = ok && open_disk(false) == 0;
		if (!ok)
			break;
		if (grown_size && vhdx_info(disk)->size == grown_size)
			disk_size = grown_size;
		grown_size = 0;
		ok = vhdx_info(disk)->size == disk_size && contents_ok() &&
		     (!qemu || accepted_by_qemu());
		if (!ok)
			printf("# life %llu, failure %u\n", (unsigned long long)s, i);
	}
	if (ok)
		ok = vhdx_close(disk) == 0 && open_disk(true) == 0 && contents_ok();
	if (ok)
		vhdx_close(disk);
	fake_file_done(&file);
	return ok;
}

TEST(nothing_flushed_is_lost)
{
	for (unsigned s = 0; s < 10; s++)
		REQUIRE(life(s, 20, /* qemu= */ false));
}

TEST(qemu_accepts_what_a_crash_leaves)
{
	REQUIRE(fake_qemu_present());
	for (unsigned s = 100; s < 104; s++)
		REQUIRE(life(s, 5, /* qemu= */ true));
}

TEST_MAIN()
