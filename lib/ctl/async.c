/* SPDX-License-Identifier: MIT */
#include "lib/ctl/client.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>

struct pending {
	struct pending *next;
	uint64_t id;
	ctl_done_fn done;
	void *ctx;
};

struct ctl_async {
	struct loop *loop;
	int fd;
	struct loop_src *src;
	struct ctl_in in;
	struct ctl_out out;
	struct pending *calls;
	uint64_t last_id;
	loop_fn on_close;
	void *on_close_ctx;
	unsigned busy; /* callbacks on the stack: freeing waits for them */
	bool ended, freed;
};

static void async_ready(void *ctx, int fd, uint32_t revents);

int ctl_async_new(struct loop *l, int fd, struct ctl_async **ret)
{
	struct ctl_async *a = calloc(1, sizeof(*a));
	int r = a ? io_set_nonblock(fd, true) : -ENOMEM;

	if (r == 0) {
		*a = (struct ctl_async){.loop = l, .fd = fd};
		r = loop_io(l, fd, EPOLLIN, async_ready, a, &a->src);
	}
	if (r < 0) {
		free(a);
		close(fd);
		return r;
	}
	*ret = a;
	return 0;
}

static void finish(
	struct ctl_async *a, struct pending *p, struct json_object *result, const struct err *e)
{
	a->busy++;
	p->done(p->ctx, result, e);
	a->busy--;
	free(p);
}

static void end(struct ctl_async *a)
{
	struct err e = {0};

	if (a->ended)
		return;
	a->ended = true;
	a->src = loop_src_free(a->src);
	err_set(&e, -EPIPE, "the connection ended");
	while (a->calls) {
		struct pending *p = a->calls;

		a->calls = p->next;
		finish(a, p, NULL, &e);
	}
}

static void release(struct ctl_async *a)
{
	if (!a->freed || a->busy)
		return;
	close(a->fd);
	ctl_in_done(&a->in);
	ctl_out_done(&a->out);
	free(a);
}

struct ctl_async *ctl_async_free(struct ctl_async *a)
{
	if (!a || a->freed)
		return NULL;
	a->freed = true;
	end(a);
	release(a);
	return NULL;
}

void ctl_async_on_close(struct ctl_async *a, loop_fn fn, void *ctx)
{
	a->on_close = fn;
	a->on_close_ctx = ctx;
}

/* Ends the calls from the loop: a caller does not expect its callback before it has returned. */
static void break_later(struct ctl_async *a)
{
	shutdown(a->fd, SHUT_RDWR);
}

static void flush(struct ctl_async *a)
{
	int r = ctl_out_flush(&a->out, a->fd);

	if (r < 0)
		break_later(a);
	else
		loop_io_events(a->src, EPOLLIN | (r == 0 ? EPOLLOUT : 0));
}

void ctl_async_call(struct ctl_async *a, const char *method, struct json_object *params,
	struct ctl_fds *f, ctl_done_fn done, void *ctx)
{
	struct json_object *o = js_object();
	struct pending *p = calloc(1, sizeof(*p)), **tail;

	if (!p)
		abort();
	*p = (struct pending){.id = ++a->last_id, .done = done, .ctx = ctx};
	js_set_u64(o, "id", p->id);
	js_set_str(o, "method", method);
	js_set(o, "params", params ? params : js_object());
	if (a->ended) {
		struct err e = {0};

		js_free(o);
		if (f)
			ctl_fds_close(f);
		err_set(&e, -EPIPE, "the connection ended");
		finish(a, p, NULL, &e);
		return;
	}
	for (tail = &a->calls; *tail;)
		tail = &(*tail)->next;
	*tail = p;
	if (ctl_out_push(&a->out, o, f) < 0)
		break_later(a);
	else
		flush(a);
}

static void dispatch(struct ctl_async *a, struct json_object *o)
{
	uint64_t id = js_u64(o, "id", 0);
	struct err e = {0};

	if (js_get(o, "event"))
		return;
	for (struct pending **pp = &a->calls; *pp; pp = &(*pp)->next) {
		struct pending *p = *pp;

		if (p->id != id)
			continue;
		*pp = p->next;
		if (ctl_reply_error(o, &e) < 0)
			finish(a, p, NULL, &e);
		else
			finish(a, p, js_get(o, "result"), NULL);
		return;
	}
}

static void async_ready(void *ctx, int fd, uint32_t revents)
{
	struct ctl_async *a = ctx;
	ssize_t n = 1;
	int r = 0;

	a->busy++;
	if (revents & EPOLLOUT)
		flush(a);
	if (revents & (EPOLLIN | EPOLLHUP | EPOLLERR))
		n = ctl_in_read(&a->in, fd);
	while (!a->ended) {
		struct json_object *o;
		struct ctl_fds fds;

		r = ctl_in_next(&a->in, &o, &fds);
		if (r <= 0)
			break;
		ctl_fds_close(&fds);
		dispatch(a, o);
		js_free(o);
	}
	if (!a->ended && (r < 0 || n == 0 || (n < 0 && n != -EAGAIN))) {
		end(a);
		if (a->on_close && !a->freed)
			a->on_close(a->on_close_ctx);
	}
	a->busy--;
	release(a);
}
