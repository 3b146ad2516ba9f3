/* SPDX-License-Identifier: MIT */
/* The vsock core between a guest made of packets and a host end that does as it is told. */
#include "lib/base/test.h"
#include <errno.h>
#include "vmm/virtio/fake-vsock.h"

/* One host end. in: what recv() gives; out: what send() took. */
struct end {
	bool open;
	struct vsock_conn *c;
	uint32_t port;
	const uint8_t *in;
	size_t in_len;
	bool eof, broken;
	uint8_t out[1 << 20];
	size_t out_len, out_room; /* out_room: bytes until EAGAIN */
	bool rd_shut, wr_shut, established;
};

static struct end ends[8];
static int connect_result = 1;
static unsigned closes;

static int t_connect(void *ctx, struct vsock_conn *c, uint32_t port, void **ret_peer)
{
	for (unsigned i = 0; i < ARRAY_LEN(ends); i++) {
		if (ends[i].open)
			continue;
		if (connect_result < 0)
			return connect_result;
		memset(&ends[i], 0, sizeof(ends[i]));
		ends[i].open = true;
		ends[i].c = c;
		ends[i].port = port;
		ends[i].out_room = sizeof(ends[i].out);
		*ret_peer = &ends[i];
		return connect_result;
	}
	return -ENOSPC;
}

static bool t_established(void *ctx, void *peer, uint32_t host_port)
{
	((struct end *)peer)->established = true;
	return true;
}

static ssize_t t_recv(void *ctx, void *peer, const struct iovec *iov, unsigned n)
{
	struct end *e = peer;
	size_t total = 0;

	if (e->broken)
		return -ECONNRESET;
	for (unsigned i = 0; i < n && e->in_len; i++) {
		size_t part = MIN(iov[i].iov_len, e->in_len);

		memcpy(iov[i].iov_base, e->in, part);
		e->in += part;
		e->in_len -= part;
		total += part;
	}
	return total ? (ssize_t)total : e->eof ? 0 : -EAGAIN;
}

static ssize_t t_send(void *ctx, void *peer, const struct iovec *iov, unsigned n)
{
	struct end *e = peer;
	size_t total = 0;

	if (e->broken)
		return -EPIPE;
	for (unsigned i = 0; i < n; i++) {
		size_t part = MIN(iov[i].iov_len, MIN(e->out_room, sizeof(e->out) - e->out_len));

		memcpy(e->out + e->out_len, iov[i].iov_base, part);
		e->out_len += part;
		e->out_room -= part;
		total += part;
	}
	return total ? (ssize_t)total : -EAGAIN;
}

static void t_shutdown(void *ctx, void *peer, bool rd, bool wr)
{
	struct end *e = peer;

	e->rd_shut |= rd;
	e->wr_shut |= wr;
}

static void t_close(void *ctx, void *peer)
{
	struct end *e = peer;

	CHECK(e->open);
	e->open = false;
	closes++;
}

static void t_free(void *ctx)
{
	for (unsigned i = 0; i < ARRAY_LEN(ends); i++)
		CHECK(!ends[i].open);
}

static const struct vsock_back_ops t_ops = {
	t_connect, t_established, t_recv, t_send, t_shutdown, t_close, t_free};

static void setup(struct fake_vsock *g, unsigned rx_bufs)
{
	memset(ends, 0, sizeof(ends));
	connect_result = 1;
	closes = 0;
	fv_init(g, NULL, rx_bufs, 4096 + FV_HDR);
	vsock_set_back(g->vs, &t_ops, NULL);
}

static void pump(struct fake_vsock *g)
{
	OS_GUARD(&g->f.lock);
	vsock_pump(g->vs);
}

/* The next packet must be this one. */
static struct fv_pkt expect(
	struct fake_vsock *g, uint16_t op, uint32_t host_port, uint32_t guest_port)
{
	struct fv_pkt p = {0};

	pump(g);
	CHECK(fv_recv(g, &p));
	CHECK_EQ(p.op, op);
	CHECK_EQ(p.src_port, host_port);
	CHECK_EQ(p.dst_port, guest_port);
	CHECK_EQ(p.dst_cid, VSOCK_CID_GUEST);
	CHECK_EQ(p.type, 1);
	return p;
}

static void expect_nothing(struct fake_vsock *g)
{
	struct fv_pkt p;

	pump(g);
	if (fv_recv(g, &p)) {
		printf("# packet op %u %u->%u\n", p.op, p.src_port, p.dst_port);
		CHECK(!"nothing more");
	}
}

static struct end *connected(struct fake_vsock *g, uint32_t guest_port, uint32_t host_port)
{
	CHECK(fv_op(g, FV_REQUEST, guest_port, host_port, 0, NULL, 0, 0));
	expect(g, FV_RESPONSE, host_port, guest_port);
	for (unsigned i = 0; i < ARRAY_LEN(ends); i++)
		if (ends[i].open && ends[i].port == host_port)
			return &ends[i];
	abort();
}

static uint8_t pattern[1 << 20];

static void fill_pattern(void)
{
	for (size_t i = 0; i < sizeof(pattern); i++)
		pattern[i] = (uint8_t)((i * 2654435761u) >> 13);
}

TEST(the_guest_connects_talks_and_closes)
{
	struct fake_vsock g;
	struct end *e;
	struct fv_pkt p;

	setup(&g, FV_RX_BUFS);
	e = connected(&g, 1000, 50000);
	CHECK(fv_op(&g, FV_RW, 1000, 50000, 0, "hello", 5, 0));
	CHECK_EQ(e->out_len, 5);
	CHECK(!memcmp(e->out, "hello", 5));
	e->in = (const uint8_t *)"world!";
	e->in_len = 6;
	vsock_readable(e->c);
	p = expect(&g, FV_RW, 50000, 1000);
	CHECK_EQ(p.len, 6);
	CHECK(!memcmp(p.data, "world!", 6));
	CHECK_EQ(p.fwd_cnt, 5);
	CHECK_EQ(p.buf_alloc, VSOCK_BUF);
	CHECK(fv_op(&g, FV_SHUTDOWN, 1000, 50000, FV_SHUT_BOTH, NULL, 0, 6));
	expect(&g, FV_RST, 50000, 1000);
	CHECK(!e->open);
	CHECK_EQ(vsock_count(g.vs), 0);
	expect_nothing(&g);
	fv_done(&g);
}

TEST(the_host_connects)
{
	struct fake_vsock g;
	struct vsock_conn *c;
	struct fv_pkt p = {0};

	setup(&g, FV_RX_BUFS);
	ends[0].open = true;
	ends[0].in = (const uint8_t *)"early";
	ends[0].in_len = 5;
	ends[0].out_room = 100;
	REQUIRE(vsock_open(g.vs, 7777, &ends[0], &c) == 0);
	pump(&g);
	REQUIRE(fv_recv(&g, &p));
	CHECK_EQ(p.op, FV_REQUEST);
	CHECK_EQ(p.dst_port, 7777);
	CHECK(p.src_port >= 1u << 30);
	CHECK(!ends[0].established);
	expect_nothing(&g); /* what the host sent waits for the answer */
	CHECK(fv_op(&g, FV_RESPONSE, 7777, p.src_port, 0, NULL, 0, 0));
	CHECK(ends[0].established);
	p = expect(&g, FV_RW, p.src_port, 7777);
	CHECK_EQ(p.len, 5);
	fv_done(&g);
}

TEST(refusals_both_ways)
{
	struct fake_vsock g;
	struct vsock_conn *c;
	struct fv_pkt p = {0};

	setup(&g, FV_RX_BUFS);
	connect_result = -ENOENT;
	CHECK(fv_op(&g, FV_REQUEST, 1000, 50000, 0, NULL, 0, 0));
	expect(&g, FV_RST, 50000, 1000);
	CHECK_EQ(vsock_count(g.vs), 0);

	connect_result = 0; /* later */
	CHECK(fv_op(&g, FV_REQUEST, 1001, 50000, 0, NULL, 0, 0));
	expect_nothing(&g);
	c = ends[0].c;
	ends[0].open = false;
	vsock_refused(c);
	expect(&g, FV_RST, 50000, 1001);
	CHECK(fv_op(&g, FV_REQUEST, 1002, 50000, 0, NULL, 0, 0));
	vsock_connected(ends[0].c);
	expect(&g, FV_RESPONSE, 50000, 1002);

	ends[1].open = true;
	REQUIRE(vsock_open(g.vs, 7777, &ends[1], &c) == 0);
	pump(&g);
	REQUIRE(fv_recv(&g, &p));
	CHECK(fv_op(&g, FV_RST, 7777, p.src_port, 0, NULL, 0, 0));
	CHECK(!ends[1].open);
	CHECK(!ends[1].established);
	CHECK_EQ(vsock_count(g.vs), 1);
	fv_done(&g);
}

TEST(half_close_from_the_guest)
{
	struct fake_vsock g;
	struct end *e;

	setup(&g, FV_RX_BUFS);
	e = connected(&g, 1, 2);
	CHECK(fv_op(&g, FV_RW, 1, 2, 0, "abc", 3, 0));
	CHECK(fv_op(&g, FV_SHUTDOWN, 1, 2, FV_SHUT_SEND, NULL, 0, 0));
	CHECK(e->wr_shut);
	CHECK(!e->rd_shut);
	CHECK(e->open);
	/* The other direction still works. */
	e->in = (const uint8_t *)"answer";
	e->in_len = 6;
	e->eof = true;
	vsock_readable(e->c);
	CHECK_EQ(expect(&g, FV_RW, 2, 1).len, 6);
	CHECK_EQ(expect(&g, FV_SHUTDOWN, 2, 1).flags, FV_SHUT_SEND);
	CHECK(e->open);
	CHECK(fv_op(&g, FV_SHUTDOWN, 1, 2, FV_SHUT_BOTH, NULL, 0, 6));
	expect(&g, FV_RST, 2, 1);
	CHECK(!e->open);

	e = connected(&g, 3, 4);
	CHECK(fv_op(&g, FV_SHUTDOWN, 3, 4, FV_SHUT_RCV, NULL, 0, 0));
	CHECK(e->rd_shut);
	CHECK(!e->wr_shut);
	CHECK(fv_op(&g, FV_RW, 3, 4, 0, "more", 4, 0));
	CHECK_EQ(e->out_len, 4);
	fv_done(&g);
}

TEST(half_close_from_the_host)
{
	struct fake_vsock g;
	struct end *e;

	setup(&g, FV_RX_BUFS);
	e = connected(&g, 1, 2);
	e->eof = true;
	vsock_readable(e->c);
	CHECK_EQ(expect(&g, FV_SHUTDOWN, 2, 1).flags, FV_SHUT_SEND);
	CHECK(fv_op(&g, FV_RW, 1, 2, 0, "abc", 3, 0));
	CHECK_EQ(e->out_len, 3);
	/* Then it closes for good. */
	vsock_hangup(e->c);
	CHECK_EQ(expect(&g, FV_SHUTDOWN, 2, 1).flags, FV_SHUT_BOTH);
	CHECK(!e->open);
	CHECK_EQ(vsock_count(g.vs), 1); /* until the guest agrees */
	CHECK(fv_op(&g, FV_RW, 1, 2, 0, "late", 4, 0));
	expect_nothing(&g);
	CHECK(fv_op(&g, FV_RST, 1, 2, 0, NULL, 0, 0));
	CHECK_EQ(vsock_count(g.vs), 0);

	/* A host end that reads no more, noticed when writing. */
	e = connected(&g, 1, 2);
	e->broken = true;
	CHECK(fv_op(&g, FV_RW, 1, 2, 0, "x", 1, 0));
	expect(&g, FV_SHUTDOWN, 2, 1);
	fv_done(&g);
}

TEST(what_the_host_sent_before_closing_arrives)
{
	struct fake_vsock g;
	struct fv_pkt p;
	struct end *e;
	size_t got = 0;
	uint32_t flags = 0;

	fill_pattern();
	setup(&g, FV_RX_BUFS);
	e = connected(&g, 1, 2);
	e->in = pattern;
	e->in_len = 200000;
	e->eof = true;
	vsock_hangup(e->c);
	vsock_readable(e->c);
	pump(&g);
	while (fv_recv(&g, &p)) {
		if (p.op == FV_RW) {
			CHECK(!memcmp(p.data, pattern + got, p.len));
			CHECK_EQ(flags & FV_SHUT_SEND, 0);
			got += p.len;
		} else if (p.op == FV_SHUTDOWN) {
			flags |= p.flags;
		}
	}
	CHECK_EQ(got, 200000);
	CHECK_EQ(flags, FV_SHUT_BOTH);
	CHECK(!e->open);
	fv_done(&g);
}

TEST(the_guest_s_credit_is_respected)
{
	struct fake_vsock g;
	struct fv_pkt p;
	struct end *e;
	uint32_t got = 0;

	fill_pattern();
	setup(&g, FV_RX_BUFS);
	e = connected(&g, 1, 2);
	e->in = pattern;
	e->in_len = sizeof(pattern);
	vsock_readable(e->c);
	pump(&g);
	for (unsigned round = 1; round <= 4; round++) {
		while (fv_recv(&g, &p)) {
			CHECK_EQ(p.op, FV_RW);
			CHECK(!memcmp(p.data, pattern + got, p.len));
			got += p.len;
		}
		CHECK_EQ(got, round * (256u << 10));
		CHECK(fv_op(&g, FV_CREDIT_UPDATE, 1, 2, 0, NULL, 0, got));
	}
	expect_nothing(&g);
	/* Absurd credit: nothing but less, or more, data. */
	struct fv_pkt odd = {.src_cid = 3,
		.dst_cid = 2,
		.src_port = 1,
		.dst_port = 2,
		.type = 1,
		.op = FV_CREDIT_UPDATE,
		.buf_alloc = UINT32_MAX,
		.fwd_cnt = got + 1000000};
	CHECK(fv_send(&g, &odd, NULL));
	e->in = pattern;
	e->in_len = 100;
	vsock_readable(e->c);
	pump(&g);
	while (fv_recv(&g, &p))
		;
	fv_done(&g);
}

TEST(a_full_host_end_buffers_up_to_the_credit)
{
	struct fake_vsock g;
	struct fv_pkt p;
	struct end *e;
	uint32_t sent = 0;
	bool credit = false;

	fill_pattern();
	setup(&g, FV_RX_BUFS);
	e = connected(&g, 1, 2);
	e->out_room = 1000;
	for (; sent < VSOCK_BUF; sent += 32768)
		CHECK(fv_op(&g, FV_RW, 1, 2, 0, pattern + sent, 32768, 0));
	CHECK_EQ(e->out_len, 1000);
	CHECK(vsock_waits_for_host(e->c));
	/* 1000 went through, so 1000 more may come. */
	CHECK(fv_op(&g, FV_RW, 1, 2, 0, pattern + sent, 1000, 0));
	sent += 1000;
	expect_nothing(&g);
	for (int i = 0; i < 300 && e->out_len < sent; i++) {
		e->out_room = 3333;
		vsock_writable(e->c);
		pump(&g);
		while (fv_recv(&g, &p)) {
			CHECK_EQ(p.op, FV_CREDIT_UPDATE);
			CHECK_EQ(p.fwd_cnt, e->out_len);
			credit = true;
		}
	}
	CHECK(credit);
	CHECK_EQ(e->out_len, sent);
	CHECK(!memcmp(e->out, pattern, sent));
	CHECK(!vsock_waits_for_host(e->c));
	/* Half-close behind buffered bytes comes after them. */
	e->out_room = 0;
	CHECK(fv_op(&g, FV_RW, 1, 2, 0, "tail", 4, 0));
	CHECK(fv_op(&g, FV_SHUTDOWN, 1, 2, FV_SHUT_SEND, NULL, 0, 0));
	CHECK(!e->wr_shut);
	e->out_room = 100;
	vsock_writable(e->c);
	CHECK(e->wr_shut);
	CHECK(!memcmp(e->out + sent, "tail", 4));
	fv_done(&g);
}

TEST(bytes_buffered_when_the_guest_leaves_are_delivered)
{
	for (int rst = 0; rst < 2; rst++) {
		struct fake_vsock g;
		struct end *e;

		setup(&g, FV_RX_BUFS);
		e = connected(&g, 1, 2);
		e->out_room = 0;
		CHECK(fv_op(&g, FV_RW, 1, 2, 0, "precious", 8, 0));
		CHECK(fv_op(&g, FV_SHUTDOWN, 1, 2, FV_SHUT_BOTH, NULL, 0, 0));
		expect_nothing(&g); /* no RST before the bytes are out */
		if (rst) {
			CHECK(fv_op(&g, FV_RST, 1, 2, 0, NULL, 0, 0));
			/* The ports are free for the guest again. */
			connected(&g, 1, 3);
		}
		e->out_room = 100;
		vsock_writable(e->c);
		CHECK_EQ(e->out_len, 8);
		CHECK(!e->open);
		if (!rst)
			expect(&g, FV_RST, 2, 1);
		else
			expect_nothing(&g);
		fv_done(&g);
	}
}

TEST(more_than_the_credit_is_a_reset)
{
	struct fake_vsock g;
	struct end *e;

	fill_pattern();
	setup(&g, FV_RX_BUFS);
	e = connected(&g, 1, 2);
	e->out_room = 0;
	for (uint32_t sent = 0; sent < VSOCK_BUF; sent += 65536)
		CHECK(fv_op(&g, FV_RW, 1, 2, 0, pattern, 65536, 0));
	CHECK(e->open);
	CHECK(fv_op(&g, FV_RW, 1, 2, 0, "x", 1, 0));
	CHECK(!e->open);
	expect(&g, FV_RST, 2, 1);
	CHECK_EQ(vsock_count(g.vs), 0);
	CHECK(virtio_live(vsock_dev(g.vs)));
	fv_done(&g);
}

TEST(bad_packets_are_answered_with_rst)
{
	struct fake_vsock g;
	struct fv_pkt good = {.src_cid = 3,
		.dst_cid = 2,
		.src_port = 9,
		.dst_port = 10,
		.type = 1,
		.op = FV_REQUEST,
		.buf_alloc = 1000};
	struct fv_pkt p, q = {0};

	setup(&g, FV_RX_BUFS);
	p = good;
	p.type = 2;
	CHECK(fv_send(&g, &p, NULL));
	expect(&g, FV_RST, 10, 9);
	p = good;
	p.src_cid = 4;
	CHECK(fv_send(&g, &p, NULL));
	expect(&g, FV_RST, 10, 9);
	p = good;
	p.dst_cid = 77;
	CHECK(fv_send(&g, &p, NULL));
	CHECK_EQ(expect(&g, FV_RST, 10, 9).src_cid, 77);
	p = good;
	p.len = 100; /* with no payload behind it */
	CHECK(fv_send(&g, &p, NULL));
	expect(&g, FV_RST, 10, 9);
	for (uint16_t op = FV_RESPONSE; op <= 9; op++) {
		p = good;
		p.op = op;
		CHECK(fv_send(&g, &p, NULL));
		if (op != FV_RST)
			expect(&g, FV_RST, 10, 9);
	}
	expect_nothing(&g); /* no RST for a RST */
	/* On a live connection nonsense ends it. */
	connected(&g, 9, 10);
	p = good;
	CHECK(fv_send(&g, &p, NULL));
	expect(&g, FV_RST, 10, 9);
	connected(&g, 9, 10);
	p = good;
	p.op = 0xffff;
	CHECK(fv_send(&g, &p, NULL));
	expect(&g, FV_RST, 10, 9);
	CHECK_EQ(vsock_count(g.vs), 0);
	CHECK_EQ(closes, 2);
	/* A runt: no header, no answer, no harm. */
	fake_add(&g.f, 1, (struct fake_buf[]){{FAKE_HEAP, 20, false}}, 1, false);
	fake_kick(&g.f, 1);
	CHECK(fake_used(&g.f, 1, NULL, NULL));
	CHECK(!fv_recv(&g, &q));
	CHECK(virtio_live(vsock_dev(g.vs)));
	fv_done(&g);
}

TEST(without_receive_buffers_everything_waits)
{
	struct fake_vsock g;
	struct fv_pkt p = {0};

	setup(&g, 0);
	CHECK(fv_op(&g, FV_REQUEST, 1, 2, 0, NULL, 0, 0));
	CHECK(!fv_recv(&g, &p));
	ends[0].in = (const uint8_t *)"abc";
	ends[0].in_len = 3;
	for (unsigned i = 0; i < 1000; i++) /* resets owed beyond a bound are dropped */
		CHECK(fv_op(&g, FV_RW, 5, 6, 0, NULL, 0, 0));
	for (unsigned i = 0; i < 100; i++)
		fv_add_rx(&g);
	unsigned rst = 0, other = 0;
	while (fv_recv(&g, &p))
		*(p.op == FV_RST ? &rst : &other) += 1;
	CHECK_EQ(rst, 64);
	CHECK_EQ(other, 2); /* RESPONSE, RW */
	CHECK_EQ(ends[0].in_len, 0);
	fv_done(&g);
}

TEST(receive_buffers_of_any_size)
{
	static const unsigned sizes[] = {45, 64, 4096 + 44, 65536 + 44};

	fill_pattern();
	for (unsigned s = 0; s < ARRAY_LEN(sizes); s++) {
		struct fake_vsock g;
		struct fv_pkt p = {0};
		size_t got = 0, want = sizes[s] < 100 ? 3000 : 200000;
		struct end *e;

		memset(ends, 0, sizeof(ends));
		fv_init(&g, NULL, 16, sizes[s]);
		vsock_set_back(g.vs, &t_ops, NULL);
		e = connected(&g, 1, 2);
		e->in = pattern;
		e->in_len = want;
		vsock_readable(e->c);
		pump(&g);
		while (fv_recv(&g, &p)) {
			CHECK(!memcmp(p.data, pattern + got, p.len));
			got += p.len;
		}
		CHECK_EQ(got, want);
		fv_done(&g);
	}
}

TEST(a_receive_buffer_without_room_stops_the_device)
{
	struct fake_vsock g;

	setup(&g, 0);
	g.rx_len = FV_HDR;
	CHECK(fv_op(&g, FV_REQUEST, 1, 2, 0, NULL, 0, 0));
	fake_add(&g.f, 0, (struct fake_buf[]){{FAKE_HEAP, 10, true}}, 1, false);
	fake_kick(&g.f, 0);
	CHECK(!virtio_live(vsock_dev(g.vs)));
	fv_done(&g);
}

TEST(many_connections_share_the_queue_and_the_table)
{
	struct fake_vsock g;
	struct fv_pkt p;
	unsigned opened = 0, refused = 0, seen[3] = {0};

	fill_pattern();
	setup(&g, FV_RX_BUFS);
	for (unsigned i = 0; i < 3; i++)
		connected(&g, 100 + i, 200 + i);
	for (unsigned i = 0; i < 3; i++) {
		ends[i].in = pattern;
		ends[i].in_len = 100000;
		vsock_readable(ends[i].c);
	}
	/* With 64 buffers nobody is served whole before the others get their turn. */
	pump(&g);
	for (unsigned i = 0; i < 60 && fv_recv(&g, &p); i++)
		seen[p.src_port - 200] += p.len;
	CHECK(seen[0] && seen[1] && seen[2]);
	fv_start(&g, FV_RX_BUFS);
	CHECK_EQ(closes, 3);
	CHECK_EQ(vsock_count(g.vs), 0);

	connect_result = 0;
	memset(ends, 0, sizeof(ends));
	for (uint32_t port = 0; port < VSOCK_CONNS + 100; port++) {
		ends[0].open =
			false; /* the back end forgets it: only the core's table is of interest */
		CHECK(fv_op(&g, FV_REQUEST, port, 1, 0, NULL, 0, 0));
		if (fv_recv(&g, &p))
			refused += p.op == FV_RST;
		else
			opened++;
	}
	CHECK_EQ(opened, VSOCK_CONNS);
	CHECK_EQ(refused, 100);
	for (uint32_t port = 0; port < VSOCK_CONNS + 100; port++) {
		ends[0].open = true;
		CHECK(fv_op(&g, FV_RST, port, 1, 0, NULL, 0, 0));
	}
	CHECK_EQ(vsock_count(g.vs), 0);
	ends[0].open = false;
	fv_done(&g);
}

TEST(what_nobody_answers_ends_in_time)
{
	struct fake_vsock g;
	struct vsock_conn *c;
	struct fv_pkt p = {0};
	struct end *e;

	setup(&g, FV_RX_BUFS);
	ends[0].open = true;
	REQUIRE(vsock_open(g.vs, 7777, &ends[0], &c) == 0);
	pump(&g);
	REQUIRE(fv_recv(&g, &p));
	vsock_expire(g.vs, 1);
	CHECK(ends[0].open);
	vsock_expire(g.vs, UINT64_MAX);
	CHECK(!ends[0].open);
	expect(&g, FV_RST, p.src_port, 7777);
	/* A closed connection whose guest end never says goodbye. */
	e = connected(&g, 1, 2);
	e->eof = true;
	vsock_hangup(e->c);
	expect(&g, FV_SHUTDOWN, 2, 1);
	vsock_expire(g.vs, UINT64_MAX);
	expect(&g, FV_RST, 2, 1);
	/* An open one has all the time there is. */
	connected(&g, 1, 2);
	vsock_expire(g.vs, UINT64_MAX);
	CHECK_EQ(vsock_count(g.vs), 1);
	fv_done(&g);
}

TEST(reset_and_migration_end_connections)
{
	struct fake_vsock g;
	struct vsock_conn *c;
	struct fv_pkt p = {0};
	struct vsock *into;
	gpa_t event;
	uint32_t len = 0, saved_port;

	setup(&g, FV_RX_BUFS);
	connected(&g, 1, 2);
	fv_start(&g, FV_RX_BUFS);
	CHECK_EQ(closes, 1);
	connected(&g, 1, 2);
	memset(&ends[1], 0, sizeof(ends[1]));
	ends[1].open = true;
	REQUIRE(vsock_open(g.vs, 7777, &ends[1], &c) == 0);
	pump(&g);
	REQUIRE(fv_recv(&g, &p));
	saved_port = p.src_port;
	event = fake_alloc(&g.f, 4);
	memset(fake_ptr(&g.f, event, 4), 0xff, 4);
	fake_add(&g.f, 2, (struct fake_buf[]){{event, 4, true}}, 1, false);
	fake_kick(&g.f, 2);
	REQUIRE(vsock_new(&into, g.f.gm, NULL, "vsock0", 99) == 0);
	vsock_set_back(into, &t_ops, NULL);
	CHECK_EQ(fake_migrate(&g.f, vsock_dev(into)), 0);
	g.vs = into;
	CHECK_EQ(closes, 3);
	CHECK_EQ(vsock_count(into), 0);
	/* The guest is told, its identity is kept, and it can go on. */
	CHECK(fake_used(&g.f, 2, NULL, &len));
	CHECK_EQ(len, 4);
	CHECK(!memcmp(fake_ptr(&g.f, event, 4), "\0\0\0\0", 4));
	uint8_t cid[8];
	vsock_dev(into)->ops->config_read(vsock_dev(into), 0, cid, 8);
	CHECK_EQ(cid[0], VSOCK_CID_GUEST);
	/* A connection made before the guest got to the event would be ended by it. */
	memset(&ends[0], 0, sizeof(ends[0]));
	ends[0].open = true;
	REQUIRE(vsock_open(g.vs, 7777, &ends[0], &c) == 0);
	pump(&g);
	CHECK(!fv_recv(&g, &p));
	fake_add(&g.f, 2, (struct fake_buf[]){{event, 4, true}}, 1, false);
	fake_kick(&g.f, 2);
	REQUIRE(fv_recv(&g, &p));
	CHECK_EQ(p.op, FV_REQUEST);
	/* The guest may not have closed its end of the old one yet, and would refuse the same ports. */
	CHECK(p.src_port != saved_port);
	fv_done(&g);
}

TEST_MAIN()
