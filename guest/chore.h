/* SPDX-License-Identifier: MIT */
/*
 * A request of the host's that takes long: done by a process of its own, which sends the messages for the host itself, its
 * reply last. One at a time.
 */
#ifndef WSLX_GUEST_CHORE_H
#define WSLX_GUEST_CHORE_H

#include "lib/base/loop.h"
#include "lib/wire/msg.h"

/* In the process: does what m asks, and sends what there is to say over the pair (guest.h). */
typedef void (*chore_fn)(const struct wire_msg *m, int pair);
/* In init: a message of the chore's, which is in the buffer; NULL: it ended without a reply to this request. */
typedef void (*chore_says_fn)(void *ctx, uint32_t type, uint32_t id, const struct wire_msg *m);

/* buf: where its messages are put. -EBUSY: there is one already. */
int chore_start(struct loop *l, const struct wire_msg *m, chore_fn fn, void *buf, size_t cap,
	chore_says_fn says, void *ctx);

#endif
