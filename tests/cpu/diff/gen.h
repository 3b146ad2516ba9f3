/* SPDX-License-Identifier: MIT */
/* What gen.c and gen-values.c share: the random numbers, and the values made of them. */
#ifndef WSLX_TESTS_CPU_DIFF_GEN_H
#define WSLX_TESTS_CPU_DIFF_GEN_H

#include "tests/cpu/diff/diff.h"

struct rng {
	uint64_t s;
};

static inline uint64_t mix(uint64_t z)
{
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

static inline uint64_t rnd(struct rng *r)
{
	return mix(r->s += 0x9e3779b97f4a7c15ull);
}

static inline unsigned below(struct rng *r, unsigned n)
{
	return (unsigned)((rnd(r) >> 32) * n >> 32);
}

static inline bool one_in(struct rng *r, unsigned n)
{
	return below(r, n) == 0;
}

/* gen-values.c: an integer, memory's first contents, an x87 and SSE state; the interesting ones come often. */
uint64_t gen_value(struct rng *r);
void gen_data(struct rng *r, uint8_t *data);
void gen_fx(struct rng *r, struct diff_fx *f);

#endif
