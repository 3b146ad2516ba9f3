/* SPDX-License-Identifier: MIT */
/* A vCPU's code cache: one memory object, mapped for writing at one place and for execution at another. */
#ifndef WSLX_SOFT_JIT_CACHE_H
#define WSLX_SOFT_JIT_CACHE_H

#include <stddef.h>
#include <stdint.h>

struct os_memobj;
struct region;

struct soft_jit {
	struct os_memobj *obj;
	uint8_t *rw, *rx;
	ptrdiff_t to_rx; /* rx - rw */
	size_t size, used;
	uint32_t threshold;
	struct region *region; /* the translator's work space */
};

#endif
