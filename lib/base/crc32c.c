/* SPDX-License-Identifier: MIT */
#include "lib/base/crc32c.h"

#include <string.h>

/* The remainders of four bits: small enough to stay in the cache beside the data. */
static const uint32_t nibble[16] = {0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc,
	0x5125dad3, 0x61c69362, 0x7198540d, 0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
	0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75};

static uint32_t by_table(uint32_t c, const uint8_t *p, size_t len)
{
	while (len--) {
		c ^= *p++;
		c = c >> 4 ^ nibble[c & 15];
		c = c >> 4 ^ nibble[c & 15];
	}
	return c;
}

#ifdef __x86_64__
/* The processor has an instruction for just this polynomial, twenty times as fast. */
__attribute__((target("sse4.2"))) static uint32_t by_instruction(
	uint32_t c, const uint8_t *p, size_t len)
{
	uint64_t word;

	for (; len >= sizeof(word); p += sizeof(word), len -= sizeof(word)) {
		memcpy(&word, p, sizeof(word));
		c = (uint32_t)__builtin_ia32_crc32di(c, word);
	}
	while (len--)
		c = __builtin_ia32_crc32qi(c, *p++);
	return c;
}
#endif

uint32_t crc32c(uint32_t before, const void *data, size_t len)
{
#ifdef __x86_64__
	if (__builtin_cpu_supports("sse4.2"))
		return ~by_instruction(~before, data, len);
#endif
	return crc32c_by_table(before, data, len);
}

uint32_t crc32c_by_table(uint32_t before, const void *data, size_t len)
{
	return ~by_table(~before, data, len);
}
