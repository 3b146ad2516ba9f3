/* SPDX-License-Identifier: MIT */
/* The virtqueue against a driver that behaves, and against drivers that do not. */
#include "lib/base/test.h"
#include <errno.h>
#include "lib/base/le.h"
#include "vmm/virtio/fake-driver.h"

/* A device that copies what it reads into what it may write, or leaves requests alone ("hold"). */
struct echo {
	struct virtio_dev v;
	bool hold;
	unsigned notified;
	unsigned served;
	struct vring_chain c;
};

static void echo_notify(struct virtio_dev *v, unsigned q)
{
	struct echo *e = container_of(v, struct echo, v);
	uint8_t buf[65536];

	e->notified++;
	if (e->hold)
		return;
	for (unsigned n = 0; vq_pop(&v->q[q], &e->c) > 0; n++) {
		size_t len = vring_read(&e->c, 0, buf, sizeof(buf));

		len = vring_write(&e->c, 0, buf, len);
		vq_push(&v->q[q], &e->c, (uint32_t)len);
		e->served++;
	}
	vq_flush(&v->q[q]);
}

static void echo_free(struct virtio_dev *v)
{
	virtio_dev_done(v);
	free(container_of(v, struct echo, v));
}

static const struct virtio_dev_ops echo_ops = {
	.name = "echo", .id = 99, .notify = echo_notify, .free = echo_free};

static struct echo *echo_new(struct fake *f)
{
	struct echo *e = calloc(1, sizeof(*e));

	if (!e || virtio_dev_init(&e->v, &echo_ops, "echo0", f->gm, 2, 64) < 0)
		abort();
	return e;
}

static struct echo *start(struct fake *f, uint64_t features)
{
	struct echo *e;

	fake_init(f);
	e = echo_new(f);
	fake_attach(f, &e->v, NULL);
	if (!fake_start(f, features))
		abort();
	return e;
}

#define NEEDS_RESET(f) (!!((f)->v->status & VIRTIO_ST_NEEDS_RESET))

static void echo_once(struct fake *f, unsigned n_rd, unsigned n_wr, bool indirect)
{
	struct fake_buf b[64];
	uint32_t head = 0, len = 0;
	unsigned n = 0;
	uint16_t want;

	for (unsigned i = 0; i < n_rd; i++) {
		b[n] = (struct fake_buf){fake_alloc(f, 100), 100, false};
		memset(fake_ptr(f, b[n].gpa, 100), (int)('a' + i), 100);
		n++;
	}
	for (unsigned i = 0; i < n_wr; i++) {
		b[n] = (struct fake_buf){fake_alloc(f, 64), 64, true};
		n++;
	}
	want = fake_add(f, 0, b, n, indirect);
	fake_kick(f, 0);
	CHECK(fake_used(f, 0, &head, &len));
	CHECK_EQ(head, want);
	CHECK_EQ(len, MIN(n_rd * 100, n_wr * 64));
	for (uint32_t i = 0; i < len; i++) {
		const uint8_t *p = fake_ptr(f, b[n_rd + i / 64].gpa + i % 64, 1);

		if (*p != 'a' + i / 100) {
			CHECK_EQ(*p, 'a' + i / 100);
			break;
		}
	}
	CHECK(!NEEDS_RESET(f));
}

TEST(requests_come_back_in_any_shape)
{
	struct fake f;

	start(&f, FAKE_ALL);
	echo_once(&f, 1, 1, false);
	echo_once(&f, 1, 0, false);
	echo_once(&f, 0, 1, false);
	echo_once(&f, 5, 9, false);
	echo_once(&f, 5, 9, true);
	echo_once(&f, 30, 34, true);
	CHECK(f.irqs[0] > 0);
	fake_done(&f);
}

TEST(indices_wrap)
{
	for (int event_idx = 0; event_idx < 2; event_idx++) {
		struct fake f;
		struct echo *e = start(&f, event_idx ? FAKE_ALL : ~VIRTIO_F_EVENT_IDX);
		struct fake_buf b[2] = {
			{fake_alloc(&f, 16), 16, false}, {fake_alloc(&f, 16), 16, true}};
		unsigned bad = 0;

		for (unsigned i = 0; i < 70000; i++) {
			uint32_t head, len;
			uint16_t want = fake_add(&f, 0, b, 2, false);

			fake_kick(&f, 0);
			bad += !fake_used(&f, 0, &head, &len) || head != want || len != 16;
			fake_want_irq(&f, 0, true);
		}
		CHECK_EQ(bad, 0);
		CHECK_EQ(e->served, 70000);
		CHECK_EQ(f.irqs[0], 70000);
		CHECK_EQ(e->v.q[0].ring.inflight, 0);
		fake_done(&f);
	}
}

TEST(interrupts_only_when_wanted)
{
	for (int event_idx = 0; event_idx < 2; event_idx++) {
		struct fake f;
		struct fake_buf b;

		start(&f, event_idx ? FAKE_ALL : ~VIRTIO_F_EVENT_IDX);
		b = (struct fake_buf){fake_alloc(&f, 16), 16, true};
		fake_want_irq(&f, 0, false);
		fake_add(&f, 0, &b, 1, false);
		fake_notify(&f, 0);
		CHECK_EQ(f.irqs[0], 0);
		CHECK(fake_used(&f, 0, NULL, NULL));
		fake_want_irq(&f, 0, true);
		for (int i = 0; i < 5; i++)
			fake_add(&f, 0, &b, 1, false);
		fake_notify(&f, 0);
		CHECK_EQ(f.irqs[0], 1); /* one for the batch */
		fake_done(&f);
	}
}

TEST(notifications_only_when_wanted)
{
	for (int event_idx = 0; event_idx < 2; event_idx++) {
		struct fake f;
		struct echo *e = start(&f, event_idx ? FAKE_ALL : ~VIRTIO_F_EVENT_IDX);
		struct fake_buf b = {fake_alloc(&f, 16), 16, true};

		CHECK(!vq_has_work(&e->v.q[0]));
		fake_add(&f, 0, &b, 1, false);
		CHECK(fake_kick(&f, 0)); /* an empty queue wants to hear */
		fake_add(&f, 0, &b, 1, false);
		fake_add(&f, 0, &b, 1, false);
		CHECK(vq_has_work(&e->v.q[0]));
		CHECK(fake_kick(&f, 0));
		e->hold = true;
		fake_add(&f, 0, &b, 1, false);
		fake_kick(&f, 0);
		/* One taken, not yet at the end: no need to hear of more. */
		REQUIRE(vq_pop(&e->v.q[0], &e->c) == 1);
		fake_add(&f, 0, &b, 1, false);
		CHECK(!fake_kick(&f, 0));
		REQUIRE(vq_pop(&e->v.q[0], &e->c) == 1);
		REQUIRE(vq_pop(&e->v.q[0], &e->c) == 0);
		fake_add(&f, 0, &b, 1, false);
		CHECK(fake_kick(&f, 0));
		fake_done(&f);
	}
}

TEST(unpop_gives_the_same_request_again)
{
	struct fake f;
	struct echo *e = start(&f, FAKE_ALL);
	struct fake_buf b = {fake_alloc(&f, 16), 16, true};
	uint16_t first, head;
	struct vq *q = &e->v.q[0];

	e->hold = true;
	first = fake_add(&f, 0, &b, 1, false);
	fake_add(&f, 0, &b, 1, false);
	REQUIRE(vq_pop(q, &e->c) == 1);
	head = e->c.head;
	CHECK_EQ(head, first);
	vq_unpop(q, &e->c);
	CHECK_EQ(q->ring.inflight, 0);
	REQUIRE(vq_pop(q, &e->c) == 1);
	CHECK_EQ(e->c.head, first);
	vq_push(q, &e->c, 3);
	vq_push(q, &e->c, 3); /* twice: no effect */
	CHECK_EQ(q->ring.used_idx, 1);
	fake_done(&f);
}

/* A frame in several buffers: a driver that polls must not find the first without the others. */
TEST(what_is_pushed_appears_all_at_once)
{
	struct fake f;
	struct echo *e = start(&f, FAKE_ALL);
	struct fake_buf b = {fake_alloc(&f, 16), 16, true};
	struct vq *q = &e->v.q[0];
	struct vring_chain *second = malloc(sizeof(*second));

	e->hold = true;
	fake_add(&f, 0, &b, 1, false);
	fake_add(&f, 0, &b, 1, false);
	REQUIRE(second && vq_pop(q, &e->c) == 1 && vq_pop(q, second) == 1);
	vq_push(q, &e->c, 1);
	vq_push(q, second, 2);
	CHECK(!fake_used(&f, 0, NULL, NULL));
	vq_flush(q);
	CHECK(fake_used(&f, 0, NULL, NULL));
	CHECK(fake_used(&f, 0, NULL, NULL));
	free(second);
	fake_done(&f);
}

TEST(requests_from_before_a_reset_vanish)
{
	struct fake f;
	struct echo *e = start(&f, FAKE_ALL);
	struct fake_buf b = {fake_alloc(&f, 16), 16, true};
	struct vq *q = &e->v.q[0];

	e->hold = true;
	fake_add(&f, 0, &b, 1, false);
	REQUIRE(vq_pop(q, &e->c) == 1);
	REQUIRE(fake_start(&f, FAKE_ALL));
	vq_push(q, &e->c, 16);
	vq_unpop(q, &e->c);
	CHECK_EQ(q->ring.used_idx, 0);
	CHECK_EQ(q->ring.last_avail, 0);
	CHECK(!fake_used(&f, 0, NULL, NULL));
	fake_done(&f);
}

/* Each builds one wrong thing in queue 0. */
struct wrong {
	const char *what;
	void (*make)(struct fake *f);
};

static void self_loop(struct fake *f)
{
	fake_desc(f, 0, 0, FAKE_HEAP, 16, FAKE_NEXT, 0);
	fake_avail(f, 0, 0);
}

static void long_loop(struct fake *f)
{
	for (uint16_t i = 0; i < 64; i++)
		fake_desc(f, 0, i, FAKE_HEAP, 16, FAKE_NEXT, (i + 1) % 64);
	fake_avail(f, 0, 7);
}

static void indirect_loop(struct fake *f)
{
	gpa_t t = fake_alloc(f, 32);
	uint8_t *p = fake_ptr(f, t, 32);

	le64_put(p, FAKE_HEAP);
	le32_put(p + 8, 0); /* empty buffers, so that only the count can stop it */
	le16_put(p + 12, FAKE_NEXT);
	le16_put(p + 14, 1);
	memcpy(p + 16, p, 16);
	le16_put(p + 16 + 14, 0);
	fake_desc(f, 0, 0, t, 32, FAKE_INDIRECT, 0);
	fake_avail(f, 0, 0);
}

static void indirect_in_indirect(struct fake *f)
{
	gpa_t t = fake_alloc(f, 16);
	uint8_t *p = fake_ptr(f, t, 16);

	le64_put(p, t);
	le32_put(p + 8, 16);
	le16_put(p + 12, FAKE_INDIRECT);
	fake_desc(f, 0, 0, t, 16, FAKE_INDIRECT, 0);
	fake_avail(f, 0, 0);
}

static void indirect_odd_size(struct fake *f)
{
	fake_desc(f, 0, 0, fake_alloc(f, 32), 24, FAKE_INDIRECT, 0);
	fake_avail(f, 0, 0);
}

static void indirect_empty(struct fake *f)
{
	fake_desc(f, 0, 0, fake_alloc(f, 32), 0, FAKE_INDIRECT, 0);
	fake_avail(f, 0, 0);
}

static void indirect_outside(struct fake *f)
{
	fake_desc(f, 0, 0, FAKE_RAM - 16, 32, FAKE_INDIRECT, 0);
	fake_avail(f, 0, 0);
}

static void indirect_and_next(struct fake *f)
{
	fake_desc(f, 0, 0, fake_alloc(f, 16), 16, FAKE_INDIRECT | FAKE_NEXT, 1);
	fake_avail(f, 0, 0);
}

static void indirect_next_out_of_table(struct fake *f)
{
	gpa_t t = fake_alloc(f, 32);
	uint8_t *p = fake_ptr(f, t, 32);

	le64_put(p, FAKE_HEAP);
	le32_put(p + 8, 16);
	le16_put(p + 12, FAKE_NEXT);
	le16_put(p + 14, 2);
	fake_desc(f, 0, 0, t, 32, FAKE_INDIRECT, 0);
	fake_avail(f, 0, 0);
}

static void next_out_of_ring(struct fake *f)
{
	fake_desc(f, 0, 0, FAKE_HEAP, 16, FAKE_NEXT, 64);
	fake_avail(f, 0, 0);
}

static void head_out_of_ring(struct fake *f)
{
	fake_avail(f, 0, 64);
}

static void buffer_outside(struct fake *f)
{
	fake_desc(f, 0, 0, FAKE_RAM - 8, 16, FAKE_WRITE, 0);
	fake_avail(f, 0, 0);
}

static void buffer_in_the_hole(struct fake *f)
{
	fake_desc(f, 0, 0, 0xfee00000, 16, FAKE_WRITE, 0);
	fake_avail(f, 0, 0);
}

static void buffer_wraps(struct fake *f)
{
	fake_desc(f, 0, 0, UINT64_MAX - 4, 16, FAKE_WRITE, 0);
	fake_avail(f, 0, 0);
}

static void read_after_write(struct fake *f)
{
	fake_desc(f, 0, 0, FAKE_HEAP, 16, FAKE_WRITE | FAKE_NEXT, 1);
	fake_desc(f, 0, 1, FAKE_HEAP, 16, 0, 0);
	fake_avail(f, 0, 0);
}

static void index_far_ahead(struct fake *f)
{
	fake_avail_index(f, 0, 65);
}

static void index_behind(struct fake *f)
{
	fake_avail_index(f, 0, UINT16_MAX);
}

static void too_much_in_all(struct fake *f)
{
	/* 2 MiB, 2048 times, would be 4 GiB; the count stops it first, the sum must not wrap
	 * meanwhile. */
	gpa_t t = fake_alloc(f, 4096 * 16);
	uint8_t *p = fake_ptr(f, t, 4096 * 16);

	for (unsigned i = 0; i < 4096; i++, p += 16) {
		le64_put(p, 0);
		le32_put(p + 8, FAKE_RAM);
		le16_put(p + 12, FAKE_NEXT);
		le16_put(p + 14, (uint16_t)(i + 1));
	}
	fake_desc(f, 0, 0, t, 4096 * 16, FAKE_INDIRECT, 0);
	fake_avail(f, 0, 0);
}

TEST(a_wrong_ring_stops_the_device_until_reset)
{
	static const struct wrong wrongs[] = {
#define W(fn) {#fn, fn}
		W(self_loop), W(long_loop), W(indirect_loop), W(indirect_in_indirect),
		W(indirect_odd_size), W(indirect_empty), W(indirect_outside), W(indirect_and_next),
		W(indirect_next_out_of_table), W(next_out_of_ring), W(head_out_of_ring),
		W(buffer_outside), W(buffer_in_the_hole), W(buffer_wraps), W(read_after_write),
		W(index_far_ahead), W(index_behind), W(too_much_in_all)};
	struct fake f;
	struct echo *e = start(&f, FAKE_ALL);

	for (unsigned i = 0; i < ARRAY_LEN(wrongs); i++) {
		unsigned before = e->served, irqs = f.config_irqs;
		struct fake_buf b = {fake_alloc(&f, 16), 16, true};

		wrongs[i].make(&f);
		fake_notify(&f, 0);
		if (!NEEDS_RESET(&f) || e->served != before || f.config_irqs != irqs + 1)
			printf("# %s: status %#x served %u\n", wrongs[i].what, f.v->status,
				e->served - before);
		CHECK(NEEDS_RESET(&f));
		CHECK_EQ(e->served, before);
		CHECK_EQ(f.config_irqs, irqs + 1);
		/* Nothing works any more, on no queue. */
		fake_add(&f, 1, &b, 1, false);
		fake_notify(&f, 1);
		CHECK(!fake_used(&f, 1, NULL, NULL));
		REQUIRE(fake_start(&f, FAKE_ALL));
		echo_once(&f, 1, 1, false);
		f.heap = FAKE_HEAP;
		REQUIRE(fake_start(&f, FAKE_ALL));
	}
	fake_done(&f);
}

TEST(indirect_without_the_feature_is_refused)
{
	struct fake f;
	struct fake_buf b;

	start(&f, ~VIRTIO_F_INDIRECT_DESC);
	b = (struct fake_buf){fake_alloc(&f, 16), 16, true};
	fake_add(&f, 0, &b, 1, true);
	fake_notify(&f, 0);
	CHECK(NEEDS_RESET(&f));
	fake_done(&f);
}

TEST(overlapping_buffers_do_no_harm)
{
	struct fake f;
	gpa_t at;

	start(&f, FAKE_ALL);
	at = fake_alloc(&f, 64);
	fake_add(&f, 0,
		(struct fake_buf[]){{at, 64, false}, {at + 8, 32, true}, {at + 16, 32, true}}, 3,
		false);
	fake_notify(&f, 0);
	CHECK(fake_used(&f, 0, NULL, NULL));
	/* Buffers over the rings themselves: the driver harms itself only. */
	fake_add(&f, 0, (struct fake_buf[]){{f.q[0].desc, 1024, false}, {f.q[0].used, 500, true}},
		2, false);
	fake_notify(&f, 0);
	fake_notify(&f, 0);
	fake_done(&f);
}

TEST(empty_buffers_are_skipped)
{
	struct fake f;
	struct echo *e = start(&f, FAKE_ALL);
	gpa_t at = fake_alloc(&f, 64);

	e->hold = true;
	fake_add(&f, 0,
		(struct fake_buf[]){
			{0, 0, false}, {at, 4, false}, {UINT64_MAX, 0, true}, {at, 8, true}},
		4, false);
	REQUIRE(vq_pop(&e->v.q[0], &e->c) == 1);
	CHECK_EQ(e->c.n_rd, 1);
	CHECK_EQ(e->c.n_wr, 1);
	CHECK_EQ(e->c.wr_len, 8);
	fake_done(&f);
}

TEST(rings_outside_memory_are_refused)
{
	static const gpa_t bad[][3] = {
		{FAKE_RAM, 0x2000, 0x3000},
		{0x1000, FAKE_RAM - 8, 0x3000},
		{0x1000, 0x2000, FAKE_RAM - 16},
		{UINT64_MAX - 15, 0x2000, 0x3000},
		{0x1008, 0x2000, 0x3000},
		{0x1000, 0x2001, 0x3000},
		{0x1000, 0x2000, 0x3002},
	};
	struct fake f;
	struct echo *e = start(&f, FAKE_ALL);

	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		struct vq *q = &e->v.q[0];

		fake_reset(&f);
		virtio_set_status(&e->v, 3);
		virtio_set_features(&e->v, e->v.offered);
		virtio_set_status(&e->v, 11);
		q->ring.desc_addr = bad[i][0];
		q->ring.avail_addr = bad[i][1];
		q->ring.used_addr = bad[i][2];
		virtio_queue_enable(&e->v, 0);
		CHECK(!q->ring.enabled);
		CHECK(NEEDS_RESET(&f));
		virtio_set_status(&e->v, 15);
		CHECK(!virtio_live(&e->v));
		virtio_notify(&e->v, 0);
		CHECK(vq_pop(q, &e->c) < 0);
	}
	for (unsigned size = 0; size < 70; size++) {
		fake_reset(&f);
		e->v.q[0].ring.desc_addr = 0x1000;
		e->v.q[0].ring.avail_addr = 0x2000;
		e->v.q[0].ring.used_addr = 0x3000;
		e->v.q[0].ring.size = (uint16_t)size;
		virtio_queue_enable(&e->v, 0);
		CHECK_EQ(e->v.q[0].ring.enabled, size && size <= 64 && !(size & (size - 1)));
	}
	fake_done(&f);
}

TEST(one_driver_cannot_have_more_requests_than_descriptors)
{
	struct fake f;
	struct echo *e = start(&f, FAKE_ALL);
	unsigned n = 0;
	int r = 0;

	e->hold = true;
	fake_desc(&f, 0, 0, FAKE_HEAP, 16, 0, 0);
	for (; n < 1000; n++) {
		fake_avail(&f, 0, 0);
		r = vq_pop(&e->v.q[0], &e->c);
		if (r <= 0)
			break;
	}
	CHECK_EQ(n, 64);
	CHECK(r < 0);
	CHECK(NEEDS_RESET(&f));
	fake_done(&f);
}

TEST(features_are_negotiated_strictly)
{
	struct fake f;
	struct echo *e = start(&f, FAKE_ALL);

	CHECK(!fake_start(&f, ~VIRTIO_F_VERSION_1));
	fake_reset(&f);
	virtio_set_status(&e->v, 3);
	virtio_set_features(&e->v, VIRTIO_F_VERSION_1 | BIT(50));
	virtio_set_status(&e->v, 11);
	CHECK(!(e->v.status & VIRTIO_ST_FEATURES_OK));
	virtio_set_status(&e->v, 7);
	CHECK(!(e->v.status & VIRTIO_ST_DRIVER_OK));
	virtio_set_features(&e->v, VIRTIO_F_VERSION_1);
	virtio_set_status(&e->v, 11);
	CHECK(e->v.status & VIRTIO_ST_FEATURES_OK);
	virtio_set_features(&e->v, 0); /* too late */
	CHECK_EQ(e->v.features, VIRTIO_F_VERSION_1);
	fake_done(&f);
}

TEST(save_and_load_keep_the_place)
{
	struct fake f;
	struct echo *e = start(&f, FAKE_ALL), *e2;

	for (int i = 0; i < 100; i++)
		echo_once(&f, 1, 1, i & 1);
	e->hold = true;
	struct fake_buf b = {fake_alloc(&f, 16), 16, true};
	fake_add(&f, 0, &b, 1, false); /* still waiting when saved */
	fake_kick(&f, 0);
	e2 = echo_new(&f);
	CHECK_EQ(fake_migrate(&f, &e2->v), 0);
	CHECK(fake_settle(&f) > 0);
	CHECK_EQ(e2->served, 1);
	CHECK(fake_used(&f, 0, NULL, NULL));
	for (int i = 0; i < 100; i++)
		echo_once(&f, 1, 1, i & 1);
	fake_done(&f);
}

TEST_MAIN()
