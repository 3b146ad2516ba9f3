/* SPDX-License-Identifier: MIT */
/*
 * The serving side of calls over a unix socket (lib/ctl/frame.h), on an event loop. Only peers with
 * our own user id are served. A method may answer at once or later; calls of one connection may
 * finish in any order.
 */
#ifndef WSLX_CTL_SERVER_H
#define WSLX_CTL_SERVER_H

#include <stdbool.h>
#include "lib/base/loop.h"
#include "lib/ctl/frame.h"

struct ctl_server;
struct ctl_call;

/*
 * Handles one call; ctx is the server's. params is borrowed until the handler returns and has
 * passed js_check(fields). The handler, or something it started, ends the call with exactly one of
 * ctl_reply() and ctl_fail().
 */
typedef void (*ctl_method_fn)(void *ctx, struct ctl_call *call, struct json_object *params);

struct ctl_method {
	const char *name;
	ctl_method_fn fn;
	const struct js_field *fields;
	unsigned nfields;
	unsigned nfds; /* the call must bring exactly so many descriptors */
};

/* Serves connections of listen_fd, which it owns from now on (not when it fails). */
int ctl_server_new(struct loop *l, int listen_fd, const struct ctl_method *methods, unsigned n,
	void *ctx, struct ctl_server **ret);
/* Closes all connections; calls still running stay valid and lead nowhere. */
void ctl_server_free(struct ctl_server *s);
DEFINE_CLEANUP(struct ctl_server, ctl_server_free)
/* Serves one connection that is open already; takes fd over, also when it fails. */
int ctl_server_add(struct ctl_server *s, int fd);
unsigned ctl_server_connections(const struct ctl_server *s);
/* Calls fn(ctx) whenever the number of connections has changed. */
void ctl_server_on_change(struct ctl_server *s, loop_fn fn, void *ctx);

/* So many are connected that a call which keeps its connection for long is to be refused: others have to get through. */
bool ctl_call_is_crowded(const struct ctl_call *c);
/* Takes descriptor i of the call over; -EBADF when there is none left there. */
int ctl_call_take_fd(struct ctl_call *c, unsigned i);
/* Calls fn(ctx) if the peer goes away before the call has ended. fn NULL: no longer. */
void ctl_call_on_close(struct ctl_call *c, loop_fn fn, void *ctx);
/* Calls fn(ctx) once when the call's connection has ended, be it long after the call: for what is
 * held on behalf of a client as long as it lives. -EPIPE when it has ended already. */
int ctl_call_on_disconnect(struct ctl_call *c, loop_fn fn, void *ctx);
/* Tells the caller something before the reply; takes o over. */
void ctl_event(struct ctl_call *c, struct json_object *o);
/* Ends the call. result (NULL: {}) and descriptors (NULL: none) are taken over. */
void ctl_reply(struct ctl_call *c, struct json_object *result, struct ctl_fds *f);
/* Ends the call with e's code and text. */
void ctl_fail(struct ctl_call *c, const struct err *e);

#endif
