/* SPDX-License-Identifier: MIT */
#include "lib/session/conn.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include "lib/base/io.h"

struct conn {
	struct loop *loop;
	struct loop_src *src;
	int fd;
	const struct conn_ops *ops;
	void *ctx;
	uint8_t *buf; /* the message being assembled; grows to the largest seen */
	size_t cap, have;
};

static void ready(void *ctx, int fd, uint32_t revents);

int conn_new(struct conn **ret, struct loop *l, int fd, const struct conn_ops *ops, void *ctx)
{
	struct timeval tv = {.tv_sec = 5};
	struct conn *c = calloc(1, sizeof(*c));
	int r = -ENOMEM;

	if (!c)
		goto fail;
	*c = (struct conn){.loop = l, .fd = fd, .ops = ops, .ctx = ctx, .cap = 1024};
	c->buf = malloc(c->cap);
	if (!c->buf)
		goto fail;
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
	r = loop_io(l, fd, EPOLLIN, ready, c, &c->src);
	if (r < 0)
		goto fail;
	*ret = c;
	return 0;
fail:
	if (c)
		free(c->buf);
	free(c);
	close(fd);
	return r;
}

void conn_set(struct conn *c, const struct conn_ops *ops, void *ctx)
{
	c->ops = ops;
	c->ctx = ctx;
}

int conn_detach(struct conn *c)
{
	int fd = c->fd;

	loop_src_free(c->src);
	free(c->buf);
	free(c);
	return fd;
}

struct conn *conn_free(struct conn *c)
{
	if (c)
		close(conn_detach(c));
	return NULL;
}

void conn_send(struct conn *c, struct wire_w *w)
{
	/* A failure shows as the end of the connection to the reader, who then cleans up. */
	if (wire_send(w, c->fd) < 0)
		shutdown(c->fd, SHUT_RDWR);
}

void conn_linger(struct conn *c, int timeout_ms)
{
	struct pollfd p = {.fd = c->fd, .events = POLLRDHUP};

	shutdown(c->fd, SHUT_WR);
	poll(&p, 1, timeout_ms);
}

static int grow(struct conn *c, size_t need)
{
	uint8_t *p;

	if (need <= c->cap)
		return 0;
	p = realloc(c->buf, need);
	if (!p)
		return -ENOMEM;
	c->buf = p;
	c->cap = need;
	return 0;
}

/* Not a byte more than the message: what follows can be another's, conn_detach(). 1: all is there; 0: more is to come. */
static int fill_to(struct conn *c, size_t want)
{
	ssize_t n = recv(c->fd, c->buf + c->have, want - c->have, MSG_DONTWAIT);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	if (n == 0)
		return -EPIPE;
	c->have += (size_t)n;
	return c->have == want;
}

/* 1: a whole message is in buf; 0: more is to come; negative: the connection is of no use any more. */
static int fill(struct conn *c)
{
	int r = c->have < 4 ? fill_to(c, 4) : 1, size;

	if (r <= 0)
		return r;
	size = wire_size(c->buf);
	r = size < 0 ? size : grow(c, (size_t)size);
	return r < 0 ? r : fill_to(c, (size_t)size);
}

static void ready(void *ctx, int fd, uint32_t revents)
{
	struct conn *c = ctx;
	struct wire_msg m;
	int r = fill(c);

	if (r == 0)
		return;
	if (r > 0) {
		r = wire_parse(c->buf, c->have, &m);
		c->have = 0;
	}
	if (r < 0) {
		loop_io_events(c->src, 0);
		c->ops->on_end(c->ctx, c, r);
		return;
	}
	c->ops->on_msg(c->ctx, c, &m);
}
