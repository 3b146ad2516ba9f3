/* SPDX-License-Identifier: MIT */
/* The front end against our own back end in another thread, and against servers that talk nonsense. */
#include "vmm/host/vhost-user.h"

#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include "lib/base/le.h"
#include "lib/base/loop.h"
#include "lib/base/test.h"
#include "lib/os/window.h"
#include "lib/vhost/backend.h"
#include "lib/vhost/message.h"
#include "vmm/virtio/fake-driver.h"

enum { REQUEST = 1, FUSE_IN = 40 };
#define GOOD (VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VU_F_PROTOCOL_FEATURES)

#define WINDOW_GPA 0x4000000000ull
enum { WINDOW = 4 * (2 << 20) };

struct bench {
	struct fake f;
	struct loop *loop;
	struct vhost *vh;
	int server; /* its end of the connection */
};

static void bench_init_window(struct bench *b, uint64_t window)
{
	struct vhost_config c = {
		.kind = VHOST_FS, .name = "fs0", .tag = "host", .requests = 1, .window = window};

	*b = (struct bench){.server = -1};
	fake_init(&b->f);
	if (loop_new(&b->loop) < 0 || vhost_new(&b->vh, b->f.gm, b->loop, &c) < 0)
		abort();
	fake_attach(&b->f, vhost_dev(b->vh), b->loop);
	if (window && vhost_place_window(b->vh, WINDOW_GPA) < 0)
		abort();
}

static void bench_init(struct bench *b)
{
	bench_init_window(b, 0);
}

static void bench_done(struct bench *b)
{
	fake_done(&b->f);
	loop_free(b->loop);
	if (b->server >= 0)
		close(b->server);
}

static void quit(void *ctx)
{
	loop_quit(ctx, 0);
}

static void turn(struct bench *b)
{
	loop_defer(b->loop, quit, b->loop);
	loop_run(b->loop);
}

/* Runs the loop until the request is finished; the harness' limit ends what never is. */
static uint32_t wait_used(struct bench *b)
{
	uint32_t head, len;

	while (!fake_used(&b->f, REQUEST, &head, &len))
		turn(b);
	return len;
}

static gpa_t ask(struct bench *b, const char *text)
{
	struct fake_buf bufs[2] = {
		{fake_alloc(&b->f, FUSE_IN), FUSE_IN, false}, {fake_alloc(&b->f, 64), 64, true}};

	strcpy(fake_ptr(&b->f, bufs[0].gpa, FUSE_IN), text);
	fake_add(&b->f, REQUEST, bufs, 2, false);
	fake_notify(&b->f, REQUEST);
	return bufs[1].gpa;
}

/* --- our own back end --- */

struct echo {
	pthread_t thread;
	struct loop *loop;
	struct vhost_backend *b;
	struct vring_chain c;
};

static void echo_kick(void *ctx, unsigned q)
{
	struct echo *s = ctx;
	char buf[FUSE_IN];

	while (vhost_pop(s->b, q, &s->c) > 0) {
		size_t n = vring_read(&s->c, 0, buf, sizeof(buf));

		vhost_push(s->b, q, &s->c, (uint32_t)vring_write(&s->c, 0, buf, n));
	}
	vhost_flush(s->b, q);
}

static void echo_closed(void *ctx, int error)
{
	loop_quit(((struct echo *)ctx)->loop, error);
}

static const struct vhost_dev_ops echo_ops = {
	.n_queues = 2, .maps_files = true, .kick = echo_kick, .closed = echo_closed};

static void *echo_run(void *ctx)
{
	struct echo *s = ctx;
	int r = loop_run(s->loop);

	vhost_backend_free(s->b);
	loop_free(s->loop);
	return (void *)(intptr_t)r;
}

static int echo_start(struct echo *s)
{
	int fd[2];

	*s = (struct echo){0};
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) < 0 || loop_new(&s->loop) < 0 ||
		vhost_backend_new(&s->b, s->loop, fd[1], &echo_ops, s, NULL) < 0 ||
		pthread_create(&s->thread, NULL, echo_run, s) != 0)
		abort();
	return fd[0];
}

/* How the connection ended, for the back end. */
static int echo_end(struct echo *s)
{
	void *r;

	pthread_join(s->thread, &r);
	return (int)(intptr_t)r;
}

TEST(both_halves_of_ours_work_together)
{
	struct bench b;
	struct echo s[2];
	gpa_t out;

	bench_init(&b);
	REQUIRE(vhost_user_attach(b.vh, b.loop, echo_start(&s[0]), NULL) == 0);
	for (unsigned life = 0; life < 3; life++) {
		REQUIRE(fake_start(&b.f, FAKE_ALL));
		for (unsigned i = 0; i < 300; i++) {
			out = ask(&b, "there and back");
			CHECK_EQ(wait_used(&b), FUSE_IN);
			CHECK_STR((char *)fake_ptr(&b.f, out, 64), "there and back");
		}
		fake_reset(&b.f);
		while (b.f.v->status)
			turn(&b);
		b.f.heap = FAKE_HEAP;
	}
	/* Another takes its place. */
	REQUIRE(fake_start(&b.f, FAKE_ALL));
	REQUIRE(vhost_user_attach(b.vh, b.loop, echo_start(&s[1]), NULL) == 0);
	CHECK_EQ(echo_end(&s[0]), 0);
	ask(&b, "and again");
	CHECK_EQ(wait_used(&b), FUSE_IN);
	bench_done(&b);
	CHECK_EQ(echo_end(&s[1]), 0);
}

/* --- servers that talk nonsense: all they will say is in the socket before they are asked --- */

static void say(int fd, uint32_t request, uint32_t flags, const void *payload, uint32_t len)
{
	if (vu_send(fd, request, flags, payload, len, NULL, 0) < 0)
		abort();
}

static void say_number(int fd, uint32_t request, uint64_t v)
{
	say(fd, request, VU_REPLY, &v, sizeof(v));
}

static int pair(struct bench *b)
{
	int fd[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) < 0)
		abort();
	b->server = fd[1];
	return fd[0];
}

TEST(a_server_that_answers_wrongly_is_no_server)
{
	static const struct {
		uint32_t request, flags, len;
	} bad[] = {
		{VU_GET_QUEUE_NUM, VU_REPLY, 8}, /* not what was asked */
		{VU_GET_FEATURES, 0, 8},	 /* not an answer */
		{VU_GET_FEATURES, VU_REPLY, 4}, {VU_GET_FEATURES, VU_REPLY, 16},
		{VU_GET_FEATURES, VU_REPLY | 3, 8}, /* of another version */
	};
	uint8_t zero[16] = {0};

	for (unsigned i = 0; i <= ARRAY_LEN(bad); i++) {
		struct bench b;
		struct err e = {0};
		int fd;

		bench_init(&b);
		fd = pair(&b);
		if (i < ARRAY_LEN(bad))
			say(b.server, bad[i].request, bad[i].flags, zero, bad[i].len);
		shutdown(b.server, SHUT_WR); /* the last one says nothing at all */
		CHECK(vhost_user_attach(b.vh, b.loop, fd, &e) < 0);
		CHECK(strstr(e.text, "fs0"));
		CHECK(!vhost_connected(b.vh));
		bench_done(&b);
	}
}

TEST(a_server_without_the_features_is_refused)
{
	struct bench b;
	struct err e = {0};
	int fd;

	bench_init(&b);
	fd = pair(&b);
	say_number(b.server, VU_GET_FEATURES, VIRTIO_F_VERSION_1);
	CHECK_EQ(vhost_user_attach(b.vh, b.loop, fd, &e), -ENOTSUP);
	bench_done(&b);
	bench_init(&b);
	fd = pair(&b);
	say_number(b.server, VU_GET_FEATURES, GOOD);
	say_number(b.server, VU_GET_PROTOCOL_FEATURES, UINT64_MAX);
	say_number(b.server, VU_GET_QUEUE_NUM, 1);
	CHECK_EQ(vhost_user_attach(b.vh, b.loop, fd, &e), -ENOTSUP);
	bench_done(&b);
}

TEST(a_server_that_speaks_out_of_turn_is_left)
{
	struct vu_vring_state wrong[] = {{.index = 0}, {.index = 99}, {.index = UINT32_MAX}};

	for (unsigned i = 0; i < 5; i++) {
		struct bench b;
		int fd;

		bench_init(&b);
		fd = pair(&b);
		say_number(b.server, VU_GET_FEATURES, GOOD);
		say_number(b.server, VU_GET_PROTOCOL_FEATURES, UINT64_MAX);
		say_number(b.server, VU_GET_QUEUE_NUM, UINT64_MAX);
		REQUIRE(vhost_user_attach(b.vh, b.loop, fd, NULL) == 0);
		REQUIRE(fake_start(&b.f, FAKE_ALL));
		ask(&b, "to nobody");
		if (i < 3) /* a queue that was not to stop, or does not exist */
			say(b.server, VU_GET_VRING_BASE, VU_REPLY, &wrong[i], sizeof(wrong[i]));
		else if (i == 3)
			say(b.server, 4711, VU_REPLY, NULL, 0);
		else
			shutdown(b.server, SHUT_WR);
		CHECK_EQ(wait_used(&b), 16); /* ENOTCONN */
		CHECK(!vhost_connected(b.vh));
		bench_done(&b);
	}
}

TEST(a_server_that_lies_when_it_stops_does_not_hold_up_the_reset)
{
	struct vu_vring_state s = {.index = 7};
	struct bench b;
	int fd;

	bench_init(&b);
	fd = pair(&b);
	say_number(b.server, VU_GET_FEATURES, VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC);
	REQUIRE(vhost_user_attach(b.vh, b.loop, fd, NULL) == 0);
	REQUIRE(fake_start(&b.f, FAKE_ALL));
	fake_reset(&b.f);
	CHECK(b.f.v->status);
	say(b.server, VU_GET_VRING_BASE, VU_REPLY, &s, sizeof(s));
	while (b.f.v->status)
		turn(&b);
	CHECK(!vhost_connected(b.vh));
	bench_done(&b);
}

/* Waits as long as the front end does: seconds. */
TEST(a_server_that_never_stops_does_not_hold_up_the_reset_for_good)
{
	struct bench b;
	int fd;

	bench_init(&b);
	fd = pair(&b);
	say_number(b.server, VU_GET_FEATURES, VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC);
	REQUIRE(vhost_user_attach(b.vh, b.loop, fd, NULL) == 0);
	REQUIRE(fake_start(&b.f, FAKE_ALL));
	fake_reset(&b.f);
	while (b.f.v->status) {
		turn(&b);
		usleep(20000);
	}
	CHECK(!vhost_connected(b.vh));
	bench_done(&b);
}

/* What the server asks, on a thread of its own, while the front end's loop runs. */
struct ask {
	struct vhost_backend *b;
	uint64_t off, len, at;
	int fd; /* -1: take out */
	bool writable;
	int result;
	_Atomic bool done;
};

static void *ask_run(void *ctx)
{
	struct ask *a = ctx;

	a->result = a->fd < 0 ? vhost_unmap_file(a->b, a->off, a->len)
			      : vhost_map_file(a->b, a->off, a->len, a->fd, a->at, a->writable);
	a->done = true;
	return NULL;
}

static int ask_for(struct bench *b, struct ask a)
{
	pthread_t t;

	if (pthread_create(&t, NULL, ask_run, &a) != 0)
		abort();
	while (!a.done)
		turn(b);
	pthread_join(t, NULL);
	return a.result;
}

TEST(a_server_maps_files_into_the_window_and_nowhere_else)
{
	enum { SLOT = 2 << 20 };
	int file = memfd_create("file", MFD_CLOEXEC), ends[2];
	struct err e = {0};
	struct echo s;
	struct bench b;
	volatile char *p;
	char byte;

	REQUIRE(file >= 0 && ftruncate(file, 3 * SLOT) == 0 && pipe(ends) == 0);
	bench_init_window(&b, WINDOW);
	CHECK_EQ(vhost_user_attach(b.vh, b.loop, echo_start(&s), &e), 0);
	fake_start(&b.f, FAKE_ALL);
	ask(&b, "until the server knows what was agreed");
	wait_used(&b);
	p = gmem_ptr(b.f.gm, WINDOW_GPA, WINDOW);
	REQUIRE(p != NULL);
	CHECK_EQ(ask_for(&b, (struct ask){s.b, SLOT, SLOT, SLOT, file, true}), 0);
	p[SLOT + 7] = 'g';
	CHECK(pread(file, &byte, 1, SLOT + 7) == 1 && byte == 'g');
	CHECK_EQ(ask_for(&b, (struct ask){s.b, WINDOW, SLOT, 0, file, true}), -EINVAL);
	CHECK_EQ(ask_for(&b, (struct ask){s.b, 0, 2 * WINDOW, 0, file, true}), -EINVAL);
	CHECK_EQ(ask_for(&b, (struct ask){s.b, -(uint64_t)SLOT, 2 * SLOT, 0, file, true}), -EINVAL);
	CHECK_EQ(ask_for(&b, (struct ask){s.b, 0, SLOT, 0, ends[0], false}), -EACCES);
	CHECK_EQ(ask_for(&b, (struct ask){s.b, 0, WINDOW + SLOT, 0, -1, false}), -EINVAL);
	CHECK_EQ(os_window_mapped(vhost_window(b.vh)), 1);
	CHECK_EQ(ask_for(&b, (struct ask){s.b, SLOT, SLOT, 0, -1, false}), 0);
	CHECK_EQ(p[SLOT + 7], 0);
	CHECK_EQ(ask_for(&b, (struct ask){s.b, 0, SLOT, SLOT, file, false}), 0);
	CHECK_EQ(p[7], 'g');
	/* A reset drops it. */
	fake_reset(&b.f);
	while (vhost_dev(b.vh)->resetting)
		turn(&b);
	CHECK_EQ(os_window_mapped(vhost_window(b.vh)), 0);
	CHECK_EQ(p[7], 0);
	bench_done(&b);
	CHECK_EQ(echo_end(&s), 0);
	close(file);
	close(ends[0]);
	close(ends[1]);
}

/* Longer than the front end waits for a server: the other way round there is no such limit. */
TEST(a_front_end_that_is_busy_for_long_answers_late_and_goes_on_mapping)
{
	int file = memfd_create("file", MFD_CLOEXEC);
	struct ask late = {.len = WINDOW, .fd = file, .writable = true};
	struct err e = {0};
	struct echo s;
	struct bench b;
	pthread_t t;

	REQUIRE(file >= 0 && ftruncate(file, WINDOW) == 0);
	bench_init_window(&b, WINDOW);
	CHECK_EQ(vhost_user_attach(b.vh, b.loop, echo_start(&s), &e), 0);
	fake_start(&b.f, FAKE_ALL);
	ask(&b, "until the server knows what was agreed");
	wait_used(&b);
	late.b = s.b;
	REQUIRE(pthread_create(&t, NULL, ask_run, &late) == 0);
	usleep(10500000);
	CHECK(!late.done);
	while (!late.done)
		turn(&b);
	pthread_join(t, NULL);
	CHECK_EQ(late.result, 0);
	CHECK_EQ(ask_for(&b, (struct ask){s.b, 0, WINDOW, 0, -1, false}), 0);
	bench_done(&b);
	CHECK_EQ(echo_end(&s), 0);
	close(file);
}

TEST(what_is_mapped_stays_when_the_server_dies)
{
	int file = memfd_create("file", MFD_CLOEXEC);
	struct err e = {0};
	struct echo s[2];
	struct bench b;
	volatile char *p;

	REQUIRE(file >= 0 && ftruncate(file, WINDOW) == 0 && pwrite(file, "x", 1, 0) == 1);
	bench_init_window(&b, WINDOW);
	CHECK_EQ(vhost_user_attach(b.vh, b.loop, echo_start(&s[0]), &e), 0);
	fake_start(&b.f, FAKE_ALL);
	ask(&b, "hello");
	wait_used(&b);
	CHECK_EQ(ask_for(&b, (struct ask){s[0].b, 0, WINDOW, 0, file, true}), 0);
	p = gmem_ptr(b.f.gm, WINDOW_GPA, WINDOW);
	CHECK_EQ(vhost_user_attach(b.vh, b.loop, echo_start(&s[1]), &e), 0);
	CHECK_EQ(echo_end(&s[0]), 0);
	CHECK_EQ(p[0], 'x');
	bench_done(&b);
	CHECK_EQ(echo_end(&s[1]), 0);
	close(file);
}

TEST_MAIN()
