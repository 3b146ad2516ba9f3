/* SPDX-License-Identifier: MIT */
/* A device that another process serves: the driver is the fake one, and so is the server, which reads the shadows. */
#include <errno.h>
#include "lib/base/le.h"
#include "lib/base/loop.h"
#include "lib/base/test.h"
#include "lib/os/notifier.h"
#include "lib/os/window.h"
#include "vmm/core/state.h"
#include "vmm/virtio/fake-driver.h"
#include "vmm/virtio/vhost.h"

enum { SERVER_QUEUES = 2, HIPRIO = 0, REQUEST = 1, NET_RX = 0, NET_TX = 1 };
enum { FUSE_IN = 40, FUSE_OUT = 16 };
#define GOOD (VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX)

struct server {
	struct vhost_link l;
	struct bench *bench;
	struct vring ring[SERVER_QUEUES];
	struct os_notifier *call[SERVER_QUEUES];
	uint8_t *used[SERVER_QUEUES];
	uint64_t features;
	unsigned starts, stops;
	struct vring_chain c;
};

struct bench {
	struct fake f;
	struct loop *loop;
	struct vhost *vh;
	unsigned freed; /* links */
};

/* --- the server --- */

static struct server *to_server(struct vhost_link *l)
{
	return container_of(l, struct server, l);
}

static void *server_map(struct vring *r, uint64_t addr, uint64_t *len)
{
	struct server *s = container_of(r - r->index, struct server, ring[0]);
	const struct vhost_shared *sh = vhost_shared(s->l.vh);

	if (addr >= sh->gpa && addr - sh->gpa < sh->len)
		return (uint8_t *)sh->map + (addr - sh->gpa);
	return gmem_ptr(s->bench->f.gm, addr, *len);
}

static bool server_live(const struct vring *r)
{
	return true;
}

static void server_broken(struct vring *r, const char *text)
{
	printf("# the shadow is broken: %s\n", text);
	abort();
}

static void server_call(struct vring *r)
{
	struct server *s = container_of(r - r->index, struct server, ring[0]);

	os_notifier_signal(s->call[r->index]);
}

static const struct vring_ops server_ring = {
	.map = server_map, .live = server_live, .broken = server_broken, .interrupt = server_call};

static void server_start(
	struct vhost_link *l, uint64_t features, const struct vhost_ring *rings, unsigned n)
{
	struct server *s = to_server(l);

	s->starts++;
	s->features = features;
	for (unsigned i = 0; i < n; i++) {
		struct vring *r = &s->ring[i];

		*r = (struct vring){.ops = &server_ring,
			.index = i,
			.max_size = VRING_MAX_SIZE,
			.size = rings[i].size,
			.features = features};
		if (vring_start(r, rings[i].desc, rings[i].avail, rings[i].used, rings[i].base,
			    vring_used_index(rings[i].used)) < 0)
			abort();
		s->call[i] = rings[i].call;
		s->used[i] = rings[i].used;
	}
}

static void server_stop(struct vhost_link *l)
{
	to_server(l)->stops++;
}

static int server_stop_now(struct vhost_link *l)
{
	struct server *s = to_server(l);

	s->stops++;
	for (unsigned i = 0; i < SERVER_QUEUES; i++)
		l->base[i] = s->ring[i].last_avail;
	return 0;
}

static void server_free(struct vhost_link *l)
{
	struct server *s = to_server(l);

	s->bench->freed++;
	free(s);
}

static const struct vhost_link_ops server_ops = {
	.start = server_start,
	.stop = server_stop,
	.stop_now = server_stop_now,
	.free = server_free,
};

static struct server *server_new(struct bench *b, uint64_t features)
{
	struct server *s = calloc(1, sizeof(*s));

	s->l = (struct vhost_link){
		.ops = &server_ops, .features = features, .queues = SERVER_QUEUES};
	s->bench = b;
	return s;
}

/* Takes a request; without one the test is over. */
static void serve(struct server *s, unsigned q)
{
	if (vring_pop(&s->ring[q], &s->c) != 1)
		abort();
}

static void done(struct server *s, unsigned q, uint32_t written)
{
	vring_push(&s->ring[q], &s->c, written);
	vring_flush(&s->ring[q]);
}

/* --- the bench --- */

static void quit(void *ctx)
{
	loop_quit(ctx, 0);
}

static void turn(struct bench *b)
{
	for (unsigned i = 0; i < 3; i++) {
		loop_defer(b->loop, quit, b->loop);
		loop_run(b->loop);
	}
}

static void bench_init_as(struct bench *b, enum vhost_kind kind, bool direct)
{
	struct vhost_config c = {
		.kind = kind, .name = "dev0", .tag = "host", .requests = 1, .direct = direct};

	*b = (struct bench){0};
	fake_init(&b->f);
	if (loop_new(&b->loop) < 0 || vhost_new(&b->vh, b->f.gm, b->loop, &c) < 0)
		abort();
	fake_attach(&b->f, vhost_dev(b->vh), b->loop);
}

static void bench_init(struct bench *b, enum vhost_kind kind)
{
	bench_init_as(b, kind, false);
}

static struct server *serve_bench(struct bench *b, uint64_t features)
{
	struct server *s = server_new(b, features);

	return vhost_attach(b->vh, &s->l, NULL) == 0 ? s : NULL;
}

static void bench_done(struct bench *b)
{
	fake_done(&b->f);
	loop_free(b->loop);
}

/* A FUSE request with this unique number, and room for an answer. */
static uint16_t ask(struct bench *b, uint64_t unique, gpa_t *out)
{
	gpa_t in = fake_alloc(&b->f, FUSE_IN);
	struct fake_buf bufs[2] = {{in, FUSE_IN, false}, {fake_alloc(&b->f, 64), 64, true}};
	uint16_t head;

	le64_put((uint8_t *)fake_ptr(&b->f, in, FUSE_IN) + 8, unique);
	*out = bufs[1].gpa;
	head = fake_add(&b->f, REQUEST, bufs, 2, false);
	fake_notify(&b->f, REQUEST);
	return head;
}

static bool is_not_connected(struct bench *b, gpa_t out, uint64_t unique)
{
	const uint8_t *p = fake_ptr(&b->f, out, FUSE_OUT);

	return le32_get(p) == FUSE_OUT && (int32_t)le32_get(p + 4) == -107 &&
	       le64_get(p + 8) == unique;
}

TEST(requests_go_to_the_server_and_back)
{
	struct bench b;
	struct server *s;
	uint32_t head, len;
	gpa_t out;

	bench_init(&b, VHOST_FS);
	s = serve_bench(&b, GOOD);
	REQUIRE(s && fake_start(&b.f, FAKE_ALL));
	CHECK_EQ(s->starts, 1);
	for (unsigned i = 0; i < 1000; i++) {
		uint16_t want = ask(&b, i, &out);

		serve(s, REQUEST);
		CHECK_EQ(s->c.rd_len, FUSE_IN);
		CHECK_EQ(s->c.wr_len, 64);
		vring_write(&s->c, 0, "answer", 6);
		done(s, REQUEST, 6);
		turn(&b);
		REQUIRE(fake_used(&b.f, REQUEST, &head, &len));
		CHECK_EQ(head, want);
		CHECK_EQ(len, 6);
		CHECK(memcmp(fake_ptr(&b.f, out, 6), "answer", 6) == 0);
	}
	CHECK(b.f.irqs[REQUEST] > 0);
	bench_done(&b);
	CHECK_EQ(b.freed, 1);
}

TEST(a_server_gets_a_copy_of_what_lies_in_a_window)
{
	enum { GPA = 1 << 30, LEN = 3000 };
	struct fake_buf two[2] = {{GPA + 100, LEN, false}, {GPA + 8000, LEN, true}},
			huge = {GPA, 4 << 20, false};
	uint32_t head, len;
	struct os_window *w;
	struct bench b;
	struct server *s;
	uint8_t *p, got[LEN];

	bench_init(&b, VHOST_FS);
	REQUIRE(os_window_new(&w, 8 << 20) == 0 && gmem_add_window(b.f.gm, GPA, w) == 0);
	p = os_window_base(w);
	s = serve_bench(&b, GOOD);
	REQUIRE(s && fake_start(&b.f, FAKE_ALL));
	memset(p + 100, 'r', LEN);
	memset(p + 8000, 'w', LEN);
	for (unsigned i = 0; i < 2; i++)
		fake_add(&b.f, REQUEST, two, 2, false);
	fake_add(&b.f, REQUEST, &huge, 1, false);
	fake_notify(&b.f, REQUEST);
	for (unsigned i = 0; i < 2; i++) {
		serve(s, REQUEST);
		/* one at a time: the others wait in the guest's ring */
		CHECK(!vring_has_work(&s->ring[REQUEST]));
		for (unsigned k = 0; k < 2; k++)
			CHECK(!gmem_in_window(b.f.gm, s->c.addr[k], s->c.iov[k].iov_len));
		CHECK_EQ(vring_read(&s->c, 0, got, LEN), LEN);
		CHECK(got[0] == 'r' && got[LEN - 1] == 'r');
		vring_write(&s->c, 0, i ? "second" : "first", 6);
		done(s, REQUEST, 6);
		turn(&b);
		REQUIRE(fake_used(&b.f, REQUEST, &head, &len));
		CHECK_EQ(len, 6);
		CHECK(memcmp(p + 8000, i ? "second" : "first", 6) == 0);
		CHECK_EQ(p[8006], 'w');
		/* What is more than any driver asks for is not done. */
		if (i == 0) {
			REQUIRE(fake_used(&b.f, REQUEST, &head, &len));
			CHECK_EQ(len, 0);
		}
	}
	bench_done(&b);
	os_window_free(w);
}

TEST(what_the_server_wrote_is_told_to_the_translator)
{
	struct bench b;
	struct server *s;
	uint64_t bits[FAKE_RAM / GMEM_PAGE_SIZE / 64];
	gpa_t out;

	bench_init(&b, VHOST_FS);
	s = serve_bench(&b, GOOD);
	REQUIRE(s && fake_start(&b.f, FAKE_ALL));
	ask(&b, 1, &out);
	gmem_dirty_enable(b.f.gm, true);
	gmem_dirty_fetch(b.f.gm, bits, sizeof(bits) / 8);
	serve(s, REQUEST);
	done(s, REQUEST, 0); /* it forgets to say how much */
	turn(&b);
	gmem_dirty_fetch(b.f.gm, bits, sizeof(bits) / 8);
	CHECK(bits[(out >> 12) / 64] & BIT((out >> 12) % 64));
	bench_done(&b);
}

TEST(without_a_server_requests_fail)
{
	struct bench b;
	uint32_t head, len;
	gpa_t out;

	bench_init(&b, VHOST_FS);
	REQUIRE(fake_start(&b.f, FAKE_ALL));
	ask(&b, 77, &out);
	REQUIRE(fake_used(&b.f, REQUEST, &head, &len));
	CHECK_EQ(len, FUSE_OUT);
	CHECK(is_not_connected(&b, out, 77));
	bench_done(&b);
}

TEST(a_server_that_dies_leaves_no_request_behind)
{
	struct bench b;
	struct server *s;
	uint32_t head, len;
	gpa_t out[3];

	bench_init(&b, VHOST_FS);
	s = serve_bench(&b, GOOD);
	REQUIRE(s && fake_start(&b.f, FAKE_ALL));
	for (unsigned i = 0; i < 3; i++)
		ask(&b, i, &out[i]);
	serve(s, REQUEST);
	vring_write(&s->c, 0, "answer", 6);
	done(s, REQUEST, 6); /* and dies before anybody looked */
	{
		VIRTIO_GUARD(b.f.v);
		vhost_link_down(b.vh, "test");
	}
	CHECK_EQ(b.freed, 1);
	REQUIRE(fake_used(&b.f, REQUEST, &head, &len));
	CHECK_EQ(len, 6);
	for (unsigned i = 1; i < 3; i++) {
		REQUIRE(fake_used(&b.f, REQUEST, &head, &len));
		CHECK(is_not_connected(&b, out[i], i));
	}
	CHECK(!fake_used(&b.f, REQUEST, &head, &len));
	/* The next one serves what comes. */
	s = serve_bench(&b, GOOD);
	REQUIRE(s && s->starts == 1);
	ask(&b, 9, &out[0]);
	serve(s, REQUEST);
	done(s, REQUEST, 6);
	turn(&b);
	CHECK(fake_used(&b.f, REQUEST, &head, &len) && len == 6);
	bench_done(&b);
}

TEST(buffers_for_frames_wait_for_the_next_server)
{
	struct bench b;
	struct server *s;
	struct fake_buf buf = {0, 2048, true}, frame = {0, 60, false};
	uint32_t head, len;
	uint16_t first;

	bench_init(&b, VHOST_NET);
	s = serve_bench(&b, GOOD);
	REQUIRE(s && fake_start(&b.f, FAKE_ALL));
	buf.gpa = fake_alloc(&b.f, 4096);
	frame.gpa = fake_alloc(&b.f, 60);
	first = fake_add(&b.f, NET_RX, &buf, 1, false);
	fake_notify(&b.f, NET_RX);
	fake_add(&b.f, NET_TX, &frame, 1, false);
	fake_notify(&b.f, NET_TX);
	serve(s, NET_RX);
	{
		VIRTIO_GUARD(b.f.v);
		vhost_link_down(b.vh, "test");
	}
	CHECK(fake_used(&b.f, NET_TX, &head, &len)); /* lost */
	CHECK(!fake_used(&b.f, NET_RX, &head, &len));
	s = serve_bench(&b, GOOD);
	REQUIRE(s);
	serve(s, NET_RX);
	done(s, NET_RX, 100);
	turn(&b);
	CHECK(fake_used(&b.f, NET_RX, &head, &len) && head == first && len == 100);
	bench_done(&b);
}

TEST(a_server_that_lies_about_a_request_is_left)
{
	/* An entry that was never posted, one beyond the ring, the same one twice. */
	static const uint32_t ids[][2] = {{5, 5}, {0x10000, 0}, {0, 0}};
	struct bench b;

	for (unsigned i = 0; i < ARRAY_LEN(ids); i++) {
		struct server *s;
		uint8_t *used;
		gpa_t out;

		bench_init(&b, VHOST_FS);
		s = serve_bench(&b, GOOD);
		REQUIRE(s && fake_start(&b.f, FAKE_ALL));
		ask(&b, 1, &out);
		used = s->used[REQUEST];
		le32_put(used + 4, ids[i][0]);
		le32_put(used + 12, ids[i][1]);
		le16_put(used + 2, 2);
		os_notifier_signal(s->call[REQUEST]);
		turn(&b);
		CHECK_EQ(b.freed, 1);
		CHECK(!vhost_connected(b.vh));
		CHECK(virtio_live(b.f.v));
		bench_done(&b);
	}
}

TEST(a_reset_waits_for_the_server)
{
	struct bench b;
	struct server *s;
	uint32_t head, len;
	gpa_t out;

	bench_init(&b, VHOST_FS);
	s = serve_bench(&b, GOOD);
	REQUIRE(s && fake_start(&b.f, FAKE_ALL));
	ask(&b, 1, &out);
	serve(s, REQUEST);
	fake_reset(&b.f);
	CHECK_EQ(s->stops, 1);
	CHECK(b.f.v->resetting && b.f.v->status);
	done(s, REQUEST, 6); /* as it does before it stops */
	{
		VIRTIO_GUARD(b.f.v);
		vhost_link_stopped(b.vh);
	}
	CHECK_EQ(b.f.v->status, 0);
	REQUIRE(fake_start(&b.f, FAKE_ALL));
	CHECK_EQ(s->starts, 2);
	turn(&b);
	CHECK(!fake_used(&b.f, REQUEST, &head, &len)); /* nothing of the life before */
	ask(&b, 2, &out);
	serve(s, REQUEST);
	done(s, REQUEST, 6);
	turn(&b);
	CHECK(fake_used(&b.f, REQUEST, &head, &len) && len == 6);
	/* And one whose server dies meanwhile. */
	fake_reset(&b.f);
	{
		VIRTIO_GUARD(b.f.v);
		vhost_link_down(b.vh, "test");
	}
	CHECK_EQ(b.f.v->status, 0);
	bench_done(&b);
}

TEST(a_server_that_cannot_do_what_was_promised_is_refused)
{
	struct bench b;
	struct err e;
	struct server *s;

	bench_init(&b, VHOST_NET);
	CHECK(!serve_bench(&b, VIRTIO_F_VERSION_1));
	REQUIRE(serve_bench(&b, GOOD | BIT(15)));
	REQUIRE(fake_start(&b.f, FAKE_ALL));
	CHECK(b.f.v->features & BIT(15));
	s = server_new(&b, GOOD);
	CHECK_EQ(vhost_attach(b.vh, &s->l, &e), -ENOTSUP);
	CHECK(vhost_connected(b.vh)); /* the old one stays */
	s = server_new(&b, GOOD | BIT(15));
	s->l.queues = 1;
	CHECK_EQ(vhost_attach(b.vh, &s->l, &e), -ENOTSUP);
	CHECK_EQ(b.freed, 3);
	bench_done(&b);
}

TEST(requests_in_flight_are_saved_and_served_by_another)
{
	struct bench b;
	struct vhost_config c = {.kind = VHOST_NET, .name = "dev0"};
	struct fake_buf buf = {0, 2048, true};
	struct vhost *into;
	struct server *s;
	uint32_t head, len;
	uint16_t heads[3];

	bench_init(&b, VHOST_NET);
	s = serve_bench(&b, GOOD);
	REQUIRE(s && fake_start(&b.f, FAKE_ALL));
	buf.gpa = fake_alloc(&b.f, 4096);
	for (unsigned i = 0; i < 3; i++)
		heads[i] = fake_add(&b.f, NET_RX, &buf, 1, i == 1);
	fake_notify(&b.f, NET_RX);
	serve(s, NET_RX);
	serve(s, NET_RX);
	done(s, NET_RX, 50); /* the second comes back, out of order, and nobody looked yet */
	REQUIRE(vhost_new(&into, b.f.gm, b.loop, &c) == 0);
	REQUIRE(fake_migrate(&b.f, vhost_dev(into)) == 0);
	b.vh = into;
	CHECK(fake_used(&b.f, NET_RX, &head, &len) && head == heads[1] && len == 50);
	CHECK(!fake_used(&b.f, NET_RX, &head, &len));
	s = serve_bench(&b, GOOD);
	REQUIRE(s);
	for (unsigned i = 0; i < 2; i++) {
		serve(s, NET_RX);
		done(s, NET_RX, 60);
	}
	turn(&b);
	for (unsigned i = 0; i < 2; i++)
		CHECK(fake_used(&b.f, NET_RX, &head, &len) && len == 60 && head != heads[1]);
	CHECK(!fake_used(&b.f, NET_RX, &head, &len));
	bench_done(&b);
}

static uint16_t frame(struct bench *b, unsigned q)
{
	struct fake_buf buf = {fake_alloc(&b->f, 64), 64, q == NET_RX};
	uint16_t head = fake_add(&b->f, q, &buf, 1, false);

	fake_notify(&b->f, q);
	return head;
}

TEST(a_network_may_work_on_the_rings_of_the_guest)
{
	struct bench b;
	struct server *s;
	uint32_t head, len;
	uint16_t want;
	unsigned irqs;

	bench_init_as(&b, VHOST_NET, true);
	CHECK(!b.vh || vhost_dev(b.vh)->ops->kick_notifier(b.f.v, NET_TX));
	s = serve_bench(&b, GOOD);
	REQUIRE(s && fake_start(&b.f, FAKE_ALL));
	CHECK(s->features & VIRTIO_F_EVENT_IDX);
	for (unsigned i = 0; i < 600; i++) {
		want = frame(&b, NET_TX);
		serve(s, NET_TX);
		irqs = b.f.irqs[NET_TX];
		fake_want_irq(&b.f, NET_TX, true);
		done(s, NET_TX, 0);
		CHECK(fake_used(&b.f, NET_TX, &head, &len) && head == want);
		turn(&b);
		CHECK_EQ(b.f.irqs[NET_TX], irqs + 1);
	}
	bench_done(&b);
}

TEST(after_a_death_a_network_goes_on_behind_the_last_frame)
{
	struct bench b;
	struct server *s;
	uint32_t head, len;
	uint16_t rx[2];

	bench_init_as(&b, VHOST_NET, true);
	s = serve_bench(&b, GOOD);
	REQUIRE(s && fake_start(&b.f, FAKE_ALL));
	for (unsigned i = 0; i < 2; i++)
		rx[i] = frame(&b, NET_RX);
	for (unsigned i = 0; i < 3; i++)
		frame(&b, NET_TX);
	serve(s, NET_RX);
	done(s, NET_RX, 10);
	serve(s, NET_RX);
	serve(s, NET_TX);
	{
		VIRTIO_GUARD(b.f.v);
		vhost_link_down(b.vh, "test");
	}
	for (unsigned i = 0; i < 3; i++)
		CHECK(fake_used(&b.f, NET_TX, &head, &len)); /* lost */
	CHECK(fake_used(&b.f, NET_RX, &head, &len) && head == rx[0]);
	CHECK(!fake_used(&b.f, NET_RX, &head, &len));
	s = serve_bench(&b, GOOD);
	REQUIRE(s);
	serve(s, NET_RX);
	done(s, NET_RX, 20);
	CHECK(fake_used(&b.f, NET_RX, &head, &len) && head == rx[1] && len == 20);
	frame(&b, NET_TX);
	serve(s, NET_TX);
	done(s, NET_TX, 0);
	CHECK(fake_used(&b.f, NET_TX, &head, &len));
	bench_done(&b);
}

TEST(a_saved_machine_knows_where_the_server_was)
{
	struct bench b;
	struct vhost_config c = {.kind = VHOST_NET, .name = "dev0"};
	struct vhost *into;
	struct server *s;
	uint32_t head, len;
	uint16_t rx[2];

	bench_init_as(&b, VHOST_NET, true);
	s = serve_bench(&b, GOOD);
	REQUIRE(s && fake_start(&b.f, FAKE_ALL));
	for (unsigned i = 0; i < 2; i++)
		rx[i] = frame(&b, NET_RX);
	serve(s, NET_RX);
	done(s, NET_RX, 10);
	/* And goes on as one with shadows. */
	REQUIRE(vhost_new(&into, b.f.gm, b.loop, &c) == 0);
	REQUIRE(fake_migrate(&b.f, vhost_dev(into)) == 0);
	b.vh = into;
	s = serve_bench(&b, GOOD);
	REQUIRE(s);
	serve(s, NET_RX);
	done(s, NET_RX, 20);
	turn(&b);
	CHECK(fake_used(&b.f, NET_RX, &head, &len) && head == rx[0] && len == 10);
	CHECK(fake_used(&b.f, NET_RX, &head, &len) && head == rx[1] && len == 20);
	bench_done(&b);
}

/* The server had finished a frame and had not come to say so. */
static struct server *frame_without_interrupt(struct bench *b, struct os_notifier **lost)
{
	struct server *s;

	bench_init_as(b, VHOST_NET, true);
	s = serve_bench(b, GOOD);
	if (!s || !fake_start(&b->f, FAKE_ALL) || os_notifier_new(lost) < 0)
		abort();
	for (unsigned i = 0; i < 2; i++)
		frame(b, NET_RX);
	fake_want_irq(&b->f, NET_RX, true);
	s->call[NET_RX] = *lost;
	serve(s, NET_RX);
	done(s, NET_RX, 10);
	turn(b);
	CHECK_EQ(b->f.irqs[NET_RX], 0);
	return s;
}

TEST(nothing_was_received_any_more_when_the_server_died_before_its_interrupt)
{
	struct os_notifier *lost;
	struct server *s;
	struct bench b;

	frame_without_interrupt(&b, &lost);
	{
		VIRTIO_GUARD(b.f.v);
		vhost_link_down(b.vh, "test");
	}
	CHECK_EQ(b.f.irqs[NET_RX], 1);
	s = serve_bench(&b, GOOD);
	REQUIRE(s);
	serve(s, NET_RX);
	done(s, NET_RX, 20); /* the driver has not looked yet */
	turn(&b);
	CHECK_EQ(b.f.irqs[NET_RX], 2);
	bench_done(&b);
	os_notifier_free(lost);
}

TEST(nothing_was_received_any_more_when_the_machine_was_saved_before_an_interrupt)
{
	struct os_notifier *lost;
	struct server *s;
	struct bench b;
	struct state_w *w;

	s = frame_without_interrupt(&b, &lost);
	w = state_w_new();
	REQUIRE(w);
	virtio_save(b.f.v, w);
	CHECK(b.f.irqs[NET_RX] > 0);
	state_w_free(w);
	turn(&b);
	REQUIRE(s->starts == 2);
	serve(s, NET_RX);
	done(s, NET_RX, 20);
	turn(&b);
	CHECK(b.f.irqs[NET_RX] > 1);
	bench_done(&b);
	os_notifier_free(lost);
}

TEST(a_driver_that_resets_while_it_is_saved_sees_the_reset_end)
{
	struct vhost_config c = {.kind = VHOST_NET, .name = "dev0"};
	struct vhost *into;
	struct server *s;
	struct bench b;

	bench_init(&b, VHOST_NET);
	s = serve_bench(&b, GOOD);
	REQUIRE(s && fake_start(&b.f, FAKE_ALL));
	fake_reset(&b.f);
	CHECK_EQ(s->stops, 1);
	CHECK(b.f.v->status);
	REQUIRE(vhost_new(&into, b.f.gm, b.loop, &c) == 0);
	REQUIRE(fake_migrate(&b.f, vhost_dev(into)) == 0);
	b.vh = into;
	CHECK_EQ(b.f.v->status, 0);
	bench_done(&b);
}

TEST(a_ring_in_a_window_breaks_the_device_and_not_its_server)
{
	enum { GPA = 1 << 30 };
	struct os_window *w;
	struct bench b;

	bench_init_as(&b, VHOST_NET, true);
	REQUIRE(os_window_new(&w, 8 << 20) == 0 && gmem_add_window(b.f.gm, GPA, w) == 0);
	REQUIRE(serve_bench(&b, GOOD));
	b.f.v->q[NET_RX].ring.desc_addr = fake_alloc(&b.f, 4096);
	b.f.v->q[NET_RX].ring.avail_addr = fake_alloc(&b.f, 4096);
	b.f.v->q[NET_RX].ring.used_addr = GPA;
	{
		VIRTIO_GUARD(b.f.v);
		virtio_queue_enable(b.f.v, NET_RX);
	}
	CHECK(b.f.v->q[NET_RX].ring.broken && !b.f.v->q[NET_RX].ring.enabled);
	REQUIRE(fake_start(&b.f, FAKE_ALL));
	CHECK_EQ(b.freed, 0);
	bench_done(&b);
	os_window_free(w);
}

TEST(a_file_system_in_use_is_not_saved)
{
	struct bench b;
	struct err e;

	bench_init(&b, VHOST_FS);
	CHECK_EQ(vhost_can_save(b.vh, &e), 0);
	REQUIRE(fake_start(&b.f, FAKE_ALL));
	CHECK_EQ(vhost_can_save(b.vh, &e), -EBUSY);
	bench_done(&b);
	bench_init(&b, VHOST_NET);
	REQUIRE(fake_start(&b.f, FAKE_ALL));
	CHECK_EQ(vhost_can_save(b.vh, &e), 0);
	bench_done(&b);
}

TEST_MAIN()
