/* SPDX-License-Identifier: MIT */
/*
 * The whole of wslx-netd, in its sandbox, behind a guest that speaks Ethernet: the fake front end adds frames to the
 * device's queues as a driver does.
 */
#include "lib/base/test.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include "lib/base/io.h"
#include "lib/ctl/client.h"
#include "lib/sandbox/sandbox.h"
#include "lib/vhost/fake-front.h"
#include "netd/frame-rig.h"
#include "netd/quota.h"
#include "netd/serve-passt.h"
#include "netd/serve.h"
#include "netd/stream.h"

enum { RX, TX, HEADER = 12, BUFFER = 2048, BUFFERS = 32 };
#define F_CSUM	     (1ull << 0)
#define F_GUEST_CSUM (1ull << 1)
#define F_MRG_RXBUF  (1ull << 15)

static struct net {
	struct front f;
	pid_t pid;
	struct ctl_client *ctl;
	char dir[64], path[80];
	uint64_t rx[BUFFERS], tx;
	unsigned next; /* receive buffer that comes next */
	uint8_t in[70000];
	size_t len; /* of the last frame */
	unsigned pieces;
	int passt; /* our end, for what stands in for it; negative: libslirp makes connections */
} n;

static int serve_one(struct loop *l, int control, int passt, const struct stack_config *cfg,
	const struct device_config *dev)
{
	struct serve_passt *p;
	struct serve *s;

	return passt < 0 ? serve_new(&s, l, control, cfg, dev, NULL)
			 : serve_passt_new(&p, l, control, passt, cfg, dev, NULL);
}

static void NORETURN child(int control, int passt)
{
	static const struct device_config dev = {{0x52, 0x57, 0x53, 0x4c, 0x58, 1}, STACK_MTU_MAX};
	const struct sandbox_opts opts = {.debug = false};
	struct stack_config cfg;
	struct loop *l;

	alarm(TEST_TIMEOUT_S);
	signal(SIGPIPE, SIG_IGN);
	if (stack_config_parse("10.0.2.0/24", "fd00::/64", &cfg, NULL) < 0 || loop_new(&l) < 0 ||
		serve_one(l, control, passt, &cfg, &dev) < 0 ||
		sandbox_enter(&sandbox_netd, &opts, NULL) < 0)
		_exit(99);
	_exit(loop_run(l) < 0);
}

static void call_fd(const char *method, struct json_object *params, int fd)
{
	struct ctl_req q = {.method = method, .params = params, .fds = &fd, .nfds = fd >= 0};
	struct err e = {0};

	if (ctl_call(n.ctl, &q, NULL, &e) < 0) {
		printf("# %s: %s\n", method, e.text);
		abort();
	}
}

static void post(unsigned i)
{
	const struct front_buf b = {n.rx[i], BUFFER, true};

	front_add(&n.f, RX, &b, 1);
}

/* passt, ours: both ends of the one to passt; negative: none. */
static void begin_with(uint64_t without, int passt, int ours)
{
	struct err e = {0};
	int server, fd;

	memset(&n, 0, sizeof(n));
	n.passt = ours;
	strcpy(n.dir, "/tmp/wslx-netd.XXXXXX");
	if (!mkdtemp(n.dir))
		abort();
	snprintf(n.path, sizeof(n.path), "%s/s", n.dir);
	fd = io_unix_listen(n.path, 4);
	fflush(stdout);
	n.pid = fork();
	if (n.pid == 0) {
		if (ours >= 0)
			close(ours);
		child(fd, passt);
	}
	close(fd);
	if (ctl_connect(n.path, &n.ctl, &e) < 0)
		abort();
	front_init(&n.f, &server);
	call_fd("device", NULL, server);
	close(server);
	front_negotiate(&n.f, 0);
	n.f.features &= ~without;
	front_send(&n.f, VU_SET_FEATURES, 0, &n.f.features, 8, NULL, 0);
	front_memory(&n.f);
	front_start(&n.f, 2);
	for (unsigned i = 0; i < BUFFERS; i++) {
		n.rx[i] = front_alloc(&n.f, BUFFER);
		post(i);
	}
	front_kick(&n.f, RX);
}

static void begin(uint64_t without)
{
	begin_with(without, -1, -1);
}

static void begin_passt(void)
{
	const struct timeval limit = {.tv_sec = TEST_TIMEOUT_S};
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		abort();
	setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	begin_with(0, pair[1], pair[0]);
	close(pair[1]);
}

static int finish(void)
{
	int status = -1;

	ctl_client_free(n.ctl);
	front_done(&n.f);
	waitpid(n.pid, &status, 0);
	unlink(n.path);
	rmdir(n.dir);
	return status;
}

static void transmit_at(uint64_t gpa, const uint8_t *frame, size_t len, const void *header)
{
	const struct front_buf b = {gpa, (uint32_t)(HEADER + len), false};

	memset(front_ptr(&n.f, gpa), 0, HEADER);
	if (header)
		memcpy(front_ptr(&n.f, gpa), header, HEADER);
	memcpy((uint8_t *)front_ptr(&n.f, gpa) + HEADER, frame, len);
	front_add(&n.f, TX, &b, 1);
	front_kick(&n.f, TX);
	front_wait(&n.f, TX, NULL);
}

static void transmit_with(const uint8_t *frame, size_t len, const void *header)
{
	transmit_at(front_alloc(&n.f, HEADER + len), frame, len, header);
}

static void transmit(const uint8_t *frame, size_t len)
{
	transmit_with(frame, len, NULL);
}

/* Without memory of its own, for many; a usual frame. */
static void transmit_again(const uint8_t *frame, size_t len)
{
	if (!n.tx)
		n.tx = front_alloc(&n.f, BUFFER);
	transmit_at(n.tx, frame, len, NULL);
}

/* The next frame, put together, into n.in. */
static void receive_any(void)
{
	unsigned pieces = 1;

	n.len = 0;
	for (unsigned i = 0; i < pieces; i++) {
		uint32_t written;
		const uint8_t *p;

		front_wait(&n.f, RX, &written);
		p = front_ptr(&n.f, n.rx[n.next]);
		if (i == 0) {
			pieces = (unsigned)p[10] | (unsigned)p[11] << 8;
			p += HEADER;
			written -= HEADER;
		}
		memcpy(n.in + n.len, p, written);
		n.len += written;
		post(n.next);
		n.next = (n.next + 1) % BUFFERS;
	}
	front_kick(&n.f, RX);
	n.pieces = pieces;
}

/* A router advertisement, a question who has our address: answered if it needs to be, and passed over. */
static bool is_noise(void)
{
	uint8_t reply[42];

	if (n.in[12] == 0x86 && n.in[13] == 0xdd && n.in[20] == IPPROTO_ICMPV6)
		return true;
	if (n.in[12] != 8 || n.in[13] != 6)
		return false;
	if (n.in[21] == 1) {
		memcpy(reply, n.in + 6, 6);
		memcpy(reply + 6, "\x52\x57\x53\x4c\x58\x01", 6);
		memcpy(reply + 12, "\x08\x06\x00\x01\x08\x00\x06\x04\x00\x02", 10);
		memcpy(reply + 22, reply + 6, 6);
		memcpy(reply + 28, n.in + 38, 4);
		memcpy(reply + 32, n.in + 22, 10);
		transmit(reply, sizeof(reply));
	}
	return true;
}

static void receive(void)
{
	do
		receive_any();
	while (is_noise());
}

static int host_socket(int type, uint16_t *port)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(sa);
	int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 ||
		(type == SOCK_STREAM && listen(fd, 5) < 0) ||
		getsockname(fd, (struct sockaddr *)&sa, &len) < 0)
		abort();
	*port = ntohs(sa.sin_port);
	return fd;
}

TEST(datagrams_reach_the_hosts_loopback_and_come_back)
{
	struct sockaddr_in from;
	socklen_t len = sizeof(from);
	uint8_t f[300];
	char text[64];
	uint16_t port;
	int fd = host_socket(SOCK_DGRAM, &port);

	begin(0);
	transmit(f, rig_frame(f, "10.0.2.2", 4000, "10.0.2.1", port, IPPROTO_UDP, "ping", 4));
	CHECK_EQ(recvfrom(fd, text, sizeof(text), 0, (struct sockaddr *)&from, &len), 4);
	CHECK(memcmp(text, "ping", 4) == 0);
	CHECK_EQ(sendto(fd, "pong!", 5, 0, (struct sockaddr *)&from, len), 5);
	receive();
	CHECK(rig_sums_ok(n.in, n.len));
	CHECK(memcmp(n.in + 42, "pong!", 5) == 0);
	CHECK(memcmp(n.in + 26, "\x0a\x00\x02\x01\x0a\x00\x02\x02", 8) == 0);
	close(fd);
	CHECK_EQ(finish(), 0);
}

static uint32_t get32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* A connection up to ESTABLISHED; what the host's side is next expected to send. */
static uint32_t connect_to(uint16_t port)
{
	uint8_t f[100];
	size_t len = rig_frame(f, "10.0.2.2", 4001, "10.0.2.1", port, IPPROTO_TCP, "", 0);
	uint32_t ack;

	rig_tcp(f, len, 1000, 0, RIG_SYN);
	transmit(f, len);
	receive();
	CHECK_EQ(n.in[47] & (RIG_SYN | RIG_ACK | RIG_RST), RIG_SYN | RIG_ACK);
	ack = get32(n.in + 38) + 1;
	rig_tcp(f, len, 1001, ack, RIG_ACK);
	transmit(f, len);
	return ack;
}

TEST(a_large_frame_is_merged_of_several_buffers)
{
	static char blob[8000];
	uint16_t port;
	int fd = host_socket(SOCK_STREAM, &port), conn;
	uint8_t f[100];
	uint32_t ack;
	size_t got = 0;
	bool merged = false;

	begin(0);
	ack = connect_to(port);
	conn = accept(fd, NULL, NULL);
	for (size_t i = 0; i < sizeof(blob); i++)
		blob[i] = (char)(i * 7);
	CHECK_EQ(write(conn, blob, sizeof(blob)), (ssize_t)sizeof(blob));
	while (got < sizeof(blob)) {
		size_t head, data, len;

		receive();
		head = 34 + (size_t)(n.in[46] >> 4) * 4;
		data = n.len - head;
		CHECK(rig_sums_ok(n.in, n.len));
		REQUIRE(data <= sizeof(blob) - got && memcmp(n.in + head, blob + got, data) == 0);
		merged |= n.pieces > 1;
		got += data;
		len = rig_frame(f, "10.0.2.2", 4001, "10.0.2.1", port, IPPROTO_TCP, "", 0);
		rig_tcp(f, len, 1001, ack + (uint32_t)got, RIG_ACK);
		transmit(f, len);
	}
	CHECK(merged);
	close(conn);
	close(fd);
	CHECK_EQ(finish(), 0);
}

TEST(a_checksum_the_guest_leaves_out_is_made_here)
{
	const uint8_t header[HEADER] = {1, 0, 0, 0, 0, 0, 34, 0, 6, 0};
	uint8_t f[300];
	char text[16];
	uint16_t port;
	int fd = host_socket(SOCK_DGRAM, &port);
	size_t len = rig_frame(f, "10.0.2.2", 4000, "10.0.2.1", port, IPPROTO_UDP, "sum", 3);

	begin(0);
	rig_partial_sum(f, len);
	transmit_with(f, len, header);
	CHECK_EQ(recv(fd, text, sizeof(text), 0), 3);
	close(fd);
	CHECK_EQ(finish(), 0);
}

static void ask_name(uint8_t *f, size_t *len)
{
	static const char q[] = "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"
				"\x04host\x04wslx\x08internal\x00\x00\x01\x00\x01";

	*len = rig_frame(f, "10.0.2.2", 4000, "10.0.2.254", 53, IPPROTO_UDP, q, sizeof(q) - 1);
}

TEST(the_name_server_answers_at_its_own_address)
{
	uint8_t f[300];
	size_t len;

	begin(0);
	ask_name(f, &len);
	transmit(f, len);
	receive();
	CHECK(rig_sums_ok(n.in, n.len));
	CHECK(memcmp(n.in + 26, "\x0a\x00\x02\xfe", 4) == 0);
	CHECK_EQ(n.in[34] << 8 | n.in[35], 53);
	CHECK(memcmp(n.in + n.len - 4, "\x0a\x00\x02\x01", 4) == 0);
	CHECK_EQ(finish(), 0);
}

/* libslirp keeps a socket for each port that the guest asks from. */
TEST(questions_from_ever_new_ports_do_not_take_all_descriptors)
{
	static const char q[] = "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"
				"\x04host\x04wslx\x08internal\x00\x00\x01\x00\x01";
	struct rlimit all, few;
	uint8_t f[300];

	REQUIRE(getrlimit(RLIMIT_NOFILE, &all) == 0);
	few = (struct rlimit){MIN(all.rlim_max, (rlim_t)1000), all.rlim_max};
	REQUIRE(setrlimit(RLIMIT_NOFILE, &few) == 0);
	begin(0);
	CHECK(setrlimit(RLIMIT_NOFILE, &all) == 0);
	for (unsigned port = 2000; port < 3500; port++) {
		transmit_again(f, rig_frame(f, "10.0.2.2", port, "10.0.2.254", 53, IPPROTO_UDP, q,
					  sizeof(q) - 1));
		receive();
		CHECK(rig_sums_ok(n.in, n.len));
		REQUIRE(n.in[23] == IPPROTO_UDP);
		CHECK_EQ(n.in[34] << 8 | n.in[35], 53);
		REQUIRE((unsigned)(n.in[36] << 8 | n.in[37]) == port);
	}
	CHECK_EQ(finish(), 0);
}

static void identify(uint8_t *f, unsigned id)
{
	uint32_t sum = 0;

	f[18] = (uint8_t)(id >> 8);
	f[19] = (uint8_t)id;
	f[20] = 0x20; /* more fragments */
	f[24] = f[25] = 0;
	for (unsigned i = 14; i < 34; i += 2)
		sum += (uint32_t)f[i] << 8 | f[i + 1];
	sum = (sum & 0xffff) + (sum >> 16);
	f[24] = (uint8_t)(~sum >> 8);
	f[25] = (uint8_t)~sum;
}

enum { FILES = 64, FRAGMENTS = 32768 };

static void no_output(void *ctx, const uint8_t *frame, size_t len)
{
}

/* As many beginnings of datagrams as the stack would keep for half a minute. */
static void NORETURN flooded(void)
{
	const struct rlimit few = {FILES, FILES}, no_core = {0};
	struct stack_config cfg;
	struct stack *s;
	struct loop *l;
	uint8_t f[100];

	if (setrlimit(RLIMIT_NOFILE, &few) < 0 || setrlimit(RLIMIT_CORE, &no_core) < 0)
		_exit(99);
	quota_set();
	if (stack_config_parse("10.0.2.0/24", "", &cfg, NULL) < 0 || loop_new(&l) < 0 ||
		stack_new(&s, l, &cfg, no_output, NULL) < 0)
		_exit(98);
	for (unsigned i = 0; i < FRAGMENTS; i++) {
		size_t len =
			rig_frame(f, "10.0.2.2", 4000, "10.0.2.1", 9, IPPROTO_UDP, "eight of", 8);

		identify(f, i);
		stack_input(s, f, len);
	}
	_exit(0);
}

/* The network ends instead, and the guest gets another one. */
TEST(fragments_do_not_take_the_hosts_memory)
{
	int status = 0;
	pid_t pid;

	if (sandbox_address_space_is_huge())
		return;
	CHECK(quota_memory(FILES) < FRAGMENTS * 65536ull);
	CHECK(quota_memory(20000) > 20000 * (256ull << 10));
	fflush(stdout);
	pid = fork();
	if (pid == 0)
		flooded();
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK(WIFSIGNALED(status));
}

TEST(questions_go_on_to_the_hosts_server)
{
	static const char q[] =
		"\x43\x21\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01x\x00\x00\x01\x00\x01";
	struct json_object *list = js_array();
	struct sockaddr_in from;
	socklen_t slen = sizeof(from);
	uint8_t f[300], msg[512];
	char text[40];
	uint16_t port;
	ssize_t k;
	int fd = host_socket(SOCK_DGRAM, &port);

	begin(0);
	snprintf(text, sizeof(text), "127.0.0.1#%u", port);
	js_push(list, json_object_new_string(text));
	call_fd("nameservers", js_set(js_object(), "servers", list), -1);
	transmit(
		f, rig_frame(f, "10.0.2.2", 4000, "10.0.2.254", 53, IPPROTO_UDP, q, sizeof(q) - 1));
	k = recvfrom(fd, msg, sizeof(msg), 0, (struct sockaddr *)&from, &slen);
	CHECK_EQ(k, (ssize_t)sizeof(q) - 1);
	msg[2] |= 0x80;
	CHECK_EQ(sendto(fd, msg, (size_t)k, 0, (struct sockaddr *)&from, slen), k);
	receive();
	CHECK(rig_sums_ok(n.in, n.len));
	CHECK(n.len == 42 + sizeof(q) - 1 && n.in[42] == 0x43 && n.in[44] & 0x80);
	close(fd);
	CHECK_EQ(finish(), 0);
}

/* Nothing had gone by before: libslirp's clock stood still, and the guest's socket was over within the second. */
TEST(the_first_datagrams_answer_may_take_its_time)
{
	struct sockaddr_in from;
	socklen_t slen = sizeof(from);
	uint8_t f[300], msg[16];
	uint16_t port;
	int fd = host_socket(SOCK_DGRAM, &port);

	begin(0);
	transmit(f, rig_frame(f, "10.0.2.2", 4000, "10.0.2.1", port, IPPROTO_UDP, "slow", 4));
	CHECK_EQ(recvfrom(fd, msg, sizeof(msg), 0, (struct sockaddr *)&from, &slen), 4);
	usleep(2500000);
	CHECK_EQ(sendto(fd, msg, 4, 0, (struct sockaddr *)&from, slen), 4);
	receive();
	CHECK(n.len == 46 && memcmp(n.in + 42, "slow", 4) == 0);
	close(fd);
	CHECK_EQ(finish(), 0);
}

/* As a resolver asks for both kinds of address at a time. */
TEST(a_server_that_is_silent_is_not_asked_again_after_two_questions_at_once)
{
	char q[] = "\x43\x21\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01x\x00\x00\x01\x00\x01";
	struct json_object *list = js_array();
	struct sockaddr_in from;
	socklen_t slen = sizeof(from);
	uint8_t f[300], msg[512];
	uint16_t port[2];
	int fd[2];
	ssize_t k;

	begin(0);
	for (int i = 0; i < 2; i++) {
		char text[40];

		fd[i] = host_socket(SOCK_DGRAM, &port[i]);
		snprintf(text, sizeof(text), "127.0.0.1#%u", port[i]);
		js_push(list, json_object_new_string(text));
	}
	call_fd("nameservers", js_set(js_object(), "servers", list), -1);
	for (int i = 0; i < 3; i++) {
		q[1] = (char)i;
		/* The third comes when the two have been answered. */
		for (int j = 0; i == 2 && j < 2; j++) {
			k = recvfrom(fd[1], msg, sizeof(msg), 0, (struct sockaddr *)&from, &slen);
			CHECK_EQ(k, (ssize_t)sizeof(q) - 1);
			msg[2] |= 0x80;
			CHECK_EQ(sendto(fd[1], msg, (size_t)k, 0, (struct sockaddr *)&from, slen),
				k);
			receive();
		}
		transmit(f, rig_frame(f, "10.0.2.2", (uint16_t)(4000 + i), "10.0.2.254", 53,
				    IPPROTO_UDP, q, sizeof(q) - 1));
	}
	CHECK_EQ(recv(fd[1], msg, sizeof(msg), 0), (ssize_t)sizeof(q) - 1);
	CHECK_EQ(msg[1], 2);
	for (int i = 0; i < 2; i++)
		CHECK_EQ(recv(fd[0], msg, sizeof(msg), MSG_DONTWAIT), (ssize_t)sizeof(q) - 1);
	CHECK_EQ(recv(fd[0], msg, sizeof(msg), MSG_DONTWAIT), -1);
	close(fd[0]);
	close(fd[1]);
	CHECK_EQ(finish(), 0);
}

TEST(nonsense_is_dropped_and_the_network_goes_on)
{
	static const uint8_t headers[][HEADER] = {
		{1, 0, 0, 0, 0, 0, 255, 255, 255, 255}, /* a checksum outside the frame */
		{1, 0, 0, 0, 0, 0, 0, 0, 0, 0},		/* ... in the Ethernet header */
		{0, 1, 54, 0, 1, 0},			/* segmentation that was not offered */
		{0, 255},
	};
	uint8_t f[300];
	unsigned seed = 42;
	size_t len;

	begin(0);
	ask_name(f, &len);
	for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++)
		transmit_with(f, len, headers[i]);
	for (size_t cut = 0; cut < len; cut += 3)
		transmit(f, cut);
	for (unsigned i = 0; i < 200; i++) {
		uint8_t junk[200];
		size_t k = rig_frame(junk, i & 1 ? "10.0.2.2" : "fd00::2", 4000,
			i & 1 ? "10.0.2.1" : "fd00::1", 9, i & 2 ? IPPROTO_UDP : IPPROTO_TCP,
			"xxxx", 4);

		for (unsigned j = 0; j < 4; j++) {
			seed = seed * 1103515245u + 12345u;
			junk[12 + (seed >> 8) % (k - 12)] = (uint8_t)(seed >> 16);
		}
		transmit(junk, k);
	}
	/* Alive, and it answers. */
	transmit(f, len);
	for (int i = 0; i < 1000; i++) {
		receive();
		if (n.in[12] == 8 && n.in[13] == 0 && n.in[23] == IPPROTO_UDP && n.in[35] == 53)
			break;
	}
	CHECK(memcmp(n.in + n.len - 4, "\x0a\x00\x02\x01", 4) == 0);
	CHECK_EQ(finish(), 0);
}

/* --- frames to passt and from it --- */

enum { BIG = 60000, MANY = 50, SMALL = 1400, STREAM = STREAM_PREFIX + SMALL, LOTS = 4000 };

TEST(what_passt_does_not_take_waits_in_the_guest)
{
	static uint8_t got[STREAM_PREFIX + BIG];
	struct front_buf b = {.len = HEADER + BIG};
	uint8_t *frame;

	begin_passt();
	b.gpa = front_alloc(&n.f, b.len);
	frame = (uint8_t *)front_ptr(&n.f, b.gpa) + HEADER;
	memset(frame - HEADER, 0, HEADER);
	for (unsigned i = 0; i < BIG; i++)
		frame[i] = (uint8_t)(i * 7);
	/* Far more than the socket and netd's own buffer hold. */
	for (unsigned i = 0; i < MANY; i++)
		front_add(&n.f, TX, &b, 1);
	front_kick(&n.f, TX);
	front_wait(&n.f, TX, NULL);
	for (unsigned i = 0; i < MANY; i++) {
		REQUIRE(recv(n.passt, got, sizeof(got), MSG_WAITALL) == sizeof(got));
		CHECK_EQ(get32(got), BIG);
		CHECK(memcmp(got + STREAM_PREFIX, frame, BIG) == 0);
	}
	for (unsigned i = 1; i < MANY; i++)
		front_wait(&n.f, TX, NULL);
	CHECK_EQ(finish(), 0);
	close(n.passt);
}

/* Byte at of all the frames of passt's, which bear their numbers. */
static uint8_t said(size_t at)
{
	unsigned number = (unsigned)(at / STREAM);
	size_t off = at % STREAM;

	switch (off) {
	case 2: return SMALL >> 8;
	case 3: return SMALL & 0xff;
	case STREAM_PREFIX + 12: return 0x88; /* IEEE 802's for experiments */
	case STREAM_PREFIX + 13: return 0xb5;
	case STREAM_PREFIX + 14: return (uint8_t)(number >> 8);
	case STREAM_PREFIX + 15: return (uint8_t)number;
	default: return off < STREAM_PREFIX ? 0 : 1;
	}
}

TEST(what_the_guest_does_not_take_waits_in_passt)
{
	const size_t all = (size_t)LOTS * STREAM;
	uint8_t part[10000];
	size_t sent = 0;

	begin_passt();
	for (unsigned i = 0; i < LOTS; i++) {
		ssize_t k = 1;

		while (sent < all && k > 0) {
			size_t len = MIN(sizeof(part), all - sent);

			for (size_t j = 0; j < len; j++)
				part[j] = said(sent + j);
			k = send(n.passt, part, len, MSG_DONTWAIT);
			sent += k > 0 ? (size_t)k : 0;
		}
		receive_any();
		CHECK_EQ(n.len, SMALL);
		REQUIRE((unsigned)(n.in[14] << 8 | n.in[15]) == i);
	}
	CHECK_EQ(finish(), 0);
	close(n.passt);
}

static int ended(void)
{
	int status = -1;

	waitpid(n.pid, &status, 0);
	finish();
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(the_end_of_passt_is_ours)
{
	begin_passt();
	close(n.passt);
	CHECK_EQ(ended(), 1);
}

TEST(passt_that_sends_no_frames_is_the_end)
{
	begin_passt();
	CHECK_EQ(send(n.passt, "\0\0\0\x03xyz", 7, 0), 7);
	CHECK_EQ(ended(), 1);
	close(n.passt);
}

TEST_MAIN()
