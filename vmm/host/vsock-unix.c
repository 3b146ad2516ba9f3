/* SPDX-License-Identifier: MIT */
/*
 * Guest stream sockets as unix sockets; see vsock-unix.h for what a host program sees.
 *
 * Descriptors are watched by an epoll instance of our own, itself watched by the loop: sockets can then be added, changed
 * and closed on a vCPU's thread. Streams are edge-triggered, so that a stalled one costs nothing; EPOLLOUT is asked for
 * only while bytes wait for it. All state is under the device's lock.
 */
#include "vmm/host/vsock-unix.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "lib/base/cleanup.h"
#include "lib/base/io.h"
#include "lib/base/log.h"

enum { PEERS = VSOCK_CONNS + 256, EVENTS = 64, LINE_MAX_LEN = 32, BACKLOG = 128 };

static const uint64_t line_ns = 10ull * 1000 * 1000 * 1000; /* to write the CONNECT line */
static const uint64_t retry_ns = 20ull * 1000 * 1000;	    /* between attempts to connect */

enum peer_state {
	PEER_FREE,
	PEER_LINE,    /* waits for the CONNECT line */
	PEER_ASKED,   /* the guest was asked */
	PEER_DIALING, /* a host socket's backlog is full: trying again */
	PEER_STREAM,
};

struct peer {
	enum peer_state state;
	uint32_t gen;	   /* of this entry: events for its former owners are stale */
	int fd;		   /* owned */
	uint32_t port;	   /* PEER_DIALING: of the host */
	uint64_t deadline; /* PEER_LINE */
	bool want_out;
	struct vsock_conn *conn; /* PEER_ASKED and on; borrowed, until close() */
	struct peer *next;	 /* free list */
};

struct vsock_unix {
	struct vsock *vs;
	struct loop *loop;
	int epfd, listen_fd; /* owned */
	int dir_fd;	     /* owned; of a path too long for an address, else -1 */
	struct loop_src *src, *timer;
	uint64_t timer_at;
	bool deaf; /* not accepting: out of descriptors or entries */
	struct peer *free;
	unsigned
		touched; /* the first so many of peer have been in use: memory behind them is not touched */
	struct peer peer[PEERS];
	char path[sizeof(((struct sockaddr_un *)NULL)->sun_path) - sizeof("_4294967295") + 1];
};

/* --- peers --- */

static struct peer *peer_new(struct vsock_unix *u, int fd)
{
	struct peer *p = u->free;

	if (p)
		u->free = p->next;
	else if (u->touched < PEERS)
		p = &u->peer[u->touched++];
	else
		return NULL;
	*p = (struct peer){.gen = p->gen + 1, .fd = fd};
	return p;
}

static int peer_watch(struct vsock_unix *u, struct peer *p, bool out, bool add)
{
	struct epoll_event ev = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET | (out ? EPOLLOUT : 0u),
		.data.u64 = (uint64_t)p->gen << 32 | (uint64_t)(p - u->peer)};

	p->want_out = out;
	return epoll_ctl(u->epfd, add ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, p->fd, &ev) < 0 ? -errno : 0;
}

static void arm(struct vsock_unix *u, uint64_t at)
{
	if (u->timer_at && u->timer_at <= at)
		return;
	u->timer_at = at;
	loop_timer_arm(u->timer, at);
}

static void listen_on(struct vsock_unix *u, bool on)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.u64 = UINT64_MAX};

	u->deaf = !on;
	epoll_ctl(u->epfd, on ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, u->listen_fd, &ev);
	if (!on)
		arm(u, loop_now() + 5 * retry_ns);
}

static void peer_free(struct vsock_unix *u, struct peer *p)
{
	if (p->fd >= 0)
		close(p->fd); /* leaves the epoll set, too: nobody else has it */
	p->fd = -1;
	p->state = PEER_FREE;
	p->conn = NULL;
	p->gen++;
	p->next = u->free;
	u->free = p;
}

/* --- from the guest --- */

/* 1: connected, 0: try again later, negative: no. */
static int dial(struct vsock_unix *u, struct peer *p)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s_%u", u->path, p->port);
	if (connect(p->fd, (struct sockaddr *)&sa, sizeof(sa)) == 0) {
		int r = peer_watch(u, p, /* out= */ false, /* add= */ true);

		p->state = PEER_STREAM;
		return r < 0 ? r : 1;
	}
	return errno == EAGAIN ? 0 : -errno;
}

static int back_connect(void *ctx, struct vsock_conn *c, uint32_t port, void **ret_peer)
{
	struct vsock_unix *u = ctx;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), r;
	struct peer *p;

	if (fd < 0)
		return -errno;
	p = peer_new(u, fd);
	if (!p) {
		close(fd);
		return -ENOSPC;
	}
	p->port = port;
	p->conn = c;
	r = dial(u, p);
	if (r < 0) {
		log_debug("vsock", "guest to port %u: %s", port, strerror(-r));
		peer_free(u, p);
		return r;
	}
	if (r == 0) {
		p->state = PEER_DIALING;
		arm(u, loop_now() + retry_ns);
	}
	*ret_peer = p;
	return r;
}

static bool back_established(void *ctx, void *peer, uint32_t host_port)
{
	struct peer *p = peer;
	char line[32];
	int n = snprintf(line, sizeof(line), "OK %u\n", host_port);

	p->state = PEER_STREAM;
	return send(p->fd, line, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT) == n;
}

static ssize_t back_recv(void *ctx, void *peer, const struct iovec *iov, unsigned n)
{
	struct peer *p = peer;
	ssize_t got;

	do
		got = readv(p->fd, iov, (int)n);
	while (got < 0 && errno == EINTR);
	return got < 0 ? -errno : got;
}

static ssize_t back_send(void *ctx, void *peer, const struct iovec *iov, unsigned n)
{
	struct vsock_unix *u = ctx;
	struct peer *p = peer;
	struct msghdr m = {.msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = n};
	ssize_t sent;
	size_t len = iov_size(iov, n);

	do
		sent = sendmsg(p->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (sent < 0 && errno == EINTR);
	if (sent < 0 && errno != EAGAIN)
		return -errno;
	if (sent < (ssize_t)len && !p->want_out)
		peer_watch(u, p, /* out= */ true, /* add= */ false);
	return sent < 0 ? -EAGAIN : sent;
}

static void back_shutdown(void *ctx, void *peer, bool rd, bool wr)
{
	struct peer *p = peer;

	shutdown(p->fd, rd && wr ? SHUT_RDWR : rd ? SHUT_RD : SHUT_WR);
}

static void back_close(void *ctx, void *peer)
{
	peer_free(ctx, peer);
}

static void back_free(void *ctx)
{
	struct vsock_unix *u = ctx;

	loop_src_free(u->src);
	loop_src_free(u->timer);
	for (unsigned i = 0; i < u->touched; i++)
		if (u->peer[i].state != PEER_FREE)
			peer_free(u, &u->peer[i]);
	if (u->listen_fd >= 0) {
		close(u->listen_fd);
		unlink(u->path);
	}
	if (u->dir_fd >= 0)
		close(u->dir_fd);
	if (u->epfd >= 0)
		close(u->epfd);
	free(u);
}

static const struct vsock_back_ops unix_ops = {
	.connect = back_connect,
	.established = back_established,
	.recv = back_recv,
	.send = back_send,
	.shutdown = back_shutdown,
	.close = back_close,
	.free = back_free,
};

/* --- towards the guest --- */

static bool parse_connect(const char *line, uint32_t *ret_port)
{
	unsigned long long port = 0;
	const char *s = line + strlen("CONNECT ");

	if (strncmp(line, "CONNECT ", strlen("CONNECT ")) != 0 || *s < '0' || *s > '9')
		return false;
	for (; *s >= '0' && *s <= '9'; s++)
		if ((port = port * 10 + (unsigned)(*s - '0')) > UINT32_MAX)
			return false;
	*ret_port = (uint32_t)port;
	return *s == '\0';
}

/* Reads the line and not a byte more: what follows it belongs to the stream. */
static void read_line(struct vsock_unix *u, struct peer *p, bool ended)
{
	char line[LINE_MAX_LEN + 1];
	ssize_t n = recv(p->fd, line, LINE_MAX_LEN, MSG_PEEK | MSG_DONTWAIT);
	uint32_t port;
	char *end;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	end = n > 0 ? memchr(line, '\n', (size_t)n) : NULL;
	if (!end && n > 0 && n < LINE_MAX_LEN && !ended)
		return; /* not all there */
	if (!end || recv(p->fd, line, (size_t)(end + 1 - line), MSG_DONTWAIT) != end + 1 - line) {
		peer_free(u, p);
		return;
	}
	*end = '\0';
	if (!parse_connect(line, &port) || vsock_open(u->vs, port, p, &p->conn) < 0) {
		log_debug("vsock", "bad or refused request \"%s\"", line);
		peer_free(u, p);
		return;
	}
	p->state = PEER_ASKED;
}

static void accept_some(struct vsock_unix *u)
{
	for (unsigned i = 0; i < BACKLOG; i++) {
		struct peer *p;
		int fd;

		if (!u->free && u->touched == PEERS) {
			listen_on(u, false);
			return;
		}
		fd = accept4(u->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd < 0) {
			if (errno == EMFILE || errno == ENFILE || errno == ENOMEM ||
				errno == ENOBUFS) {
				log_limited("vsock", "cannot accept: %s", strerror(errno));
				listen_on(u, false);
			}
			return;
		}
		p = peer_new(u, fd);
		p->state = PEER_LINE;
		p->deadline = loop_now() + line_ns;
		arm(u, p->deadline);
		if (peer_watch(u, p, /* out= */ false, /* add= */ true) < 0)
			peer_free(u, p);
	}
}

/* --- events --- */

static void stream_event(struct vsock_unix *u, struct peer *p, uint32_t ev)
{
	struct vsock_conn *c = p->conn;
	uint32_t gen = p->gen;

	if (ev & (EPOLLHUP | EPOLLERR)) {
		vsock_hangup(c);
		if (p->gen != gen)
			return; /* closed meanwhile */
	}
	if (ev & EPOLLOUT) {
		vsock_writable(c);
		if (p->gen != gen)
			return;
		/* Still full: the next edge comes by itself. */
		if (!vsock_waits_for_host(c))
			peer_watch(u, p, /* out= */ false, /* add= */ false);
	}
	if (ev & (EPOLLIN | EPOLLRDHUP))
		vsock_readable(c);
}

static void event(struct vsock_unix *u, const struct epoll_event *ev)
{
	struct virtio_dev *v = vsock_dev(u->vs);
	uint64_t index = (uint32_t)ev->data.u64;
	struct peer *p;
	VIRTIO_GUARD(v);

	if (ev->data.u64 == UINT64_MAX) {
		accept_some(u);
		return;
	}
	p = &u->peer[index];
	if (p->gen != ev->data.u64 >> 32)
		return;
	switch (p->state) {
	case PEER_LINE: read_line(u, p, ev->events & (EPOLLRDHUP | EPOLLHUP)); break;
	case PEER_ASKED:
		if (ev->events & (EPOLLHUP | EPOLLERR))
			vsock_hangup(p->conn);
		break; /* early data is found when the guest has answered */
	case PEER_STREAM: stream_event(u, p, ev->events); break;
	default: break;
	}
	vsock_pump(u->vs);
}

static void events(void *ctx, int fd, uint32_t revents)
{
	struct vsock_unix *u = ctx;
	struct epoll_event ev[EVENTS];
	int n = epoll_wait(u->epfd, ev, EVENTS, 0);

	/* One lock for each event: vCPUs with packets get their turn in between. */
	for (int i = 0; i < n; i++)
		event(u, &ev[i]);
}

static void timer_fired(void *ctx)
{
	struct vsock_unix *u = ctx;
	uint64_t now = loop_now(), next = UINT64_MAX;
	VIRTIO_GUARD(vsock_dev(u->vs));

	u->timer_at = 0;
	if (u->deaf)
		listen_on(u, true);
	for (unsigned i = 0; i < u->touched; i++) {
		struct peer *p = &u->peer[i];

		if (p->state == PEER_LINE) {
			if (p->deadline <= now)
				peer_free(u, p);
			else
				next = MIN(next, p->deadline);
		} else if (p->state == PEER_DIALING) {
			struct vsock_conn *c = p->conn;
			int r = dial(u, p);

			if (r > 0) {
				vsock_connected(c);
			} else if (r < 0) {
				peer_free(u, p);
				vsock_refused(c);
			} else {
				next = MIN(next, now + retry_ns);
			}
		}
	}
	if (next != UINT64_MAX)
		arm(u, next);
	vsock_pump(u->vs);
}

/*
 * What the host's sockets are called when the guest connects. That is inside the sandbox, where no folder can be opened
 * any more: for a path too long for an address, its folder's descriptor is kept.
 */
static int name_sockets(struct vsock_unix *u, const char *path, struct err *e)
{
	const char *base = strrchr(path, '/');
	char dir[PATH_MAX];

	if (strlen(path) < sizeof(u->path)) {
		snprintf(u->path, sizeof(u->path), "%s", path);
		return 0;
	}
	if (!base || (size_t)(base - path) >= sizeof(dir))
		return err_set(e, -ENAMETOOLONG, "vsock socket %s: the path is too long", path);
	snprintf(dir, sizeof(dir), "%.*s", (int)(base - path), path);
	u->dir_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (u->dir_fd < 0)
		return err_sys(e, -errno, "vsock socket %s", path);
	if (snprintf(u->path, sizeof(u->path), "/proc/self/fd/%d%s", u->dir_fd, base) >=
		(int)sizeof(u->path))
		return err_set(e, -ENAMETOOLONG, "vsock socket %s: the name is too long", path);
	return 0;
}

int vsock_unix_attach(struct vsock *vs, struct loop *loop, const char *path, struct err *e)
{
	struct vsock_unix *u;
	int r;

	u = calloc(1, sizeof(*u));
	if (!u)
		return err_set(e, -ENOMEM, "vsock: out of memory");
	u->vs = vs;
	u->loop = loop;
	u->epfd = u->listen_fd = u->dir_fd = -1;
	r = name_sockets(u, path, e);
	if (r < 0)
		goto fail;
	u->epfd = epoll_create1(EPOLL_CLOEXEC);
	if (u->epfd < 0) {
		r = err_sys(e, -errno, "vsock: epoll");
		goto fail;
	}
	u->listen_fd = io_unix_listen(path, BACKLOG);
	if (u->listen_fd < 0) {
		r = err_sys(e, u->listen_fd, "vsock socket %s", path);
		goto fail;
	}
	r = io_set_nonblock(u->listen_fd, true);
	if (r == 0)
		r = loop_timer(loop, timer_fired, u, &u->timer);
	if (r == 0)
		r = loop_io(loop, u->epfd, EPOLLIN, events, u, &u->src);
	if (r < 0) {
		err_sys(e, r, "vsock socket %s", path);
		goto fail;
	}
	listen_on(u, true);
	vsock_set_back(vs, &unix_ops, u);
	return 0;
fail:
	back_free(u);
	return r;
}
