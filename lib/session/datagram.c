/* SPDX-License-Identifier: MIT */
#include "lib/session/datagram.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

enum { HEADER = 2, OUT_MAX = 256 * 1024 };

struct datagrams {
	int stream;
	struct loop_src *src;
	const struct datagrams_ops *ops;
	void *ctx;
	size_t in_len, out_len;
	uint8_t in[HEADER + DATAGRAM_MAX];
	uint8_t out[OUT_MAX];
};

static void flush(struct datagrams *d)
{
	ssize_t n = d->out_len ? send(d->stream, d->out, d->out_len, MSG_NOSIGNAL) : 0;

	if (n > 0) {
		d->out_len -= (size_t)n;
		memmove(d->out, d->out + n, d->out_len);
	}
	/* What is broken shows when it is read. */
	loop_io_events(
		d->src, EPOLLIN | (d->out_len && (n >= 0 || errno == EAGAIN) ? EPOLLOUT : 0));
}

/* How much the first one in in takes there, as far as it is known. */
static size_t whole(const uint8_t *in, size_t len)
{
	return len < HEADER ? HEADER : HEADER + ((size_t)in[0] << 8 | in[1]);
}

static void on_stream(void *ctx, int fd, uint32_t revents)
{
	struct datagrams *d = ctx;
	size_t at = 0, need;
	ssize_t n;

	if (revents & EPOLLOUT)
		flush(d);
	if (!(revents & ~(uint32_t)EPOLLOUT))
		return;
	n = recv(fd, d->in + d->in_len, sizeof(d->in) - d->in_len, 0);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		d->src = loop_src_free(d->src);
		d->ops->ended(d->ctx);
		return;
	}
	d->in_len += (size_t)n;
	while ((need = whole(d->in + at, d->in_len - at)) <= d->in_len - at) {
		d->ops->received(d->ctx, d->in + at + HEADER, need - HEADER);
		at += need;
	}
	d->in_len -= at;
	memmove(d->in, d->in + at, d->in_len);
}

void datagrams_send(struct datagrams *d, const void *data, size_t len)
{
	if (!d->src || len > DATAGRAM_MAX || d->out_len + HEADER + len > OUT_MAX)
		return;
	d->out[d->out_len] = (uint8_t)(len >> 8);
	d->out[d->out_len + 1] = (uint8_t)len;
	memcpy(d->out + d->out_len + HEADER, data, len);
	d->out_len += HEADER + len;
	flush(d);
}

int datagrams_new(struct datagrams **ret, struct loop *l, int stream,
	const struct datagrams_ops *ops, void *ctx)
{
	struct datagrams *d = malloc(sizeof(*d));
	int r;

	if (!d) {
		close(stream);
		return -ENOMEM;
	}
	d->stream = stream;
	d->ops = ops;
	d->ctx = ctx;
	d->in_len = d->out_len = 0;
	r = loop_io(l, stream, EPOLLIN, on_stream, d, &d->src);
	if (r < 0) {
		close(stream);
		free(d);
		return r;
	}
	*ret = d;
	return 0;
}

struct datagrams *datagrams_free(struct datagrams *d)
{
	if (!d)
		return NULL;
	loop_src_free(d->src);
	close(d->stream);
	free(d);
	return NULL;
}
