/* SPDX-License-Identifier: MIT */
#include "vmm/boot/kernel.h"

#include <errno.h>
#include <lz4.h>
#include <lzma.h>
#include <zlib.h>
#include <zstd.h>
#include "lib/base/test.h"
#include "vmm/boot/decompress.h"
#include "vmm/boot/linux.h"
#include "vmm/boot/test-images.h"

static const uint64_t mib = 1 << 20;

/* Compressors: dst has room; return the length. */
static size_t as_gzip(uint8_t *dst, size_t room, const uint8_t *src, size_t n)
{
	z_stream z = {0};
	size_t len;

	deflateInit2(&z, 9, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY);
	z.next_in = (Bytef *)(uintptr_t)src;
	z.avail_in = n;
	z.next_out = dst;
	z.avail_out = room;
	deflate(&z, Z_FINISH);
	len = z.total_out;
	deflateEnd(&z);
	return len;
}

static size_t append_size(uint8_t *dst, size_t at, size_t n)
{
	le32_put(dst + at, n);
	return at + 4;
}

static size_t as_xz(uint8_t *dst, size_t room, const uint8_t *src, size_t n)
{
	size_t len = 0;

	CHECK_EQ(lzma_easy_buffer_encode(6, LZMA_CHECK_CRC32, NULL, src, n, dst, &len, room),
		LZMA_OK);
	return append_size(dst, len, n);
}

static size_t as_lzma(uint8_t *dst, size_t room, const uint8_t *src, size_t n)
{
	lzma_stream z = LZMA_STREAM_INIT;
	lzma_options_lzma opt;
	size_t len;

	lzma_lzma_preset(&opt, 6);
	if (lzma_alone_encoder(&z, &opt) != LZMA_OK)
		return 0;
	z.next_in = src;
	z.avail_in = n;
	z.next_out = dst;
	z.avail_out = room;
	CHECK_EQ(lzma_code(&z, LZMA_FINISH), LZMA_STREAM_END);
	len = z.total_out;
	lzma_end(&z);
	return append_size(dst, len, n);
}

/* In two blocks, as a kernel larger than 8 MiB has. */
static size_t as_lz4(uint8_t *dst, size_t room, const uint8_t *src, size_t n)
{
	size_t at = 4, half = n / 2;

	memcpy(dst, "\x02\x21\x4c\x18", 4);
	for (int i = 0; i < 2; i++) {
		int len = LZ4_compress_default(
			(const char *)src + i * half, (char *)dst + at + 4, half, room - at - 4);

		le32_put(dst + at, len);
		at += 4 + len;
	}
	return append_size(dst, at, n);
}

static size_t as_zstd(uint8_t *dst, size_t room, const uint8_t *src, size_t n)
{
	ZSTD_CCtx *z = ZSTD_createCCtx();
	size_t len;

	ZSTD_CCtx_setParameter(z, ZSTD_c_checksumFlag, 1); /* as the zstd program does */
	len = ZSTD_compress2(z, dst, room, src, n);
	ZSTD_freeCCtx(z);
	return append_size(dst, len, n);
}

static const struct {
	const char *name;
	size_t (*pack)(uint8_t *dst, size_t room, const uint8_t *src, size_t n);
} packers[] = {
	{"gzip", as_gzip}, {"xz", as_xz}, {"lzma", as_lzma}, {"lz4", as_lz4}, {"zstd", as_zstd}};

TEST(every_compression)
{
	for (unsigned i = 0; i < ARRAY_LEN(packers); i++) {
		uint8_t *elf = img_elf(), *packed = malloc(2 * IMG_ELF_LEN), *bz;
		size_t n = packers[i].pack(packed, 2 * IMG_ELF_LEN, elf, IMG_ELF_LEN), len;
		struct kernel k;
		struct err e = {0};

		CHECK_STR(decompress_format(packed, n), packers[i].name);
		bz = img_bzimage(packed, n, &len);
		CHECK_EQ(kernel_parse(&k, bz, len, "vmlinuz", &e), 0);
		CHECK_STR(e.text, "");
		CHECK_EQ(k.elf_len, IMG_ELF_LEN);
		CHECK(k.elf && memcmp(k.elf, elf, IMG_ELF_LEN) == 0);
		CHECK_STR(k.version, "6.1.0-test (x)");
		CHECK_EQ(k.entry, IMG_TEXT_PADDR + 0x10);
		CHECK_EQ(k.start, IMG_TEXT_PADDR);
		CHECK_EQ(k.end, IMG_BSS_PADDR + IMG_BSS_MEM);
		CHECK_EQ(k.max_cmdline, 255);
		kernel_done(&k);

		/* Damage in the middle, and every way of being too short. */
		free(bz);
		packed[n / 2] ^= 0x55;
		packed[n / 2 + 1] ^= 0xff;
		bz = img_bzimage(packed, n, &len);
		if (kernel_parse(&k, bz, len, "vmlinuz", &e) == 0) {
			/* lz4 legacy frames have no checksum: damage may only change bytes. */
			CHECK_STR(packers[i].name, "lz4");
			kernel_done(&k);
		}
		free(bz);
		free(packed);
		free(elf);
	}
}

TEST(every_truncation)
{
	uint8_t *elf = img_elf(), *packed = malloc(2 * IMG_ELF_LEN), *bz;
	size_t n = as_xz(packed, 2 * IMG_ELF_LEN, elf, IMG_ELF_LEN), len;
	struct kernel k;
	struct err e;

	bz = img_bzimage(packed, n, &len);
	for (size_t cut = 0; cut < len; cut++) {
		uint8_t *copy = malloc(cut + !cut);

		memcpy(copy, bz, cut);
		CHECK_EQ(kernel_parse(&k, copy, cut, "vmlinuz", &e), -ENOEXEC);
		free(copy);
	}
	for (size_t cut = 0; cut < IMG_BSS_OFF + IMG_BSS_LEN; cut += 7) {
		uint8_t *copy = malloc(cut + !cut);

		memcpy(copy, elf, cut);
		CHECK_EQ(kernel_parse(&k, copy, cut, "vmlinux", &e), -ENOEXEC);
		free(copy);
	}
	free(bz);
	free(packed);
	free(elf);
}

static void refuse(const void *file, size_t len, const char *want)
{
	struct kernel k;
	struct err e = {0};

	CHECK_EQ(kernel_parse(&k, file, len, "thing", &e), -ENOEXEC);
	CHECK(strncmp(e.text, "thing is not a Linux kernel wslx can boot: ", 43) == 0);
	if (!strstr(e.text, want)) {
		printf("# \"%s\" lacks \"%s\"\n", e.text, want);
		CHECK(false);
	}
}

TEST(clear_refusals)
{
	uint8_t *p = img_elf(), *bz;
	size_t len;

	refuse("", 0, "empty");
	refuse("#!/bin/sh\n", 10, "neither a bzImage");
	p[4] = 1;
	refuse(p, IMG_ELF_LEN, "another kind of processor");
	p[4] = 2;
	le16_put(p + 18, 183);
	refuse(p, IMG_ELF_LEN, "another kind of processor");
	le16_put(p + 18, 62);
	le16_put(p + 16, 3);
	refuse(p, IMG_ELF_LEN, "no kernel image");
	le16_put(p + 16, 2);
	le64_put(p + 24, 0x10);
	refuse(p, IMG_ELF_LEN, "entry point");
	le64_put(p + 24, IMG_TEXT_PADDR);
	le64_put(p + IMG_PHDRS + 24, 0x1000);
	refuse(p, IMG_ELF_LEN, "below 1 MiB");
	le64_put(p + IMG_PHDRS + 24, UINT64_MAX - 0x1000);
	refuse(p, IMG_ELF_LEN, "no memory");
	le64_put(p + IMG_PHDRS + 24, IMG_TEXT_PADDR);
	le64_put(p + IMG_PHDRS + 32, IMG_TEXT_LEN + 1);
	refuse(p, IMG_ELF_LEN, "cut short");
	free(p);

	p = img_elf();
	bz = img_bzimage("not compressed", 14, &len);
	refuse(bz, len, "compressed in a way");
	le16_put(bz + 0x236, 0);
	refuse(bz, len, "32-bit");
	bz[0x211] = 0;
	refuse(bz, len, "zImage");
	le16_put(bz + 0x206, 0x204);
	refuse(bz, len, "too old");
	free(bz);
	bz = img_bzimage(p, IMG_ELF_LEN, &len);
	le32_put(bz + 0x24c, IMG_ELF_LEN + 1);
	refuse(bz, len, "cut short");
	free(bz);
	free(p);
}

TEST(unpacks_to_too_much)
{
	size_t n = 3 * mib, out_len, len;
	uint8_t *zeroes = calloc(1, n), *packed = malloc(mib);
	struct err e = {0};
	void *out;

	for (unsigned i = 0; i < ARRAY_LEN(packers); i++) {
		len = packers[i].pack(packed, mib, zeroes, n);
		CHECK_EQ(decompress(packed, len, 0, 2 * mib, &out, &out_len, &e), -EFBIG);
		CHECK_EQ(decompress(packed, len, 0, 4 * mib, &out, &out_len, &e), 0);
		CHECK_EQ(out_len, n);
		free(out);
		/* A hint that is wrong changes nothing. */
		CHECK_EQ(decompress(packed, len, 17, 4 * mib, &out, &out_len, &e), 0);
		CHECK_EQ(out_len, n);
		free(out);
	}
	free(zeroes);
	free(packed);
}

TEST(boot_layout)
{
	uint8_t *elf = img_elf(), zp[4096], b;
	struct kernel k;
	struct gmem *gm;
	struct err e = {0};
	struct cpu_state *s = calloc(1, sizeof(*s));
	struct boot_linux cfg = {.kernel = &k,
		.kernel_name = "vmlinux",
		.initrd = "initramfs!",
		.initrd_len = 10,
		.cmdline = "quiet",
		.acpi = {.vcpus = 2}};
	char text[16];
	uint64_t top = 0;

	REQUIRE(kernel_parse(&k, elf, IMG_ELF_LEN, "vmlinux", &e) == 0);
	REQUIRE(gmem_new(&gm, GMEM_HOLE_START + 64 * mib) == 0);
	REQUIRE(boot_linux(gm, &cfg, s, &e) == 0);
	CHECK_EQ(s->rip, IMG_TEXT_PADDR + 0x10);
	REQUIRE(gmem_read(gm, s->gpr[CPU_RSI], zp, sizeof(zp)) == 0);
	CHECK_EQ(gmem_read(gm, le32_get(zp + 0x228), text, 6), 0);
	CHECK_STR(text, "quiet");
	CHECK_EQ(le32_get(zp + 0x21c), 10);
	CHECK_EQ(gmem_read(gm, le32_get(zp + 0x218), text, 10), 0);
	CHECK(memcmp(text, "initramfs!", 10) == 0);
	CHECK_EQ(gmem_read(gm, IMG_TEXT_PADDR + 0x100, &b, 1), 0);
	CHECK_EQ(b, elf[IMG_TEXT_OFF + 0x100]);
	CHECK_EQ(gmem_read(gm, IMG_BSS_PADDR + IMG_BSS_LEN - 1, &b, 1), 0);
	CHECK_EQ(b, 0xda);
	CHECK_EQ(gmem_read(gm, le64_get(zp + 0x70), text, 8), 0);
	CHECK(memcmp(text, "RSD PTR ", 8) == 0);
	/* The memory map is in order, without overlaps, and ends where RAM does. */
	for (unsigned i = 0; i < zp[0x1e8]; i++) {
		uint64_t at = le64_get(zp + 0x2d0 + 20 * i);

		CHECK(at >= top);
		top = at + le64_get(zp + 0x2d0 + 20 * i + 8);
	}
	CHECK_EQ(top, GMEM_HOLE_END + 64 * mib);
	/* The page tables map the entry point to itself. */
	uint64_t pte;

	CHECK_EQ(gmem_read(gm, s->cr3, &pte, 8), 0);
	CHECK_EQ(gmem_read(gm, pte & ~0xfffull, &pte, 8), 0);
	CHECK_EQ(gmem_read(gm, (pte & ~0xfffull) + (s->rip >> 21) * 8, &pte, 8), 0);
	CHECK_EQ(pte & ~0x1fffffull, s->rip & ~0x1fffffull);
	/* The segment registers say what the GDT holds. */
	uint64_t desc;

	CHECK_EQ(gmem_read(gm, s->gdtr.base + s->seg[CPU_CS].selector, &desc, 8), 0);
	CHECK_EQ(desc, 0x00af9b000000ffffull);
	CHECK_EQ(gmem_read(gm, s->gdtr.base + s->seg[CPU_DS].selector, &desc, 8), 0);
	CHECK_EQ(desc, 0x00cf93000000ffffull);
	gmem_free(gm);

	/* Too little memory, too long a command line. */
	REQUIRE(gmem_new(&gm, 16 * mib) == 0);
	CHECK_EQ(boot_linux(gm, &cfg, s, &e), -ENOMEM);
	CHECK_STR(e.text, "vmlinux needs 17 MiB of memory, the machine has 16");
	k.max_cmdline = 4;
	CHECK_EQ(boot_linux(gm, &cfg, s, &e), -E2BIG);
	gmem_free(gm);
	kernel_done(&k);
	free(elf);
	free(s);
}

TEST_MAIN()
