/* SPDX-License-Identifier: MIT */
/* Memory: copies, string instructions, strlen, locked operations, reading the clock. */
#include <string.h>
#include <time.h>
#include "bench/guest/bench.h"

static uint8_t from[1 << 20] __attribute__((aligned(64))), to[1 << 20] __attribute__((aligned(64)));

/* A copy as a C library's is: 16 bytes at a time through vector registers, whatever the library this is linked to does. */
static void copy(size_t size)
{
	for (size_t i = 0; i < size; i += 64)
		__asm__ volatile(
			"movups (%0), %%xmm0; movups 16(%0), %%xmm1; movups 32(%0), %%xmm2; movups 48(%0), %%xmm3;"
			"movups %%xmm0, (%1); movups %%xmm1, 16(%1); movups %%xmm2, 32(%1); movups %%xmm3, 48(%1)"
			:
			: "r"(from + i), "r"(to + i)
			: "xmm0", "xmm1", "xmm2", "xmm3", "memory");
}

static uint64_t copies(size_t size, uint64_t n)
{
	for (size_t i = 0; i < size; i++)
		from[i] = (uint8_t)(i * 13);
	while (n--)
		copy(size);
	return to[size - 1] * 256U + to[size / 2];
}

static uint64_t copy64(uint64_t n)
{
	return copies(64, n);
}

static uint64_t copy4k(uint64_t n)
{
	return copies(4096, n);
}

static uint64_t copy1m(uint64_t n)
{
	return copies(1 << 20, n);
}

static uint64_t rep_movsb(uint64_t n)
{
	memset(from, 3, 4096);
	while (n--) {
		void *d = to;
		const void *s = from;
		size_t c = 4096;

		__asm__ volatile("rep movsb" : "+D"(d), "+S"(s), "+c"(c) : : "memory");
	}
	return to[4095];
}

static uint64_t length(uint64_t n)
{
	uint64_t h = 0;

	memset(from, 'x', 1000);
	from[1000] = 0;
	while (n--) {
		const char *p = (const char *)from;

		opaque(p);
		h += strlen(p);
	}
	return h;
}

static uint64_t atomic_add(uint64_t n)
{
	static uint64_t counter;

	counter = 0;
	for (uint64_t i = 0; i < n; i++)
		__atomic_fetch_add(&counter, i, __ATOMIC_SEQ_CST);
	return counter;
}

static uint64_t rdtsc(uint64_t n)
{
	uint64_t last = 0, back = 0;

	for (uint64_t i = 0; i < n; i++) {
		uint64_t now = __builtin_ia32_rdtsc();

		back += now < last;
		last = now;
	}
	return back; /* 0: time does not run backwards */
}

static uint64_t read_clock(uint64_t n)
{
	uint64_t back = 0;
	struct timespec last = {0, 0}, now;

	while (n--) {
		must(clock_gettime(CLOCK_MONOTONIC, &now));
		back += now.tv_sec < last.tv_sec ||
			(now.tv_sec == last.tv_sec && now.tv_nsec < last.tv_nsec);
		last = now;
	}
	return back;
}

const struct workload work_memory[] = {{"copy-64", copy64, 2000}, {"copy-4k", copy4k, 2000},
	{"copy-1m", copy1m}, {"rep-movsb", rep_movsb, 100}, {"strlen", length},
	{"atomic-add", atomic_add}, {"rdtsc", rdtsc}, {"clock-gettime", read_clock}, {NULL, NULL}};
