/* SPDX-License-Identifier: MIT */
/* What happens to frames before and after the stack: redirection, checksums, the backlog; and messages of DNS. */
#include "lib/base/test.h"

#include <arpa/inet.h>
#include "netd/backlog.h"
#include "netd/dns.h"
#include "netd/frame-rig.h"
#include "netd/redirect.h"

static struct redirect rules(void)
{
	struct redirect r = {.udp4 = 5301, .tcp4 = 5302, .udp6 = 5303, .tcp6 = 5304};

	inet_pton(AF_INET, "10.0.2.1", &r.host);
	inet_pton(AF_INET, "10.0.2.254", &r.dns);
	inet_pton(AF_INET6, "fd00::1", &r.host6);
	inet_pton(AF_INET6, "fd00::fe", &r.dns6);
	return r;
}

static void there_and_back(
	const char *guest, const char *dns, const char *host, unsigned proto, unsigned port)
{
	struct redirect r = rules();
	uint8_t f[200], want[200];
	size_t n = rig_frame(f, guest, 4000, dns, 53, proto, "question", 8);
	size_t m = rig_frame(want, guest, 4000, host, port, proto, "question", 8);

	REQUIRE(n == m);
	CHECK(rig_sums_ok(f, n));
	CHECK(redirect_out(&r, f, n));
	CHECK(memcmp(f, want, n) == 0);
	CHECK(rig_sums_ok(f, n));
	n = rig_frame(f, host, port, guest, 4000, proto, "answer", 6);
	rig_frame(want, dns, 53, guest, 4000, proto, "answer", 6);
	redirect_in(&r, f, n);
	CHECK(memcmp(f, want, n) == 0);
	CHECK(rig_sums_ok(f, n));
}

TEST(questions_go_to_the_resolver_and_answers_come_back)
{
	there_and_back("10.0.2.2", "10.0.2.254", "10.0.2.1", IPPROTO_UDP, 5301);
	there_and_back("10.0.2.2", "10.0.2.254", "10.0.2.1", IPPROTO_TCP, 5302);
	there_and_back("fd00::2", "fd00::fe", "fd00::1", IPPROTO_UDP, 5303);
	there_and_back("fd00::2", "fd00::fe", "fd00::1", IPPROTO_TCP, 5304);
}

static unsigned port_at(const uint8_t *f, unsigned off)
{
	unsigned at = 14 + (f[12] == 0x86 ? 40 : 20) + off;

	return (unsigned)f[at] << 8 | f[at + 1];
}

/* The port that a question has when it leaves. */
static unsigned lent(const struct redirect *r, const char *guest, const char *dns, unsigned port)
{
	uint8_t f[200];
	size_t n = rig_frame(f, guest, port, dns, 53, IPPROTO_UDP, "q", 1);

	CHECK(redirect_out(r, f, n));
	CHECK(rig_sums_ok(f, n));
	return port_at(f, 0);
}

/* The port that the answer to it has in the end. */
static unsigned returned(
	const struct redirect *r, const char *guest, const char *host, unsigned port)
{
	bool v6 = strchr(guest, ':');
	uint8_t f[200];
	size_t n = rig_frame(f, host, v6 ? 5303 : 5301, guest, port, IPPROTO_UDP, "a", 1);

	redirect_in(r, f, n);
	CHECK(rig_sums_ok(f, n));
	CHECK_EQ(port_at(f, 0), 53);
	return port_at(f, 2);
}

TEST(questions_share_a_few_ports)
{
	static struct redirect_ports ports;
	struct redirect r = rules();
	unsigned four, six, other, first;

	r.ports = &ports;
	four = lent(&r, "10.0.2.2", "10.0.2.254", 4000);
	six = lent(&r, "fd00::2", "fd00::fe", 4000);
	other = lent(&r, "10.0.2.9", "10.0.2.254", 4000);
	CHECK(four != six && six != other && other != four);
	CHECK_EQ(lent(&r, "10.0.2.2", "10.0.2.254", 4000), four);
	CHECK_EQ(returned(&r, "10.0.2.2", "10.0.2.1", four), 4000);
	CHECK_EQ(returned(&r, "fd00::2", "fd00::1", six), 4000);
	CHECK_EQ(returned(&r, "10.0.2.9", "10.0.2.1", other), 4000);
	/* not its own */
	CHECK_EQ(returned(&r, "10.0.2.2", "10.0.2.1", other), other);
	CHECK_EQ(returned(&r, "10.0.2.2", "10.0.2.1", 4000), 4000);
	first = lent(&r, "10.0.2.2", "10.0.2.254", 5000);
	for (unsigned i = 1; i < REDIRECT_PORTS; i++)
		CHECK(lent(&r, "10.0.2.2", "10.0.2.254", 5000 + i) != first);
	CHECK_EQ(returned(&r, "10.0.2.2", "10.0.2.1", first), 5000);
	CHECK_EQ(lent(&r, "10.0.2.2", "10.0.2.254", 6000), first);
	CHECK_EQ(returned(&r, "10.0.2.2", "10.0.2.1", first), 6000);
}

TEST(other_frames_stay_as_they_are)
{
	static const struct {
		const char *to;
		unsigned port;
	} others[] = {{"10.0.2.254", 54}, {"10.0.2.1", 53}, {"192.0.2.1", 53}, {"10.0.2.1", 80}};
	struct redirect r = rules();
	uint8_t f[200], was[200];

	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		size_t n = rig_frame(
			f, "10.0.2.2", 4000, others[i].to, others[i].port, IPPROTO_UDP, "x", 1);

		memcpy(was, f, n);
		CHECK(redirect_out(&r, f, n));
		CHECK(memcmp(f, was, n) == 0);
	}
	size_t n = rig_frame(f, "10.0.2.1", 80, "10.0.2.2", 4000, IPPROTO_TCP, "x", 1);

	memcpy(was, f, n);
	redirect_in(&r, f, n);
	CHECK(memcmp(f, was, n) == 0);
}

TEST(without_a_checksum_there_is_none_afterwards)
{
	struct redirect r = rules();
	uint8_t f[200];
	size_t n = rig_frame(f, "10.0.2.2", 4000, "10.0.2.254", 53, IPPROTO_UDP, "x", 1);

	f[14 + 20 + 6] = f[14 + 20 + 7] = 0;
	CHECK(redirect_out(&r, f, n));
	CHECK_EQ(f[14 + 20 + 6] | f[14 + 20 + 7], 0);
}

TEST(the_loopback_interface_proper_is_not_for_guests)
{
	static const char *const bad[] = {"127.0.0.1", "127.8.9.1", "0.0.0.0"};
	static const char *const bad6[] = {"::1", "::ffff:127.0.0.1", "::"};
	struct redirect r = rules();
	uint8_t f[200];

	for (size_t i = 0; i < 3; i++) {
		size_t n = rig_frame(f, "10.0.2.2", 1, bad[i], 80, IPPROTO_TCP, "", 0);

		CHECK(!redirect_out(&r, f, n));
		f[14 + 9] = IPPROTO_ICMP;
		CHECK(!redirect_out(&r, f, n));
		n = rig_frame(f, "fd00::2", 1, bad6[i], 80, IPPROTO_TCP, "", 0);
		CHECK(!redirect_out(&r, f, n));
	}
}

TEST(frames_cut_short_are_not_read_beyond_their_end)
{
	struct redirect r = rules();
	uint8_t whole[200];
	size_t n = rig_frame(whole, "10.0.2.2", 4000, "10.0.2.254", 53, IPPROTO_UDP, "x", 1);

	for (size_t len = 0; len < n; len++) {
		uint8_t *f = malloc(len + 1); /* for an address sanitizer to see */

		memcpy(f, whole, len);
		redirect_out(&r, f, len);
		redirect_in(&r, f, len);
		free(f);
	}
	n = rig_frame(whole, "fd00::2", 4000, "fd00::fe", 53, IPPROTO_TCP, "x", 1);
	for (size_t len = 0; len < n; len++) {
		uint8_t *f = malloc(len + 1);

		memcpy(f, whole, len);
		redirect_out(&r, f, len);
		redirect_in(&r, f, len);
		free(f);
	}
}

TEST(a_reset_of_passts_says_what_it_acknowledges)
{
	static const char *const host[] = {"10.0.2.1", "fd00::1"}, *const guest[] = {
									   "10.0.2.2", "fd00::2"};
	struct redirect r = rules();
	uint8_t f[200], want[200];

	for (int i = 0; i < 2; i++) {
		size_t n = rig_frame(f, host[i], 80, guest[i], 4000, IPPROTO_TCP, "", 0);

		memcpy(want, f, n);
		rig_tcp(f, n, 77, 1001, RIG_RST);
		rig_tcp(want, n, 77, 1001, RIG_RST | RIG_ACK);
		redirect_mend(&r, f, n);
		CHECK(memcmp(f, want, n) == 0);
		CHECK(rig_sums_ok(f, n));
		/* One that acknowledges nothing stays. */
		rig_tcp(f, n, 77, 0, RIG_RST);
		memcpy(want, f, n);
		redirect_mend(&r, f, n);
		CHECK(memcmp(f, want, n) == 0);
	}
}

TEST(datagrams_of_passts_from_a_link_local_address_are_the_hosts)
{
	struct redirect r = rules();
	uint8_t f[200], want[200];
	size_t n = rig_frame(f, "fe80::1:2", 80, "fe80::", 4000, IPPROTO_UDP, "reply", 5);

	inet_pton(AF_INET6, "fd00::2", &r.guest6);
	rig_frame(want, "fd00::1", 80, "fd00::2", 4000, IPPROTO_UDP, "reply", 5);
	redirect_mend(&r, f, n);
	CHECK(memcmp(f, want, n) == 0);
	rig_frame(f, "2001:db8::1", 80, "fd00::2", 4000, IPPROTO_UDP, "reply", 5);
	memcpy(want, f, n);
	redirect_mend(&r, f, n);
	CHECK(memcmp(f, want, n) == 0);
}

TEST(a_checksum_left_to_us_is_completed)
{
	uint8_t f[300], want[300];
	size_t n = rig_frame(want, "10.0.2.2", 4000, "192.0.2.1", 80, IPPROTO_TCP, "odd", 3);

	memcpy(f, want, n);
	rig_partial_sum(f, n);
	CHECK(redirect_checksum(f, n, 14 + 20, 16));
	CHECK(memcmp(f, want, n) == 0);
	CHECK(!redirect_checksum(f, n, n, 0));
	CHECK(!redirect_checksum(f, n, n - 1, 0));
	CHECK(!redirect_checksum(f, n, 34, n));
	CHECK(!redirect_checksum(f, n, SIZE_MAX, 2));
}

TEST(the_backlog_keeps_order_and_content)
{
	static struct backlog b;
	static uint8_t frame[60000];
	unsigned put = 0, got = 0, seed = 1;
	size_t len;

	for (unsigned round = 0; round < 20000; round++) {
		seed = seed * 1103515245u + 12345u;
		if (seed >> 30) {
			size_t n = 14 + (seed >> 8) % (sizeof(frame) - 14);

			memcpy(frame, &put, sizeof(put));
			frame[n - 1] = (uint8_t)put;
			put += backlog_put(&b, frame, n);
		} else {
			const uint8_t *f = backlog_first(&b, &len);
			unsigned v;

			if (!f)
				continue;
			memcpy(&v, f, sizeof(v));
			REQUIRE(v == got && f[len - 1] == (uint8_t)got);
			got++;
			backlog_drop(&b);
		}
		REQUIRE(b.used <= BACKLOG_BYTES);
	}
	CHECK(put > 100 && got > 100);
	while (backlog_first(&b, &len)) {
		backlog_drop(&b);
		got++;
	}
	CHECK_EQ(put, got);
	CHECK_EQ(b.used, 0);
}

/* --- DNS --- */

static size_t question(uint8_t *q, const char *name, unsigned type)
{
	static const uint8_t head[12] = {0x12, 0x34, 1, 0, 0, 1};
	size_t n = sizeof(head);

	memcpy(q, head, n);
	while (*name) {
		size_t label = strcspn(name, ".");

		q[n++] = (uint8_t)label;
		memcpy(q + n, name, label);
		n += label;
		name += label + (name[label] == '.');
	}
	q[n++] = 0;
	q[n++] = (uint8_t)(type >> 8);
	q[n++] = (uint8_t)type;
	q[n++] = 0;
	q[n++] = 1;
	return n;
}

TEST(the_resolver_knows_this_host)
{
	uint8_t q[300], a[DNS_ANSWER_MAX];
	struct in_addr host = {.s_addr = htonl(0x0a000201)};
	struct in6_addr host6 = IN6ADDR_LOOPBACK_INIT;
	size_t n = question(q, "Host.WSLX.internal", 1);
	size_t len = dns_answer(q, n, &host, &host6, a);

	REQUIRE(len == n + 16);
	CHECK(a[0] == 0x12 && a[1] == 0x34 && a[2] & 0x80 && a[7] == 1);
	CHECK(memcmp(a + len - 4, &host, 4) == 0);
	n = question(q, DNS_HOST_NAME, 28);
	len = dns_answer(q, n, &host, &host6, a);
	REQUIRE(len == n + 28);
	CHECK(memcmp(a + len - 16, &host6, 16) == 0);
	/* no such record, but such a name */
	CHECK_EQ(dns_answer(q, n, &host, NULL, a), n);
	n = question(q, "other.internal", 1);
	CHECK_EQ(dns_answer(q, n, &host, &host6, a), 0);
	CHECK_EQ(dns_failure(q, n, a), n);
	CHECK_EQ(a[3] & 15, 2);
	q[2] |= 0x80; /* an answer is no question */
	CHECK_EQ(dns_failure(q, n, a), 0);
}

TEST(names_of_servers)
{
	static const struct {
		const char *text;
		int family;
		unsigned port;
	} cases[] = {{"192.0.2.1", AF_INET, 53}, {"127.0.0.1#5300", AF_INET, 5300},
		{"fd00::1", AF_INET6, 53}, {"fe80::1%3", AF_INET6, 53}, {"::1#99", AF_INET6, 99},
		{"", 0, 0}, {"host", 0, 0}, {"1.2.3.4#0", 0, 0}, {"1.2.3.4#x", 0, 0},
		{"1.2.3.4#70000", 0, 0}, {"fe80::1%eth0", 0, 0}, {"1.2.3.4.5", 0, 0}};
	struct sockaddr_storage ss;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		CHECK_EQ(dns_parse_server(cases[i].text, &ss), cases[i].family != 0);
		if (!cases[i].family)
			continue;
		CHECK_EQ(ss.ss_family, cases[i].family);
		CHECK_EQ(ntohs(((struct sockaddr_in *)&ss)->sin_port), cases[i].port);
	}
}

TEST_MAIN()
