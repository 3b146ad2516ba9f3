/* SPDX-License-Identifier: MIT */
/*
 * The way to a listener of the guest, over the machine's vsock socket (docs/protocol.md): "CONNECT <port>" and FORWARD, which need not
 * wait for each other, and what answers them.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>
#include "lib/base/io.h"
#include "lib/session/conn.h"
#include "lib/wire/msg.h"
#include "netd/forward.h"

struct dial {
	struct loop *loop;
	int fd; /* until conn has it */
	struct loop_src *src;
	struct conn *conn;
	char line[32];
	size_t len;
	dial_fn fn;
	void *ctx;
};

static void fail(struct dial *d, int code)
{
	d->src = loop_src_free(d->src);
	d->fn(d->ctx, d, code);
}

static void on_msg(void *ctx, struct conn *c, const struct wire_msg *m)
{
	struct dial *d = ctx;
	int fd;

	if (m->type != WSLX_FORWARD || !(m->flags & WSLX_MSG_REPLY)) {
		fail(d, -EPROTO);
	} else if (m->error) {
		fail(d, m->error < 4096 ? -(int)m->error : -EIO);
	} else {
		fd = conn_detach(d->conn);
		d->conn = NULL;
		d->fn(d->ctx, d, fd);
	}
}

static void on_end(void *ctx, struct conn *c, int code)
{
	fail(ctx, code < 0 ? code : -ECONNRESET);
}

static const struct conn_ops ops = {on_msg, on_end};

static void await_reply(struct dial *d)
{
	d->src = loop_src_free(d->src);
	if (conn_new(&d->conn, d->loop, take_fd(d->fd), &ops, d) < 0) {
		d->conn = NULL;
		fail(d, -ENOMEM);
	}
}

/* A line, and not a byte more. */
static void on_line(void *ctx, int fd, uint32_t revents)
{
	struct dial *d = ctx;
	ssize_t n;
	char c;

	while ((n = read(fd, &c, 1)) == 1 && c != '\n' && d->len < sizeof(d->line) - 1)
		d->line[d->len++] = c;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n == 1 && c == '\n' && !strncmp(d->line, "OK ", 3))
		await_reply(d);
	else
		fail(d, -ECONNREFUSED);
}

int dial_new(struct dial **ret, struct loop *l, const char *vsock, uint32_t port, const char *to,
	dial_fn fn, void *ctx)
{
	struct dial *d = calloc(1, sizeof(*d));
	uint8_t buf[32 + FORWARD_TEXT + 64];
	size_t n = (size_t)snprintf((char *)buf, sizeof(buf), "CONNECT %u\n", port);
	struct wire_w w;
	int r;

	if (!d)
		return -ENOMEM;
	*d = (struct dial){.loop = l, .fd = -1, .fn = fn, .ctx = ctx};
	wire_begin(&w, buf + n, sizeof(buf) - n, WSLX_FORWARD, 0, 1, 0);
	wire_str(&w, WSLX_A_LISTENER, to);
	r = wire_end(&w);
	if (r >= 0)
		r = d->fd = io_unix_connect(vsock);
	if (r >= 0)
		r = io_write_full(d->fd, buf, n + w.len);
	if (r == 0)
		r = io_set_nonblock(d->fd, true);
	if (r == 0)
		r = loop_io(l, d->fd, EPOLLIN, on_line, d, &d->src);
	if (r < 0) {
		dial_free(d);
		return r;
	}
	*ret = d;
	return 0;
}

struct dial *dial_free(struct dial *d)
{
	if (!d)
		return NULL;
	loop_src_free(d->src);
	conn_free(d->conn);
	if (d->fd >= 0)
		close(d->fd);
	free(d);
	return NULL;
}
