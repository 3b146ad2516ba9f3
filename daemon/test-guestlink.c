/* SPDX-License-Identifier: MIT */
/* The control connection to init (docs/protocol.md), with the test in init's place. */
#include "lib/base/test.h"

#include <sys/socket.h>
#include "daemon/guestlink.h"

static struct loop *loop;
static struct guestlink *link_;
static uint32_t answered_type;
static unsigned answers;

static void done(void *ctx, const struct wire_msg *m, const struct err *e)
{
	answers++;
	answered_type = m ? m->type : 0;
	loop_quit(loop, 0);
}

static void event(void *ctx, const struct wire_msg *m)
{
}

static void ended(void *ctx)
{
	loop_quit(loop, 1);
}

static void put(int fd, enum wslx_type type, unsigned flags, uint32_t id)
{
	uint8_t buf[64];
	struct wire_w w;

	wire_begin(&w, buf, sizeof(buf), type, flags, id, 0);
	if (type == WSLX_HELLO)
		wire_u32(&w, WSLX_A_VERSION, WSLX_PROTOCOL_VERSION);
	CHECK(wire_send(&w, fd) == 0);
}

/* Init: says HELLO, reads our answer and the START, answers a STOP of the same id first. */
static void late_answer(void *ctx)
{
	int fd = *(int *)ctx;
	struct wslx_msg h[2];
	uint8_t rest[256];

	for (unsigned i = 0; i < 2; i++) {
		REQUIRE(recv(fd, &h[i], sizeof(h[i]), MSG_WAITALL) == sizeof(h[i]));
		REQUIRE(h[i].size - sizeof(h[i]) <= sizeof(rest));
		if (h[i].size > sizeof(h[i]))
			REQUIRE(recv(fd, rest, h[i].size - sizeof(h[i]), MSG_WAITALL) > 0);
	}
	CHECK(h[1].type == WSLX_START);
	put(fd, WSLX_STOP, WSLX_MSG_REPLY, h[1].id);
	put(fd, WSLX_START, WSLX_MSG_REPLY, h[1].id);
}

/* HELLO is answered and START sent before the loop goes on: late_answer() finds both. */
static void hello(void *ctx, const struct wire_msg *m)
{
	struct wire_w w;

	guestlink_begin(link_, &w, WSLX_START);
	guestlink_send(link_, &w, done, NULL);
	loop_defer(loop, late_answer, ctx);
}

TEST(a_late_answer_to_another_request_is_not_taken_for_ours)
{
	static const struct guestlink_ops ops = {hello, event, ended};
	int pair[2];

	REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
	REQUIRE(loop_new(&loop) == 0);
	REQUIRE(guestlink_new(loop, pair[0], &ops, &pair[1], &link_) == 0);
	put(pair[1], WSLX_HELLO, 0, 1);
	CHECK(loop_run(loop) == 0);
	CHECK(answers == 1);
	CHECK(answered_type == WSLX_START);
	link_ = guestlink_free(link_);
	close(pair[1]);
	loop_free(loop);
}

TEST_MAIN()
