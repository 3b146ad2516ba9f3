/* SPDX-License-Identifier: MIT */
/*
 * What init does for the VM as a whole, beside running distributions: limits, swap, memory that goes back to the host,
 * core dumps. Work that may take long is done by helpers: processes that end with the errno of what they did.
 */
#ifndef WSLX_GUEST_VM_H
#define WSLX_GUEST_VM_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "guest/vmconf.h"

/* Once, when the basic file systems are there. What fails is logged: the VM is of use without. */
void vm_set_up(void);

/* A line of /proc/meminfo, "MemTotal:", in bytes; 0: there is none. */
uint64_t memory_info(const char *name);

/* Helpers: 0, or a negative errno. */
int swap_on(const void *lun);	     /* uint32_t: its LUN */
int reclaim_now(const void *unused); /* drops the page cache, makes large free pages */

/* Starts fn(arg) in a helper on behalf of request id of this type. Negative errno. */
int helper_start(uint32_t type, uint32_t id, int (*fn)(const void *arg), const void *arg);
/* This child has ended: was it a helper? Then what for, and *ret_error is 0 or a negative errno. */
bool helper_ended(pid_t pid, int status, uint32_t *ret_type, uint32_t *ret_id, int *ret_error);

/* Moves the wall clock by so much: small steps slowly, so that it does not go backwards. Negative errno. */
int clock_move(int64_t ns);

/* The process in which memory is given back while the VM is idle. */
void reclaim_start(enum vm_reclaim how);

/* What the kernel runs for a core dump (core(5), "piping"): "wslx-crash PID TIME SIGNAL EXE", the dump on stdin. */
int crash_main(int argc, char **argv);
/* Has it run for every dump. */
int crash_install(void);

#endif
