/* SPDX-License-Identifier: MIT */
#include "lib/p9/client.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include "lib/base/io.h"
#include "lib/base/le.h"

enum { TAGS = 4096, FIDS = 1 << 16, IN_CAP = P9_MSIZE_MAX + 65536, OUT_MIN = 65536 };

struct request {
	uint8_t type; /* 0: the tag is free */
	p9_done done;
	void *ctx;
	uint16_t next_free;
};

/* Made when there was no tag: its message is kept. */
struct waiting {
	struct waiting *next;
	p9_done done;
	void *ctx;
	size_t len;
	uint8_t msg[];
};

/* Failed before it was sent. */
struct late {
	struct late *next;
	p9_done done;
	void *ctx;
	int error;
};

struct p9_client {
	struct loop *loop;
	int fd;
	struct loop_src *src;
	loop_fn closed;
	void *ctx;
	uint32_t msize;
	bool ended, freed, told;
	unsigned busy; /* callbacks on the stack: freeing waits for them */
	bool draining;
	struct request req[TAGS];
	uint16_t free_tag; /* TAGS: none */
	unsigned pending;
	struct waiting *waiting, **waiting_tail;
	struct late *late, **late_tail;
	uint32_t next_fid, n_free;
	uint32_t *free_fids;
	uint8_t *in, *out;
	size_t in_have, out_at, out_len, out_cap;
	void *kept; /* what the reply points to that was last waited for */
};

static void on_ready(void *ctx, int fd, uint32_t revents);
static void on_version(void *ctx, const struct p9_msg *reply, int error);
static void on_attach(void *ctx, const struct p9_msg *reply, int error);

int p9_client_new(struct p9_client **ret, struct loop *l, int fd, loop_fn closed, void *ctx)
{
	struct p9_client *c = calloc(1, sizeof(*c));
	struct p9_msg m = {
		.type = P9_TVERSION, .msize = P9_MSIZE_MAX, .name = p9_str(P9_VERSION_WSLX)};
	int r = c ? io_set_nonblock(fd, true) : -ENOMEM;

	if (r == 0) {
		*c = (struct p9_client){.loop = l,
			.fd = fd,
			.closed = closed,
			.ctx = ctx,
			.msize = P9_MSIZE_MAX,
			.next_fid = P9_ROOT_FID + 1};
		c->waiting_tail = &c->waiting;
		c->late_tail = &c->late;
		c->in = malloc(IN_CAP);
		c->free_fids = malloc(FIDS * sizeof(*c->free_fids));
		for (unsigned i = 0; i < TAGS; i++)
			c->req[i].next_free = (uint16_t)(i + 1);
		r = c->in && c->free_fids ? 0 : -ENOMEM;
	}
	if (r == 0)
		r = loop_io(l, fd, EPOLLIN, on_ready, c, &c->src);
	if (r < 0) {
		if (c) {
			free(c->in);
			free(c->free_fids);
		}
		free(c);
		close(fd);
		return r;
	}
	p9_client_call(c, &m, on_version, c);
	m = (struct p9_msg){
		.type = P9_TATTACH, .fid = P9_ROOT_FID, .fid2 = P9_NO_FID, .uid = P9_NO_UID};
	p9_client_call(c, &m, on_attach, c);
	*ret = c;
	return 0;
}

/* --- the end --- */

static void release(struct p9_client *c)
{
	if (!c->freed || c->busy)
		return;
	close(c->fd);
	free(c->in);
	free(c->out);
	free(c->free_fids);
	free(c->kept);
	free(c);
}

static void finish(struct p9_client *c, p9_done done, void *ctx, const struct p9_msg *m, int error)
{
	c->busy++;
	if (done)
		done(ctx, m, error);
	c->busy--;
}

static void run_late(struct p9_client *c)
{
	struct late *l = c->late, *next;

	c->late = NULL;
	c->late_tail = &c->late;
	for (; l; l = next) {
		next = l->next;
		c->pending--;
		finish(c, l->done, l->ctx, NULL, l->error);
		free(l);
	}
	if (c->draining && !c->pending)
		loop_quit(c->loop, 0);
}

/* Every request fails; then whoever made the client hears of it. */
static void end(void *ctx)
{
	struct p9_client *c = ctx;

	c->busy++;
	c->ended = true;
	c->src = loop_src_free(c->src);
	for (unsigned i = 0; i < TAGS; i++) {
		struct request rq = c->req[i];

		if (!rq.type)
			continue;
		c->req[i].type = 0;
		c->pending--;
		finish(c, rq.done, rq.ctx, NULL, -EIO);
	}
	while (c->waiting) {
		struct waiting *w = c->waiting;

		c->waiting = w->next;
		c->pending--;
		finish(c, w->done, w->ctx, NULL, -EIO);
		free(w);
	}
	c->waiting_tail = &c->waiting;
	run_late(c);
	if (c->closed && !c->freed && !c->told) {
		c->told = true;
		c->closed(c->ctx);
	}
	if (c->draining && !c->pending)
		loop_quit(c->loop, 0);
	c->busy--;
	release(c);
}

struct p9_client *p9_client_free(struct p9_client *c)
{
	if (!c || c->freed)
		return NULL;
	c->freed = true;
	end(c);
	return NULL;
}

/* The connection is of no use. Requests are not ended from inside the call that made them, but from the loop. */
static void break_off(struct p9_client *c)
{
	c->ended = true;
	shutdown(c->fd, SHUT_RDWR);
}

bool p9_client_alive(const struct p9_client *c)
{
	return !c->ended;
}

unsigned p9_client_pending(const struct p9_client *c)
{
	return c->pending;
}

uint32_t p9_client_io_size(const struct p9_client *c)
{
	return MIN(c->msize - P9_DATA_HEADER, (uint32_t)P9_IO_MAX);
}

/* --- fids --- */

uint32_t p9_client_fid(struct p9_client *c)
{
	if (c->n_free)
		return c->free_fids[--c->n_free];
	return c->next_fid < FIDS ? c->next_fid++ : P9_NO_FID;
}

void p9_client_fid_unused(struct p9_client *c, uint32_t fid)
{
	if (fid != P9_NO_FID)
		c->free_fids[c->n_free++] = fid;
}

void p9_client_clunk(struct p9_client *c, uint32_t fid)
{
	struct p9_msg m = {.type = P9_TCLUNK, .fid = fid};

	if (fid == P9_NO_FID)
		return;
	/* Requests are done in order: the number can be used again in the next one. */
	p9_client_call(c, &m, NULL, NULL);
	p9_client_fid_unused(c, fid);
}

/* --- out --- */

static int out_room(struct p9_client *c, size_t n)
{
	size_t cap = c->out_cap ? c->out_cap : OUT_MIN;
	uint8_t *p;

	if (c->out_at && c->out_len + n > c->out_cap) {
		memmove(c->out, c->out + c->out_at, c->out_len - c->out_at);
		c->out_len -= c->out_at;
		c->out_at = 0;
	}
	while (cap < c->out_len + n)
		cap *= 2;
	if (cap == c->out_cap)
		return 0;
	p = realloc(c->out, cap);
	if (!p)
		return -ENOMEM;
	c->out = p;
	c->out_cap = cap;
	return 0;
}

static void flush(struct p9_client *c)
{
	while (c->out_at < c->out_len) {
		ssize_t n = send(c->fd, c->out + c->out_at, c->out_len - c->out_at,
			MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN)
			break_off(c);
		if (n < 0)
			break;
		c->out_at += (size_t)n;
	}
	if (c->out_at == c->out_len)
		c->out_at = c->out_len = 0;
	/* After a break the loop still has to report the end. */
	if (c->src)
		loop_io_events(c->src, EPOLLIN | (c->out_len && !c->ended ? EPOLLOUT : 0));
}

static void take_tag(struct p9_client *c, uint16_t tag, uint8_t type, p9_done done, void *ctx)
{
	c->free_tag = c->req[tag].next_free;
	c->req[tag] = (struct request){.type = type, .done = done, .ctx = ctx};
}

static bool has_data(uint8_t type)
{
	return type == P9_TWRITE || type == P9_TSETXATTR;
}

/* Room that the longest message needs beside its data: names. */
static size_t room_for(const struct p9_msg *m)
{
	size_t n = 256 + (size_t)m->name.len + m->name2.len + (has_data(m->type) ? m->count : 0);

	for (unsigned i = 0; i < m->nnames; i++)
		n += m->names[i].len + 2;
	return n;
}

static void fail_late(void *ctx)
{
	struct p9_client *c = ctx;

	run_late(c);
	c->busy--;
	release(c);
}

/* A callback is not called before the request has returned. */
static void fail_soon(struct p9_client *c, p9_done done, void *ctx, int error)
{
	struct late *l = malloc(sizeof(*l));

	if (!l)
		abort();
	*l = (struct late){.done = done, .ctx = ctx, .error = error};
	*c->late_tail = l;
	c->late_tail = &l->next;
	if (c->late == l) {
		c->busy++;
		loop_defer(c->loop, fail_late, c);
	}
}

void p9_client_call(struct p9_client *c, struct p9_msg *m, p9_done done, void *ctx)
{
	bool idle = c->out_len == 0;
	size_t room = room_for(m);
	struct waiting *w = NULL;
	uint8_t *at;
	int n;

	c->pending++;
	if (c->ended) {
		fail_soon(c, done, ctx, -EIO);
		return;
	}
	m->tag = m->type == P9_TVERSION ? P9_NO_TAG : c->free_tag;
	if (c->free_tag == TAGS || c->waiting) {
		w = malloc(sizeof(*w) + room);
		at = w ? w->msg : NULL;
	} else {
		at = out_room(c, room) == 0 ? c->out + c->out_len : NULL;
	}
	n = at ? p9_encode(m, at, room) : -ENOMEM;
	if (n >= 0 && (uint32_t)n > c->msize)
		n = -EMSGSIZE;
	if (n < 0) {
		free(w);
		fail_soon(c, done, ctx, n == -EMSGSIZE ? -ENAMETOOLONG : n);
		return;
	}
	if (w) {
		w->next = NULL;
		w->done = done;
		w->ctx = ctx;
		w->len = (size_t)n;
		*c->waiting_tail = w;
		c->waiting_tail = &w->next;
		return;
	}
	take_tag(c, c->free_tag, m->type, done, ctx);
	c->out_len += (size_t)n;
	if (idle)
		flush(c);
}

/* A tag has become free: who waits for one? */
static void send_waiting(struct p9_client *c)
{
	while (c->waiting && c->free_tag != TAGS && !c->ended) {
		struct waiting *w = c->waiting;

		if (out_room(c, w->len) < 0) {
			break_off(c);
			return;
		}
		c->waiting = w->next;
		if (!c->waiting)
			c->waiting_tail = &c->waiting;
		le16_put(w->msg + 5, c->free_tag);
		memcpy(c->out + c->out_len, w->msg, w->len);
		c->out_len += w->len;
		take_tag(c, c->free_tag, w->msg[4], w->done, w->ctx);
		free(w);
	}
}

/* --- in --- */

static void on_version(void *ctx, const struct p9_msg *reply, int error)
{
	struct p9_client *c = ctx;

	if (error == 0 && reply->msize >= P9_MSIZE_MIN && reply->msize <= P9_MSIZE_MAX &&
		reply->name.len == sizeof(P9_VERSION_WSLX) - 1 &&
		!memcmp(reply->name.s, P9_VERSION_WSLX, reply->name.len))
		c->msize = reply->msize;
	else if (!c->ended)
		break_off(c);
}

static void on_attach(void *ctx, const struct p9_msg *reply, int error)
{
	struct p9_client *c = ctx;

	if (error && !c->ended)
		break_off(c);
}

/* One whole message. */
static int dispatch(struct p9_client *c, const uint8_t *buf, size_t len)
{
	struct request *rq;
	struct p9_msg m;
	uint16_t tag;
	int r = p9_decode(buf, len, &m);

	if (r < 0)
		return -EBADMSG;
	/* Tversion has the first tag, and no other on the wire. */
	tag = m.tag == P9_NO_TAG ? 0 : m.tag;
	if (tag >= TAGS || !c->req[tag].type)
		return -EBADMSG;
	rq = &c->req[tag];
	if (m.type != P9_RLERROR && m.type != rq->type + 1)
		return -EBADMSG;
	if (m.type == P9_RLERROR && (m.ecode == 0 || m.ecode > 4095))
		return -EBADMSG;
	struct request was = *rq;
	rq->type = 0;
	rq->next_free = c->free_tag;
	c->free_tag = tag;
	c->pending--;
	finish(c, was.done, was.ctx, m.type == P9_RLERROR ? NULL : &m,
		m.type == P9_RLERROR ? -(int)m.ecode : 0);
	return 0;
}

static int receive(struct p9_client *c)
{
	size_t at = 0;
	ssize_t n = recv(c->fd, c->in + c->in_have, IN_CAP - c->in_have, MSG_DONTWAIT);
	int r = 0;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0)
		return n < 0 ? -errno : -EPIPE;
	c->in_have += (size_t)n;
	while (r == 0 && !c->freed && c->in_have - at >= P9_HEADER) {
		int size = p9_size(c->in + at, c->msize);

		if (size < 0)
			return size;
		if (c->in_have - at < (size_t)size)
			break;
		r = dispatch(c, c->in + at, (size_t)size);
		at += (size_t)size;
	}
	memmove(c->in, c->in + at, c->in_have - at);
	c->in_have -= at;
	return r;
}

static void on_ready(void *ctx, int fd, uint32_t revents)
{
	struct p9_client *c = ctx;
	int r = 0;

	c->busy++;
	if (c->ended)
		r = -EIO;
	else if (revents & (EPOLLIN | EPOLLHUP | EPOLLERR))
		r = receive(c);
	if (r == 0 && !c->freed) {
		send_waiting(c);
		flush(c);
	}
	if (r < 0 && !c->freed)
		end(c);
	else if (c->draining && !c->pending)
		loop_quit(c->loop, 0);
	c->busy--;
	release(c);
}

/* --- blocking --- */

struct wait {
	struct p9_client *c;
	struct p9_msg *reply;
	int error;
	bool done;
};

/* The buffer is used for what comes next: what the reply points to is copied. */
static int keep(struct p9_client *c, const struct p9_msg *m, struct p9_msg *ret)
{
	size_t n = (m->data ? m->count : 0) + (size_t)m->name.len;
	uint8_t *p = realloc(c->kept, n + 1);

	if (!p)
		return -ENOMEM;
	c->kept = p;
	*ret = *m;
	ret->name.s = memcpy(p, m->name.len ? m->name.s : "", m->name.len);
	if (m->data)
		ret->data = memcpy(p + m->name.len, m->data, m->count);
	return 0;
}

static void waited(void *ctx, const struct p9_msg *reply, int error)
{
	struct wait *w = ctx;

	w->done = true;
	w->error = error;
	if (reply && w->reply)
		w->error = keep(w->c, reply, w->reply);
	loop_quit(w->c->loop, 0);
}

int p9_client_wait(struct p9_client *c, struct p9_msg *m, struct p9_msg *reply)
{
	struct wait w = {.c = c, .reply = reply};
	int r = 0;

	p9_client_call(c, m, waited, &w);
	while (!w.done && r >= 0)
		r = loop_run(c->loop);
	return w.done ? w.error : r;
}

void p9_client_drain(struct p9_client *c)
{
	c->draining = true;
	while (c->pending && loop_run(c->loop) >= 0)
		;
	c->draining = false;
}
