/* SPDX-License-Identifier: MIT */
/* Messages and datagrams on a stream, however it cuts them. */
#include "lib/base/test.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include "lib/base/io.h"
#include "lib/session/conn.h"
#include "lib/session/datagram.h"
#include "lib/wire/msg.h"

/* What arrived: each in brackets. */
static char seen[512];
static bool over;

static void see(const char *data, size_t len)
{
	snprintf(seen + strlen(seen), sizeof(seen) - strlen(seen), "[%.*s]", (int)len, data);
}

static void idle(void *ctx)
{
	loop_quit(ctx, 0);
}

/* Until nothing more is to be read. */
static void settle(struct loop *l)
{
	for (int i = 0; i < 8; i++) {
		loop_defer(l, idle, l);
		loop_run(l);
	}
}

/* --- datagrams --- */

static void received(void *ctx, const uint8_t *data, size_t len)
{
	see((const char *)data, len);
}

static void ended(void *ctx)
{
	over = true;
}

static const struct datagrams_ops datagrams_ops = {received, ended};

TEST(datagrams_that_come_in_one_piece_or_many_are_the_same)
{
	static const uint8_t bytes[] = "\0\3one\0\0\0\5three\0\4four";
	const size_t len = sizeof(bytes) - 1;
	struct datagrams *d;
	struct loop *l;
	int s[2];

	CHECK_EQ(0, loop_new(&l));
	for (size_t piece = 1; piece <= len; piece++) {
		seen[0] = '\0';
		over = false;
		CHECK_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, s));
		CHECK_EQ(0, datagrams_new(&d, l, s[0], &datagrams_ops, NULL));
		for (size_t at = 0; at < len; at += piece) {
			CHECK_EQ(0, io_write_full(s[1], bytes + at, MIN(piece, len - at)));
			settle(l);
		}
		CHECK_STR(seen, "[one][][three][four]");
		CHECK(!over);
		close(s[1]);
		settle(l);
		CHECK(over);
		datagrams_free(d);
	}
	loop_free(l);
}

/* More than the stream takes: the rest follows when it does, and in order. */
TEST(datagrams_wait_for_a_stream_that_is_full)
{
	static uint8_t big[DATAGRAM_MAX], back[2 + DATAGRAM_MAX];
	struct datagrams *d;
	struct loop *l;
	int s[2], small = 4096;

	CHECK_EQ(0, loop_new(&l));
	CHECK_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, s));
	setsockopt(s[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	CHECK_EQ(0, datagrams_new(&d, l, s[0], &datagrams_ops, NULL));
	for (int i = 1; i <= 3; i++) {
		memset(big, i, sizeof(big));
		datagrams_send(d, big, sizeof(big));
	}
	for (int i = 1; i <= 3; i++) {
		for (size_t have = 0; have < sizeof(back);) {
			ssize_t n = read(s[1], back + have, sizeof(back) - have);

			CHECK(n > 0 || errno == EAGAIN);
			have += (size_t)MAX(n, 0);
			settle(l);
		}
		CHECK(back[0] == 0xff && back[1] == 0xff && back[2] == i &&
			back[sizeof(back) - 1] == i);
	}
	CHECK_EQ(-1, read(s[1], back, 1));
	datagrams_free(d);
	close(s[1]);
	loop_free(l);
}

/* --- messages --- */

static void on_msg(void *ctx, struct conn *c, const struct wire_msg *m)
{
	char text[64] = "";

	wire_get_str(m, WSLX_A_TEXT, text, sizeof(text));
	see(text, strlen(text));
}

static void on_end(void *ctx, struct conn *c, int code)
{
	over = true;
}

static const struct conn_ops conn_ops = {on_msg, on_end};

TEST(a_message_in_pieces_is_one_and_what_follows_it_stays_in_the_stream)
{
	uint8_t bytes[128], next[8];
	struct wire_w w;
	struct conn *c;
	struct loop *l;
	int s[2], len, fd;

	wire_begin(&w, bytes, sizeof(bytes), WSLX_FORWARD, 0, 1, 0);
	wire_str(&w, WSLX_A_TEXT, "said");
	len = wire_end(&w);
	CHECK(len > 0);
	CHECK_EQ(0, loop_new(&l));
	for (int piece = 1; piece <= len; piece++) {
		seen[0] = '\0';
		over = false;
		CHECK_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, s));
		CHECK_EQ(0, conn_new(&c, l, s[0], &conn_ops, NULL));
		for (int at = 0; at < len; at += piece) {
			CHECK_STR(seen, "");
			CHECK_EQ(0, io_write_full(s[1], bytes + at, (size_t)MIN(piece, len - at)));
			if (at + piece >= len)
				CHECK_EQ(0, io_write_full(s[1], "rest", 4));
			for (int i = 0; i < 4 && !*seen; i++) {
				loop_defer(l, idle, l);
				loop_run(l);
			}
		}
		CHECK_STR(seen, "[said]");
		CHECK(!over);
		fd = conn_detach(c);
		CHECK_EQ(4, read(fd, next, sizeof(next)));
		CHECK(!memcmp(next, "rest", 4));
		close(fd);
		close(s[1]);
	}
	loop_free(l);
}

TEST_MAIN()
