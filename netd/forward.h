/* SPDX-License-Identifier: MIT */
/* wslx-forward: ports of this host that lead to listeners of the guest, and the connections through them. */
#ifndef WSLX_NETD_FORWARD_H
#define WSLX_NETD_FORWARD_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include "lib/base/err.h"
#include "lib/base/loop.h"
#include "lib/json/json.h"
#include "netd/endpoint.h"

struct forwards;

enum { FORWARD_TEXT = ENDPOINT_TEXT };

/* vsock: the path of the machine's vsock socket; copied. */
int forwards_new(struct forwards **ret, struct loop *l, const char *vsock);
void forwards_free(struct forwards *f);

struct forward_config {
	const char *listen; /* on this host, "tcp 127.0.0.1 8080" */
	const char *to;	    /* the guest's listener, the same way */
	uint32_t port;	    /* the guest's vsock port for FORWARD */
	bool added;	    /* by the user, not because the guest listens */
};

/* Begins to listen; one there is already leads where this one says from now on. -EADDRINUSE, -EACCES, ... */
int forwards_add(struct forwards *f, const struct forward_config *c, struct err *e);
/* Connections through it stay. -ENOENT. */
int forwards_remove(struct forwards *f, const char *listen);
struct json_object *forwards_list(const struct forwards *f);
/* Does the machine still run? */
bool forwards_alive(const struct forwards *f);

/*
 * dial.c: one connection to a listener of the guest. fd: ready for its bytes, or a negative errno. Not called from inside
 * dial_new().
 */
struct dial;
typedef void (*dial_fn)(void *ctx, struct dial *d, int fd);
int dial_new(struct dial **ret, struct loop *l, const char *vsock, uint32_t port, const char *to,
	dial_fn fn, void *ctx);
struct dial *dial_free(struct dial *d);

#endif
