/* SPDX-License-Identifier: MIT */
/*
 * Two connections that become one: what comes from either goes to the other, and the end of a direction is passed on as
 * such, until both have ended.
 */
#ifndef WSLX_SESSION_JOIN_H
#define WSLX_SESSION_JOIN_H

#include "lib/base/loop.h"

struct join;

/* Called once when both directions have ended; join_free() is the owner's. */
typedef void (*join_done_fn)(void *ctx, struct join *j);

/* a and b are connected sockets and taken over, also on failure. */
int join_new(struct join **ret, struct loop *l, int a, int b, join_done_fn done, void *ctx);
struct join *join_free(struct join *j);

#endif
