/* SPDX-License-Identifier: MIT */
/* What the profile takes of the host's CPU. */
#ifndef WSLX_SOFT_HOST_CPU_H
#define WSLX_SOFT_HOST_CPU_H

#include <stdbool.h>

/* Reads the host's CPUID (slow: once). Idempotent; before the first soft_cpuid(). */
void soft_cpuid_init(void);
bool soft_cpuid_intel(void); /* else AMD or like it */

#endif
