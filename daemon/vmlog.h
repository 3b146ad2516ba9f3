/* SPDX-License-Identifier: MIT */
/*
 * What a VM leaves for its user to read, in the data folder's log/: wslx-vmm's messages and the
 * guest's console, of the present VM and of the one before (.old).
 */
#ifndef WSLX_DAEMON_VMLOG_H
#define WSLX_DAEMON_VMLOG_H

#include <stdbool.h>
#include <stddef.h>
#include "lib/base/err.h"

/* Starts new logs: the descriptor for wslx-vmm's messages, and its --serial option. */
int vmlog_open(const char *data_dir, char *serial, size_t cap, struct err *e);
/* Why wslx-vmm ended: its last error message if it wrote one, else what its wait status (if known)
 * tells. */
void vmlog_reason(const char *data_dir, bool known, int wait_status, char *buf, size_t cap);

#endif
