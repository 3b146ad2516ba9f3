/* SPDX-License-Identifier: MIT */
/* Questions over TCP: each connection is joined with one to the first name server that takes it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include "lib/base/acceptor.h"
#include "lib/session/join.h"
#include "netd/dns.h"

enum { MAX_CONNECTIONS = 128, CONNECT_MS = 3000, LIFE_MS = 120000 };

struct tcp_conn {
	struct dns_tcp *t;
	int guest; /* until it is joined; negative: none */
	int server;
	unsigned tries;
	struct loop_src *src;
	struct join *join;
	uint64_t deadline; /* 0: this one is free */
};

struct dns_tcp {
	struct loop *loop;
	int fd[2];
	struct acceptor *acceptor[2];
	struct loop_src *timer;
	struct sockaddr_storage servers[DNS_SERVERS_MAX];
	unsigned n;
	struct tcp_conn conn[MAX_CONNECTIONS];
};

static void drop_server(struct tcp_conn *c)
{
	c->src = loop_src_free(c->src);
	if (c->server >= 0)
		close(take_fd(c->server));
}

static void end(struct tcp_conn *c)
{
	drop_server(c);
	if (c->guest >= 0)
		close(take_fd(c->guest));
	c->join = join_free(c->join);
	c->deadline = 0;
}

static void joined_end(void *ctx, struct join *j)
{
	end(ctx);
}

static void arm(struct dns_tcp *t)
{
	uint64_t next = 0;

	for (unsigned i = 0; i < MAX_CONNECTIONS; i++) {
		uint64_t d = t->conn[i].deadline;

		if (d && (!next || d < next))
			next = d;
	}
	loop_timer_arm(t->timer, next);
}

static void connect_next(struct tcp_conn *c);

static void on_connected(void *ctx, int fd, uint32_t revents)
{
	struct tcp_conn *c = ctx;
	int error = 0;
	socklen_t len = sizeof(error);

	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0 || error) {
		connect_next(c);
		return;
	}
	c->src = loop_src_free(c->src);
	c->deadline = loop_now() + LIFE_MS * 1000000ull;
	if (join_new(&c->join, c->t->loop, take_fd(c->guest), take_fd(c->server), joined_end, c) <
		0) {
		c->join = NULL;
		end(c);
	}
	arm(c->t);
}

static void connect_next(struct tcp_conn *c)
{
	struct dns_tcp *t = c->t;

	drop_server(c);
	while (c->tries < t->n) {
		const struct sockaddr_storage *to = &t->servers[c->tries++];

		c->server = socket(to->ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		if (c->server >= 0 &&
			(connect(c->server, (const struct sockaddr *)to, dns_addr_len(to)) == 0 ||
				errno == EINPROGRESS) &&
			loop_io(t->loop, c->server, EPOLLOUT, on_connected, c, &c->src) == 0) {
			c->deadline = loop_now() + CONNECT_MS * 1000000ull;
			return;
		}
		drop_server(c);
	}
	end(c);
}

static void on_connection(void *ctx, int guest)
{
	struct dns_tcp *t = ctx;
	struct tcp_conn *c = NULL;

	for (unsigned i = 0; i < MAX_CONNECTIONS && !c; i++)
		if (!t->conn[i].deadline)
			c = &t->conn[i];
	if (!c) {
		close(guest);
		return;
	}
	*c = (struct tcp_conn){.t = t, .guest = guest, .server = -1, .deadline = 1};
	connect_next(c);
	arm(t);
}

static void on_timer(void *ctx)
{
	struct dns_tcp *t = ctx;
	uint64_t now = loop_now();

	for (unsigned i = 0; i < MAX_CONNECTIONS; i++) {
		struct tcp_conn *c = &t->conn[i];

		if (!c->deadline || c->deadline > now)
			continue;
		if (c->join)
			end(c);
		else
			connect_next(c);
	}
	arm(t);
}

void dns_tcp_set_servers(struct dns_tcp *t, const struct sockaddr_storage *servers, unsigned n)
{
	t->n = n;
	memcpy(t->servers, servers, n * sizeof(*servers));
}

int dns_tcp_new(struct dns_tcp **ret, struct loop *l, struct dns_ports *ports)
{
	struct dns_tcp *t = calloc(1, sizeof(*t));
	int r;

	if (!t)
		return -ENOMEM;
	t->loop = l;
	for (unsigned i = 0; i < MAX_CONNECTIONS; i++)
		t->conn[i] = (struct tcp_conn){.t = t, .guest = -1, .server = -1};
	t->fd[0] = dns_bind_loopback(AF_INET, SOCK_STREAM, &ports->tcp4);
	t->fd[1] = dns_bind_loopback(AF_INET6, SOCK_STREAM, &ports->tcp6);
	r = loop_timer(l, on_timer, t, &t->timer);
	for (unsigned i = 0; r == 0 && i < ARRAY_LEN(t->fd); i++)
		if (t->fd[i] >= 0)
			r = acceptor_new(
				&t->acceptor[i], l, t->fd[i], SOCK_NONBLOCK, on_connection, t);
	if (r < 0) {
		dns_tcp_free(t);
		return r;
	}
	*ret = t;
	return 0;
}

struct dns_tcp *dns_tcp_free(struct dns_tcp *t)
{
	if (!t)
		return NULL;
	for (unsigned i = 0; i < MAX_CONNECTIONS; i++)
		end(&t->conn[i]);
	for (unsigned i = 0; i < ARRAY_LEN(t->fd); i++) {
		acceptor_free(t->acceptor[i]);
		if (t->fd[i] >= 0)
			close(t->fd[i]);
	}
	loop_src_free(t->timer);
	free(t);
	return NULL;
}
