/* SPDX-License-Identifier: MIT */
#include "daemon/guestlink.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include "lib/base/err.h"
#include "lib/base/io.h"

enum { MAX_OUT = 1 << 20, MAX_REQUEST = 32768 };

struct request {
	struct request *next;
	uint32_t id;
	unsigned type;
	guestlink_done done;
	void *ctx;
};

struct guestlink {
	struct loop *loop;
	int fd;
	struct loop_src *src;
	const struct guestlink_ops *ops;
	void *ctx;
	uint8_t *in; /* WSLX_MSG_MAX bytes */
	size_t in_len;
	uint8_t *out;
	size_t out_len;
	uint32_t last_id;
	unsigned type; /* of the request being written */
	struct request *requests;
	uint8_t request[MAX_REQUEST]; /* the one being written */
	unsigned busy;
	bool greeted, ended, freed;
};

static void finish(struct guestlink *g, struct request *q, const struct wire_msg *m)
{
	struct err e = {0};
	char text[600];

	g->busy++;
	if (!m) {
		err_set(&e, -EPIPE, "the virtual machine went away");
	} else if (m->error) {
		int code = m->error < 4096 ? -(int)m->error : -EIO;

		if (wire_get_str(m, WSLX_A_TEXT, text, sizeof(text)) > 0)
			err_set(&e, code, "%s", text);
		else
			err_set(&e, code, "%s", strerror(-code));
	}
	q->done(q->ctx, e.code ? NULL : m, e.code ? &e : NULL);
	g->busy--;
	free(q);
}

static void end(struct guestlink *g)
{
	if (g->ended)
		return;
	g->ended = true;
	g->src = loop_src_free(g->src);
	while (g->requests) {
		struct request *q = g->requests;

		g->requests = q->next;
		finish(g, q, NULL);
	}
}

static void release(struct guestlink *g)
{
	if (!g->freed || g->busy)
		return;
	close(g->fd);
	free(g->in);
	free(g->out);
	free(g);
}

struct guestlink *guestlink_free(struct guestlink *g)
{
	if (!g || g->freed)
		return NULL;
	g->freed = true;
	end(g);
	release(g);
	return NULL;
}

/* The loop sees the end of the connection and cleans up: nobody is called back from here. */
static void break_later(struct guestlink *g)
{
	shutdown(g->fd, SHUT_RDWR);
}

static void flush(struct guestlink *g)
{
	while (g->out_len) {
		ssize_t n = send(g->fd, g->out, g->out_len, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN)
			break_later(g);
		if (n < 0)
			break;
		g->out_len -= (size_t)n;
		memmove(g->out, g->out + n, g->out_len);
	}
	loop_io_events(g->src, EPOLLIN | (g->out_len ? EPOLLOUT : 0));
}

static void queue(struct guestlink *g, struct wire_w *w)
{
	int n = wire_end(w);
	uint8_t *p;

	if (g->ended)
		return;
	p = n < 0 || g->out_len + (size_t)n > MAX_OUT ? NULL
						      : realloc(g->out, g->out_len + (size_t)n);
	if (!p) {
		break_later(g);
		return;
	}
	g->out = p;
	memcpy(p + g->out_len, w->buf, (size_t)n);
	g->out_len += (size_t)n;
	flush(g);
}

void guestlink_begin(struct guestlink *g, struct wire_w *w, enum wslx_type type)
{
	if (++g->last_id == 0)
		g->last_id = 1;
	g->type = type;
	wire_begin(w, g->request, sizeof(g->request), type, 0, g->last_id, 0);
}

void guestlink_send(struct guestlink *g, struct wire_w *w, guestlink_done done, void *ctx)
{
	struct request *q = calloc(1, sizeof(*q)), **tail = &g->requests;

	if (!q)
		abort();
	*q = (struct request){.id = g->last_id, .type = g->type, .done = done, .ctx = ctx};
	if (g->ended) {
		finish(g, q, NULL);
		return;
	}
	while (*tail)
		tail = &(*tail)->next;
	*tail = q;
	queue(g, w);
}

static int answer_hello(struct guestlink *g, const struct wire_msg *m)
{
	uint8_t buf[64];
	struct wire_w w;

	if (m->type != WSLX_HELLO || m->flags & WSLX_MSG_REPLY ||
		wire_get_u32(m, WSLX_A_VERSION, 0) != WSLX_PROTOCOL_VERSION)
		return -EPROTO;
	wire_begin(&w, buf, sizeof(buf), WSLX_HELLO, WSLX_MSG_REPLY, m->id, 0);
	wire_u32(&w, WSLX_A_VERSION, WSLX_PROTOCOL_VERSION);
	wire_u64(&w, WSLX_A_CAPS, WSLX_CAP_EXEC);
	queue(g, &w);
	g->greeted = true;
	g->ops->hello(g->ctx, m);
	return 0;
}

static int dispatch(struct guestlink *g, const struct wire_msg *m)
{
	if (!g->greeted)
		return answer_hello(g, m);
	if (!(m->flags & WSLX_MSG_REPLY)) {
		if (m->id == 0)
			g->ops->event(g->ctx, m);
		return 0; /* there are no requests from the guest yet */
	}
	for (struct request **p = &g->requests; *p; p = &(*p)->next) {
		struct request *q = *p;

		/* A late answer to a request of an earlier connection may have the id of one of ours. */
		if (q->id != m->id || q->type != m->type)
			continue;
		*p = q->next;
		finish(g, q, m);
		return 0;
	}
	return 0;
}

static void link_ready(void *ctx, int fd, uint32_t revents)
{
	struct guestlink *g = ctx;
	ssize_t n = 1;
	int r = 0;

	g->busy++;
	if (revents & EPOLLOUT)
		flush(g);
	if (revents & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
		n = recv(fd, g->in + g->in_len, WSLX_MSG_MAX - g->in_len, MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			n = 1;
		else if (n > 0)
			g->in_len += (size_t)n;
	}
	while (!g->ended && g->in_len >= 4) {
		struct wire_msg m;
		int size = wire_size(g->in);

		if (size > 0 && (size_t)size > g->in_len)
			break;
		r = size < 0 ? size : wire_parse(g->in, (size_t)size, &m);
		if (r == 0)
			r = dispatch(g, &m);
		if (r < 0)
			break;
		g->in_len -= (size_t)size;
		memmove(g->in, g->in + size, g->in_len);
	}
	if (!g->ended && (n <= 0 || r < 0)) {
		end(g);
		if (!g->freed)
			g->ops->end(g->ctx);
	}
	g->busy--;
	release(g);
}

int guestlink_new(
	struct loop *l, int fd, const struct guestlink_ops *ops, void *ctx, struct guestlink **ret)
{
	struct guestlink *g = calloc(1, sizeof(*g));
	int r = g ? io_set_nonblock(fd, true) : -ENOMEM;

	if (r == 0) {
		*g = (struct guestlink){.loop = l, .fd = fd, .ops = ops, .ctx = ctx};
		/* Not where an earlier connection began: init may yet answer what was asked there. */
		g->last_id = (uint32_t)(loop_now() / 1000);
		g->in = malloc(WSLX_MSG_MAX);
		r = g->in ? loop_io(l, fd, EPOLLIN, link_ready, g, &g->src) : -ENOMEM;
	}
	if (r < 0) {
		if (g)
			free(g->in);
		free(g);
		close(fd);
		return r;
	}
	*ret = g;
	return 0;
}
