/* SPDX-License-Identifier: MIT */
/* virtio-scsi against a driver that behaves, and against drivers that do not. */
#include "vmm/virtio/scsi.h"

#include "lib/base/test.h"
#include "lib/base/le.h"
#include "vmm/scsi/blk-mem.h"
#include "vmm/virtio/fake-driver.h"

enum { BS = 512, CMD = 51, RESP = 108 };

static struct fake f;
static struct scsi_target *t;
static struct blk_mem *m;

static struct virtio_dev *device(void)
{
	struct virtio_dev *v;

	if (virtio_scsi_new(&v, f.gm, t, 2) < 0)
		abort();
	return v;
}

static void setup(void)
{
	fake_init(&f);
	m = blk_mem_new(1 << 20, BS);
	if (scsi_target_new(&t) < 0 ||
		scsi_attach(t, 0, &m->blk, &(struct scsi_disk_config){.serial = "x"}) < 0)
		abort();
	fake_attach(&f, device(), NULL);
	if (!fake_start(&f, FAKE_ALL))
		abort();
}

static void teardown(void)
{
	fake_done(&f);
	scsi_target_free(t);
}

struct cmd {
	gpa_t req, resp, data;
	uint16_t head;
	uint32_t len;
};

/* Queues a command for LUN lun with n data bytes in (or out); the data are in two pieces, the second with the rest. */
static struct cmd queue_cmd(
	unsigned q, unsigned lun, const uint8_t *cdb, uint32_t n, bool out, uint64_t tag)
{
	struct cmd c = {fake_alloc(&f, CMD), fake_alloc(&f, RESP), fake_alloc(&f, n + 1), 0, n};
	uint8_t *p = fake_ptr(&f, c.req, CMD);
	struct fake_buf b[4] = {{c.req, CMD, false}};
	unsigned k = 1;

	p[0] = 1;
	p[2] = 0x40;
	p[3] = lun;
	le64_put(p + 8, tag);
	memcpy(p + 19, cdb, 16);
	memset(fake_ptr(&f, c.resp, RESP), 0xee, RESP);
	if (n && out)
		b[k++] = (struct fake_buf){c.data, n, false};
	b[k++] = (struct fake_buf){c.resp, RESP, true};
	if (n && !out) {
		b[k++] = (struct fake_buf){c.data, n / 3, true};
		b[k++] = (struct fake_buf){c.data + n / 3, n - n / 3, true};
	}
	c.head = fake_add(&f, q, b, k, tag & 1);
	return c;
}
#define CDB(...)                                                                                   \
	(const uint8_t[16])                                                                        \
	{                                                                                          \
		__VA_ARGS__                                                                        \
	}

static uint8_t response(const struct cmd *c)
{
	return *(uint8_t *)fake_ptr(&f, c->resp + 11, 1);
}

static uint8_t status(const struct cmd *c)
{
	return *(uint8_t *)fake_ptr(&f, c->resp + 10, 1);
}

static uint32_t sense(const struct cmd *c)
{
	const uint8_t *p = fake_ptr(&f, c->resp + 12, 18);

	return le32_get(fake_ptr(&f, c->resp, 4)) == 18 ? p[2] << 16 | p[12] << 8 | p[13] : 0;
}

static uint32_t used(unsigned q, const struct cmd *c)
{
	uint32_t head = ~0u, len = 0;

	CHECK(fake_used(&f, q, &head, &len));
	CHECK_EQ(head, c->head);
	return len;
}

static struct cmd run(unsigned lun, const uint8_t *cdb, uint32_t n)
{
	struct cmd c = queue_cmd(2, lun, cdb, n, false, 0);

	fake_kick(&f, 2);
	used(2, &c);
	return c;
}

TEST(reads_and_writes)
{
	struct cmd c;

	setup();
	c = run(0, CDB(0), 0);
	CHECK_EQ(response(&c), 0);
	CHECK_EQ(status(&c), 2);
	CHECK_EQ(sense(&c), 0x062901);
	c = queue_cmd(3, 0, CDB(0x2a, 0, 0, 0, 0, 3, 0, 0, 2), 2 * BS, true, 1);
	for (unsigned i = 0; i < 2 * BS; i++)
		*(uint8_t *)fake_ptr(&f, c.data + i, 1) = (uint8_t)(i * 5);
	fake_kick(&f, 3);
	CHECK_EQ(used(3, &c), RESP);
	CHECK_EQ(response(&c), 0);
	CHECK_EQ(status(&c), 0);
	CHECK_EQ(m->data[3 * BS + 7], 35);
	/* A longer buffer than the transfer: residual, and only that much written. */
	c = queue_cmd(3, 0, CDB(0x28, 0, 0, 0, 0, 3, 0, 0, 2), 3 * BS, false, 2);
	fake_kick(&f, 3);
	CHECK_EQ(used(3, &c), RESP + 2 * BS);
	CHECK_EQ(le32_get(fake_ptr(&f, c.resp + 4, 4)), BS);
	CHECK(!memcmp(fake_ptr(&f, c.data, 2 * BS), m->data + 3 * BS, 2 * BS));
	/* A shorter one. */
	c = queue_cmd(3, 0, CDB(0x28, 0, 0, 0, 0, 3, 0, 0, 2), BS, false, 2);
	fake_kick(&f, 3);
	CHECK_EQ(used(3, &c), RESP);
	CHECK_EQ(response(&c), 1);
	CHECK(f.irqs[3]);
	teardown();
}

TEST(addresses)
{
	struct cmd c;
	uint8_t *p;

	setup();
	/* No such LUN: the target says so; no such target: the transport does. */
	c = run(5, CDB(0), 0);
	CHECK_EQ(response(&c), 0);
	CHECK_EQ(sense(&c), 0x052500);
	for (unsigned i = 0; i < 3; i++) {
		c = queue_cmd(2, 0, CDB(0x12, 0, 0, 0, 36), 36, false, 0);
		p = fake_ptr(&f, c.req, CMD);
		p[i] = i == 2 ? 0x80 : i == 1 ? 1 : 2;
		fake_kick(&f, 2);
		CHECK_EQ(used(2, &c), RESP);
		CHECK_EQ(response(&c), 3);
	}
	/* REPORT LUNS through its well-known unit. */
	c = queue_cmd(2, 0, CDB(0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 64), 64, false, 0);
	p = fake_ptr(&f, c.req, CMD);
	memcpy(p, "\xc1\x01\0\0", 4);
	fake_kick(&f, 2);
	CHECK_EQ(used(2, &c), RESP + 16);
	CHECK_EQ(be32_get(fake_ptr(&f, c.data, 4)), 8);
	teardown();
}

TEST(requests_that_pend)
{
	struct cmd a, b;

	setup();
	run(0, CDB(0), 0);
	m->hold[BLK_FLUSH] = true;
	a = queue_cmd(2, 0, CDB(0x35), 0, false, 0);
	fake_kick(&f, 2);
	b = queue_cmd(2, 0, CDB(0x28, 0, 0, 0, 0, 0, 0, 0, 1), BS, false, 0);
	fake_kick(&f, 2);
	used(2, &b); /* does not wait for the flush */
	CHECK(blk_mem_complete(m));
	used(2, &a);
	CHECK_EQ(response(&a), 0);
	CHECK_EQ(status(&a), 0);
	teardown();
}

/* More flushes than the pool has requests: the rest runs as they complete. */
TEST(pool_runs_dry)
{
	struct cmd c[200];
	unsigned n = 0;
	uint32_t head, len;

	setup();
	run(0, CDB(0), 0);
	m->hold[BLK_FLUSH] = true;
	for (unsigned i = 0; i < 200; i++)
		c[i] = queue_cmd(2, 0, CDB(0x35), 0, false, 1); /* indirect: one descriptor each */
	fake_kick(&f, 2);
	while (blk_mem_complete(m))
		fake_settle(&f);
	while (fake_used(&f, 2, &head, &len))
		n++;
	CHECK_EQ(n, 200);
	CHECK_EQ(m->count[BLK_FLUSH], 200);
	CHECK_EQ(response(&c[199]), 0);
	teardown();
}

struct ctl {
	gpa_t req, resp;
	uint16_t head;
};

static struct ctl queue_tmf(uint32_t subtype, unsigned lun, uint64_t tag)
{
	struct ctl k = {fake_alloc(&f, 24), fake_alloc(&f, 1), 0};
	uint8_t *p = fake_ptr(&f, k.req, 24);

	le32_put(p + 4, subtype);
	p[8] = 1;
	p[11] = lun;
	le64_put(p + 16, tag);
	*(uint8_t *)fake_ptr(&f, k.resp, 1) = 0xee;
	k.head = fake_add(
		&f, 0, (struct fake_buf[]){{k.req, 24, false}, {k.resp, 1, true}}, 2, false);
	fake_kick(&f, 0);
	return k;
}

static int tmf_used(const struct ctl *k)
{
	uint32_t head, len;

	if (!fake_used(&f, 0, &head, &len))
		return -1;
	CHECK_EQ(head, k->head);
	CHECK_EQ(len, 1);
	return *(uint8_t *)fake_ptr(&f, k->resp, 1);
}

TEST(task_management)
{
	struct cmd a, b;
	struct ctl k;

	setup();
	run(0, CDB(0), 0);
	m->hold[BLK_FLUSH] = true;
	a = queue_cmd(2, 0, CDB(0x35), 0, false, 40);
	b = queue_cmd(2, 0, CDB(0x35), 0, false, 41);
	fake_kick(&f, 2);
	k = queue_tmf(6, 0, 41);
	CHECK_EQ(tmf_used(&k), 10);
	k = queue_tmf(0, 0, 41); /* abort b: answered once b is over */
	CHECK_EQ(tmf_used(&k), -1);
	CHECK(blk_mem_complete(m));
	used(2, &a);
	CHECK_EQ(response(&a), 0);
	CHECK_EQ(tmf_used(&k), -1);
	CHECK(blk_mem_complete(m));
	used(2, &b);
	CHECK_EQ(response(&b), 2);
	CHECK_EQ(tmf_used(&k), 0);
	k = queue_tmf(0, 0, 41); /* nothing to abort */
	CHECK_EQ(tmf_used(&k), 0);
	a = queue_cmd(2, 0, CDB(0x35), 0, false, 1);
	fake_kick(&f, 2);
	k = queue_tmf(5, 0, 0);
	CHECK_EQ(tmf_used(&k), -1);
	CHECK(blk_mem_complete(m));
	used(2, &a);
	CHECK_EQ(response(&a), 4);
	CHECK_EQ(tmf_used(&k), 0);
	k = queue_tmf(5, 7, 0);
	CHECK_EQ(tmf_used(&k), 12);
	k = queue_tmf(2, 0, 0);
	CHECK_EQ(tmf_used(&k), 11);
	k = queue_tmf(99, 0, 0);
	CHECK_EQ(tmf_used(&k), 11);
	a = run(0, CDB(0), 0);
	CHECK_EQ(sense(&a), 0x062903);
	teardown();
}

static gpa_t queue_event(uint32_t len)
{
	gpa_t g = fake_alloc(&f, 16);

	fake_add(&f, 1, &(struct fake_buf){g, len, true}, 1, false);
	fake_notify(&f, 1);
	return g;
}

static void check_event(gpa_t g, uint32_t event, unsigned lun, uint32_t reason)
{
	const uint8_t *p = fake_ptr(&f, g, 16);
	uint32_t head, len;

	REQUIRE(fake_used(&f, 1, &head, &len));
	CHECK_EQ(len, 16);
	CHECK_EQ(le32_get(p), event);
	CHECK_EQ(be16_get(p + 6), lun);
	CHECK_EQ(le32_get(p + 12), reason);
}

static void attach(unsigned lun)
{
	struct blk_mem *n = blk_mem_new(1 << 16, BS);

	CHECK_EQ(scsi_attach(t, lun, &n->blk, &(struct scsi_disk_config){.serial = "y"}), 0);
}

TEST(hot_plug)
{
	gpa_t g;

	setup();
	g = queue_event(16);
	attach(3);
	check_event(g, 1, 3, 1);
	/* Without a buffer events wait, in order; with one each, they come. */
	CHECK_EQ(scsi_detach(t, 3), 0);
	m->blk.geo.size *= 2; /* (never touched) */
	CHECK_EQ(scsi_resized(t, 0), 0);
	g = queue_event(16);
	check_event(g, 1, 3, 2);
	g = queue_event(16);
	check_event(g, 3, 0, 0x092a);
	/* Far too many: the driver learns that it missed some. */
	for (unsigned i = 0; i < 40; i++) {
		attach(9);
		scsi_detach(t, 9);
	}
	g = queue_event(16);
	check_event(g, 0x80000001, 9, 1);
	for (unsigned i = 1; i < 64; i++) {
		g = queue_event(16);
		check_event(g, 1, 9, i % 2 ? 2 : 1);
	}
	g = queue_event(16);
	CHECK(!(f.v->status & VIRTIO_ST_NEEDS_RESET));
	attach(4);
	check_event(g, 1, 4, 1);
	queue_event(8);
	attach(5);
	CHECK(f.v->status & VIRTIO_ST_NEEDS_RESET);
	teardown();
}

TEST(no_events_unless_agreed)
{
	gpa_t g;

	setup();
	fake_reset(&f);
	REQUIRE(fake_start(&f, ~6ull));
	g = queue_event(16);
	attach(3);
	CHECK_EQ(le32_get(fake_ptr(&f, g, 4)), 0);
	teardown();
}

TEST(config)
{
	uint8_t cfg[40];
	struct cmd c;

	setup();
	memset(cfg, 0xee, sizeof(cfg));
	f.v->ops->config_read(f.v, 0, cfg, sizeof(cfg));
	CHECK_EQ(le32_get(cfg), 2);
	CHECK_EQ(le32_get(cfg + 20), 96);
	CHECK_EQ(le32_get(cfg + 24), 32);
	CHECK_EQ(le32_get(cfg + 32), 255);
	CHECK_EQ(cfg[39], 0);
	f.v->ops->config_read(f.v, 0xfffffff0, cfg, 4);
	CHECK_EQ(le32_get(cfg), 0);
	/* A small sense buffer cuts the sense; absurd sizes are ignored. */
	le32_put(cfg, 8);
	f.v->ops->config_write(f.v, 20, cfg, 4);
	le32_put(cfg, 100000);
	f.v->ops->config_write(f.v, 24, cfg, 4);
	f.v->ops->config_write(f.v, 20, cfg, 2);
	c = queue_cmd(2, 0, CDB(0), 0, false, 0);
	fake_kick(&f, 2);
	CHECK_EQ(used(2, &c), 12 + 8);
	CHECK_EQ(le32_get(fake_ptr(&f, c.resp, 4)), 8);
	CHECK_EQ(*(uint8_t *)fake_ptr(&f, c.resp + 20, 1), 0xee);
	teardown();
}

TEST(short_requests_break_the_device)
{
	setup();
	fake_add(&f, 2,
		(struct fake_buf[]){
			{fake_alloc(&f, 64), 50, false}, {fake_alloc(&f, 128), RESP, true}},
		2, false);
	fake_kick(&f, 2);
	CHECK(f.v->status & VIRTIO_ST_NEEDS_RESET);
	fake_reset(&f);
	REQUIRE(fake_start(&f, FAKE_ALL));
	fake_add(&f, 2,
		(struct fake_buf[]){
			{fake_alloc(&f, 64), CMD, false}, {fake_alloc(&f, 128), 107, true}},
		2, false);
	fake_kick(&f, 2);
	CHECK(f.v->status & VIRTIO_ST_NEEDS_RESET);
	fake_reset(&f);
	REQUIRE(fake_start(&f, FAKE_ALL));
	fake_add(&f, 0,
		(struct fake_buf[]){
			{fake_alloc(&f, 64), 23, false}, {fake_alloc(&f, 128), 1, true}},
		2, false);
	fake_kick(&f, 0);
	CHECK(f.v->status & VIRTIO_ST_NEEDS_RESET);
	fake_reset(&f);
	REQUIRE(fake_start(&f, FAKE_ALL));
	struct cmd c = run(0, CDB(0), 0);
	CHECK_EQ(sense(&c), 0x062901);
	teardown();
}

TEST(data_both_ways_is_refused)
{
	gpa_t req, resp;

	setup();
	req = fake_alloc(&f, CMD + 10);
	resp = fake_alloc(&f, RESP + 10);
	*(uint8_t *)fake_ptr(&f, req, 1) = 1;
	fake_add(&f, 2, (struct fake_buf[]){{req, CMD + 10, false}, {resp, RESP + 10, true}}, 2,
		false);
	fake_kick(&f, 2);
	CHECK_EQ(*(uint8_t *)fake_ptr(&f, resp + 11, 1), 9);
	teardown();
}

/* Guest memory is not written and the device is not done with its reset before the request is. */
TEST(reset_waits_for_requests)
{
	struct cmd a;

	setup();
	run(0, CDB(0), 0);
	m->hold[BLK_FLUSH] = true;
	a = queue_cmd(2, 0, CDB(0x35), 0, false, 0);
	fake_kick(&f, 2);
	os_mutex_lock(&f.lock);
	virtio_set_status(f.v, 0);
	CHECK(f.v->status != 0);
	os_mutex_unlock(&f.lock);
	CHECK(blk_mem_complete(m));
	CHECK_EQ(f.v->status, 0);
	CHECK_EQ(response(&a), 0xee);
	teardown();
}

TEST(save_and_load)
{
	struct cmd a, c;

	setup();
	run(0, CDB(0), 0);
	CHECK_EQ(scsi_resized(t, 0), 0); /* leaves an attention and an event */
	m->hold[BLK_FLUSH] = true;
	a = queue_cmd(2, 0, CDB(0), 0, false, 0);
	fake_kick(&f, 2);
	used(2, &a);
	CHECK_EQ(sense(&a), 0x062a09);
	a = queue_cmd(2, 0, CDB(0x35), 0, false, 0);
	fake_kick(&f, 2);
	CHECK_EQ(scsi_resized(t, 0), 0);
	fake_want_irq(&f, 2, true);
	CHECK_EQ(fake_migrate(&f, device()), 0);
	CHECK(f.irqs[2] > 0); /* drained while it was saved: an interrupt that nobody had */
	f.irqs[2] = 0;
	c = queue_cmd(2, 0, CDB(0), 0, false, 0); /* before the driver has looked */
	fake_kick(&f, 2);
	CHECK(f.irqs[2] > 0);
	used(2, &a);
	CHECK_EQ(response(&a), 0);
	used(2, &c);
	CHECK_EQ(sense(&c), 0x062a09);
	check_event(queue_event(16), 3, 0, 0x092a);
	check_event(queue_event(16), 3, 0, 0x092a);
	teardown();
}

TEST_MAIN()
