/* SPDX-License-Identifier: MIT */
/*
 * Takes the connections of a listening socket. When this process, or the machine, is out of descriptors, those that wait
 * keep waiting and are taken when there are some again: without this, a loop that is told of them again and again would do
 * nothing else.
 */
#ifndef WSLX_BASE_ACCEPTOR_H
#define WSLX_BASE_ACCEPTOR_H

#include "lib/base/loop.h"

struct acceptor;

/* A connection, fd: the callee's; as accept4() gives it with these flags. */
typedef void (*acceptor_fn)(void *ctx, int fd);

/* fd: a socket that listens and does not block; stays the caller's. flags: SOCK_NONBLOCK; all are SOCK_CLOEXEC. */
int acceptor_new(
	struct acceptor **ret, struct loop *l, int fd, int flags, acceptor_fn fn, void *ctx);
/* NULL is fine; returns NULL. */
struct acceptor *acceptor_free(struct acceptor *a);

#endif
