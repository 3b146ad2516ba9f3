/* SPDX-License-Identifier: MIT */
/* Arithmetic on sizes and offsets that come from a guest, an image or a peer. True: the result
 * overflowed. */
#ifndef WSLX_BASE_CHECKED_H
#define WSLX_BASE_CHECKED_H

#include <stdbool.h>
#include <stdint.h>

#define add_overflows(a, b, ret) __builtin_add_overflow((a), (b), (ret))
#define sub_overflows(a, b, ret) __builtin_sub_overflow((a), (b), (ret))
#define mul_overflows(a, b, ret) __builtin_mul_overflow((a), (b), (ret))

/* Does [off, off + len) lie inside [0, size)? An empty range at size does. */
static inline bool range_ok(uint64_t off, uint64_t len, uint64_t size)
{
	return off <= size && len <= size - off;
}

#endif
