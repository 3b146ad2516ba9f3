/* SPDX-License-Identifier: MIT */
/* What the workloads of bench/soft share: a table of them per family, and what keeps a compiler from removing them. */
#ifndef BENCH_GUEST_BENCH_H
#define BENCH_GUEST_BENCH_H
#include <stddef.h>
#include <stdint.h>

/* Run a workload's loop n times; the result depends on n only and must be the same on every processor. */
struct workload {
	const char *name;
	uint64_t (*run)(uint64_t n);
	unsigned
		target_us; /* of native time; 0: the usual. Less where an emulator is far slower, more to outweigh a start */
};

extern const struct workload work_int[], work_data[], work_coding[], work_float[], work_memory[],
	work_kernel[], work_process[];

/* The value may have changed in ways the compiler cannot see. */
#define opaque(x) __asm__ volatile("" : "+r"(x))
/* Memory may have been read and written. */
#define barrier() __asm__ volatile("" : : : "memory")

static inline uint64_t mix(uint64_t h, uint64_t v)
{
	return (h ^ v) * 0x9e3779b97f4a7c15U + (h >> 29);
}

/* A fixed sequence: every workload starts it from its own seed. */
static inline uint64_t next(uint64_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return *s;
}

/* A system call that a workload cannot do without failed: says which and ends the program. */
void die(const char *what) __attribute__((noreturn));
#define must(x) ((x) < 0 ? die(#x) : (void)0)
#endif
