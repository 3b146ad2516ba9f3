/* SPDX-License-Identifier: MIT */
#include "netd/inward.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/ethernet.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>
#include "lib/base/le.h"
#include "lib/base/test.h"
#include "netd/frame-rig.h"

enum { ETH = 14, FRAMES = 8 };
static const uint8_t mac[6] = {0x52, 0x57, 0x53, 0x4c, 0x58, 1};

static struct rig {
	struct loop *loop;
	struct inward *w;
	struct loop_src *timer;
	uint8_t frame[FRAMES][STACK_FRAME_MAX];
	size_t len[FRAMES];
	unsigned n;
} rig;

static void output(void *ctx, const uint8_t *frame, size_t len)
{
	CHECK(rig.n < FRAMES && len <= sizeof(rig.frame[0]));
	if (rig.n == FRAMES)
		return;
	memcpy(rig.frame[rig.n], frame, len);
	rig.len[rig.n++] = len;
}

static void quit(void *ctx)
{
	loop_quit(rig.loop, 0);
}

/* What there is to do is done. */
static void turn(void)
{
	loop_timer_arm(rig.timer, loop_now() + 20000000);
	loop_run(rig.loop);
}

static void begin(unsigned mtu)
{
	struct stack_config net;

	rig.n = 0;
	if (stack_config_parse("10.0.2.0/24", "fd00::/64", &net, NULL) < 0 ||
		loop_new(&rig.loop) < 0 || loop_timer(rig.loop, quit, NULL, &rig.timer) < 0)
		abort();
	net.mtu = mtu;
	CHECK_EQ(inward_new(&rig.w, rig.loop, &net, mac, output, NULL), 0);
}

static void end(void)
{
	inward_free(rig.w);
	loop_src_free(rig.timer);
	loop_free(rig.loop);
}

static struct sockaddr_in at(const char *addr, unsigned port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};

	inet_pton(AF_INET, addr, &a.sin_addr);
	return a;
}

static unsigned port_of(int fd)
{
	struct sockaddr_in a = {0};
	socklen_t len = sizeof(a);

	getsockname(fd, (struct sockaddr *)&a, &len);
	return ntohs(a.sin_port);
}

/* A socket of that type at the address; 0: any port. */
static int bound(int type, const char *addr, unsigned port)
{
	struct sockaddr_in a = at(addr, port);
	int fd = socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		abort();
	return fd;
}

static unsigned free_port(int type)
{
	int fd = bound(type, "127.0.0.1", 0);
	unsigned port = port_of(fd);

	close(fd);
	return port;
}

/* At a port of its choice; the guest's is to. */
static unsigned add(int type, uint16_t to)
{
	unsigned port = free_port(type);
	char text[40];

	snprintf(text, sizeof(text), "%s 127.0.0.1 %u", type == SOCK_STREAM ? "tcp" : "udp", port);
	CHECK_EQ(inward_add(rig.w, text, to, NULL), 0);
	return port;
}

static void join(int fd, unsigned port)
{
	struct sockaddr_in a = at("127.0.0.1", port);

	CHECK(connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0 || errno == EINPROGRESS);
}

static const uint8_t *from_inward(unsigned i, unsigned proto)
{
	const uint8_t *ip = rig.frame[i] + ETH;

	CHECK(i < rig.n);
	CHECK_EQ(be16_get(ip - 2), ETHERTYPE_IP);
	CHECK_EQ(ip[9], proto);
	CHECK_EQ(be32_get(ip + 12), 0x0a000203);
	CHECK_EQ(be32_get(ip + 16), 0x0a000202);
	return ip;
}

/* The first is not kept waiting by a question where the guest is. */
TEST(a_client_of_the_hosts_comes_from_the_address_inward)
{
	const uint8_t *ip;
	unsigned port;
	int fd = bound(SOCK_STREAM, "127.0.0.1", 0);

	begin(STACK_MTU_MAX);
	port = add(SOCK_STREAM, 8080);
	join(fd, port);
	turn();
	CHECK_EQ(rig.n, 1);
	ip = from_inward(0, IPPROTO_TCP);
	CHECK_EQ(be16_get(ip + 20), port_of(fd));
	CHECK_EQ(be16_get(ip + 22), 8080);
	CHECK_EQ(ip[20 + 13], RIG_SYN);
	CHECK(!memcmp(rig.frame[0], mac, 6));
	CHECK(rig_sums_ok(rig.frame[0], rig.len[0]));
	close(fd);
	end();
}

TEST(many_clients_may_come_at_once)
{
	enum { MANY = 100 };
	struct pollfd p[MANY];
	unsigned port;

	begin(STACK_MTU_MAX);
	/* also to one that begins while the guest takes nothing */
	inward_pause(rig.w, true);
	port = add(SOCK_STREAM, 8080);
	for (unsigned i = 0; i < MANY; i++) {
		p[i] = (struct pollfd){.fd = bound(SOCK_STREAM, "127.0.0.1", 0), .events = POLLOUT};
		join(p[i].fd, port);
	}
	/* a moment: the next try to connect would be a second later */
	for (unsigned i = 0; i < MANY; i++) {
		CHECK_EQ(poll(&p[i], 1, 200), 1);
		close(p[i].fd);
	}
	end();
}

TEST(a_guest_begins_no_connection_that_way)
{
	int host = bound(SOCK_STREAM, "127.0.0.1", 0);
	uint8_t f[80];
	size_t len;

	begin(STACK_MTU_MAX);
	add(SOCK_STREAM, 8080);
	listen(host, 1);
	len = rig_frame(f, "10.0.2.2", 5000, "10.0.2.3", port_of(host), IPPROTO_TCP, NULL, 0);
	CHECK(inward_input(rig.w, f, len));
	inward_settle(rig.w);
	turn();
	CHECK(accept(host, NULL, NULL) < 0 && errno == EAGAIN);
	/* what is for others goes to them */
	len = rig_frame(f, "10.0.2.2", 5000, "10.0.2.1", port_of(host), IPPROTO_TCP, NULL, 0);
	CHECK(!inward_input(rig.w, f, len));
	close(host);
	end();
}

TEST(a_client_is_refused_when_there_are_no_more_descriptors)
{
	struct rlimit before, few;
	struct pollfd p = {.fd = bound(SOCK_STREAM, "127.0.0.1", 0), .events = POLLIN};
	int next, error;

	begin(STACK_MTU_MAX);
	join(p.fd, add(SOCK_STREAM, 8080));
	next = dup(p.fd);
	close(next);
	getrlimit(RLIMIT_NOFILE, &before);
	few = before;
	few.rlim_cur = (rlim_t)next;
	setrlimit(RLIMIT_NOFILE, &few);
	turn();
	setrlimit(RLIMIT_NOFILE, &before);
	CHECK_EQ(poll(&p, 1, 0), 1);
	CHECK(read(p.fd, &error, sizeof(error)) < 0 && errno == ECONNRESET);
	close(p.fd);
	end();
}

TEST(what_cannot_be_led_is_said)
{
	int fd = bound(SOCK_STREAM, "127.0.0.1", 0);
	struct err e = {0};
	char text[40];

	begin(STACK_MTU_MAX);
	listen(fd, 1);
	snprintf(text, sizeof(text), "tcp 127.0.0.1 %u", port_of(fd));
	CHECK_EQ(inward_add(rig.w, text, 80, &e), -EADDRINUSE);
	CHECK(strstr(e.text, text));
	CHECK_EQ(inward_add(rig.w, "tcp ::1 8080", 80, NULL), -EINVAL);
	CHECK_EQ(inward_add(rig.w, "nonsense", 80, NULL), -EINVAL);
	CHECK_EQ(inward_remove(rig.w, text), -ENOENT);
	close(fd);
	/* and then it can */
	CHECK_EQ(inward_add(rig.w, text, 80, NULL), 0);
	CHECK_EQ(inward_add(rig.w, text, 81, NULL), 0);
	CHECK_EQ(inward_remove(rig.w, text), 0);
	fd = bound(SOCK_STREAM, "127.0.0.1", 0);
	close(fd);
	end();
}

static unsigned header_sum(const uint8_t *ip)
{
	uint32_t s = 0;

	for (unsigned i = 0; i < 20; i += 2)
		s += be16_get(ip + i);
	return (s & 0xffff) + (s >> 16);
}

/* The guest's answer to the datagram in frame i. */
static size_t answer(uint8_t *f, unsigned i, const void *data, size_t len)
{
	const uint8_t *ip = from_inward(i, IPPROTO_UDP);

	return rig_frame(f, "10.0.2.2", be16_get(ip + 22), "10.0.2.3", be16_get(ip + 20),
		IPPROTO_UDP, data, len);
}

TEST(datagrams_of_two_clients_with_one_port_find_their_way_back)
{
	int a = bound(SOCK_DGRAM, "127.0.0.1", 0), b = bound(SOCK_DGRAM, "127.0.0.2", port_of(a));
	unsigned port;
	uint8_t f[100];
	char said[8];
	size_t len;

	begin(STACK_MTU_MAX);
	port = add(SOCK_DGRAM, 53);
	join(a, port);
	join(b, port);
	CHECK_EQ(send(a, "a", 1, 0), 1);
	turn();
	CHECK_EQ(send(b, "b", 1, 0), 1);
	turn();
	CHECK_EQ(rig.n, 2);
	CHECK_EQ(be16_get(from_inward(0, IPPROTO_UDP) + 20), port_of(a));
	CHECK_EQ(be16_get(from_inward(0, IPPROTO_UDP) + 22), 53);
	for (unsigned i = 0; i < 2; i++) {
		/* without a sum of its own, RFC 768 */
		CHECK_EQ(be16_get(from_inward(i, IPPROTO_UDP) + 26), 0);
		CHECK_EQ(header_sum(rig.frame[i] + ETH), 0xffff);
		len = answer(f, i, i ? "to b" : "to a", 4);
		CHECK(inward_input(rig.w, f, len));
		memset(said, 0, sizeof(said));
		CHECK_EQ(recv(i ? b : a, said, sizeof(said), 0), 4);
		CHECK_STR(said, i ? "to b" : "to a");
	}
	/* of a port that is not forwarded, and for one that no client has */
	len = rig_frame(f, "10.0.2.2", 54, "10.0.2.3", port_of(a), IPPROTO_UDP, "x", 1);
	CHECK(inward_input(rig.w, f, len));
	len = rig_frame(f, "10.0.2.2", 53, "10.0.2.3", 9, IPPROTO_UDP, "x", 1);
	CHECK(inward_input(rig.w, f, len));
	CHECK(recv(a, said, sizeof(said), 0) < 0 && errno == EAGAIN);
	close(a);
	close(b);
	end();
}

static void check_parts(unsigned mtu, size_t len)
{
	static uint8_t data[65507], got[65508], all[65536];
	int a = bound(SOCK_DGRAM, "127.0.0.1", 0);
	size_t n = 0;

	begin(mtu);
	for (size_t i = 0; i < len; i++)
		data[i] = (uint8_t)(i * 7);
	join(a, add(SOCK_DGRAM, 53));
	CHECK_EQ(send(a, data, len, 0), len);
	turn();
	CHECK(rig.n > 1);
	for (unsigned i = 0; i < rig.n; i++) {
		const uint8_t *ip = from_inward(i, IPPROTO_UDP);
		unsigned frag = be16_get(ip + 6);

		CHECK_EQ(be16_get(ip + 4), be16_get(rig.frame[0] + ETH + 4));
		CHECK_EQ((frag & 0x1fff) * 8, n);
		CHECK_EQ(frag >> 13, i + 1 < rig.n);
		CHECK(be16_get(ip + 2) <= mtu);
		CHECK_EQ(rig.len[i], ETH + be16_get(ip + 2));
		memcpy(all + n, ip + 20, rig.len[i] - ETH - 20);
		n += rig.len[i] - ETH - 20;
	}
	CHECK_EQ(n, 8 + len);
	CHECK(!memcmp(all + 8, data, len));
	/* the same parts back, with the ports the other way round */
	memcpy(rig.frame[0] + ETH + 20, all + 2, 2);
	memcpy(rig.frame[0] + ETH + 22, all, 2);
	for (unsigned i = 0; i < rig.n; i++) {
		uint8_t *ip = rig.frame[i] + ETH;

		be32_put(ip + 12, 0x0a000202);
		be32_put(ip + 16, 0x0a000203);
		CHECK(inward_input(rig.w, rig.frame[i], rig.len[i]));
	}
	CHECK_EQ(recv(a, got, sizeof(got), 0), len);
	CHECK(!memcmp(got, data, len));
	/* one that is lost takes the whole with it */
	CHECK(inward_input(rig.w, rig.frame[0], rig.len[0]));
	if (rig.n > 2)
		for (unsigned i = 2; i < rig.n; i++)
			CHECK(inward_input(rig.w, rig.frame[i], rig.len[i]));
	CHECK(recv(a, got, sizeof(got), 0) < 0 && errno == EAGAIN);
	close(a);
	end();
}

TEST(a_datagram_larger_than_a_frame_goes_in_parts)
{
	check_parts(STACK_MTU_MAX, 65507);
	check_parts(1500, 5000);
}

TEST(while_the_guest_takes_nothing_datagrams_wait)
{
	int a = bound(SOCK_DGRAM, "127.0.0.1", 0);

	begin(STACK_MTU_MAX);
	join(a, add(SOCK_DGRAM, 53));
	inward_pause(rig.w, true);
	CHECK_EQ(send(a, "x", 1, 0), 1);
	turn();
	CHECK_EQ(rig.n, 0);
	inward_pause(rig.w, false);
	turn();
	CHECK_EQ(rig.n, 1);
	close(a);
	end();
}

TEST_MAIN()
