/* SPDX-License-Identifier: MIT */
/* Streams between unix sockets and a small guest that echoes: the device and its back end together, on real threads. */
#define TEST_TIMEOUT_S 120
#include "lib/base/test.h"
#include <dirent.h>
#include <errno.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include "lib/base/io.h"
#include "lib/os/thread.h"
#include "vmm/host/vsock-unix.h"
#include "vmm/virtio/fake-vsock.h"

/* --- a guest: port 7 echoes, port 9 swallows and answers "done" at the end, others refuse --- */

enum { CREDIT = 256 << 10, CONNS = 256 };

struct gconn {
	bool used, open, eof, closed;
	uint32_t gport, hport;
	uint32_t got, fwd, told;	     /* from the host */
	uint32_t sent, host_fwd, host_alloc; /* towards it */
	uint8_t *buf;
	uint32_t at, len;
};

struct rig {
	char dir[64], path[80];
	struct loop *loop;
	struct os_thread *loop_thread, *guest_thread;
	struct fake_vsock g;
	atomic_bool stop;
	atomic_uint dial; /* a host port to connect to; the guest echoes there */
	atomic_uint dialled, refused;
	struct gconn conn[CONNS];
};

static struct rig rig;

static struct gconn *gfind(uint32_t gport, uint32_t hport)
{
	for (unsigned i = 0; i < CONNS; i++)
		if (rig.conn[i].used && rig.conn[i].gport == gport && rig.conn[i].hport == hport)
			return &rig.conn[i];
	return NULL;
}

static struct gconn *gnew(uint32_t gport, uint32_t hport)
{
	for (unsigned i = 0; i < CONNS; i++) {
		struct gconn *c = &rig.conn[i];
		uint8_t *buf = c->buf;

		if (c->used)
			continue;
		*c = (struct gconn){.used = true, .gport = gport, .hport = hport, .buf = buf};
		if (!c->buf && !(c->buf = malloc(CREDIT)))
			abort();
		return c;
	}
	abort();
}

static void gsend(struct gconn *c, uint16_t op, uint32_t flags, const void *data, uint32_t len)
{
	struct fv_pkt p = {.src_cid = 3,
		.dst_cid = 2,
		.src_port = c->gport,
		.dst_port = c->hport,
		.len = len,
		.type = 1,
		.op = op,
		.flags = flags,
		.buf_alloc = CREDIT,
		.fwd_cnt = c->fwd};

	c->told = c->fwd;
	if (!fv_send(&rig.g, &p, data))
		abort();
}

static void gpush(struct gconn *c)
{
	while (c->len) {
		uint32_t room = c->host_alloc - (c->sent - c->host_fwd);
		uint32_t n = MIN(MIN(c->len, CREDIT - c->at), MIN(room, (uint32_t)FV_MAX_PKT));

		if (!n)
			return;
		gsend(c, FV_RW, 0, c->buf + c->at, n);
		c->sent += n;
		c->fwd += n;
		c->at = (c->at + n) % CREDIT;
		c->len -= n;
	}
	if (c->eof && !c->closed) {
		if (c->gport == 9)
			gsend(c, FV_RW, 0, "done", 4);
		gsend(c, FV_SHUTDOWN, FV_SHUT_BOTH, NULL, 0);
		c->closed = true;
	}
}

static void gpacket(const struct fv_pkt *p)
{
	struct gconn *c = gfind(p->dst_port, p->src_port);

	if (!c && p->op == FV_REQUEST) {
		c = gnew(p->dst_port, p->src_port);
		c->host_alloc = p->buf_alloc;
		if (c->gport != 7 && c->gport != 9) {
			gsend(c, FV_RST, 0, NULL, 0);
			c->used = false;
			return;
		}
		c->open = true;
		gsend(c, FV_RESPONSE, 0, NULL, 0);
		return;
	}
	if (!c)
		return;
	c->host_alloc = p->buf_alloc;
	c->host_fwd = p->fwd_cnt;
	switch (p->op) {
	case FV_RESPONSE:
		c->open = true;
		atomic_fetch_add(&rig.dialled, 1);
		break;
	case FV_RST:
		if (!c->open)
			atomic_fetch_add(&rig.refused, 1);
		c->used = false;
		return;
	case FV_RW:
		c->got += p->len;
		if (c->got - c->fwd > CREDIT)
			abort(); /* the device ignored our credit */
		if (c->gport == 9) {
			c->fwd += p->len;
			break;
		}
		for (uint32_t i = 0; i < p->len; i++)
			c->buf[(c->at + c->len + i) % CREDIT] = p->data[i];
		c->len += p->len;
		break;
	case FV_SHUTDOWN:
		if (p->flags & FV_SHUT_SEND)
			c->eof = true;
		if (p->flags == FV_SHUT_BOTH && !c->closed) {
			gsend(c, FV_RST, 0, NULL, 0);
			c->used = false;
			return;
		}
		break;
	case FV_CREDIT_UPDATE: break;
	default: abort();
	}
	gpush(c);
	if (c->fwd - c->told >= CREDIT / 2)
		gsend(c, FV_CREDIT_UPDATE, 0, NULL, 0);
}

static void guest(void *ctx)
{
	uint32_t port = 20000;
	struct fv_pkt p;

	while (!atomic_load(&rig.stop)) {
		uint32_t dial = atomic_exchange(&rig.dial, 0);

		if (dial) {
			struct gconn *c = gnew(port++, dial);

			gsend(c, FV_REQUEST, 0, NULL, 0);
		}
		if (fv_recv(&rig.g, &p))
			gpacket(&p);
		else
			usleep(50);
	}
}

static void loop_thread(void *ctx)
{
	loop_run(rig.loop);
}

static void start(void)
{
	struct err e = {0};

	memset(&rig, 0, sizeof(rig));
	strcpy(rig.dir, "/tmp/test-vsock.XXXXXX");
	if (!mkdtemp(rig.dir) || loop_new(&rig.loop) < 0)
		abort();
	snprintf(rig.path, sizeof(rig.path), "%s/v", rig.dir);
	fv_init(&rig.g, rig.loop, FV_RX_BUFS, 4096 + FV_HDR);
	if (vsock_unix_attach(rig.g.vs, rig.loop, rig.path, &e) < 0) {
		printf("# %s\n", e.text);
		abort();
	}
	if (os_thread_start(&rig.loop_thread, "loop", loop_thread, NULL) < 0 ||
		os_thread_start(&rig.guest_thread, "guest", guest, NULL) < 0)
		abort();
}

static unsigned count(void)
{
	VIRTIO_GUARD(vsock_dev(rig.g.vs));

	return vsock_count(rig.g.vs);
}

/* All connections end, given that both sides are done. */
static void settle(void)
{
	while (count())
		usleep(1000);
}

static void stop(void)
{
	char path[128];

	atomic_store(&rig.stop, true);
	os_thread_join(rig.guest_thread);
	loop_quit(rig.loop, 0);
	os_thread_join(rig.loop_thread);
	fv_done(&rig.g);
	loop_free(rig.loop);
	for (unsigned i = 0; i < CONNS; i++)
		free(rig.conn[i].buf);
	CHECK(access(rig.path, F_OK) < 0);
	for (unsigned port = 5000; port < 5003; port++) {
		snprintf(path, sizeof(path), "%s_%u", rig.path, port);
		unlink(path);
	}
	CHECK_EQ(rmdir(rig.dir), 0);
}

/* A blocking socket on which "line" was sent. */
static int dial_line(const char *line)
{
	int fd = io_unix_connect(rig.path);

	if (fd < 0 || io_set_nonblock(fd, false) < 0 || io_write_full(fd, line, strlen(line)) < 0)
		abort();
	return fd;
}

/* Reads the answer to a CONNECT, byte by byte. */
static bool answered(int fd)
{
	char line[32] = {0};
	size_t n = 0;

	while (n < sizeof(line) - 1 && read(fd, line + n, 1) == 1)
		if (line[n++] == '\n')
			break;
	return strncmp(line, "OK ", 3) == 0 && n && line[n - 1] == '\n';
}

static unsigned open_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

struct pump {
	int fd;
	uint64_t seed;
	size_t total;
	struct os_thread *t;
	bool ok;
};

static uint64_t step(uint64_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return *s;
}

static void writer(void *ctx)
{
	struct pump *p = ctx;
	static __thread uint64_t buf[8192];
	uint64_t s = p->seed;

	p->ok = true;
	for (size_t done = 0; done < p->total && p->ok; done += sizeof(buf)) {
		for (unsigned i = 0; i < ARRAY_LEN(buf); i++)
			buf[i] = step(&s);
		p->ok = io_write_full(p->fd, buf, sizeof(buf)) == 0;
	}
	shutdown(p->fd, SHUT_WR);
}

/* total: a multiple of 64 KiB. */
static bool echo_intact(int fd, uint64_t seed, size_t total)
{
	static __thread uint64_t buf[8192];
	struct pump w = {.fd = fd, .seed = seed, .total = total};
	uint64_t s = seed;
	bool same = true;

	if (os_thread_start(&w.t, "writer", writer, &w) < 0)
		abort();
	for (size_t done = 0; done < total && same; done += sizeof(buf)) {
		same = io_read_full(fd, buf, sizeof(buf)) == 0;
		for (unsigned i = 0; i < ARRAY_LEN(buf) && same; i++)
			same = buf[i] == step(&s);
	}
	if (!same)
		shutdown(fd, SHUT_RDWR);
	os_thread_join(w.t);
	return same && w.ok && read(fd, buf, 1) == 0;
}

TEST(a_large_stream_comes_back_intact)
{
	uint64_t t0;
	int fd;

	start();
	fd = dial_line("CONNECT 7\n");
	CHECK(answered(fd));
	t0 = os_now();
	CHECK(echo_intact(fd, 12345, 256 << 20));
	printf("# 256 MiB there and back in %u ms\n", (unsigned)((os_now() - t0) / 1000000));
	close(fd);
	settle();
	stop();
}

static void one_of_many(void *ctx)
{
	struct pump *p = ctx;

	p->fd = dial_line("CONNECT 7\n");
	p->ok = answered(p->fd) && echo_intact(p->fd, p->seed, p->total);
	close(p->fd);
}

TEST(sixty_four_streams_at_once)
{
	struct pump p[64];

	start();
	for (unsigned i = 0; i < ARRAY_LEN(p); i++) {
		p[i] = (struct pump){.seed = i + 1, .total = 1 << 20};
		if (os_thread_start(&p[i].t, "client", one_of_many, &p[i]) < 0)
			abort();
	}
	for (unsigned i = 0; i < ARRAY_LEN(p); i++) {
		os_thread_join(p[i].t);
		CHECK(p[i].ok);
	}
	settle();
	stop();
}

TEST(thousands_of_connections_leave_nothing_behind)
{
	unsigned before, bad = 0;

	start();
	before = open_fds();
	for (unsigned i = 0; i < 3000; i++) {
		char c = 0;
		int fd = dial_line(i % 3 ? "CONNECT 7\n" : "CONNECT 9\n");

		bad += !answered(fd);
		switch (i % 4) {
		case 0: /* leaves at once */ break;
		case 1: bad += write(fd, "x", 1) != 1; break;
		case 2: shutdown(fd, SHUT_WR); break;
		default:
			bad += write(fd, "y", 1) != 1;
			shutdown(fd, SHUT_WR);
			bad += read(fd, &c, 1) != 1 || c != (i % 3 ? 'y' : 'd');
		}
		close(fd);
	}
	CHECK_EQ(bad, 0);
	settle();
	CHECK_EQ(open_fds(), before);
	stop();
}

TEST(a_connection_the_guest_refuses_is_closed_without_a_word)
{
	char c;
	int fd;

	start();
	fd = dial_line("CONNECT 1234\n");
	CHECK_EQ(read(fd, &c, 1), 0);
	close(fd);
	settle();
	stop();
}

TEST(a_line_that_is_not_understood_is_closed)
{
	static const char *const bad[] = {"CONNECT\n", "CONNECT \n", "CONNECT -1\n",
		"CONNECT 4294967296\n", "CONNECT 7 \n", "connect 7\n", "\n", "CONNECT 7x\n",
		"CONNECT 00000000000000000000000000000000000000007\n", "GET / HTTP/1.1\r\n"};
	unsigned before;
	char c;
	int fd;

	start();
	before = open_fds();
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		ssize_t n;

		fd = dial_line(bad[i]);
		n = read(fd, &c, 1);
		CHECK(n == 0 || (n < 0 && errno == ECONNRESET));
		close(fd);
	}
	fd = dial_line("CONN"); /* never finished */
	close(fd);
	/* In pieces, with data right behind: nothing of the stream is lost. */
	fd = dial_line("CONN");
	usleep(1000);
	CHECK_EQ(io_write_full(fd, "ECT 7\nearly", 11), 0);
	shutdown(fd, SHUT_WR);
	CHECK(answered(fd));
	char buf[8] = {0};
	CHECK_EQ(io_read_full(fd, buf, 5), 0);
	CHECK_STR(buf, "early");
	CHECK_EQ(read(fd, buf, 1), 0);
	close(fd);
	settle();
	while (open_fds() != before)
		usleep(1000);
	stop();
}

TEST(a_half_closed_sender_still_gets_its_answer)
{
	char buf[16] = {0};
	int fd;

	start();
	fd = dial_line("CONNECT 9\n");
	CHECK(answered(fd));
	for (int i = 0; i < 1000; i++)
		CHECK_EQ(io_write_full(fd, buf, sizeof(buf)), 0);
	shutdown(fd, SHUT_WR);
	CHECK_EQ(io_read_full(fd, buf, 4), 0);
	CHECK_STR(buf, "done");
	CHECK_EQ(read(fd, buf, 1), 0);
	close(fd);
	settle();
	stop();
}

TEST(a_reader_that_stops_holds_the_sender_without_loss)
{
	struct pump w;
	uint64_t s = 99;
	static uint64_t buf[8192];
	bool same = true;
	int fd;

	start();
	fd = dial_line("CONNECT 7\n");
	CHECK(answered(fd));
	w = (struct pump){.fd = fd, .seed = 99, .total = 8 << 20};
	if (os_thread_start(&w.t, "writer", writer, &w) < 0)
		abort();
	usleep(300000); /* everything on the way fills up */
	for (size_t done = 0; done < w.total && same; done += sizeof(buf)) {
		same = io_read_full(fd, buf, sizeof(buf)) == 0;
		for (unsigned i = 0; i < ARRAY_LEN(buf) && same; i++)
			same = buf[i] == step(&s);
	}
	CHECK(same);
	os_thread_join(w.t);
	close(fd);
	settle();
	stop();
}

TEST(the_guest_reaches_host_sockets)
{
	char path[128];
	int l, fd;

	start();
	snprintf(path, sizeof(path), "%s_5000", rig.path);
	l = io_unix_listen(path, 4);
	REQUIRE(l >= 0);
	atomic_store(&rig.dial, 5000);
	fd = accept(l, NULL, NULL);
	REQUIRE(fd >= 0);
	CHECK(echo_intact(fd, 7, 4 << 20));
	close(fd);
	settle();
	CHECK_EQ(atomic_load(&rig.dialled), 1);
	/* Nobody there. */
	atomic_store(&rig.dial, 5001);
	while (!atomic_load(&rig.refused))
		usleep(1000);
	/* A full backlog is waited out: 5002 accepts only after several attempts came. */
	close(l);
	snprintf(path, sizeof(path), "%s_5002", rig.path);
	l = io_unix_listen(path, 0);
	for (unsigned i = 0; i < 4; i++) {
		atomic_store(&rig.dial, 5002);
		while (atomic_load(&rig.dial))
			usleep(1000);
	}
	usleep(100000);
	for (unsigned i = 0; i < 4; i++) {
		fd = accept(l, NULL, NULL);
		CHECK(fd >= 0);
		CHECK(echo_intact(fd, 7, 65536));
		close(fd);
	}
	close(l);
	settle();
	CHECK_EQ(atomic_load(&rig.dialled), 5);
	stop();
}

TEST(a_path_that_cannot_be_is_an_error)
{
	struct err e = {0};
	struct fake_vsock g;
	char path[200];

	memset(path, 'x', sizeof(path));
	path[sizeof(path) - 1] = '\0';
	if (loop_new(&rig.loop) < 0)
		abort();
	fv_init(&g, rig.loop, 0, 4096);
	CHECK(vsock_unix_attach(g.vs, rig.loop, path, &e) < 0);
	CHECK(strstr(e.text, "too long"));
	CHECK(vsock_unix_attach(g.vs, rig.loop, "/nonexistent/v", &e) < 0);
	CHECK(strstr(e.text, "/nonexistent/v"));
	fv_done(&g);
	loop_free(rig.loop);
}

TEST_MAIN()
