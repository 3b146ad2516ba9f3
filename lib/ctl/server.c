/* SPDX-License-Identifier: MIT */
/*
 * A connection owns its socket and buffers; a call belongs to whoever handles it and outlives its
 * connection, which then forgets it (call->conn is NULL). A broken connection is closed from the
 * loop, never from inside ctl_reply(), so that a handler can rely on its call and server.
 */
#include "lib/ctl/server.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include "lib/base/acceptor.h"
#include "lib/base/log.h"

enum { MAX_CONNECTIONS = 4096, RESERVE = 64, MAX_CALLS = 64 /* at once on one connection */ };

struct held {
	struct held *next;
	loop_fn fn;
	void *ctx;
};

struct conn {
	struct ctl_server *srv;
	struct conn *next;
	int fd;
	struct loop_src *src;
	struct ctl_in in;
	struct ctl_out out;
	struct ctl_call *calls;
	unsigned ncalls;
	struct held *held;
	bool broken;	/* to be closed by the loop */
	bool in_events; /* EPOLLIN is on */
	bool out_events;
	bool stalled; /* MAX_CALLS was reached: requests may wait in the buffer */
};

struct ctl_call {
	struct conn *conn; /* NULL: gone */
	struct ctl_call *next;
	uint64_t id;
	struct ctl_fds fds;
	loop_fn on_close;
	void *on_close_ctx;
};

struct ctl_server {
	struct loop *loop;
	int fd;
	struct acceptor *acceptor;
	const struct ctl_method *methods;
	unsigned nmethods;
	void *ctx;
	struct conn *conns;
	unsigned nconns;
	loop_fn on_change;
	void *on_change_ctx;
};

static void conn_events(struct conn *c)
{
	bool room = c->ncalls < MAX_CALLS;
	bool in = !c->broken && room, out = c->out.head || c->broken || (c->stalled && room);

	if (in == c->in_events && out == c->out_events)
		return;
	c->in_events = in;
	c->out_events = out;
	/* A broken one is always writable or hung up: the loop comes back and closes it. */
	if (loop_io_events(c->src, (in ? EPOLLIN : 0) | (out ? EPOLLOUT : 0)) < 0)
		c->broken = true;
}

static void conn_break(struct conn *c)
{
	if (!c->broken) {
		c->broken = true;
		shutdown(c->fd, SHUT_RDWR);
	}
	conn_events(c);
}

static void conn_close(struct conn *c)
{
	struct ctl_server *s = c->srv;

	for (struct conn **p = &s->conns; *p; p = &(*p)->next)
		if (*p == c) {
			*p = c->next;
			break;
		}
	s->nconns--;
	c->broken = true;
	loop_src_free(c->src);
	close(c->fd);
	ctl_in_done(&c->in);
	ctl_out_done(&c->out);
	while (c->calls) {
		struct ctl_call *call = c->calls;

		c->calls = call->next;
		call->conn = NULL;
		if (call->on_close)
			call->on_close(call->on_close_ctx);
	}
	while (c->held) {
		struct held *h = c->held;

		c->held = h->next;
		h->fn(h->ctx);
		free(h);
	}
	free(c);
}

static void conn_flush(struct conn *c)
{
	if (c->broken)
		return;
	if (ctl_out_flush(&c->out, c->fd) < 0)
		conn_break(c);
	else
		conn_events(c);
}

static void conn_send(struct conn *c, struct json_object *o, struct ctl_fds *f)
{
	if (c->broken) {
		js_free(o);
		if (f)
			ctl_fds_close(f);
	} else if (ctl_out_push(&c->out, o, f) < 0) {
		conn_break(c);
	} else {
		conn_flush(c);
	}
}

static const struct ctl_method *find_method(const struct ctl_server *s, const char *name)
{
	for (unsigned i = 0; i < s->nmethods; i++)
		if (strcmp(s->methods[i].name, name) == 0)
			return &s->methods[i];
	return NULL;
}

static int conn_dispatch(struct conn *c, struct json_object *req, struct ctl_fds *fds)
{
	cleanup_js struct json_object *none = NULL;
	struct json_object *params = js_get(req, "params");
	const char *name = js_str(req, "method", NULL);
	const struct ctl_method *m;
	struct ctl_call *call;
	struct err e = {0};

	if (!name || !js_get(req, "id")) {
		ctl_fds_close(fds);
		return -EBADMSG;
	}
	call = calloc(1, sizeof(*call));
	if (!call) {
		ctl_fds_close(fds);
		return -ENOMEM;
	}
	call->conn = c;
	call->id = js_u64(req, "id", 0);
	call->fds = *fds;
	call->next = c->calls;
	c->calls = call;
	c->ncalls++;

	if (!params)
		params = none = js_object();
	m = find_method(c->srv, name);
	if (!m)
		err_set(&e, -ENOSYS, "unknown method '%.64s'", name);
	else if (call->fds.n != m->nfds)
		err_set(&e, -EINVAL, "%s: %u descriptors passed, %u wanted", m->name, call->fds.n,
			m->nfds);
	else if (js_check(params, m->fields, m->nfields, &e) < 0)
		err_wrap(&e, e.code, "%s", m->name);
	if (e.code)
		ctl_fail(call, &e);
	else
		m->fn(c->srv->ctx, call, params);
	return 0;
}

static void conn_ready(void *ctx, int fd, uint32_t revents)
{
	struct conn *c = ctx;
	struct ctl_server *s = c->srv;
	ssize_t n = -EAGAIN;
	int r = 0;

	if (!c->broken && (revents & EPOLLOUT))
		conn_flush(c);
	if (!c->broken && (revents & (EPOLLIN | EPOLLHUP | EPOLLERR)))
		n = ctl_in_read(&c->in, fd);
	c->stalled = false;
	while (!c->broken) {
		struct json_object *req;
		struct ctl_fds fds;

		c->stalled = c->ncalls >= MAX_CALLS;
		if (c->stalled)
			break;
		r = ctl_in_next(&c->in, &req, &fds);
		if (r <= 0)
			break;
		r = conn_dispatch(c, req, &fds);
		js_free(req);
		if (r < 0)
			break;
	}
	if (c->broken || r < 0 || n == 0 || (n < 0 && n != -EAGAIN)) {
		loop_fn changed = s->on_change;
		void *changed_ctx = s->on_change_ctx;

		conn_close(c);
		if (changed)
			changed(changed_ctx);
		return;
	}
	conn_events(c);
}

int ctl_server_add(struct ctl_server *s, int fd)
{
	struct conn *c;
	int r = ctl_check_peer(fd, NULL);

	if (r == 0 && s->nconns >= MAX_CONNECTIONS)
		r = -EMFILE;
	if (r == 0)
		r = io_set_nonblock(fd, true);
	c = r < 0 ? NULL : calloc(1, sizeof(*c));
	if (!c) {
		close(fd);
		return r < 0 ? r : -ENOMEM;
	}
	*c = (struct conn){.srv = s, .fd = fd, .out.mends = true, .in_events = true};
	r = loop_io(s->loop, fd, EPOLLIN, conn_ready, c, &c->src);
	if (r < 0) {
		close(fd);
		free(c);
		return r;
	}
	c->next = s->conns;
	s->conns = c;
	s->nconns++;
	if (s->on_change)
		s->on_change(s->on_change_ctx);
	return 0;
}

static void on_connection(void *ctx, int conn)
{
	int r = ctl_server_add(ctx, conn);

	if (r < 0)
		log_debug("ctl", "connection refused: %s", strerror(-r));
}

int ctl_server_new(struct loop *l, int listen_fd, const struct ctl_method *methods, unsigned n,
	void *ctx, struct ctl_server **ret)
{
	struct ctl_server *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	*s = (struct ctl_server){
		.loop = l, .fd = listen_fd, .methods = methods, .nmethods = n, .ctx = ctx};
	r = io_set_nonblock(listen_fd, true);
	if (r == 0)
		r = acceptor_new(&s->acceptor, l, listen_fd, SOCK_NONBLOCK, on_connection, s);
	if (r < 0) {
		free(s);
		return r;
	}
	*ret = s;
	return 0;
}

void ctl_server_free(struct ctl_server *s)
{
	if (!s)
		return;
	while (s->conns)
		conn_close(s->conns);
	acceptor_free(s->acceptor);
	close(s->fd);
	free(s);
}

bool ctl_call_is_crowded(const struct ctl_call *c)
{
	return c->conn && c->conn->srv->nconns > MAX_CONNECTIONS - RESERVE;
}

unsigned ctl_server_connections(const struct ctl_server *s)
{
	return s->nconns;
}

void ctl_server_on_change(struct ctl_server *s, loop_fn fn, void *ctx)
{
	s->on_change = fn;
	s->on_change_ctx = ctx;
}

int ctl_call_take_fd(struct ctl_call *c, unsigned i)
{
	if (i >= c->fds.n)
		return -EBADF;
	return take_fd(c->fds.fd[i]);
}

void ctl_call_on_close(struct ctl_call *c, loop_fn fn, void *ctx)
{
	c->on_close = fn;
	c->on_close_ctx = ctx;
}

int ctl_call_on_disconnect(struct ctl_call *c, loop_fn fn, void *ctx)
{
	struct held *h;

	if (!c->conn || c->conn->broken)
		return -EPIPE;
	h = malloc(sizeof(*h));
	if (!h)
		return -ENOMEM;
	*h = (struct held){.next = c->conn->held, .fn = fn, .ctx = ctx};
	c->conn->held = h;
	return 0;
}

void ctl_event(struct ctl_call *c, struct json_object *event)
{
	struct json_object *o = js_set_u64(js_object(), "id", c->id);

	js_set(o, "event", event);
	if (c->conn)
		conn_send(c->conn, o, NULL);
	else
		js_free(o);
}

static void call_end(struct ctl_call *call, struct json_object *o, struct ctl_fds *f)
{
	struct conn *c = call->conn;

	if (c) {
		for (struct ctl_call **p = &c->calls; *p; p = &(*p)->next)
			if (*p == call) {
				*p = call->next;
				break;
			}
		c->ncalls--;
		conn_send(c, o, f);
	} else {
		js_free(o);
		if (f)
			ctl_fds_close(f);
	}
	/* Taken descriptors are negative; close() only the others. */
	for (unsigned i = 0; i < call->fds.n; i++)
		if (call->fds.fd[i] >= 0)
			close(call->fds.fd[i]);
	free(call);
}

void ctl_reply(struct ctl_call *c, struct json_object *result, struct ctl_fds *f)
{
	struct json_object *o = js_set_u64(js_object(), "id", c->id);

	call_end(c, js_set(o, "result", result ? result : js_object()), f);
}

void ctl_fail(struct ctl_call *c, const struct err *e)
{
	struct json_object *o = js_set_u64(js_object(), "id", c->id), *error = js_object();

	js_set_u64(error, "code", (uint64_t)(e->code < 0 ? -e->code : EIO));
	js_set_str(error, "text", e->text);
	call_end(c, js_set(o, "error", error), NULL);
}
