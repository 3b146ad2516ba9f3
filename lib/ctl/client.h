/* SPDX-License-Identifier: MIT */
/*
 * The calling side of calls over a unix socket (lib/ctl/frame.h): a blocking client for programs
 * that do one thing, and a loop-driven one for programs that serve others meanwhile.
 */
#ifndef WSLX_CTL_CLIENT_H
#define WSLX_CTL_CLIENT_H

#include "lib/base/loop.h"
#include "lib/ctl/frame.h"

struct ctl_client;

/* Connects to path; the server must run as our own user. -ENOENT, -ECONNREFUSED: nobody there. */
int ctl_connect(const char *path, struct ctl_client **ret, struct err *e);
/* Uses a connection that is open already; takes fd over, also when it fails. */
int ctl_client_new(int fd, struct ctl_client **ret);
void ctl_client_free(struct ctl_client *c);
DEFINE_CLEANUP(struct ctl_client, ctl_client_free)

typedef void (*ctl_event_fn)(void *ctx, struct json_object *event);

/* For ctl_call(): everything but method is optional. */
struct ctl_req {
	const char *method;
	struct json_object *params; /* taken over */
	const int *fds;		    /* borrowed */
	unsigned nfds;
	ctl_event_fn on_event;
	void *ctx;
	struct ctl_fds *ret_fds; /* NULL: descriptors of the reply are closed */
};

/* Calls and waits. *ret (may be NULL) gets the result, which js_free() releases. The reply's error,
 * or -EPIPE when the server went away, is in *e too. */
int ctl_call(
	struct ctl_client *c, const struct ctl_req *req, struct json_object **ret, struct err *e);

/*
 * The loop-driven client. done is called exactly once a call, from the loop or from
 * ctl_async_free(): with the result (borrowed) and e NULL, or with result NULL and the error
 * (-EPIPE: the connection ended). It may start calls, and free the client.
 */
struct ctl_async;

typedef void (*ctl_done_fn)(void *ctx, struct json_object *result, const struct err *e);

/* Takes fd over, also when it fails. */
int ctl_async_new(struct loop *l, int fd, struct ctl_async **ret);
/* Ends all calls with -EPIPE. */
struct ctl_async *ctl_async_free(struct ctl_async *a);
/* params and f's descriptors are taken over; both may be NULL. */
void ctl_async_call(struct ctl_async *a, const char *method, struct json_object *params,
	struct ctl_fds *f, ctl_done_fn done, void *ctx);
/* fn(ctx) when the server has closed the connection, after all calls have ended. */
void ctl_async_on_close(struct ctl_async *a, loop_fn fn, void *ctx);

#endif
