/* SPDX-License-Identifier: MIT */
/*
 * A UDP port of this host: whoever sends to it has a stream of datagrams to the guest's listener for as long as either side
 * says something now and then.
 */
#include "netd/forward-udp.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>
#include "lib/base/io.h"
#include "lib/session/datagram.h"
#include "netd/forward.h"

enum { MAX_PEERS = 256, SILENT_MS = 60000 };

struct peer {
	struct udp_port *u;
	struct sockaddr_storage addr;
	socklen_t addr_len;
	uint64_t used; /* when something last went by; 0: this one is free */
	struct dial *dial;
	struct datagrams *stream;
	uint8_t *first; /* what came first, until the stream is there; owned */
	size_t first_len;
};

struct udp_port {
	struct loop *loop;
	int fd;
	const char *vsock, *to;
	const uint32_t *vsock_port;
	struct loop_src *src, *timer;
	struct peer peer[MAX_PEERS];
	uint8_t buf[DATAGRAM_MAX];
};

static void drop(struct peer *p)
{
	p->dial = dial_free(p->dial);
	p->stream = datagrams_free(p->stream);
	free(take_ptr(p->first));
	p->used = 0;
}

static void received(void *ctx, const uint8_t *data, size_t len)
{
	struct peer *p = ctx;

	p->used = loop_now();
	(void)!sendto(p->u->fd, data, len, MSG_NOSIGNAL, (struct sockaddr *)&p->addr, p->addr_len);
}

static void ended(void *ctx)
{
	drop(ctx);
}

static const struct datagrams_ops ops = {received, ended};

static void dialled(void *ctx, struct dial *d, int fd)
{
	struct peer *p = ctx;

	p->dial = dial_free(p->dial);
	if (fd < 0 || io_set_nonblock(fd, true) < 0 ||
		datagrams_new(&p->stream, p->u->loop, fd, &ops, p) < 0) {
		p->stream = NULL;
		drop(p);
		return;
	}
	if (p->first)
		datagrams_send(p->stream, p->first, p->first_len);
	free(take_ptr(p->first));
}

/* The one with this address; or a free one, or the one that has been silent for longest. */
static struct peer *find(struct udp_port *u, const struct sockaddr_storage *a, socklen_t len)
{
	struct peer *best = &u->peer[0];

	for (unsigned i = 0; i < MAX_PEERS; i++) {
		struct peer *p = &u->peer[i];

		if (p->used && p->addr_len == len && !memcmp(&p->addr, a, len))
			return p;
		if (p->used < best->used)
			best = p;
	}
	if (best->used)
		drop(best);
	return best;
}

static void on_datagram(void *ctx, int fd, uint32_t revents)
{
	struct udp_port *u = ctx;
	struct sockaddr_storage from = {0};
	socklen_t from_len = sizeof(from);
	ssize_t n = recvfrom(fd, u->buf, sizeof(u->buf), 0, (struct sockaddr *)&from, &from_len);
	struct peer *p;

	if (n < 0)
		return;
	p = find(u, &from, from_len);
	if (!p->used) {
		*p = (struct peer){.u = u, .addr = from, .addr_len = from_len};
		if (dial_new(&p->dial, u->loop, u->vsock, *u->vsock_port, u->to, dialled, p) < 0) {
			p->dial = NULL;
			return;
		}
		loop_timer_arm(u->timer, loop_now() + SILENT_MS * 1000000ull);
	}
	p->used = loop_now();
	if (p->stream) {
		datagrams_send(p->stream, u->buf, (size_t)n);
	} else if (!p->first && (p->first = malloc((size_t)n + 1))) {
		memcpy(p->first, u->buf, (size_t)n);
		p->first_len = (size_t)n;
	}
}

static void on_timer(void *ctx)
{
	struct udp_port *u = ctx;
	uint64_t before = loop_now() - SILENT_MS * 1000000ull;
	bool any = false;

	for (unsigned i = 0; i < MAX_PEERS; i++) {
		if (u->peer[i].used && u->peer[i].used < before)
			drop(&u->peer[i]);
		any |= u->peer[i].used != 0;
	}
	if (any)
		loop_timer_arm(u->timer, loop_now() + SILENT_MS * 1000000ull);
}

int udp_port_new(struct udp_port **ret, struct loop *l, int fd, const char *vsock,
	const uint32_t *vsock_port, const char *to)
{
	struct udp_port *u = calloc(1, sizeof(*u));
	int r;

	if (!u) {
		close(fd);
		return -ENOMEM;
	}
	u->loop = l;
	u->fd = fd;
	u->vsock = vsock;
	u->vsock_port = vsock_port;
	u->to = to;
	r = loop_timer(l, on_timer, u, &u->timer);
	if (r == 0)
		r = loop_io(l, fd, EPOLLIN, on_datagram, u, &u->src);
	if (r < 0) {
		udp_port_free(u);
		return r;
	}
	*ret = u;
	return 0;
}

struct udp_port *udp_port_free(struct udp_port *u)
{
	if (!u)
		return NULL;
	for (unsigned i = 0; i < MAX_PEERS; i++)
		if (u->peer[i].used)
			drop(&u->peer[i]);
	loop_src_free(u->src);
	loop_src_free(u->timer);
	close(u->fd);
	free(u);
	return NULL;
}
