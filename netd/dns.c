/* SPDX-License-Identifier: MIT */
#include "netd/dns.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_QUESTIONS = 512, QUESTION_MAX = 4096, REPLY_MAX = 65535, TRY_MS = 2000, ROUNDS = 2 };

/* A question on its way. */
struct question {
	struct dns *d;
	int listen; /* where it came from, borrowed; negative: free */
	int sock;
	struct loop_src *src;
	struct sockaddr_storage from;
	socklen_t from_len;
	unsigned first, tries; /* the server that was asked first, how many times one was */
	uint64_t deadline;     /* of this try */
	uint64_t serial;
	size_t len;
	uint8_t data[QUESTION_MAX];
};

struct dns {
	struct loop *loop;
	struct in_addr host;
	struct in6_addr host6;
	bool ipv6;
	struct sockaddr_storage servers[DNS_SERVERS_MAX];
	unsigned n;
	unsigned good; /* the server that answered last */
	int fd[2];
	struct loop_src *src[2], *timer;
	struct dns_tcp *tcp;
	uint64_t serial;
	struct question q[MAX_QUESTIONS];
	uint8_t reply[REPLY_MAX];
};

socklen_t dns_addr_len(const struct sockaddr_storage *a)
{
	return a->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
}

int dns_bind_loopback(int family, int type, uint16_t *ret_port)
{
	struct sockaddr_storage ss = {.ss_family = (sa_family_t)family};
	struct sockaddr_in *in4 = (struct sockaddr_in *)&ss;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&ss;
	socklen_t len = dns_addr_len(&ss);
	cleanup_close int fd = socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (family == AF_INET6)
		in6->sin6_addr = in6addr_loopback;
	else
		in4->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd < 0 || bind(fd, (struct sockaddr *)&ss, len) < 0 ||
		(type == SOCK_STREAM && listen(fd, 64) < 0) ||
		getsockname(fd, (struct sockaddr *)&ss, &len) < 0)
		return -errno;
	*ret_port = ntohs(family == AF_INET6 ? in6->sin6_port : in4->sin_port);
	return take_fd(fd);
}

static void drop_socket(struct question *q)
{
	q->src = loop_src_free(q->src);
	if (q->sock >= 0)
		close(take_fd(q->sock));
}

static void done(struct question *q)
{
	drop_socket(q);
	q->listen = -1;
}

static void answer(struct question *q, const void *data, size_t len)
{
	/* A guest that is gone does not matter. */
	(void)!sendto(q->listen, data, len, MSG_NOSIGNAL, (struct sockaddr *)&q->from, q->from_len);
	done(q);
}

static void arm(struct dns *d)
{
	uint64_t next = 0;

	for (unsigned i = 0; i < MAX_QUESTIONS; i++)
		if (d->q[i].listen >= 0 && (!next || d->q[i].deadline < next))
			next = d->q[i].deadline;
	loop_timer_arm(d->timer, next);
}

static void on_answer(void *ctx, int fd, uint32_t revents);

/* Asks the next server; when all have had their turns, the guest hears that it failed. */
static void ask(struct question *q)
{
	struct dns *d = q->d;
	uint8_t failure[DNS_ANSWER_MAX];

	drop_socket(q);
	while (q->tries < d->n * ROUNDS) {
		const struct sockaddr_storage *to = &d->servers[(q->first + q->tries++) % d->n];

		q->sock = socket(to->ss_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		if (q->sock >= 0 &&
			connect(q->sock, (const struct sockaddr *)to, dns_addr_len(to)) == 0 &&
			send(q->sock, q->data, q->len, MSG_NOSIGNAL) == (ssize_t)q->len &&
			loop_io(d->loop, q->sock, EPOLLIN, on_answer, q, &q->src) == 0) {
			q->deadline = loop_now() + TRY_MS * 1000000ull;
			return;
		}
		drop_socket(q);
	}
	answer(q, failure, dns_failure(q->data, q->len, failure));
}

static void on_answer(void *ctx, int fd, uint32_t revents)
{
	struct question *q = ctx;
	struct dns *d = q->d;
	ssize_t n = recv(fd, d->reply, sizeof(d->reply), 0);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	/* Something else than its answer: the next one may be it, or the time is over. */
	if (n >= 0 && (n < 12 || memcmp(d->reply, q->data, 2) != 0 || !(d->reply[2] & 0x80)))
		return;
	if (n < 0) {
		ask(q); /* nobody serves there */
	} else {
		d->good = (q->first + q->tries - 1) % MAX(d->n, 1u);
		answer(q, d->reply, (size_t)n);
	}
	arm(d);
}

static void on_timer(void *ctx)
{
	struct dns *d = ctx;
	uint64_t now = loop_now();

	for (unsigned i = 0; i < MAX_QUESTIONS; i++)
		if (d->q[i].listen >= 0 && d->q[i].deadline <= now)
			ask(&d->q[i]);
	arm(d);
}

/* One that is free, or the oldest. */
static struct question *slot(struct dns *d)
{
	struct question *old = &d->q[0];

	for (unsigned i = 0; i < MAX_QUESTIONS; i++) {
		if (d->q[i].listen < 0)
			return &d->q[i];
		if (d->q[i].serial < old->serial)
			old = &d->q[i];
	}
	done(old);
	return old;
}

/* One at a time: the loop comes back while there are more. */
static void on_question(void *ctx, int fd, uint32_t revents)
{
	uint8_t local[DNS_ANSWER_MAX];
	struct dns *d = ctx;
	struct question *q = slot(d);
	ssize_t n;
	size_t len;

	q->from_len = sizeof(q->from);
	n = recvfrom(
		fd, q->data, sizeof(q->data), MSG_TRUNC, (struct sockaddr *)&q->from, &q->from_len);
	if (n < 12 || n > QUESTION_MAX)
		return;
	q->len = (size_t)n;
	q->listen = fd;
	q->first = d->good;
	q->tries = 0;
	q->serial = ++d->serial;
	q->deadline = UINT64_MAX;
	len = dns_answer(q->data, q->len, &d->host, d->ipv6 ? &d->host6 : NULL, local);
	if (len)
		answer(q, local, len);
	else
		ask(q);
	arm(d);
}

void dns_set_servers(struct dns *d, const struct sockaddr_storage *servers, unsigned n)
{
	d->n = MIN(n, (unsigned)DNS_SERVERS_MAX);
	memcpy(d->servers, servers, d->n * sizeof(*servers));
	d->good = 0;
	dns_tcp_set_servers(d->tcp, d->servers, d->n);
}

bool dns_parse_server(const char *text, struct sockaddr_storage *ret)
{
	struct sockaddr_in *in4 = (struct sockaddr_in *)ret;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ret;
	char buf[96], *end, *hash, *zone;
	unsigned long port = 53;

	*ret = (struct sockaddr_storage){0};
	if (snprintf(buf, sizeof(buf), "%s", text) >= (int)sizeof(buf))
		return false;
	hash = strchr(buf, '#');
	if (hash) {
		*hash = '\0';
		port = strtoul(hash + 1, &end, 10);
		if (end == hash + 1 || *end || port == 0 || port > 65535)
			return false;
	}
	if (inet_pton(AF_INET, buf, &in4->sin_addr) == 1) {
		in4->sin_family = AF_INET;
		in4->sin_port = htons((uint16_t)port);
		return true;
	}
	zone = strchr(buf, '%');
	if (zone) {
		*zone = '\0';
		in6->sin6_scope_id = (uint32_t)strtoul(zone + 1, &end, 10);
		if (*end || end == zone + 1)
			return false;
	}
	if (inet_pton(AF_INET6, buf, &in6->sin6_addr) != 1)
		return false;
	in6->sin6_family = AF_INET6;
	in6->sin6_port = htons((uint16_t)port);
	return true;
}

int dns_new(struct dns **ret, struct loop *l, const struct in_addr *host,
	const struct in6_addr *host6, struct dns_ports *ports)
{
	struct dns *d = calloc(1, sizeof(*d));
	int r;

	if (!d)
		return -ENOMEM;
	*ports = (struct dns_ports){0};
	d->loop = l;
	d->host = *host;
	d->ipv6 = host6 != NULL;
	if (host6)
		d->host6 = *host6;
	for (unsigned i = 0; i < MAX_QUESTIONS; i++)
		d->q[i] = (struct question){.d = d, .listen = -1, .sock = -1};
	/* A host without one of the families does without it. */
	d->fd[0] = dns_bind_loopback(AF_INET, SOCK_DGRAM, &ports->udp4);
	d->fd[1] = dns_bind_loopback(AF_INET6, SOCK_DGRAM, &ports->udp6);
	r = d->fd[0] < 0 && d->fd[1] < 0 ? d->fd[0] : loop_timer(l, on_timer, d, &d->timer);
	for (unsigned i = 0; r == 0 && i < ARRAY_LEN(d->fd); i++)
		if (d->fd[i] >= 0)
			r = loop_io(l, d->fd[i], EPOLLIN, on_question, d, &d->src[i]);
	if (r == 0)
		r = dns_tcp_new(&d->tcp, l, ports);
	if (r < 0) {
		dns_free(d);
		return r;
	}
	*ret = d;
	return 0;
}

void dns_free(struct dns *d)
{
	if (!d)
		return;
	for (unsigned i = 0; i < MAX_QUESTIONS; i++)
		if (d->q[i].listen >= 0)
			done(&d->q[i]);
	for (unsigned i = 0; i < ARRAY_LEN(d->fd); i++) {
		loop_src_free(d->src[i]);
		if (d->fd[i] >= 0)
			close(d->fd[i]);
	}
	loop_src_free(d->timer);
	dns_tcp_free(d->tcp);
	free(d);
}
