/* SPDX-License-Identifier: MIT */
/* The vhost-user back end against a fake front end: an echo device in a thread of its own. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include "lib/base/attr.h"
#include "lib/base/le.h"
#include "lib/base/log.h"
#include "lib/base/test.h"
#include "lib/vhost/backend.h"
#include "lib/vhost/fake-front.h"

#define FEATURE BIT(5)

struct server {
	pthread_t thread;
	struct loop *loop;
	struct vhost_backend *b;
	struct vring_chain c;
	int closed; /* 1: not yet */
	uint64_t features;
	unsigned ready, stopped, keep; /* keep: requests to leave unserved until the queue stops */
	struct vring_chain kept[4];
	unsigned n_kept;
	bool saves;
	uint32_t state;
	struct front f;
};

static void echo_config(void *ctx, uint32_t off, void *buf, uint32_t len)
{
	for (uint32_t i = 0; i < len; i++)
		((uint8_t *)buf)[i] = (uint8_t)(off + i);
}

static void echo_ready(void *ctx, uint64_t features)
{
	((struct server *)ctx)->features = features;
}

static void echo_queue_ready(void *ctx, unsigned q, bool enabled)
{
	struct server *s = ctx;

	if (enabled)
		s->ready |= 1u << q;
	else
		s->stopped |= 1u << q;
	while (!enabled && s->n_kept)
		vhost_unpop(s->b, q, &s->kept[--s->n_kept]);
}

static void echo_kick(void *ctx, unsigned q)
{
	struct server *s = ctx;
	static uint8_t buf[1 << 20];

	while (vhost_pop(s->b, q, &s->c) > 0) {
		size_t n = vring_read(&s->c, 0, buf, sizeof(buf));

		if (s->n_kept < s->keep) {
			s->kept[s->n_kept++] = s->c;
			continue;
		}
		for (size_t i = 0; i < n; i++)
			buf[i] ^= 0xff;
		vhost_push(s->b, q, &s->c, (uint32_t)vring_write(&s->c, 0, buf, n));
	}
	vhost_flush(s->b, q);
}

static int echo_save(void *ctx, int fd)
{
	return write(fd, &((struct server *)ctx)->state, 4) == 4 ? 0 : -EIO;
}

static int echo_load(void *ctx, int fd)
{
	return read(fd, &((struct server *)ctx)->state, 4) == 4 ? 0 : -EIO;
}

static void echo_closed(void *ctx, int error)
{
	struct server *s = ctx;

	s->closed = error;
	loop_quit(s->loop, 0);
}

static const struct vhost_dev_ops echo_ops = {.features = FEATURE,
	.n_queues = 2,
	.get_config = echo_config,
	.ready = echo_ready,
	.queue_ready = echo_queue_ready,
	.kick = echo_kick,
	.save = echo_save,
	.load = echo_load,
	.closed = echo_closed};

static const struct vhost_dev_ops skipping_ops = {
	.n_queues = 2, .skips = true, .kick = echo_kick, .closed = echo_closed};

static void *serve(void *ctx)
{
	struct server *s = ctx;

	loop_run(s->loop);
	vhost_backend_free(s->b);
	return NULL;
}

static struct server *start_as(const struct vhost_dev_ops *ops)
{
	struct server *s = calloc(1, sizeof(*s));
	int fd;

	s->closed = 1;
	front_init(&s->f, &fd);
	if (loop_new(&s->loop) < 0 || vhost_backend_new(&s->b, s->loop, fd, ops, s, NULL) < 0 ||
		pthread_create(&s->thread, NULL, serve, s) != 0)
		abort();
	return s;
}

static struct server *start_server(void)
{
	return start_as(&echo_ops);
}

/* How the connection ended, for the server; it ends here if it did not before. */
static int end(struct server *s)
{
	int r;

	close(s->f.fd);
	s->f.fd = -1;
	pthread_join(s->thread, NULL);
	r = s->closed;
	loop_free(s->loop);
	front_done(&s->f);
	free(s);
	return r;
}

/* Waits until the server has done all that was sent. */
static void settle(struct server *s)
{
	front_ask(&s->f, VU_GET_QUEUE_NUM);
}

static bool echoes(struct server *s, unsigned q, uint64_t in, uint64_t out, uint32_t len)
{
	struct front_buf b[] = {
		{in, len, false}, {out, len / 2, true}, {out + len / 2, len - len / 2, true}};
	uint32_t written;
	uint16_t head;
	uint8_t *p = front_ptr(&s->f, in), *r = front_ptr(&s->f, out);

	for (uint32_t i = 0; i < len; i++)
		p[i] = (uint8_t)(i * 7 + q);
	head = front_add(&s->f, q, b, 3);
	front_kick(&s->f, q);
	if (front_wait(&s->f, q, &written) != head || written != len)
		return false;
	for (uint32_t i = 0; i < len; i++)
		if ((r[i] ^ p[i]) != 0xff)
			return false;
	return true;
}

TEST(requests_are_served)
{
	struct server *s = start_server();
	uint64_t in, out;

	front_start(&s->f, 2);
	in = front_alloc(&s->f, 4096);
	out = front_alloc(&s->f, 4096);
	for (unsigned i = 0; i < 300; i++)
		CHECK(echoes(s, i % 2, in, out, 1 + i * 13));
	CHECK(s->features & FEATURE);
	CHECK(!(s->features & VU_F_PROTOCOL_FEATURES));
	CHECK_EQ(end(s), 0);
}

TEST(a_buffer_may_lie_in_two_regions)
{
	struct server *s = start_server();
	uint64_t half = FRONT_GPA + FRONT_MEM / 2;

	front_start(&s->f, 1);
	CHECK(echoes(s, 0, half - 1000, half - 100000, 2000));
	CHECK(echoes(s, 0, half - 100000, half - 1001, 2002));
	CHECK_EQ(end(s), 0);
}

TEST(without_event_idx)
{
	struct server *s = start_server();

	front_negotiate(&s->f, VIRTIO_F_VERSION_1);
	front_memory(&s->f);
	front_queue(&s->f, 0, 0xfff0); /* and the indices wrap */
	for (unsigned i = 0; i < 40; i++)
		CHECK(echoes(s, 0, FRONT_GPA + 0x100000, FRONT_GPA + 0x200000, 100 + i));
	CHECK_EQ(front_stop(&s->f, 0), 0x18);
	CHECK_EQ(end(s), 0);
}

TEST(a_queue_stops_and_goes_on_where_it_was)
{
	struct server *s = start_server();
	struct front_buf b = {FRONT_GPA + 0x100000, 8, false};
	uint16_t base;

	s->keep = 3;
	front_start(&s->f, 1);
	for (unsigned i = 0; i < 3; i++)
		front_add(&s->f, 0, &b, 1);
	front_kick(&s->f, 0);
	settle(s);
	base = front_stop(&s->f, 0); /* which puts back what the server kept */
	CHECK_EQ(base, 0);
	CHECK_EQ(s->stopped, 1);
	s->keep = 0;
	front_state(&s->f, VU_SET_VRING_BASE, 0, base);
	front_queue_fd(&s->f, VU_SET_VRING_KICK, 0, s->f.q[0].kick);
	for (unsigned i = 0; i < 3; i++)
		CHECK_EQ(front_wait(&s->f, 0, NULL), i); /* nobody kicked again */
	CHECK_EQ(front_stop(&s->f, 0), 3);
	CHECK_EQ(end(s), 0);
}

TEST(a_disabled_queue_waits)
{
	struct server *s = start_server();
	struct front_buf b = {FRONT_GPA + 0x100000, 8, false};

	front_start(&s->f, 1);
	front_state(&s->f, VU_SET_VRING_ENABLE, 0, 0);
	settle(s);
	front_add(&s->f, 0, &b, 1);
	front_kick(&s->f, 0);
	settle(s);
	settle(s);
	CHECK_EQ(le16_get((uint8_t *)front_ptr(&s->f, s->f.q[0].gpa + 0x2000) + 2), 0);
	front_state(&s->f, VU_SET_VRING_ENABLE, 0, 1);
	CHECK_EQ(front_wait(&s->f, 0, NULL), 0);
	CHECK_EQ(end(s), 0);
}

TEST(memory_comes_and_goes_by_regions)
{
	struct server *s = start_server();
	struct vu_mem_reg reg = {.region = {FRONT_GPA, FRONT_MEM, FRONT_USER, 0}};
	struct vu_msg m;

	front_negotiate(&s->f, UINT64_MAX);
	CHECK_EQ(front_ask(&s->f, VU_GET_MAX_MEM_SLOTS), 32);
	front_send(&s->f, VU_ADD_MEM_REG, VU_NEED_REPLY, &reg, sizeof(reg), &s->f.memfd, 1);
	CHECK(front_answer(&s->f, &m) && m.p.u64 == 0);
	front_queue(&s->f, 0, 0);
	CHECK(echoes(s, 0, FRONT_GPA + 0x100000, FRONT_GPA + 0x200000, 100));
	/* What overlaps is refused, and what is not there. */
	front_send(&s->f, VU_ADD_MEM_REG, VU_NEED_REPLY, &reg, sizeof(reg), &s->f.memfd, 1);
	CHECK(front_answer(&s->f, &m) && m.p.u64 != 0);
	reg.region.size = 4096;
	front_send(&s->f, VU_REM_MEM_REG, VU_NEED_REPLY, &reg, sizeof(reg), NULL, 0);
	CHECK(front_answer(&s->f, &m) && m.p.u64 != 0);
	CHECK(echoes(s, 0, FRONT_GPA + 0x100000, FRONT_GPA + 0x200000, 100));
	/* Without its memory the queue is at its end. */
	reg.region.size = FRONT_MEM;
	front_send(&s->f, VU_REM_MEM_REG, VU_NEED_REPLY, &reg, sizeof(reg), NULL, 0);
	CHECK(front_answer(&s->f, &m));
	CHECK_EQ(s->stopped, 1);
	CHECK_EQ(end(s), 0);
}

TEST(configuration_is_told)
{
	struct server *s = start_server();
	struct vu_config c = {.offset = 3, .size = 20};
	struct vu_msg m;

	front_negotiate(&s->f, UINT64_MAX);
	front_send(&s->f, VU_GET_CONFIG, 0, &c, VU_CONFIG_HEAD + c.size, NULL, 0);
	REQUIRE(front_answer(&s->f, &m));
	CHECK_EQ(m.h.size, VU_CONFIG_HEAD + 20);
	CHECK_EQ(m.p.config.data[0], 3);
	CHECK_EQ(m.p.config.data[19], 22);
	front_send(&s->f, VU_SET_CONFIG, VU_NEED_REPLY, &c, VU_CONFIG_HEAD + c.size, NULL, 0);
	CHECK(front_answer(&s->f, &m) && m.p.u64 == 0);
	c.size = 4096;
	front_send(&s->f, VU_GET_CONFIG, 0, &c, VU_CONFIG_HEAD, NULL, 0);
	REQUIRE(front_answer(&s->f, &m));
	CHECK_EQ(m.h.size, 0);
	CHECK_EQ(end(s), 0);
}

TEST(state_is_saved_and_loaded)
{
	struct server *s = start_server();
	struct vu_device_state save = {.direction = VU_STATE_SAVE},
			       load = {.direction = VU_STATE_LOAD};
	uint32_t v = 0x12345678;
	struct vu_msg m;
	int p[2];

	front_negotiate(&s->f, UINT64_MAX);
	REQUIRE(pipe(p) == 0);
	CHECK(write(p[1], &v, 4) == 4);
	front_send(&s->f, VU_SET_DEVICE_STATE_FD, 0, &load, sizeof(load), &p[0], 1);
	CHECK(front_answer(&s->f, &m) && m.p.u64 == VU_NO_FD);
	CHECK_EQ(front_ask(&s->f, VU_CHECK_DEVICE_STATE), 0);
	front_send(&s->f, VU_SET_DEVICE_STATE_FD, 0, &save, sizeof(save), &p[1], 1);
	CHECK(front_answer(&s->f, &m) && m.p.u64 == VU_NO_FD);
	CHECK_EQ(front_ask(&s->f, VU_CHECK_DEVICE_STATE), 0);
	v = 0;
	CHECK(read(p[0], &v, 4) == 4);
	CHECK_EQ(v, 0x12345678);
	/* Not while queues run. */
	front_memory(&s->f);
	front_queue(&s->f, 0, 0);
	front_send(&s->f, VU_SET_DEVICE_STATE_FD, 0, &save, sizeof(save), &p[1], 1);
	CHECK(front_answer(&s->f, &m) && (m.p.u64 & 0xff));
	close(p[0]);
	close(p[1]);
	CHECK_EQ(end(s), 0);
}

TEST(a_reset_forgets_all)
{
	struct server *s = start_server();

	front_start(&s->f, 2);
	CHECK(echoes(s, 1, FRONT_GPA + 0x100000, FRONT_GPA + 0x200000, 100));
	front_send(&s->f, VU_RESET_DEVICE, 0, NULL, 0, NULL, 0);
	settle(s);
	CHECK_EQ(s->stopped, 3);
	front_start(&s->f, 2);
	CHECK(echoes(s, 1, FRONT_GPA + 0x100000, FRONT_GPA + 0x200000, 100));
	CHECK_EQ(end(s), 0);
}

/* Each is one message that makes no sense. */
TEST(nonsense_ends_the_connection)
{
	static const struct {
		uint32_t request, flags, len;
		uint32_t word[4];
	} bad[] = {
		{99, 0, 0, {0}},
		{VU_SET_FEATURES, 0, 4, {0}},
		{VU_SET_FEATURES, 0, 8, {0, 0x80000000}},
		{VU_SET_PROTOCOL_FEATURES, 0, 8, {0, 1}},
		{VU_SET_MEM_TABLE, 0, 8, {9}},
		{VU_SET_MEM_TABLE, 0, 8, {1}},
		{VU_SET_VRING_NUM, 0, 8, {2, 64}},
		{VU_SET_VRING_NUM, 0, 8, {0, 63}},
		{VU_SET_VRING_NUM, 0, 8, {0, 65536}},
		{VU_SET_VRING_BASE, 0, 8, {0, 65536}},
		{VU_GET_VRING_BASE, 0, 8, {77, 0}},
		{VU_SET_VRING_KICK, 0, 8, {0, 0}},
		{VU_SET_VRING_KICK, 0, 8, {VU_NO_FD, 0}},
		{VU_SET_VRING_CALL, 0, 8, {0x1000, 0}},
		{VU_SET_VRING_ENABLE, 0, 8, {0xffffffff, 1}},
		{VU_GET_FEATURES, VU_REPLY, 0, {0}},
		{VU_GET_FEATURES, 2, 0, {0}},
		{VU_ADD_MEM_REG, 0, 4, {0}},
	};

	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		struct server *s = start_server();
		struct vu_msg m;

		front_send(&s->f, bad[i].request, bad[i].flags, bad[i].word, bad[i].len, NULL, 0);
		CHECK_EQ(front_answer(&s->f, &m) ? (int)i : -1, -1);
		CHECK(end(s) < 0);
	}
}

TEST(memory_that_is_not_there_is_refused)
{
	struct server *s = start_server();
	struct vu_region bad[] = {
		{FRONT_GPA, FRONT_MEM + 4096, FRONT_USER, 0},
		{FRONT_GPA, FRONT_MEM, FRONT_USER, 4096},
		{FRONT_GPA, 0, FRONT_USER, 0},
		{UINT64_MAX - 4095, 8192, FRONT_USER, 0},
		{FRONT_GPA, 8192, UINT64_MAX - 4095, 0},
		{FRONT_GPA, 8192, FRONT_USER, UINT64_MAX - 4095},
		{FRONT_GPA, 8192, FRONT_USER, INT64_MAX},
	};
	struct vu_msg m;

	front_negotiate(&s->f, UINT64_MAX);
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		struct vu_mem_table t = {.n = 1, .region = {bad[i]}};

		front_send(&s->f, VU_SET_MEM_TABLE, VU_NEED_REPLY, &t, 8 + sizeof(bad[i]),
			&s->f.memfd, 1);
		CHECK(front_answer(&s->f, &m) && m.p.u64 != 0);
	}
	front_memory(&s->f);
	front_queue(&s->f, 0, 0);
	CHECK(echoes(s, 0, FRONT_GPA + 0x100000, FRONT_GPA + 0x200000, 100));
	CHECK_EQ(end(s), 0);
}

TEST(a_ring_that_breaks_is_reported_and_can_be_set_up_anew)
{
	struct server *s = start_server();
	struct front_buf b = {0x1234, 8, false};
	int err = eventfd(0, EFD_CLOEXEC);
	struct pollfd wait = {.fd = err, .events = POLLIN};
	uint64_t count;

	front_start(&s->f, 1);
	front_queue_fd(&s->f, VU_SET_VRING_ERR, 0, err);
	settle(s);
	front_add(&s->f, 0, &b, 1);
	front_kick(&s->f, 0);
	CHECK(poll(&wait, 1, 20000) == 1 && read(err, &count, 8) == 8);
	front_stop(&s->f, 0);
	s->f.q[0].next = 0;
	front_queue(&s->f, 0, 0);
	CHECK(echoes(s, 0, FRONT_GPA + 0x100000, FRONT_GPA + 0x200000, 100));
	close(err);
	CHECK_EQ(end(s), 0);
}

TEST(what_is_not_in_memory_is_not_done_if_that_is_no_error)
{
	struct server *s = start_as(&skipping_ops);
	struct front_buf b = {0x1234, 8, false};
	uint32_t written = 1;
	uint16_t head;

	front_start(&s->f, 1);
	head = front_add(&s->f, 0, &b, 1);
	front_kick(&s->f, 0);
	CHECK_EQ(front_wait(&s->f, 0, &written), head);
	CHECK_EQ(written, 0);
	CHECK(echoes(s, 0, FRONT_GPA + 0x100000, FRONT_GPA + 0x200000, 100));
	CHECK_EQ(end(s), 0);
}

TEST_MAIN()
