/* SPDX-License-Identifier: MIT */
/*
 * Where the serial port's bytes go: a descriptor of the host, written a line (or a pause) at a time rather than a byte
 * at a time.
 */
#ifndef WSLX_VMM_SINK_H
#define WSLX_VMM_SINK_H

#include <stdint.h>
#include "lib/base/loop.h"

struct sink;

/* fd: borrowed; a file is open for appending. max: a file that would become longer (in bytes) starts anew, with a line that
 * says so; 0: no limit. */
int sink_new(struct sink **ret, struct loop *l, int fd, uint64_t max);
void sink_free(struct sink *s); /* writes what is left */
/* Any thread. */
void sink_byte(void *ctx, uint8_t byte);

#endif
