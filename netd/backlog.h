/* SPDX-License-Identifier: MIT */
/* Frames that wait for the guest to make room, in order, in one buffer of fixed size. */
#ifndef WSLX_NETD_BACKLOG_H
#define WSLX_NETD_BACKLOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { BACKLOG_BYTES = 2 << 20 };

struct backlog {
	size_t head, tail, used; /* in bytes; used tells full from empty */
	uint8_t data[BACKLOG_BYTES];
};

/* False: there is no room for it. */
bool backlog_put(struct backlog *b, const uint8_t *frame, size_t len);
/* The oldest one; NULL: there is none. It stays until backlog_drop(). */
const uint8_t *backlog_first(const struct backlog *b, size_t *ret_len);
void backlog_drop(struct backlog *b);

#endif
