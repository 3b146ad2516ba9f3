/* SPDX-License-Identifier: MIT */
#include "interop/server.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include "interop/programs.h"
#include "lib/base/io.h"
#include "lib/base/log.h"
#include "lib/session/conn.h"
#include "lib/session/session.h"

/* Strangers, who have not said who they are yet: a flood of them pushes out its own, the oldest first. */
enum { MAX_STRANGERS = 64, STRANGER_MS = 10000 };

struct stranger {
	struct interop_server *s;
	struct conn *c; /* NULL: free */
	uint64_t since;
};

struct interop_server {
	struct interop_server_config cfg;
	uint8_t secret[WSLX_SECRET_SIZE];
	struct session_server *sessions;
	struct loop_src *accept, *timer;
	struct conn *init; /* the distribution's own connection */
	struct stranger stranger[MAX_STRANGERS];
};

/* Takes as long for any two of them. */
static bool same(const uint8_t *a, const uint8_t *b, size_t n)
{
	volatile uint8_t diff = 0;

	for (size_t i = 0; i < n; i++)
		diff |= a[i] ^ b[i];
	return diff == 0;
}

static struct stranger *oldest(struct interop_server *s)
{
	struct stranger *found = NULL;

	for (unsigned i = 0; i < MAX_STRANGERS; i++) {
		struct stranger *st = &s->stranger[i];

		if (!st->c)
			return st;
		if (!found || st->since < found->since)
			found = st;
	}
	return found;
}

static void on_timer(void *ctx)
{
	struct interop_server *s = ctx;
	uint64_t now = loop_now(), next = 0;

	for (unsigned i = 0; i < MAX_STRANGERS; i++) {
		struct stranger *st = &s->stranger[i];
		uint64_t end = st->since + STRANGER_MS * 1000000ull;

		if (!st->c)
			continue;
		if (end <= now)
			st->c = conn_free(st->c);
		else if (!next || end < next)
			next = end;
	}
	if (next)
		loop_timer_arm(s->timer, next);
}

/* --- the distribution's init --- */

static void send_programs(struct conn *c, uint32_t id)
{
	const char *path = getenv("PATH");
	struct programs p;
	struct wire_w w;
	uint8_t *buf = malloc(WSLX_MSG_MAX);

	if (!buf || programs_list(path ? path : "", &p) < 0) {
		free(buf);
		return;
	}
	wire_begin(&w, buf, WSLX_MSG_MAX, WSLX_PROGRAMS, WSLX_MSG_REPLY, id, 0);
	for (size_t i = 0; i < p.n && w.len + 8 + strlen(p.name[i]) + 4 <= w.cap; i++)
		wire_str(&w, WSLX_A_NAME, p.name[i]);
	conn_send(c, &w);
	programs_done(&p);
	free(buf);
}

static void on_init(void *ctx, struct conn *c, const struct wire_msg *m)
{
	if (m->type == WSLX_PROGRAMS && !(m->flags & WSLX_MSG_REPLY))
		send_programs(c, m->id);
}

static void on_init_end(void *ctx, struct conn *c, int code)
{
	struct interop_server *s = ctx;

	s->init = conn_free(c);
	s->cfg.gone(s->cfg.ctx);
}

static const struct conn_ops init_ops = {on_init, on_init_end};

/* --- strangers --- */

static void on_stranger(void *ctx, struct conn *c, const struct wire_msg *m)
{
	struct stranger *st = ctx;
	struct interop_server *s = st->s;
	struct wire_attr secret;
	bool stay = wire_get_u32(m, WSLX_A_FLAGS, 0) & WSLX_INTEROP_STAY;

	st->c = NULL;
	if (m->type != WSLX_INTEROP || !wire_find(m, WSLX_A_SECRET, &secret) ||
		secret.len != sizeof(s->secret) ||
		!same(secret.data, s->secret, sizeof(s->secret))) {
		log_limited("interop", "a connection without the distribution's secret is refused");
		conn_free(c);
	} else if (stay && !s->init) {
		s->init = c;
		conn_set(c, &init_ops, s);
	} else if (!stay && s->init) {
		session_server_add(s->sessions, conn_detach(c));
	} else {
		conn_free(c);
	}
}

static void on_stranger_end(void *ctx, struct conn *c, int code)
{
	struct stranger *st = ctx;

	st->c = conn_free(c);
}

static const struct conn_ops stranger_ops = {on_stranger, on_stranger_end};

static void on_accept(void *ctx, int fd, uint32_t revents)
{
	struct interop_server *s = ctx;
	struct stranger *st = oldest(s);
	int sock = accept4(fd, NULL, NULL, SOCK_CLOEXEC);

	if (sock < 0)
		return;
	conn_free(st->c);
	*st = (struct stranger){.s = s, .since = loop_now()};
	if (conn_new(&st->c, s->cfg.loop, sock, &stranger_ops, st) < 0)
		st->c = NULL;
	on_timer(s);
}

int interop_server_new(struct interop_server **ret, const struct interop_server_config *cfg)
{
	struct interop_server *s = calloc(1, sizeof(*s));
	struct session_config sc = {.loop = cfg->loop, .listen_fd = -1, .as_self = true};
	int r = s ? io_set_nonblock(cfg->listen_fd, true) : -ENOMEM;

	if (!s) {
		close(cfg->listen_fd);
		return r;
	}
	s->cfg = *cfg;
	memcpy(s->secret, cfg->secret, sizeof(s->secret));
	if (r == 0)
		r = session_server_new(&s->sessions, &sc);
	if (r == 0)
		r = loop_timer(cfg->loop, on_timer, s, &s->timer);
	if (r == 0)
		r = loop_io(cfg->loop, cfg->listen_fd, EPOLLIN, on_accept, s, &s->accept);
	if (r < 0) {
		interop_server_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

void interop_server_free(struct interop_server *s)
{
	if (!s)
		return;
	loop_src_free(s->accept);
	loop_src_free(s->timer);
	close(s->cfg.listen_fd);
	for (unsigned i = 0; i < MAX_STRANGERS; i++)
		conn_free(s->stranger[i].c);
	conn_free(s->init);
	session_server_free(s->sessions);
	explicit_bzero(s->secret, sizeof(s->secret));
	free(s);
}

void interop_server_child_ended(struct interop_server *s, pid_t pid, int wait_status)
{
	session_child_ended(s->sessions, pid, wait_status);
}

bool interop_server_joined(const struct interop_server *s)
{
	return s->init != NULL;
}
