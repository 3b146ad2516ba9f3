/* SPDX-License-Identifier: MIT */
/* A client beside a server that says what the test has it say. */
#include "lib/base/test.h"

#include <arpa/inet.h>
#include <time.h>
#include "netd/dhcp.h"

static const uint8_t mac[6] = {0x52, 0x57, 0x53, 1, 2, 3};

static struct {
	struct loop *l;
	uint8_t sent[DHCP_FRAME_MAX];
	size_t len;
	unsigned n_sent, n_changed;
	struct lease lease;
	bool has;
} t;

static void on_send(void *ctx, const uint8_t *frame, size_t len)
{
	memcpy(t.sent, frame, len);
	t.len = len;
	t.n_sent++;
}

static void on_changed(void *ctx, const struct lease *l)
{
	t.n_changed++;
	t.has = l != NULL;
	if (l)
		t.lease = *l;
}

/* So many seconds the host has slept, which only this clock counts. */
static time_t slept;

int __real_clock_gettime(clockid_t id, struct timespec *ts);
int __wrap_clock_gettime(clockid_t id, struct timespec *ts);
int __wrap_clock_gettime(clockid_t id, struct timespec *ts)
{
	int r = __real_clock_gettime(id, ts);

	if (id == CLOCK_BOOTTIME)
		ts->tv_sec += slept;
	return r;
}

/* The client's timer, to be run out by hand. */
static loop_fn timer_fn;
static void *timer_ctx;

int __real_loop_timer(struct loop *l, loop_fn fn, void *ctx, struct loop_src **ret);
int __wrap_loop_timer(struct loop *l, loop_fn fn, void *ctx, struct loop_src **ret);
int __wrap_loop_timer(struct loop *l, loop_fn fn, void *ctx, struct loop_src **ret)
{
	timer_fn = fn;
	timer_ctx = ctx;
	return __real_loop_timer(l, fn, ctx, ret);
}

static const struct dhcp_ops ops = {on_send, on_changed};

/* Byte of the options of what was sent; -1: it is not there. */
static int sent_option(unsigned what, unsigned byte)
{
	for (size_t at = 14 + 28 + 240; at < t.len && t.sent[at] != 255; at += 2u + t.sent[at + 1])
		if (t.sent[at] == what)
			return t.sent[at + 2 + byte];
	return -1;
}

/* An answer to what was sent last: of this type, with these options. */
static size_t reply(uint8_t *f, unsigned type, const char *addr, const uint8_t *options, size_t n)
{
	uint8_t *ip = f + 14, *udp = ip + 20, *b = udp + 8;
	const size_t len = 240 + 3 + n + 1;

	memset(f, 0, 14 + 28 + len);
	memcpy(f, mac, 6);
	f[12] = 8;
	ip[0] = 0x45;
	ip[2] = (uint8_t)((28 + len) >> 8);
	ip[3] = (uint8_t)(28 + len);
	ip[9] = 17;
	udp[1] = 67;
	udp[3] = 68;
	udp[4] = (uint8_t)((8 + len) >> 8);
	udp[5] = (uint8_t)(8 + len);
	b[0] = 2;
	memcpy(b + 4, t.sent + 14 + 28 + 4, 4);
	inet_pton(AF_INET, addr, b + 16);
	memcpy(b + 28, mac, 6);
	memcpy(b + 236, (uint8_t[]){99, 130, 83, 99}, 4);
	b[240] = 53;
	b[241] = 1;
	b[242] = (uint8_t)type;
	memcpy(b + 243, options, n);
	b[243 + n] = 255;
	return 14 + 28 + len;
}

/* mask, router, two servers, domain, an hour, the server */
static const uint8_t usual[] = {1, 4, 255, 255, 254, 0, 3, 4, 192, 0, 2, 1, 6, 8, 192, 0, 2, 53,
	192, 0, 2, 54, 15, 8, 'l', 'a', 'n', '.', 't', 'e', 's', 't', 51, 4, 0, 0, 14, 16, 54, 4,
	192, 0, 2, 1};

static void set_up(struct dhcp **d)
{
	memset(&t, 0, sizeof(t));
	REQUIRE(loop_new(&t.l) == 0);
	REQUIRE(dhcp_new(d, t.l, mac, &ops, NULL) == 0);
}

TEST(an_address_is_offered_asked_for_and_given)
{
	uint8_t f[1000];
	struct dhcp *d;

	set_up(&d);
	CHECK_EQ(sent_option(53, 0), DHCP_DISCOVER);
	CHECK(dhcp_input(d, f, reply(f, DHCP_OFFER, "192.0.2.7", usual, sizeof(usual))));
	CHECK_EQ(t.n_changed, 0);
	CHECK_EQ(sent_option(53, 0), DHCP_REQUEST);
	CHECK_EQ(sent_option(50, 3), 7);
	CHECK_EQ(sent_option(54, 3), 1);
	CHECK(dhcp_input(d, f, reply(f, DHCP_ACK, "192.0.2.7", usual, sizeof(usual))));
	CHECK_EQ(t.n_changed, 1);
	CHECK(t.has);
	CHECK_EQ(t.lease.addr.s_addr, inet_addr("192.0.2.7"));
	CHECK_EQ(t.lease.router.s_addr, inet_addr("192.0.2.1"));
	CHECK_EQ(t.lease.prefix, 23);
	CHECK_EQ(t.lease.n_dns, 2);
	CHECK_EQ(t.lease.dns[1].s_addr, inet_addr("192.0.2.54"));
	CHECK_STR(t.lease.domain, "lan.test");
	CHECK_EQ(t.lease.seconds, 3600);
	dhcp_free(d);
	loop_free(t.l);
}

TEST(a_lease_ages_while_the_host_sleeps)
{
	uint8_t f[1000];
	struct dhcp *d;

	slept = 0;
	set_up(&d);
	dhcp_input(d, f, reply(f, DHCP_OFFER, "192.0.2.7", usual, sizeof(usual)));
	CHECK(dhcp_input(d, f, reply(f, DHCP_ACK, "192.0.2.7", usual, sizeof(usual))));
	t.n_sent = 0;
	timer_fn(timer_ctx);
	CHECK_EQ(t.n_sent, 0);
	/* half of it: it is asked for again, of who gave it */
	slept = 1900;
	timer_fn(timer_ctx);
	CHECK_EQ(t.n_sent, 1);
	CHECK_EQ(sent_option(53, 0), DHCP_REQUEST);
	CHECK(t.has);
	/* all of it: it is another's by now */
	slept = 3700;
	timer_fn(timer_ctx);
	CHECK(!t.has);
	CHECK_EQ(sent_option(53, 0), DHCP_DISCOVER);
	dhcp_free(d);
	loop_free(t.l);
	slept = 0;
}

TEST(a_refused_request_begins_anew)
{
	uint8_t f[1000];
	struct dhcp *d;

	set_up(&d);
	dhcp_input(d, f, reply(f, DHCP_OFFER, "192.0.2.7", usual, sizeof(usual)));
	CHECK(dhcp_input(d, f, reply(f, DHCP_NAK, "0.0.0.0", usual, 0)));
	CHECK_EQ(t.n_changed, 0);
	CHECK_EQ(sent_option(53, 0), DHCP_DISCOVER);
	dhcp_free(d);
	loop_free(t.l);
}

TEST(what_is_no_answer_is_left_to_the_guest)
{
	static const uint8_t no_mask[] = {51, 4, 0, 0, 14, 16, 54, 4, 192, 0, 2, 1};
	static const uint8_t holes[] = {
		1, 4, 255, 0, 255, 0, 51, 4, 0, 0, 14, 16, 54, 4, 192, 0, 2, 1};
	static const uint8_t too_long[] = {1, 200, 255, 255};
	uint8_t f[1000];
	struct dhcp *d;
	size_t n;

	set_up(&d);
	n = reply(f, DHCP_OFFER, "192.0.2.7", usual, sizeof(usual));
	for (size_t len = 0; len < n; len++)
		CHECK(!dhcp_input(d, f, len));
	f[14 + 28 + 4] ^= 1; /* another's transaction */
	CHECK(!dhcp_input(d, f, n));
	n = reply(f, DHCP_OFFER, "192.0.2.7", usual, sizeof(usual));
	f[14 + 28 + 28] ^= 2; /* another's device */
	CHECK(!dhcp_input(d, f, n));
	n = reply(f, DHCP_OFFER, "192.0.2.7", usual, sizeof(usual));
	f[14 + 6] = 0x20; /* a fragment */
	CHECK(!dhcp_input(d, f, n));
	CHECK(!dhcp_input(d, f, reply(f, DHCP_OFFER, "127.0.0.1", usual, sizeof(usual))));
	CHECK(!dhcp_input(d, f, reply(f, DHCP_OFFER, "192.0.2.7", no_mask, sizeof(no_mask))));
	CHECK(!dhcp_input(d, f, reply(f, DHCP_OFFER, "192.0.2.7", holes, sizeof(holes))));
	CHECK(!dhcp_input(d, f, reply(f, DHCP_OFFER, "192.0.2.7", too_long, sizeof(too_long))));
	CHECK_EQ(t.n_sent, 1);
	dhcp_free(d);
	loop_free(t.l);
}

TEST_MAIN()
