/* SPDX-License-Identifier: MIT */
#include "netd/forward.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "lib/base/io.h"
#include "lib/base/log.h"
#include "lib/base/acceptor.h"
#include "lib/session/join.h"
#include "netd/endpoint.h"
#include "netd/forward-udp.h"

enum {
	MAX_LISTENERS = 1024,
	RESERVED = 256,		 /* more, for what the user adds */
	MAX_CONNECTIONS = 16000, /* the machine's monitor takes some more, which are for sessions */
	MAX_DIALS =
		64, /* of a port: the guest's queue of connections to take is short, and others have to fit, too */
	BACKLOG = 4096,
};

/* A port of this host. */
struct port {
	struct port *next;
	struct forwards *f;
	char listen[FORWARD_TEXT], to[FORWARD_TEXT];
	uint32_t vsock_port;
	bool added;
	int fd; /* negative: udp has it */
	struct acceptor *acceptor;
	struct udp_port *udp;
	uint64_t count; /* connections so far */
	unsigned n_dials;
	struct through *first, **last; /* wait for their turn to be dialled */
};

/* A connection: it waits its turn, is dialled, then joined. */
struct through {
	struct through *next, **at;
	struct forwards *f;
	struct port *port;	/* until it is dialled; NULL: the port is gone */
	struct through *behind; /* in the port's queue */
	int client;
	struct dial *dial;
	struct join *join;
};

struct forwards {
	struct loop *loop;
	char vsock[PATH_MAX];
	struct port *ports;
	unsigned n_ports, n_through;
	struct through *all;
};

static void through_end(struct through *t)
{
	*t->at = t->next;
	if (t->next)
		t->next->at = t->at;
	t->f->n_through--;
	dial_free(t->dial);
	join_free(t->join);
	if (t->client >= 0)
		close(t->client);
	free(t);
}

static void joined_end(void *ctx, struct join *j)
{
	through_end(ctx);
}

/* The client is to see a refusal, not an end. */
static void reset(int fd)
{
	const struct linger now = {.l_onoff = 1};

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
}

static void dial_more(struct port *p);

static void dialled(void *ctx, struct dial *d, int fd)
{
	struct through *t = ctx;
	struct port *p = t->port;

	t->dial = dial_free(t->dial);
	t->port = NULL;
	if (p) {
		p->n_dials--;
		dial_more(p);
	}
	if (fd < 0) {
		/* nobody listens: the client is told, and that is enough */
		if (fd != -ECONNREFUSED)
			log_limited(
				"forward", "a connection to the guest failed: %s", strerror(-fd));
		reset(t->client);
		through_end(t);
		return;
	}
	if (join_new(&t->join, t->f->loop, take_fd(t->client), fd, joined_end, t) < 0) {
		t->join = NULL;
		through_end(t);
	}
}

static void begin_dial(struct port *p, struct through *t)
{
	int r = dial_new(&t->dial, t->f->loop, t->f->vsock, p->vsock_port, p->to, dialled, t);

	if (r < 0) {
		log_limited("forward", "%s: a connection is refused: %s", p->listen, strerror(-r));
		t->dial = NULL;
		reset(t->client);
		through_end(t);
	} else {
		p->n_dials++;
	}
}

static void dial_more(struct port *p)
{
	while (p->first && p->n_dials < MAX_DIALS) {
		struct through *t = p->first;

		p->first = t->behind;
		if (!p->first)
			p->last = &p->first;
		begin_dial(p, t);
	}
}

static void on_connection(void *ctx, int conn)
{
	struct port *p = ctx;
	struct forwards *f = p->f;
	struct through *t;
	int on = 1;

	t = f->n_through < MAX_CONNECTIONS ? calloc(1, sizeof(*t)) : NULL;
	if (!t) {
		log_limited("forward", "%s: there are %u connections: one more is refused",
			p->listen, f->n_through);
		reset(conn);
		close(conn);
		return;
	}
	setsockopt(conn, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	*t = (struct through){.next = f->all, .at = &f->all, .f = f, .port = p, .client = conn};
	if (t->next)
		t->next->at = &t->next;
	f->all = t;
	f->n_through++;
	p->count++;
	*p->last = t;
	p->last = &t->behind;
	dial_more(p);
}

static int open_listener(const char *listen_at)
{
	struct sockaddr_storage ss;
	int type = endpoint_parse(listen_at, &ss), on = 1;
	cleanup_close int fd = -EBADF;

	if (type < 0)
		return type;
	fd = socket(ss.ss_family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	/* Connections of a listener before this one may still be there. */
	if (type == SOCK_STREAM)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (ss.ss_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	if (bind(fd, (struct sockaddr *)&ss,
		    ss.ss_family == AF_INET6 ? sizeof(struct sockaddr_in6)
					     : sizeof(struct sockaddr_in)) < 0 ||
		(type == SOCK_STREAM && listen(fd, BACKLOG) < 0))
		return -errno;
	return take_fd(fd);
}

static struct port **find(struct forwards *f, const char *listen_at)
{
	struct port **p = &f->ports;

	while (*p && strcmp((*p)->listen, listen_at) != 0)
		p = &(*p)->next;
	return p;
}

static void lead(struct port *p, const struct forward_config *c)
{
	snprintf(p->to, sizeof(p->to), "%s", c->to);
	p->vsock_port = c->port;
	p->added |= c->added;
}

int forwards_add(struct forwards *f, const struct forward_config *c, struct err *e)
{
	struct port *p = *find(f, c->listen);
	int r;

	if (p) {
		lead(p, c);
		return 0;
	}
	p = f->n_ports < MAX_LISTENERS + (c->added ? RESERVED : 0u) ? calloc(1, sizeof(*p)) : NULL;
	if (!p)
		return err_set(e, -ENOSPC, "too many ports are forwarded");
	*p = (struct port){.f = f, .last = &p->first};
	snprintf(p->listen, sizeof(p->listen), "%s", c->listen);
	lead(p, c);
	p->fd = open_listener(c->listen);
	r = p->fd < 0 ? p->fd
	    : !strncmp(c->listen, "udp", 3)
		    ? udp_port_new(
			      &p->udp, f->loop, take_fd(p->fd), f->vsock, &p->vsock_port, p->to)
		    : acceptor_new(&p->acceptor, f->loop, p->fd, SOCK_NONBLOCK, on_connection, p);
	if (r < 0) {
		if (p->fd >= 0)
			close(p->fd);
		free(p);
		return err_sys(e, r, "%s", c->listen);
	}
	p->next = f->ports;
	f->ports = p;
	f->n_ports++;
	return 0;
}

int forwards_remove(struct forwards *f, const char *listen_at)
{
	struct port **at = find(f, listen_at), *p = *at;

	if (!p)
		return -ENOENT;
	*at = p->next;
	f->n_ports--;
	while (p->first) {
		struct through *t = p->first;

		p->first = t->behind;
		begin_dial(p, t);
	}
	for (struct through *t = f->all; t; t = t->next)
		if (t->port == p)
			t->port = NULL;
	acceptor_free(p->acceptor);
	udp_port_free(p->udp);
	if (p->fd >= 0)
		close(p->fd);
	free(p);
	return 0;
}

struct json_object *forwards_list(const struct forwards *f)
{
	struct json_object *list = js_array();

	for (const struct port *p = f->ports; p; p = p->next) {
		struct json_object *o = js_set_str(js_object(), "listen", p->listen);

		js_set_str(o, "to", p->to);
		js_set_bool(o, "added", p->added);
		js_push(list, js_set_u64(o, "connections", p->count));
	}
	return list;
}

bool forwards_alive(const struct forwards *f)
{
	cleanup_close int fd = io_unix_connect(f->vsock);

	return fd >= 0;
}

int forwards_new(struct forwards **ret, struct loop *l, const char *vsock)
{
	struct forwards *f = calloc(1, sizeof(*f));

	if (!f)
		return -ENOMEM;
	f->loop = l;
	snprintf(f->vsock, sizeof(f->vsock), "%s", vsock);
	*ret = f;
	return 0;
}

void forwards_free(struct forwards *f)
{
	if (!f)
		return;
	while (f->ports)
		forwards_remove(f, f->ports->listen);
	while (f->all)
		through_end(f->all);
	free(f);
}
