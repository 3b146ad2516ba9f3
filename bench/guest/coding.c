/* SPDX-License-Identifier: MIT */
/* Checksums and compression: SHA-256, CRC-32 by table, LZ77 matching as gzip does it, an adaptive range coder as xz has. */
#include <string.h>
#include "bench/guest/bench.h"

static uint32_t k256[64];

static uint32_t ror(uint32_t x, int n)
{
	return x >> n | x << (32 - n);
}

static void sha_block(uint32_t h[8], const uint8_t *p)
{
	uint32_t w[64], v[8];

	for (int i = 0; i < 16; i++)
		w[i] = (uint32_t)p[i * 4] << 24 | (uint32_t)p[i * 4 + 1] << 16 |
		       (uint32_t)p[i * 4 + 2] << 8 | p[i * 4 + 3];
	for (int i = 16; i < 64; i++)
		w[i] = w[i - 16] + w[i - 7] +
		       (ror(w[i - 15], 7) ^ ror(w[i - 15], 18) ^ w[i - 15] >> 3) +
		       (ror(w[i - 2], 17) ^ ror(w[i - 2], 19) ^ w[i - 2] >> 10);
	memcpy(v, h, sizeof(v));
	for (int i = 0; i < 64; i++) {
		uint32_t t1 = v[7] + (ror(v[4], 6) ^ ror(v[4], 11) ^ ror(v[4], 25)) +
			      ((v[4] & v[5]) ^ (~v[4] & v[6])) + k256[i] + w[i];
		uint32_t t2 = (ror(v[0], 2) ^ ror(v[0], 13) ^ ror(v[0], 22)) +
			      ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));

		memmove(v + 1, v, 7 * sizeof(*v));
		v[4] += t1;
		v[0] = t1 + t2;
	}
	for (int i = 0; i < 8; i++)
		h[i] += v[i];
}

/* The constants are the fractions of cube roots of primes; any constants cost the same, so these are a sequence's. */
static uint64_t sha256(uint64_t n)
{
	uint32_t h[8] = {1, 2, 3, 4, 5, 6, 7, 8};
	uint8_t block[64];
	uint64_t s = 5;

	for (int i = 0; i < 64; i++) {
		k256[i] = (uint32_t)next(&s);
		block[i] = (uint8_t)i;
	}
	while (n--)
		sha_block(h, block);
	return (uint64_t)h[0] << 32 | h[7];
}

static uint64_t crc32(uint64_t n)
{
	static uint32_t table[256];
	static uint8_t data[4096];
	uint32_t crc = ~0U;

	for (uint32_t i = 0; i < 256; i++) {
		uint32_t c = i;

		for (int k = 0; k < 8; k++)
			c = c & 1 ? c >> 1 ^ 0xedb88320 : c >> 1;
		table[i] = c;
	}
	for (unsigned i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 7);
	while (n--)
		for (unsigned i = 0; i < sizeof(data); i++)
			crc = crc >> 8 ^ table[(crc ^ data[i]) & 0xff];
	return crc;
}

static uint8_t text[32768];

/* Words drawn from a small dictionary: compresses about as prose does. */
static void make_text(void)
{
	static const char words[] = "thequickbrownfoxjumpsoverlazydogandrunsaway";
	uint64_t s = 11;

	for (size_t i = 0; i < sizeof(text);) {
		size_t from = next(&s) % 32, len = 2 + next(&s) % 8;

		for (size_t k = 0; k < len && i < sizeof(text); k++)
			text[i++] = (uint8_t)words[from + k];
		if (i < sizeof(text))
			text[i++] = ' ';
	}
}

static uint64_t lz77(uint64_t n)
{
	static uint16_t head[1 << 13], prev[sizeof(text)];
	uint64_t h = 0;

	make_text();
	while (n--) {
		memset(head, 0, sizeof(head));
		for (size_t i = 1; i + 64 < sizeof(text);) {
			uint32_t key = (text[i] << 10 ^ text[i + 1] << 5 ^ text[i + 2]) & 0x1fff;
			size_t best = 0, where = 0, at = head[key];

			for (int depth = 0; at && depth < 16; depth++, at = prev[at]) {
				size_t len = 0;

				while (len < 64 && text[at + len] == text[i + len])
					len++;
				if (len > best) {
					best = len;
					where = at;
				}
			}
			prev[i] = head[key];
			head[key] = (uint16_t)i;
			h = mix(h, best >= 3 ? best << 16 | where : text[i]);
			i += best >= 3 ? best : 1;
		}
	}
	return h;
}

static uint64_t range_coder(uint64_t n)
{
	static uint16_t model[256][256];
	uint64_t h = 0;

	make_text();
	while (n--) {
		uint64_t low = 0;
		uint32_t range = ~0U;

		for (size_t i = 0; i < 256; i++)
			for (size_t k = 0; k < 256; k++)
				model[i][k] = 1024;
		for (size_t i = 1; i < 4096; i++) {
			unsigned node = 1;

			for (int bit = 7; bit >= 0; bit--) {
				uint16_t *p = &model[text[i - 1]][node];
				uint32_t bound = (range >> 11) * *p;
				unsigned b = text[i] >> bit & 1;

				if (b) {
					low += bound;
					range -= bound;
					*p = (uint16_t)(*p - (*p >> 5));
				} else {
					range = bound;
					*p = (uint16_t)(*p + ((2048 - *p) >> 5));
				}
				node = node << 1 | b;
				while (range < 1U << 24) {
					range <<= 8;
					h = mix(h, low >> 24);
					low = (low & 0xffffff) << 8;
				}
			}
		}
	}
	return h;
}

const struct workload work_coding[] = {{"sha256", sha256}, {"crc32", crc32}, {"lz77", lz77},
	{"range-coder", range_coder}, {NULL, NULL}};
