/* SPDX-License-Identifier: MIT */
/*
 * A file made of patches to one of ours: each 6 bytes of address and length, then the bytes.
 * Checksums of headers, region tables and the log's entries are put right, or hardly any input
 * would get behind them. What can be opened is read, changed and closed; then it can be opened
 * again and reads the same.
 */
#include <stdlib.h>
#include <string.h>
#include "lib/base/attr.h"
#include "lib/base/crc32c.h"
#include "lib/base/le.h"
#include "lib/vhdx/fake-file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MIB = 1 << 20, DISK = 6 * MIB, PIECE = 4096, SAMPLES = 16 };

static struct fake_file file;

static void fix(uint8_t *p, size_t len)
{
	le32_put(p + 4, 0);
	le32_put(p + 4, crc32c(0, p, len));
}

/* Addresses: the first 256 KiB by 1, the log, metadata and BAT as if they were behind each other.
 */
static uint64_t place(uint32_t at)
{
	uint64_t part = at >> 18, in = at & 0x3ffff;

	return part ? (part - 1) % 15 * MIB + in : in;
}

static void patch(const uint8_t *data, size_t size)
{
	bool regions = false;

	while (size >= 6) {
		uint64_t at = place(le32_get(data));
		size_t n = MIN((size_t)le16_get(data + 4), size - 6);

		memcpy(file.now + at, data + 6, n);
		file.size = MAX(file.size, at + n);
		regions |= at < 320 << 10 && at + n > 192 << 10;
		data += 6 + n;
		size -= 6 + n;
	}
	if (file.size < MIB)
		return;
	fix(file.now + (64 << 10), 4096);
	fix(file.now + (128 << 10), 4096);
	if (regions) {
		fix(file.now + (192 << 10), 64 << 10);
		fix(file.now + (256 << 10), 64 << 10);
	}
	for (uint64_t at = MIB; at < 2 * MIB && file.size >= 2 * MIB; at += 4096) {
		uint32_t len = le32_get(file.now + at + 8);

		if (!memcmp(file.now + at, "loge", 4) && len <= 2 * MIB - at)
			fix(file.now + at, len);
	}
}

/* Pieces all over the disk, the first and the last among them. */
static uint64_t sample_at(struct vhdx *v, unsigned i)
{
	uint64_t last = vhdx_info(v)->size - MIN(vhdx_info(v)->size, (uint64_t)PIECE);

	return i == SAMPLES - 1 ? last : MIN(last / (SAMPLES - 1) * i / 512 * 512, last);
}

static uint32_t sum(struct vhdx *v)
{
	size_t n = MIN(vhdx_info(v)->size, (uint64_t)PIECE);
	uint8_t buf[PIECE];
	uint32_t c = 0;

	for (unsigned i = 0; i < SAMPLES; i++) {
		if (vhdx_read(v, buf, n, sample_at(v, i)) < 0)
			abort(); /* every block that there is can be read */
		c = crc32c(c, buf, n);
	}
	return c;
}

static void change(struct vhdx *v)
{
	uint64_t size = vhdx_info(v)->size;
	size_t n = MIN(size, (uint64_t)PIECE);
	uint8_t buf[PIECE], back[PIECE];

	memset(buf, 0x77, sizeof(buf));
	if (vhdx_write(v, buf, n, 0) < 0 || vhdx_unmap(v, 0, MIN(size, 3ull * MIB)) < 0 ||
		vhdx_flush(v) < 0 || vhdx_write(v, buf, n, size - n) < 0)
		return; /* the fake is too small for it */
	if (vhdx_read(v, back, n, size - n) < 0 || memcmp(buf, back, n) != 0)
		abort();
}

/* A file of ours, as it was made. */
static void fresh(bool fixed)
{
	static uint8_t *made[2];
	static uint64_t sizes[2];

	if (!made[fixed]) {
		if (vhdx_create(&fake_file_io, &file,
			    &(struct vhdx_create_opts){.size = DISK, .fixed = fixed}, NULL) < 0)
			abort();
		sizes[fixed] = file.size;
		made[fixed] = malloc(4 * MIB);
		if (!made[fixed])
			abort();
		memcpy(made[fixed], file.now, 4 * MIB);
		return;
	}
	memcpy(file.now, made[fixed], 320 << 10);
	memcpy(file.now + 2 * MIB, made[fixed] + 2 * MIB, 68 << 10);
	memcpy(file.now + 3 * MIB, made[fixed] + 3 * MIB, 4096);
	file.size = sizes[fixed];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct vhdx *v;
	struct err e = {0};
	uint32_t before;

	if (!size)
		return 0;
	if (!file.now)
		fake_file_init(&file, false);
	if (data[0] & 1)
		fresh(data[0] & 2);
	patch(data + 1, size - 1);
	if (vhdx_open(&v, &fake_file_io, &file, /* readonly= */ data[0] & 4, &e) < 0) {
		if (!e.code || !e.text[0])
			abort();
	} else {
		change(v);
		before = sum(v);
		if (vhdx_close(v) == 0) {
			if (vhdx_open(&v, &fake_file_io, &file, /* readonly= */ true, NULL) < 0 ||
				sum(v) != before)
				abort();
			vhdx_close(v);
		}
	}
	fake_file_io.set_size(&file, 0);
	return 0;
}
