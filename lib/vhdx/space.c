/* SPDX-License-Identifier: MIT */
/* Free and used space of a VHDX file, in units of 1 MiB, to which everything in it is aligned. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "lib/base/attr.h"
#include "lib/vhdx/vhdx-internal.h"

static uint64_t words(uint64_t bits)
{
	return (bits + 63) / 64;
}

uint64_t vhdx_bit_next(const uint64_t *w, uint64_t i, uint64_t n)
{
	while (i < n) {
		uint64_t rest = w[i / 64] >> (i % 64);

		if (rest) {
			i += (unsigned)__builtin_ctzll(rest);
			return MIN(i, n);
		}
		i = (i / 64 + 1) * 64;
	}
	return n;
}

static uint64_t next_clear(const uint64_t *w, uint64_t i, uint64_t n)
{
	while (i < n) {
		uint64_t rest = ~w[i / 64] >> (i % 64);

		if (rest) {
			i += (unsigned)__builtin_ctzll(rest);
			return MIN(i, n);
		}
		i = (i / 64 + 1) * 64;
	}
	return n;
}

int vhdx_space_init(struct space *s, uint64_t units)
{
	*s = (struct space){.cap = words(units) * 64};
	s->used = calloc(words(units), 8);
	s->freed = calloc(words(units), 8);
	s->leaving = calloc(words(units), 8);
	return s->used && s->freed && s->leaving ? 0 : -ENOMEM;
}

void vhdx_space_done(struct space *s)
{
	free(s->used);
	free(s->freed);
	free(s->leaving);
	*s = (struct space){0};
}

static int grow_map(uint64_t **map, uint64_t old, uint64_t cap)
{
	uint64_t *m = realloc(*map, words(cap) * 8);

	if (!m)
		return -ENOMEM;
	memset(m + words(old), 0, (words(cap) - words(old)) * 8);
	*map = m;
	return 0;
}

static int grow(struct space *s, uint64_t need)
{
	uint64_t cap = words(MAX(need, s->cap * 2)) * 64;

	if (grow_map(&s->used, s->cap, cap) < 0 || grow_map(&s->freed, s->cap, cap) < 0 ||
		grow_map(&s->leaving, s->cap, cap) < 0)
		return -ENOMEM;
	s->cap = cap;
	return 0;
}

static void mark(struct space *s, uint64_t first, uint64_t n)
{
	if (first >= s->end) {
		s->nfree += first - s->end;
		s->end = first + n;
	} else {
		/* Partly behind the end at most. */
		s->nfree -= MIN(n, s->end - first);
		s->end = MAX(s->end, first + n);
	}
	for (uint64_t i = first; i < first + n; i++)
		vhdx_bit_set(s->used, i);
}

int vhdx_space_take(struct space *s, uint64_t first, uint64_t n)
{
	if (first + n > s->cap || vhdx_bit_next(s->used, first, first + n) < first + n)
		return -EINVAL;
	mark(s, first, n);
	return 0;
}

int vhdx_space_alloc(struct space *s, uint64_t n, uint64_t *ret)
{
	uint64_t i = s->hint;

	while (s->nfree >= n) {
		uint64_t used;

		i = next_clear(s->used, i, s->end);
		if (i >= s->end)
			break;
		used = vhdx_bit_next(s->used, i, s->end);
		if (used - i >= n) {
			mark(s, i, n);
			*ret = i;
			if (n == 1)
				s->hint = i + 1;
			return 0;
		}
		i = used;
	}
	if (s->end + n > s->cap && grow(s, s->end + n) < 0)
		return -ENOMEM;
	*ret = s->end;
	mark(s, s->end, n);
	return 0;
}

void vhdx_space_free(struct space *s, uint64_t first, uint64_t n)
{
	for (uint64_t i = first; i < first + n; i++)
		vhdx_bit_set(s->freed, i);
	s->nfreed += n;
}

void vhdx_space_commit(struct space *s)
{
	if (!s->nfreed)
		return;
	for (uint64_t i = 0; i < words(s->end); i++)
		s->leaving[i] |= s->freed[i];
	memset(s->freed, 0, words(s->end) * 8);
	s->nleaving += s->nfreed;
	s->nfreed = 0;
}

bool vhdx_space_next_leaving(const struct space *s, uint64_t *first, uint64_t *n)
{
	if (!s->nleaving)
		return false;
	*first = vhdx_bit_next(s->leaving, 0, s->end);
	*n = next_clear(s->leaving, *first, s->end) - *first;
	return true;
}

void vhdx_space_release(struct space *s, uint64_t first, uint64_t n)
{
	for (uint64_t i = first; i < first + n; i++) {
		vhdx_bit_clear(s->leaving, i);
		vhdx_bit_clear(s->used, i);
	}
	s->nleaving -= n;
	s->nfree += n;
	s->hint = MIN(s->hint, first);
}
