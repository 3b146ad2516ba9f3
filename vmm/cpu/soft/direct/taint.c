/* SPDX-License-Identifier: MIT */
/* See taint.h. */
#include "vmm/cpu/soft/direct/taint.h"

#include <string.h>
#include "lib/base/attr.h"
#include "vmm/cpu/soft/decode.h"

enum {
	PAGE = 4096,
	AHEAD = 80,  /* bytes in which decoding finds where instructions begin, wherever it began */
	BEHIND = 32, /* bytes that have to look like code, too */
	CHANCES =
		64, /* pairs of bytes that are looked at, some microseconds each; a page with more is none of a compiler's */
};

/* Whether the bytes are one of CPUID, RDTSC, RDTSCP. */
static bool asks(const uint8_t *p, size_t left)
{
	return left >= 2 && p[0] == 0x0f &&
	       (p[1] == 0xa2 || p[1] == 0x31 || (p[1] == 0x01 && (left == 2 || p[2] == 0xf9)));
}

/* Privileged ones, input and output, far jumps, and what stands for zeros: data that decodes has them within a few bytes. */
static bool is_plausible(const struct dec *d)
{
	switch (d->map) {
	case MAP_1:
		switch (d->op) {
		case 0x00: return d->modrm != 0;
		case 0x6c ... 0x6f: /* INS, OUTS */
		case 0x8e:	    /* MOV to a selector */
		case 0x9b:
		case 0xc8:
		case 0xca ... 0xcb: /* RETF */
		case 0xcd ... 0xcf: /* INT, IRET */
		case 0xd7:
		case 0xe0 ... 0xe7: /* LOOP, IN, OUT */
		case 0xec ... 0xef:
		case 0xf1:
		case 0xf4 ... 0xf5:
		case 0xfa ... 0xfb: return false;
		case 0xff: return (d->modrm >> 3 & 7) != 3 && (d->modrm >> 3 & 7) != 5;
		default: return true;
		}
	case MAP_0F: return d->op > 0x09 || d->op == 0x05 || (d->op == 0x01 && d->mod == 3);
	default: return true;
	}
}

/* How decoding goes on from a byte: over the place, to an instruction that is there (behind prefixes, maybe), or to what no program has. */
enum path { PASSES, LANDS, ENDS };

/* later: of the bytes behind this one, by their distance from the place. */
static enum path follow(const uint8_t *p, size_t left, size_t distance, const uint8_t *later)
{
	struct dec d;
	int n = soft_decode(&d, p, left, MODE_64);

	if (n <= 0 || !is_plausible(&d))
		return ENDS;
	if ((size_t)n <= distance)
		return later[distance - (size_t)n];
	return d.map == MAP_0F && d.op == p[distance + 1] && (size_t)n == distance + 2 + d.has_modrm
		       ? LANDS
		       : PASSES;
}

static bool goes_on(const uint8_t *p, size_t left)
{
	struct dec d;

	for (const uint8_t *end = p + MIN(left, (size_t)BEHIND); p < end;) {
		int n = soft_decode(&d, p, left, MODE_64);

		if (n == DEC_MORE)
			return true;
		if (n <= 0 || !is_plausible(&d))
			return false;
		if (d.map == MAP_1 && (d.op == 0xc3 || d.op == 0xe9 || d.op == 0xeb))
			return true;
		p += n;
		left -= (size_t)n;
	}
	return true;
}

/* What is at a place that has the bytes. One of any DEC_MAX_LEN bytes in a row is where an instruction begins; all have to agree. */
static enum taint look(const uint8_t *p, size_t before, size_t left)
{
	size_t far = MIN(before, (size_t)AHEAD);
	uint8_t path[AHEAD + 1] = {LANDS};
	bool seen[ENDS + 1] = {false};

	for (size_t k = 1; k <= far; k++)
		path[k] = (uint8_t)follow(p - k, left + k, k, path);
	for (size_t k = 0; k < DEC_MAX_LEN && k <= far; k++)
		seen[path[far - k]] = true;
	if (seen[PASSES] && !seen[LANDS])
		return TAINT_NONE;
	return seen[LANDS] && !seen[PASSES] && far == AHEAD && left > 2 && goes_on(p, left)
		       ? TAINT_COPY
		       : TAINT_PAGE;
}

/* F3, and maybe REX, before the opcode at p. */
static bool has_rep(const uint8_t *p, size_t at)
{
	return (at > 0 && p[-1] == 0xf3) || (at > 1 && p[-2] == 0xf3 && (p[-1] & 0xf0) == 0x40);
}

static const uint8_t *next(const uint8_t *p, const uint8_t *end)
{
	return p < end ? memchr(p, 0x0f, (size_t)(end - p)) : NULL;
}

enum taint soft_taint(const uint8_t *page, const uint8_t *before, bool asking, uint8_t *patched)
{
	enum { UD2 = 0x0b };
	uint8_t buf[AHEAD + PAGE], *const code = buf + AHEAD, *const end = code + PAGE;
	size_t known = before ? AHEAD : 0;
	enum taint t = TAINT_NONE;
	unsigned chances = 0;

	memcpy(code, page, PAGE);
	if (before)
		memcpy(buf, before + PAGE - AHEAD, AHEAD);
	if (patched)
		memcpy(patched, code, PAGE);
	for (const uint8_t *p = code; (p = next(p, end)); p++) {
		size_t at = (size_t)(p - code), left = PAGE - at;

		if (asking && asks(p, left)) {
			enum taint found =
				++chances > CHANCES ? TAINT_PAGE : look(p, at + known, left);

			if (found == TAINT_PAGE)
				return found;
			if (found == TAINT_COPY && patched)
				patched[at + 1] = UD2;
			t = MAX(t, found);
		}
		if (left > 2 && p[1] == 0xc7 && p[2] >= 0xf8 && has_rep(p, at))
			return TAINT_PAGE;
		if (left > 2 && p[1] == 0x03)
			for (const uint8_t *q = MAX(p - 12, code); q + 4 <= p; q++)
				if (!memcmp(q, "\x7b\0\0\0", 4))
					return TAINT_PAGE;
	}
	return t;
}
