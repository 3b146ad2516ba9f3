/* SPDX-License-Identifier: MIT */
/*
 * Moves bytes from one descriptor to another on the loop, in order, with back-pressure: nothing is read while the last
 * bytes could not be written. Both descriptors are nonblocking and belong to the caller.
 */
#ifndef WSLX_SESSION_RELAY_H
#define WSLX_SESSION_RELAY_H

#include <stdbool.h>
#include "lib/base/loop.h"

struct relay;

/* Called once when nothing more will move: the source ended, the sink broke, or draining found the source empty. */
typedef void (*relay_done_fn)(void *ctx, struct relay *r, bool sink_broke);

int relay_new(struct relay **ret, struct loop *l, int from, int to, relay_done_fn done, void *ctx);
/* The writers of the source are gone for good: finish once it is empty, though others may still hold it open. */
void relay_drain(struct relay *r);
struct relay *relay_free(struct relay *r);

#endif
