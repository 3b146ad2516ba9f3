/* SPDX-License-Identifier: MIT */
/* What a guest can have of this process, whose descriptors and memory its own limits do not count. */
#ifndef WSLX_NETD_QUOTA_H
#define WSLX_NETD_QUOTA_H

#include <stdint.h>

/*
 * For this process, and the programs that it starts: descriptors, and memory as is needed for as many connections. Who gets no more
 * memory ends, and is started anew: so the guest that wants more has lost its connections, and the host nothing.
 */
void quota_set(void);

/* The bytes that belong to so many descriptors. */
uint64_t quota_memory(uint64_t descriptors);

#endif
