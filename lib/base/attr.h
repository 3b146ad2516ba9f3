/* SPDX-License-Identifier: MIT */
/* Compiler attributes and small macros used everywhere. libc only. */
#ifndef WSLX_BASE_ATTR_H
#define WSLX_BASE_ATTR_H

#include <assert.h>
#include <stddef.h>

#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))
#define MUST_CHECK	       __attribute__((warn_unused_result))
#define NORETURN	       __attribute__((noreturn))
#define COLD		       __attribute__((cold))
#define NOINLINE	       __attribute__((noinline))
#define ALWAYS_INLINE	       inline __attribute__((always_inline))
#define UNUSED		       __attribute__((unused))
#define PACKED		       __attribute__((packed))
#define ALIGNED(n)	       __attribute__((aligned(n)))

#define likely(x)   __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

#define ARRAY_LEN(a)	 (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b)	 ((a) < (b) ? (a) : (b))
#define MAX(a, b)	 ((a) > (b) ? (a) : (b))
#define ALIGN_UP(x, a)	 (((x) + (a)-1) & ~((__typeof__(x))(a)-1))
#define ALIGN_DOWN(x, a) ((x) & ~((__typeof__(x))(a)-1))
#define BIT(n)		 (1ull << (n))

#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

#endif
