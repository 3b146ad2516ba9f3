/* SPDX-License-Identifier: MIT */
/*
 * One protocol connection on the loop: assembles messages without ever reading past the current one (an ATTACH turns the
 * rest of the connection into a stream), and writes messages whole.
 */
#ifndef WSLX_SESSION_CONN_H
#define WSLX_SESSION_CONN_H

#include "lib/base/loop.h"
#include "lib/wire/msg.h"

struct conn;

/*
 * on_msg: a whole, checked message. on_end: the peer closed, broke the protocol (code: negative errno) or the connection
 * failed; called once, never from inside another call. Either may call conn_free() or conn_detach().
 */
struct conn_ops {
	void (*on_msg)(void *ctx, struct conn *c, const struct wire_msg *m);
	void (*on_end)(void *ctx, struct conn *c, int code);
};

/* Takes fd over, also on failure. ctx may be changed later (a connection's first message says whose it is). */
int conn_new(struct conn **ret, struct loop *l, int fd, const struct conn_ops *ops, void *ctx);
void conn_set(struct conn *c, const struct conn_ops *ops, void *ctx);
struct conn *conn_free(struct conn *c);
/* Frees c and hands its descriptor, at the first byte after the last message, to the caller. */
int conn_detach(struct conn *c);
/* Blocks for at most five seconds; a connection that cannot be written is ended by its reader. */
void conn_send(struct conn *c, struct wire_w *w);
/* Ends our direction and waits, at most this long, for the peer to end its own: what was sent has then arrived. */
void conn_linger(struct conn *c, int timeout_ms);

#endif
