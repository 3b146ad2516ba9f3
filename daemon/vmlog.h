/* SPDX-License-Identifier: MIT */
/*
 * What a VM leaves for its user to read, in a folder of its own: wslx-vmm's messages and the
 * guest's console, of the present VM and of the one before (.old).
 */
#ifndef WSLX_DAEMON_VMLOG_H
#define WSLX_DAEMON_VMLOG_H

#include <stdbool.h>
#include <stddef.h>
#include "lib/base/err.h"

/* Starts new logs: the descriptor for wslx-vmm's messages, and the console's file in console: this one, if not NULL. */
int vmlog_open(const char *log_dir, const char *file, char *console, size_t cap, struct err *e);
/* Why wslx-vmm ended: its last error message if it wrote one, else what its wait status (if known)
 * tells; for a kernel panic, what the kernel said. */
void vmlog_reason(const char *log_dir, const char *console, bool known, int wait_status, char *buf,
	size_t cap);
/* The kernel's last panic in what a console said, on one line of printable characters: "kernel panic: why (what led to
 * it)". False: there is none. */
bool vmlog_panic(const char *text, size_t len, char *buf, size_t cap);

#endif
