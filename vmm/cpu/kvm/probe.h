/* SPDX-License-Identifier: MIT */
/* What the probe (probe.c) and its guest (probe-guest.S) agree on. Preprocessor only: the assembler reads it too. */
#ifndef WSLX_VMM_CPU_KVM_PROBE_H
#define WSLX_VMM_CPU_KVM_PROBE_H

#define PROBE_PORT_STEP 0xf0
#define PROBE_PORT_BAD	0xf1
#define PROBE_PORT_NONE 0xf2

/* Guest memory: page tables, descriptor tables, then these. */
#define PROBE_CODE    0x8000
#define PROBE_STACK   0x20000 /* grows down */
#define PROBE_DATA    0x30000
#define PROBE_BUFFER  0x31000
#define PROBE_NO_PAGE 0x40000000

#define PROBE_TIMER_VECTOR 0x40
#define PROBE_LOOPS	   200000
#define PROBE_ROUNDS	   3
#define PROBE_NEXITS	   200

/* The steps, in order. */
#define PROBE_LONG_MODE 1
#define PROBE_SSE	2
#define PROBE_CX16	3
#define PROBE_CPUID	4
#define PROBE_MSR	5
#define PROBE_FAULT	6
#define PROBE_TIMER	7
#define PROBE_LOOP	8
#define PROBE_LOOP_END	9
#define PROBE_EXITS	10
#define PROBE_EXITS_END 11

#endif
