/* SPDX-License-Identifier: MIT */
/* Small kernel images for tests: an ELF file with two segments, and a bzImage around any payload. */
#ifndef WSLX_VMM_BOOT_TEST_IMAGES_H
#define WSLX_VMM_BOOT_TEST_IMAGES_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "lib/base/le.h"

enum {
	IMG_ELF_LEN = 0x3000,
	IMG_PHDRS = 64,
	IMG_TEXT_PADDR = 0x1000000,
	IMG_TEXT_OFF = 0x1000,
	IMG_TEXT_LEN = 0x1800,
	IMG_BSS_PADDR = 0x1004000,
	IMG_BSS_OFF = 0x2800,
	IMG_BSS_LEN = 0x100,
	IMG_BSS_MEM = 0x9000,
	IMG_SETUP = 5 * 512, /* boot sector and four of setup */
	IMG_PAYLOAD_OFF = 64,
};

static inline void img_phdr(
	uint8_t *p, uint64_t off, uint64_t paddr, uint64_t filesz, uint64_t memsz)
{
	le32_put(p, 1);
	le64_put(p + 8, off);
	le64_put(p + 24, paddr);
	le64_put(p + 32, filesz);
	le64_put(p + 40, memsz);
}

/* IMG_ELF_LEN bytes; the text segment holds a pattern that does not compress to nothing. */
static inline uint8_t *img_elf(void)
{
	uint8_t *p = calloc(1, IMG_ELF_LEN);

	memcpy(p, "\177ELF\2\1\1", 7);
	le16_put(p + 16, 2);
	le16_put(p + 18, 62);
	le64_put(p + 24, IMG_TEXT_PADDR + 0x10);
	le64_put(p + 32, IMG_PHDRS);
	le16_put(p + 54, 56);
	le16_put(p + 56, 2);
	img_phdr(p + IMG_PHDRS, IMG_TEXT_OFF, IMG_TEXT_PADDR, IMG_TEXT_LEN, IMG_TEXT_LEN);
	img_phdr(p + IMG_PHDRS + 56, IMG_BSS_OFF, IMG_BSS_PADDR, IMG_BSS_LEN, IMG_BSS_MEM);
	for (unsigned i = 0; i < IMG_TEXT_LEN; i++)
		p[IMG_TEXT_OFF + i] = i * i >> 3;
	memset(p + IMG_BSS_OFF, 0xda, IMG_BSS_LEN);
	return p;
}

static inline uint8_t *img_bzimage(const void *payload, size_t n, size_t *ret_len)
{
	size_t len = IMG_SETUP + IMG_PAYLOAD_OFF + n;
	uint8_t *p = calloc(1, len);

	p[0x1f1] = 4;
	le16_put(p + 0x1fe, 0xaa55);
	p[0x201] = 0x66; /* the jump over the header ends it at 0x268 */
	memcpy(p + 0x202, "HdrS", 4);
	le16_put(p + 0x206, 0x20f);
	le16_put(p + 0x20e, 0x300 - 0x200);
	memcpy(p + 0x300, "6.1.0-test (x)", 15);
	p[0x211] = 1;
	le16_put(p + 0x236, 1);
	le32_put(p + 0x238, 255);
	le32_put(p + 0x248, IMG_PAYLOAD_OFF);
	le32_put(p + 0x24c, n);
	memcpy(p + IMG_SETUP + IMG_PAYLOAD_OFF, payload, n);
	*ret_len = len;
	return p;
}

#endif
