/* SPDX-License-Identifier: MIT */
/*
 * The control connection to a VM's init (docs/protocol.md), on the loop: HELLO, requests with their
 * replies, events.
 */
#ifndef WSLX_DAEMON_GUESTLINK_H
#define WSLX_DAEMON_GUESTLINK_H

#include "lib/base/err.h"
#include "lib/base/loop.h"
#include "lib/wire/msg.h"

struct guestlink;

struct guestlink_ops {
	/* The HELLO, already answered; then events. */
	void (*hello)(void *ctx, const struct wire_msg *m);
	void (*event)(void *ctx, const struct wire_msg *m);
	/* The guest closed the connection or broke the protocol; every request has failed with
	 * -EPIPE. Free the link. */
	void (*end)(void *ctx);
};

/* Takes fd over, also when it fails. */
int guestlink_new(
	struct loop *l, int fd, const struct guestlink_ops *ops, void *ctx, struct guestlink **ret);
/* Requests under way fail with -EPIPE. */
struct guestlink *guestlink_free(struct guestlink *g);

/* m is NULL when there is an error, which says what the guest said. Called exactly once a request.
 */
typedef void (*guestlink_done)(void *ctx, const struct wire_msg *m, const struct err *e);

/* Starts a request in w; then the caller adds attributes and sends it. One at a time. */
void guestlink_begin(struct guestlink *g, struct wire_w *w, enum wslx_type type);
void guestlink_send(struct guestlink *g, struct wire_w *w, guestlink_done done, void *ctx);

#endif
