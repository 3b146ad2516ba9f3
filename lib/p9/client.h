/* SPDX-License-Identifier: MIT */
/*
 * A 9P client on a loop: any number of requests under way at once, each with a callback. It talks to servers that know
 * P9_VERSION_WSLX, which answer in order; so requests that depend on one another are sent together.
 *
 * The server is not trusted: what it sends is checked, and a connection that does not keep to the protocol is ended.
 */
#ifndef WSLX_P9_CLIENT_H
#define WSLX_P9_CLIENT_H

#include "lib/base/loop.h"
#include "lib/p9/proto.h"

struct p9_client;

/*
 * error 0: reply, of the type that belongs to the request, valid during the call. Otherwise a negative errno: the server's,
 * or -EIO when the connection has ended.
 */
typedef void (*p9_done)(void *ctx, const struct p9_msg *reply, int error);

/*
 * Takes fd over, also when it fails, and begins with Tversion and an attach: root is the fid of the server's root folder.
 * Requests can be made at once. closed (may be NULL) is called once when the connection is of no use any more, after
 * every request has failed; the client is then still to be freed.
 */
int p9_client_new(struct p9_client **ret, struct loop *l, int fd, loop_fn closed, void *ctx);
/* Calls back with -EIO what is under way. May be called from a callback. */
struct p9_client *p9_client_free(struct p9_client *c);

enum { P9_ROOT_FID = 0, P9_IO_MAX = P9_MSIZE_MAX - 4096 };

/* Makes a request; its tag is set here. done may be NULL, and is never called before this returns. */
void p9_client_call(struct p9_client *c, struct p9_msg *m, p9_done done, void *ctx);

/* A fid that is free, P9_NO_FID when there is none. It is given back by clunking it, or, when no reply made it, so. */
uint32_t p9_client_fid(struct p9_client *c);
void p9_client_fid_unused(struct p9_client *c, uint32_t fid);
/* Clunks; P9_NO_FID is fine. */
void p9_client_clunk(struct p9_client *c, uint32_t fid);

/* Is the connection of use? */
bool p9_client_alive(const struct p9_client *c);
unsigned p9_client_pending(const struct p9_client *c);
/* The most bytes one read or write can carry; before the server's answer to Tversion, a guess. */
uint32_t p9_client_io_size(const struct p9_client *c);

/*
 * Blocking forms, for programs that do one thing: run the loop until the reply is there. Strings and data of the reply
 * are valid until the next call of any kind. A negative errno as above.
 */
int p9_client_wait(struct p9_client *c, struct p9_msg *m, struct p9_msg *reply);
/* Runs the loop until no request is under way. */
void p9_client_drain(struct p9_client *c);

#endif
