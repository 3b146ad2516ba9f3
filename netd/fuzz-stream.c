/* SPDX-License-Identifier: MIT */
/*
 * What passt may send, in parts of any size: frames are of the sizes that there are, lie in the buffer, and are those that
 * the same bytes give in one part. The first byte is the size of the parts.
 */
#include <stdlib.h>
#include <string.h>
#include "lib/base/attr.h"
#include "netd/stream.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct seen {
	const struct stream_in *in;
	size_t frames;
	uint64_t sum;
};

static void frame(void *ctx, uint8_t *f, size_t len)
{
	struct seen *s = ctx;

	if (len < STREAM_FRAME_MIN || len > STREAM_FRAME_MAX || f < s->in->buf + STREAM_PREFIX ||
		len > (size_t)(s->in->buf + sizeof(s->in->buf) - f))
		abort();
	s->frames++;
	s->sum = s->sum * 31 + len;
	for (size_t i = 0; i < len; i++)
		s->sum = s->sum * 31 + f[i];
	memset(f, 0xff, len); /* they are the receiver's */
}

static int feed(struct stream_in *in, const uint8_t *data, size_t size, size_t part, struct seen *s)
{
	size_t cap;

	*s = (struct seen){.in = in};
	in->have = 0;
	while (size) {
		uint8_t *space = stream_space(in, &cap);
		size_t n = MIN(MIN(size, part), cap);
		int r;

		if (cap == 0)
			abort();
		memcpy(space, data, n);
		data += n;
		size -= n;
		r = stream_take(in, n, frame, s);
		if (r < 0)
			return r;
	}
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct stream_in *in = malloc(sizeof(*in));
	struct seen one, many;

	if (size > 1) {
		int r = feed(in, data + 1, size - 1, size, &one);

		if (feed(in, data + 1, size - 1, data[0] + 1u, &many) != r ||
			one.frames != many.frames || one.sum != many.sum)
			abort();
	}
	free(in);
	return 0;
}
