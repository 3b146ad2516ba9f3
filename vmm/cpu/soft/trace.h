/* SPDX-License-Identifier: MIT */
/*
 * Debugging aid: a line an event (and a block) on stderr. Compiled to nothing unless SOFT_TRACE is
 * defined to 1 (-Dc_args=-DSOFT_TRACE=1); the environment's SOFT_TRACE is a mask then: 1 events,
 * 2 blocks.
 */
#ifndef WSLX_SOFT_TRACE_H
#define WSLX_SOFT_TRACE_H

#include "vmm/cpu/soft/cpu.h"

#ifndef SOFT_TRACE
#define SOFT_TRACE 0
#endif

#if SOFT_TRACE
#include <stdio.h>
#include <stdlib.h>
extern int soft_trace_on; /* bit 0: events, bit 1: blocks */
#define soft_trace(c, fmt, ...)                                                                    \
	do {                                                                                       \
		if (soft_trace_on & 1)                                                             \
			fprintf(stderr, "cpu%u %#lx: " fmt "\n", (c)->index,                       \
				(unsigned long)(c)->rip, ##__VA_ARGS__);                           \
	} while (0)
#define soft_trace_block(c)                                                                        \
	do {                                                                                       \
		if (soft_trace_on & 2)                                                             \
			fprintf(stderr, "cpu%u %#lx\n", (c)->index, (unsigned long)(c)->rip);      \
	} while (0)
#else
#define soft_trace(c, ...)  ((void)0)
#define soft_trace_block(c) ((void)0)
#endif

#endif
