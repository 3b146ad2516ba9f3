/* SPDX-License-Identifier: MIT */
/* Frames through a stream socket: as they were, in any parts; and a socket that is full. */
#include "lib/base/test.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>
#include "lib/base/attr.h"
#include "netd/stream.h"

static struct {
	struct stream_in in;
	struct stream_out out;
	unsigned frames;
	size_t bytes, last;
	bool wrong;
} t;

/* Frame i is of bytes i; these are its length's. */
static size_t length(unsigned i)
{
	return STREAM_FRAME_MIN + (size_t)i * 7919 % (STREAM_FRAME_MAX - STREAM_FRAME_MIN + 1);
}

static void on_frame(void *ctx, uint8_t *frame, size_t len)
{
	t.wrong |= len != length(t.frames) || frame[0] != (uint8_t)t.frames ||
		   memcmp(frame, frame + 1, len - 1) != 0;
	t.frames++;
	t.bytes += len;
	t.last = len;
}

static int receive(int fd, size_t most)
{
	size_t cap;
	uint8_t *space = stream_space(&t.in, &cap);
	ssize_t n = recv(fd, space, MIN(cap, most), MSG_DONTWAIT);

	return n <= 0 ? 0 : stream_take(&t.in, (size_t)n, on_frame, NULL);
}

TEST(frames_arrive_as_they_were_through_a_socket_that_is_often_full)
{
	static uint8_t frame[STREAM_FRAME_MAX];
	unsigned sent = 0, full = 0;
	int pair[2];

	memset(&t, 0, sizeof(t));
	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	while (t.frames < 500 && !t.wrong) {
		while (sent < 500 && stream_has_room(&t.out)) {
			memset(frame, (int)sent, length(sent));
			stream_put(&t.out, frame, length(sent));
			sent++;
		}
		full += stream_flush(&t.out, pair[0]) == 0;
		CHECK_EQ(receive(pair[1], 1 + t.frames * 997 % 100000), 0);
	}
	CHECK(!t.wrong);
	CHECK_EQ(t.frames, 500);
	CHECK(full > 0);
	CHECK_EQ(stream_flush(&t.out, pair[0]), 1);
	close(pair[1]);
	stream_put(&t.out, frame, 60);
	CHECK_EQ(stream_flush(&t.out, pair[0]), -EPIPE);
	close(pair[0]);
}

static int take(const void *bytes, size_t n)
{
	size_t cap;

	memset(&t, 0, sizeof(t));
	memcpy(stream_space(&t.in, &cap), bytes, n);
	return stream_take(&t.in, n, on_frame, NULL);
}

TEST(a_length_that_no_frame_has_ends_the_stream)
{
	CHECK_EQ(take("\0\0\0\0", 4), -EPROTO);
	CHECK_EQ(take("\0\0\0\x0d", 4), -EPROTO);
	CHECK_EQ(take("\0\x01\0\x0e", 4), -EPROTO);
	CHECK_EQ(take("\xff\xff\xff\xff", 4), -EPROTO);
	CHECK_EQ(take("\0\x01\0\x0d", 4), 0);
	CHECK_EQ(t.frames, 0);
	CHECK_EQ(take("\0\0\0", 3), 0);
	CHECK_EQ(take("\0\0\0\x0e\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 22), -EPROTO);
	CHECK_EQ(t.frames, 1);
}

TEST_MAIN()
