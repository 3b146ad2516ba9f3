/* SPDX-License-Identifier: MIT */
/* Instructions whose results would be the host's if a stub executed them. Pure; any thread. Pages have 4096 bytes. */
#ifndef WSLX_SOFT_TAINT_H
#define WSLX_SOFT_TAINT_H

#include <stdbool.h>
#include <stdint.h>

enum taint {
	TAINT_NONE,
	TAINT_COPY, /* all are found: a copy can be executed in which they fault */
	TAINT_PAGE, /* there are some, or what may be some: not to be executed directly */
};

/*
 * RDPID, and LSL as Linux uses it to find the CPU's number (its selector is moved to a register right before): TAINT_PAGE. If asking, CPUID,
 * RDTSC and RDTSCP too, wherever an instruction may begin: what no compiler makes, one in the middle of another instruction, is not found.
 * For those that lie across two pages see soft_taint_pair(). before: the page that comes before it, in which its first instruction may
 * begin; NULL: not known. patched: becomes, if not NULL, what the page is with UD2 in the place of each, if that is TAINT_COPY.
 */
enum taint soft_taint(const uint8_t *page, const uint8_t *before, bool asking, uint8_t *patched);
/* The last byte of a page and the first one of the next may be the beginning of one of them. */
static inline bool soft_taint_pair(uint8_t last, uint8_t first)
{
	return last == 0x0f && (first == 0xa2 || first == 0x31 || first == 0x01);
}

#endif
