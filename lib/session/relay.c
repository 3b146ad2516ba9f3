/* SPDX-License-Identifier: MIT */
#include "lib/session/relay.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/epoll.h>

enum { BUF_SIZE = 128 * 1024 };

struct relay {
	struct loop *loop;
	int from, to;
	struct loop_src *in, *out;
	bool draining, ended;
	relay_done_fn done;
	void *ctx;
	size_t off, len;
	uint8_t buf[BUF_SIZE];
};

static void finish(struct relay *r, bool sink_broke)
{
	r->ended = true;
	r->in = loop_src_free(r->in);
	r->out = loop_src_free(r->out);
	r->done(r->ctx, r, sink_broke);
}

/* Moves until one side would block. Only the side that does is watched. */
static void pump(struct relay *r)
{
	for (int rounds = 0; rounds < 16; rounds++) {
		while (r->off < r->len) {
			ssize_t n = write(r->to, r->buf + r->off, r->len - r->off);

			if (n < 0 && errno == EINTR)
				continue;
			if (n < 0 && errno == EAGAIN) {
				loop_io_events(r->in, 0);
				loop_io_events(r->out, EPOLLOUT);
				return;
			}
			if (n < 0) {
				finish(r, true);
				return;
			}
			r->off += (size_t)n;
		}
		r->off = r->len = 0;
		ssize_t n = read(r->from, r->buf, sizeof(r->buf));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN && !r->draining)
			break;
		if (n <=
			0) { /* end, an error (EIO: no process has the terminal any more), or drained */
			finish(r, false);
			return;
		}
		r->len = (size_t)n;
	}
	loop_io_events(r->in, r->len ? 0 : EPOLLIN);
	loop_io_events(r->out, r->len ? EPOLLOUT : 0);
}

static void in_ready(void *ctx, int fd, uint32_t revents)
{
	pump(ctx);
}

static void out_ready(void *ctx, int fd, uint32_t revents)
{
	pump(ctx);
}

int relay_new(struct relay **ret, struct loop *l, int from, int to, relay_done_fn done, void *ctx)
{
	struct relay *r = malloc(sizeof(*r));
	int e;

	if (!r)
		return -ENOMEM;
	r->loop = l;
	r->from = from;
	r->to = to;
	r->done = done;
	r->ctx = ctx;
	r->off = r->len = 0;
	r->draining = r->ended = false;
	r->in = r->out = NULL;
	e = loop_io(l, from, EPOLLIN, in_ready, r, &r->in);
	if (e == 0)
		e = loop_io(l, to, 0, out_ready, r, &r->out);
	if (e < 0) {
		relay_free(r);
		return e;
	}
	*ret = r;
	return 0;
}

void relay_drain(struct relay *r)
{
	if (r->ended)
		return;
	r->draining = true;
	pump(r);
}

struct relay *relay_free(struct relay *r)
{
	if (r) {
		loop_src_free(r->in);
		loop_src_free(r->out);
		free(r);
	}
	return NULL;
}
