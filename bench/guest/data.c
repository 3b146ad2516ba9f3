/* SPDX-License-Identifier: MIT */
/* Data structures: sorting, a sieve, a hash table, chasing pointers through sets that fit L1, L2 and no cache. */
#include <stdlib.h>
#include <string.h>
#include "bench/guest/bench.h"

static void sort(uint32_t *a, long lo, long hi)
{
	while (lo < hi) {
		uint32_t pivot = a[lo + (hi - lo) / 2];
		long i = lo, j = hi;

		while (i <= j) {
			while (a[i] < pivot)
				i++;
			while (a[j] > pivot)
				j--;
			if (i <= j) {
				uint32_t t = a[i];

				a[i++] = a[j];
				a[j--] = t;
			}
		}
		sort(a, lo, j);
		lo = i;
	}
}

static uint64_t quicksort(uint64_t n)
{
	static uint32_t a[2000];
	uint64_t s = 7, h = 0;

	while (n--) {
		for (unsigned i = 0; i < 2000; i++)
			a[i] = (uint32_t)next(&s);
		sort(a, 0, 1999);
		h = mix(h, a[500]);
	}
	return h;
}

static uint64_t sieve(uint64_t n)
{
	static uint8_t composite[20000];
	uint64_t count = 0;

	while (n--) {
		memset(composite, 0, sizeof(composite));
		for (unsigned i = 2; i < sizeof(composite); i++) {
			if (composite[i])
				continue;
			count++;
			for (unsigned j = i * 2; j < sizeof(composite); j += i)
				composite[j] = 1;
		}
	}
	return count;
}

static uint64_t hash(uint64_t n)
{
	static struct {
		uint64_t key, value;
	} slot[1 << 14];
	uint64_t s = 3, h = 0;

	memset(slot, 0, sizeof(slot));
	for (uint64_t i = 0; i < n; i++) {
		uint64_t key = (next(&s) & 0x1fff) + 1;
		uint64_t at = (key * 0x9e3779b97f4a7c15U) >> 50;

		while (slot[at].key && slot[at].key != key)
			at = (at + 1) & 0x3fff;
		slot[at].key = key;
		h += slot[at].value += i;
	}
	return h;
}

/* One cycle through all of size bytes, a pointer per cache line, in an order no prefetcher guesses. */
static uint64_t chase(size_t size, uint64_t n)
{
	static uint32_t *ring;
	static size_t made;
	size_t lines = size / 64;
	uint64_t s = 17;
	uint32_t at = 0;

	if (made != size) {
		free(ring);
		ring = malloc(size);
		if (!ring)
			die("malloc");
		for (size_t i = 0; i < lines; i++)
			ring[i * 16] = (uint32_t)i;
		for (size_t i = lines - 1; i > 0; i--) {
			size_t j = next(&s) % i;
			uint32_t t = ring[i * 16];

			ring[i * 16] = ring[j * 16];
			ring[j * 16] = t;
		}
		made = size;
	}
	while (n--)
		at = ring[at * 16];
	return at;
}

static uint64_t chase_l1(uint64_t n)
{
	return chase(16 << 10, n);
}

static uint64_t chase_l2(uint64_t n)
{
	return chase(256 << 10, n);
}

static uint64_t chase_memory(uint64_t n)
{
	return chase(64 << 20, n);
}

const struct workload work_data[] = {{"quicksort", quicksort}, {"sieve", sieve},
	{"hash-table", hash}, {"chase-l1", chase_l1}, {"chase-l2", chase_l2},
	{"chase-memory", chase_memory}, {NULL, NULL}};
