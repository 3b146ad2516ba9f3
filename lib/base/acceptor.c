/* SPDX-License-Identifier: MIT */
#include "lib/base/acceptor.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include "lib/base/attr.h"

/* Nobody tells when there are descriptors again. */
enum { AGAIN_MS = 100 };

struct acceptor {
	int flags;
	struct loop_src *src, *timer;
	acceptor_fn fn;
	void *ctx;
};

static void go_on(void *ctx)
{
	struct acceptor *a = ctx;

	loop_io_events(a->src, EPOLLIN);
}

static void on_connection(void *ctx, int fd, uint32_t revents)
{
	struct acceptor *a = ctx;
	int conn = accept4(fd, NULL, NULL, a->flags | SOCK_CLOEXEC);

	if (conn >= 0) {
		a->fn(a->ctx, conn);
	} else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
		loop_io_events(a->src, 0);
		loop_timer_arm(a->timer, loop_now() + AGAIN_MS * 1000000ull);
	}
}

int acceptor_new(
	struct acceptor **ret, struct loop *l, int fd, int flags, acceptor_fn fn, void *ctx)
{
	struct acceptor *a = calloc(1, sizeof(*a));
	int r;

	if (!a)
		return -ENOMEM;
	*a = (struct acceptor){.flags = flags, .fn = fn, .ctx = ctx};
	r = loop_timer(l, go_on, a, &a->timer);
	if (r == 0)
		r = loop_io(l, fd, EPOLLIN, on_connection, a, &a->src);
	if (r < 0) {
		acceptor_free(a);
		return r;
	}
	*ret = a;
	return 0;
}

struct acceptor *acceptor_free(struct acceptor *a)
{
	if (!a)
		return NULL;
	loop_src_free(a->src);
	loop_src_free(a->timer);
	free(a);
	return NULL;
}
