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

/* fd: borrowed. */
int sink_new(struct sink **ret, struct loop *l, int fd);
void sink_free(struct sink *s); /* writes what is left */
/* Any thread. */
void sink_byte(void *ctx, uint8_t byte);

#endif
