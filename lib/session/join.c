/* SPDX-License-Identifier: MIT */
/*
 * A join has no memory of its own for bytes but while one side takes them slower than the other sends, and no descriptors but the two:
 * there may be thousands, most of which are idle.
 */
#include "lib/session/join.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include "lib/base/io.h"

enum { BUF_SIZE = 64 * 1024, ROUNDS = 16 };

/* A socket, and what was read from it and the other one has not taken yet. */
struct half {
	struct join *j;
	int fd;
	struct loop_src *src;
	bool ended; /* nothing more is read */
	uint8_t *rest;
	size_t off, len;
};

struct join {
	struct half half[2];
	join_done_fn done;
	void *ctx;
};

static struct half *other(struct half *h)
{
	return h == &h->j->half[0] ? &h->j->half[1] : &h->j->half[0];
}

static void end(struct half *h, bool sink_broke)
{
	h->ended = true;
	free(h->rest);
	h->rest = NULL;
	h->len = 0;
	shutdown(other(h)->fd, SHUT_WR);
	/* Who sends into the void is to hear of it. */
	if (sink_broke)
		shutdown(h->fd, SHUT_RD);
}

/* How much of it was taken; negative: none ever will be. */
static ssize_t put(int fd, const uint8_t *data, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = write(fd, data + done, len - done);

		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0 && errno != EINTR)
			return -errno;
		done += n < 0 ? 0 : (size_t)n;
	}
	return (ssize_t)done;
}

/* False: the other side takes no more now, or never. */
static bool put_rest(struct half *h)
{
	ssize_t n = put(other(h)->fd, h->rest + h->off, h->len);

	if (n < 0) {
		end(h, true);
		return false;
	}
	h->off += (size_t)n;
	h->len -= (size_t)n;
	if (h->len)
		return false;
	free(h->rest);
	h->rest = NULL;
	return true;
}

static void keep(struct half *h, const uint8_t *data, size_t len)
{
	h->rest = malloc(len);
	if (!h->rest) {
		end(h, true);
		return;
	}
	memcpy(h->rest, data, len);
	h->off = 0;
	h->len = len;
}

/* Moves until one side would block, as it would after less than was asked for, for some rounds: others have their turn, too. */
static void pump(struct half *h)
{
	uint8_t buf[BUF_SIZE];

	if (h->len && !put_rest(h))
		return;
	for (int i = 0; i < ROUNDS && !h->ended && !h->len; i++) {
		ssize_t n = read(h->fd, buf, sizeof(buf)), taken;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			end(h, false);
			return;
		}
		taken = put(other(h)->fd, buf, (size_t)n);
		if (taken < 0)
			end(h, true);
		else if (taken < n)
			keep(h, buf + taken, (size_t)(n - taken));
		if (n < (ssize_t)sizeof(buf))
			return;
	}
}

/* Only what can be gone on with is waited for. */
static int watch(struct half *h)
{
	uint32_t events = (h->ended || h->len ? 0u : (uint32_t)EPOLLIN) |
			  (other(h)->len ? (uint32_t)EPOLLOUT : 0u);

	return loop_io_events(h->src, events);
}

static void ready(void *ctx, int fd, uint32_t revents)
{
	struct half *h = ctx, *o = other(h);
	struct join *j = h->j;

	if (!h->ended && revents & ~(uint32_t)EPOLLOUT)
		pump(h);
	if (o->len)
		pump(o);
	if ((h->ended && o->ended) || watch(h) < 0 || watch(o) < 0)
		j->done(j->ctx, j);
}

int join_new(struct join **ret, struct loop *l, int a, int b, join_done_fn done, void *ctx)
{
	struct join *j = calloc(1, sizeof(*j));
	int r = 0;

	if (!j) {
		close(a);
		close(b);
		return -ENOMEM;
	}
	*j = (struct join){
		.half = {{.j = j, .fd = a}, {.j = j, .fd = b}}, .done = done, .ctx = ctx};
	for (int i = 0; i < 2 && r == 0; i++) {
		struct half *h = &j->half[i];

		r = io_set_nonblock(h->fd, true);
		if (r == 0)
			r = loop_io(l, h->fd, EPOLLIN, ready, h, &h->src);
	}
	if (r < 0) {
		join_free(j);
		return r;
	}
	*ret = j;
	return 0;
}

struct join *join_free(struct join *j)
{
	if (!j)
		return NULL;
	for (int i = 0; i < 2; i++) {
		loop_src_free(j->half[i].src);
		free(j->half[i].rest);
		close(j->half[i].fd);
	}
	free(j);
	return NULL;
}
