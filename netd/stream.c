/* SPDX-License-Identifier: MIT */
#include "netd/stream.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include "lib/base/attr.h"

_Static_assert(STREAM_BYTES >= 2 * (STREAM_PREFIX + STREAM_FRAME_MAX), "room behind any frame");

uint8_t *stream_space(struct stream_in *s, size_t *ret_cap)
{
	*ret_cap = sizeof(s->buf) - s->have;
	return s->buf + s->have;
}

int stream_take(struct stream_in *s, size_t n, stream_frame_fn fn, void *ctx)
{
	size_t end = s->have + n, at = 0;

	while (end - at >= STREAM_PREFIX) {
		const uint8_t *p = s->buf + at;
		size_t len = (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];

		if (len < STREAM_FRAME_MIN || len > STREAM_FRAME_MAX)
			return -EPROTO;
		if (end - at - STREAM_PREFIX < len)
			break;
		fn(ctx, s->buf + at + STREAM_PREFIX, len);
		at += STREAM_PREFIX + len;
	}
	s->have = end - at;
	memmove(s->buf, s->buf + at, s->have);
	return 0;
}

bool stream_has_room(const struct stream_out *s)
{
	return sizeof(s->buf) - (s->to - s->from) >= STREAM_PREFIX + STREAM_FRAME_MAX;
}

void stream_put(struct stream_out *s, const uint8_t *frame, size_t len)
{
	uint8_t *p;

	if (sizeof(s->buf) - s->to < STREAM_PREFIX + len) {
		memmove(s->buf, s->buf + s->from, s->to - s->from);
		s->to -= s->from;
		s->from = 0;
	}
	p = s->buf + s->to;
	p[0] = (uint8_t)(len >> 24);
	p[1] = (uint8_t)(len >> 16);
	p[2] = (uint8_t)(len >> 8);
	p[3] = (uint8_t)len;
	memcpy(p + STREAM_PREFIX, frame, len);
	s->to += STREAM_PREFIX + len;
}

int stream_flush(struct stream_out *s, int fd)
{
	while (s->from < s->to) {
		ssize_t n =
			send(fd, s->buf + s->from, s->to - s->from, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? 0 : -errno;
		s->from += (size_t)n;
	}
	s->from = s->to = 0;
	return 1;
}
