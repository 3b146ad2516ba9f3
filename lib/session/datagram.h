/* SPDX-License-Identifier: MIT */
/* Datagrams on a stream: each behind its length in two bytes, big-endian. */
#ifndef WSLX_SESSION_DATAGRAM_H
#define WSLX_SESSION_DATAGRAM_H

#include <stdint.h>
#include "lib/base/loop.h"

struct datagrams;

enum { DATAGRAM_MAX = 65535 };

struct datagrams_ops {
	/* One came over the stream; this may send others, but not free anything. */
	void (*received)(void *ctx, const uint8_t *data, size_t len);
	/* The stream has ended, or broken. */
	void (*ended)(void *ctx);
};

/* stream: not blocking, taken over, also on failure. */
int datagrams_new(struct datagrams **ret, struct loop *l, int stream,
	const struct datagrams_ops *ops, void *ctx);
struct datagrams *datagrams_free(struct datagrams *d);
/* One for the other end; dropped when too much waits there, as datagrams are. */
void datagrams_send(struct datagrams *d, const void *data, size_t len);

#endif
