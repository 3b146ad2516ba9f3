/* SPDX-License-Identifier: MIT */
/*
 * A session's life: EXEC arrives on a new connection and is planned and answered with a cookie; ATTACH connections bring
 * the streams it names; with the last one the program starts. When it ends, what it wrote is drained to the streams (its
 * descendants may hold them open for ever: they are not waited for), then EXIT is sent. The control connection's end
 * hangs the session up at any time.
 *
 * Descriptors: each stream is one connection. For a pipe, our end of the pipe and the connection are joined by a relay;
 * for the terminal, two relays join its master and stream 3, each on a duplicate of its own, as a loop source each.
 */
#include "lib/session/session.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>
#include "lib/base/acceptor.h"
#include "lib/base/io.h"
#include "lib/base/log.h"
#include "lib/session/conn.h"
#include "lib/session/exec.h"
#include "lib/session/relay.h"

/* Connections that have not sent their first message yet, and sessions, are bounded: a runaway host tool is told no. */
enum { MAX_SESSIONS = 1024, PIPE_SIZE = 1 << 20 };

/* One direction of bytes: a relay and the two descriptors it uses, which are this flow's own. */
struct flow {
	struct session *s;
	struct relay *relay;
	int from, to;
	bool output; /* from the program to the host */
	bool active;
};

enum { FLOW_IN, FLOW_OUT, FLOW_ERR, FLOW_TTY_IN, FLOW_TTY_OUT, FLOWS };

struct session {
	struct session_server *srv;
	struct session *next;
	uint64_t cookie;
	struct conn *ctl;
	struct exec_plan plan;
	bool needs[WSLX_STREAMS];
	int stream[WSLX_STREAMS]; /* attached and not yet used; -1 */
	struct flow flow[FLOWS];
	int master;
	int wait; /* for the program to be executed; -EBADF: no more */
	struct loop_src *waiting;
	pid_t pid;
	bool ended;
	int wait_status;
};

struct session_server {
	struct session_config cfg;
	struct acceptor *accept;
	struct session *sessions;
	unsigned count;
};

static uint8_t out_buf[4096]; /* replies and events of ours are small; one thread */

static void on_first(void *ctx, struct conn *c, const struct wire_msg *m);
static void on_first_end(void *ctx, struct conn *c, int code);
static const struct conn_ops first_ops = {on_first, on_first_end};

static void flow_stop(struct flow *f)
{
	if (!f->active)
		return;
	f->relay = relay_free(f->relay);
	f->active = false;
	if (f->output)
		shutdown(f->to, SHUT_WR);
	close(f->from);
	close(f->to);
}

static void session_free(struct session *s)
{
	for (struct session **p = &s->srv->sessions; *p; p = &(*p)->next)
		if (*p == s) {
			*p = s->next;
			s->srv->count--;
			break;
		}
	for (int i = 0; i < FLOWS; i++)
		flow_stop(&s->flow[i]);
	for (int i = 0; i < WSLX_STREAMS; i++)
		if (s->stream[i] >= 0)
			close(s->stream[i]);
	if (s->master >= 0)
		close(s->master);
	loop_src_free(s->waiting);
	if (s->wait >= 0)
		close(s->wait);
	conn_free(s->ctl);
	exec_plan_done(&s->plan);
	free(s);
}

static void send_failed(struct session *s, int code, const char *text)
{
	struct wire_w w;

	wire_begin(&w, out_buf, sizeof(out_buf), WSLX_FAILED, 0, 0, 0);
	wire_u32(&w, WSLX_A_ERRNO, (uint32_t)-code);
	wire_str(&w, WSLX_A_TEXT, text);
	conn_send(s->ctl, &w);
}

/* The program has ended: EXIT goes out once every output flow has run dry. */
static void maybe_finish(struct session *s)
{
	struct wire_w w;

	if (!s->ended)
		return;
	for (int i = 0; i < FLOWS; i++)
		if (s->flow[i].active && s->flow[i].output)
			return;
	wire_begin(&w, out_buf, sizeof(out_buf), WSLX_EXIT, 0, 0, 0);
	if (WIFSIGNALED(s->wait_status))
		wire_u32(&w, WSLX_A_SIGNAL, (uint32_t)WTERMSIG(s->wait_status));
	else
		wire_u32(&w, WSLX_A_STATUS, (uint32_t)WEXITSTATUS(s->wait_status));
	conn_send(s->ctl, &w);
	session_free(s);
}

static void flow_done(void *ctx, struct relay *r, bool sink_broke)
{
	struct flow *f = ctx;
	struct session *s = f->s;

	flow_stop(f);
	maybe_finish(s);
}

static int flow_start(struct session *s, int which, int from, int to, bool output)
{
	struct flow *f = &s->flow[which];
	int r;

	*f = (struct flow){.s = s, .from = from, .to = to, .output = output};
	io_set_nonblock(from, true);
	io_set_nonblock(to, true);
	r = relay_new(&f->relay, s->srv->cfg.loop, from, to, flow_done, f);
	if (r < 0) {
		close(from);
		close(to);
		return r;
	}
	f->active = true;
	return 0;
}

/* The program's end of descriptor i, opened; our end goes into a flow with stream i. */
static int wire_fd(struct session *s, int i, int slave, int *ret_child)
{
	int p[2];

	switch (s->plan.kind[i]) {
	case WSLX_FD_PIPE:
		if (pipe2(p, O_CLOEXEC) < 0)
			return -errno;
		/* Each time a pipe fills or empties costs two switches of process: fewer when it is large. It takes
		 * memory only for what is in it, and may stay small. */
		fcntl(p[0], F_SETPIPE_SZ, PIPE_SIZE);
		*ret_child = i == 0 ? p[0] : p[1];
		return i == 0 ? flow_start(s, FLOW_IN, take_fd(s->stream[0]), p[1], false)
			      : flow_start(s, FLOW_IN + i, p[0], take_fd(s->stream[i]), true);
	case WSLX_FD_TTY: *ret_child = fcntl(slave, F_DUPFD_CLOEXEC, 3); break;
	default: *ret_child = open("/dev/null", O_RDWR | O_CLOEXEC); break;
	}
	return *ret_child < 0 ? -errno : 0;
}

static int open_terminal(struct session *s, int *ret_slave)
{
	struct winsize ws = {
		.ws_row = (unsigned short)s->plan.rows, .ws_col = (unsigned short)s->plan.cols};
	unsigned n;
	int zero = 0;
	char path[32];

	s->master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (s->master < 0 || ioctl(s->master, TIOCSPTLCK, &zero) < 0 ||
		ioctl(s->master, TIOCGPTN, &n) < 0)
		return -errno;
	snprintf(path, sizeof(path), "/dev/pts/%u", n);
	*ret_slave = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (*ret_slave < 0)
		return -errno;
	ioctl(s->master, TIOCSWINSZ, &ws);
	return 0;
}

static int wire_terminal(struct session *s)
{
	cleanup_close int st = take_fd(s->stream[WSLX_STREAM_TTY]);
	cleanup_close int in_to = fcntl(s->master, F_DUPFD_CLOEXEC, 3);
	cleanup_close int out_from = fcntl(s->master, F_DUPFD_CLOEXEC, 3);
	cleanup_close int in_from = fcntl(st, F_DUPFD_CLOEXEC, 3);
	int r;

	if (in_to < 0 || out_from < 0 || in_from < 0)
		return -EMFILE;
	r = flow_start(s, FLOW_TTY_IN, take_fd(in_from), take_fd(in_to), false);
	return r < 0 ? r : flow_start(s, FLOW_TTY_OUT, take_fd(out_from), take_fd(st), true);
}

/* Whether the program runs is known. False: it does not, and the session is gone. */
static bool started(struct session *s)
{
	struct err e = {0};
	struct wire_w w;
	int r;

	s->waiting = loop_src_free(s->waiting);
	r = exec_started(take_fd(s->wait), &s->plan, &e);
	if (r < 0) {
		send_failed(s, r, e.text);
		session_free(s);
		return false;
	}
	wire_begin(&w, out_buf, sizeof(out_buf), WSLX_STARTED, 0, 0, 0);
	wire_u32(&w, WSLX_A_PID, (uint32_t)s->pid);
	conn_send(s->ctl, &w);
	return true;
}

static void on_wait(void *ctx, int fd, uint32_t revents)
{
	started(ctx);
}

static void start_program(struct session *s)
{
	cleanup_close int slave = -EBADF;
	int child[3] = {-EBADF, -EBADF, -EBADF}, r = 0;
	struct err e = {0};

	if (s->needs[WSLX_STREAM_TTY])
		r = open_terminal(s, &slave);
	for (int i = 0; i < 3 && r == 0; i++)
		r = wire_fd(s, i, slave, &child[i]);
	if (r == 0 && s->needs[WSLX_STREAM_TTY])
		r = wire_terminal(s);
	if (r < 0)
		err_sys(&e, r, "prepare the program's descriptors");
	else
		r = s->pid = exec_start(&s->plan, child, slave, s->srv->cfg.place, &s->wait, &e);
	for (int i = 0; i < 3; i++)
		cleanup_closep(&child[i]);
	if (r >= 0)
		r = loop_io(s->srv->cfg.loop, s->wait, EPOLLIN, on_wait, s, &s->waiting);
	if (r < 0) {
		send_failed(s, r, e.text);
		session_free(s);
		return;
	}
	if (s->srv->cfg.started)
		s->srv->cfg.started(s->srv->cfg.ctx);
}

static void start_when_attached(struct session *s)
{
	for (int i = 0; i < WSLX_STREAMS; i++)
		if (s->needs[i] && s->stream[i] < 0)
			return;
	start_program(s);
}

void session_child_ended(struct session_server *srv, pid_t pid, int wait_status)
{
	for (struct session *s = srv->sessions; s; s = s->next) {
		if (s->pid != pid || s->ended)
			continue;
		if (s->wait >= 0 && !started(s))
			return;
		s->ended = true;
		s->wait_status = wait_status;
		flow_stop(&s->flow[FLOW_IN]);
		flow_stop(&s->flow[FLOW_TTY_IN]);
		/* Draining a flow may end it, and with the last one the session is gone: hence the copy of what to do. */
		int pending = 0;
		for (int i = 0; i < FLOWS; i++)
			pending |= s->flow[i].active && s->flow[i].output ? 1 << i : 0;
		if (!pending)
			maybe_finish(s);
		for (int i = 0; i < FLOWS && pending; i++) {
			if (!(pending & 1 << i))
				continue;
			pending &= ~(1 << i);
			relay_drain(s->flow[i].relay);
		}
		return;
	}
}

static void on_session_msg(void *ctx, struct conn *c, const struct wire_msg *m)
{
	struct session *s = ctx;
	struct winsize ws = {0};
	int signo;

	switch (m->type) {
	case WSLX_SIGNAL_SEND: {
		pid_t group = -1;

		signo = (int)wire_get_u32(m, WSLX_A_SIGNAL, 0);
		if (s->pid <= 0 || s->ended || signo <= 0 || signo >= NSIG)
			break;
		if (s->master >= 0)
			group = tcgetpgrp(s->master);
		kill(-(group > 0 ? group : s->pid), signo);
		break;
	}
	case WSLX_RESIZE:
		ws.ws_row = (unsigned short)wire_get_u32(m, WSLX_A_ROWS, 24);
		ws.ws_col = (unsigned short)wire_get_u32(m, WSLX_A_COLS, 80);
		if (s->master >= 0)
			ioctl(s->master, TIOCSWINSZ, &ws);
		s->plan.rows = ws.ws_row;
		s->plan.cols = ws.ws_col;
		break;
	default: break; /* events unknown to this version are ignored */
	}
}

/* The client is gone: what a closed terminal does, for programs with and without one. */
static void on_session_end(void *ctx, struct conn *c, int code)
{
	struct session *s = ctx;

	if (s->pid > 0 && s->wait >= 0)
		kill(s->pid, SIGKILL); /* it may not lead a process group yet */
	if (s->pid > 0 && !s->ended) {
		kill(-s->pid, SIGHUP);
		kill(-s->pid, SIGCONT);
	}
	session_free(s);
}

static const struct conn_ops session_ops = {on_session_msg, on_session_end};

static void reply_error(struct conn *c, const struct wire_msg *m, int code, const char *text)
{
	struct wire_w w;

	wire_begin(&w, out_buf, sizeof(out_buf), m->type, WSLX_MSG_REPLY, m->id, (uint32_t)-code);
	wire_str(&w, WSLX_A_TEXT, text);
	conn_send(c, &w);
	conn_free(c);
}

static struct exec_policy policy_of(const struct session_server *srv)
{
	return (struct exec_policy){.distro = srv->cfg.distro_name,
		.default_user = srv->cfg.default_user,
		.default_uid = srv->cfg.default_uid,
		.as_self = srv->cfg.as_self,
		.env = srv->cfg.env,
		.ctx = srv->cfg.ctx};
}

static void on_exec(struct session_server *srv, struct conn *c, const struct wire_msg *m)
{
	struct session *s = calloc(1, sizeof(*s));
	const struct exec_policy policy = policy_of(srv);
	struct err e = {0};
	struct wire_w w;
	int r;

	if (!s || srv->count >= MAX_SESSIONS) {
		free(s);
		reply_error(c, m, -EAGAIN, "too many sessions in this distribution");
		return;
	}
	*s = (struct session){.srv = srv, .ctl = c, .master = -EBADF, .wait = -EBADF};
	for (int i = 0; i < WSLX_STREAMS; i++)
		s->stream[i] = -EBADF;
	r = exec_plan(m, &policy, &s->plan, &e);
	if (r < 0) {
		exec_plan_done(&s->plan);
		free(s);
		reply_error(c, m, r, e.text);
		return;
	}
	for (int i = 0; i < 3; i++) {
		s->needs[i] = s->plan.kind[i] == WSLX_FD_PIPE;
		s->needs[WSLX_STREAM_TTY] |= s->plan.kind[i] == WSLX_FD_TTY;
	}
	if (getrandom(&s->cookie, sizeof(s->cookie), 0) != sizeof(s->cookie))
		s->cookie = loop_now();
	s->next = srv->sessions;
	srv->sessions = s;
	srv->count++;
	conn_set(c, &session_ops, s);

	wire_begin(&w, out_buf, sizeof(out_buf), WSLX_EXEC, WSLX_MSG_REPLY, m->id, 0);
	wire_u64(&w, WSLX_A_COOKIE, s->cookie);
	if (s->plan.warning[0])
		wire_str(&w, WSLX_A_TEXT, s->plan.warning);
	conn_send(c, &w);
	start_when_attached(s);
}

static void on_attach(struct session_server *srv, struct conn *c, const struct wire_msg *m)
{
	uint64_t cookie = wire_get_u64(m, WSLX_A_COOKIE, 0);
	unsigned n = wire_get_u32(m, WSLX_A_STREAM, UINT32_MAX);

	for (struct session *s = srv->sessions; s; s = s->next) {
		if (s->cookie != cookie || s->pid || n >= WSLX_STREAMS || !s->needs[n] ||
			s->stream[n] >= 0)
			continue;
		s->stream[n] = conn_detach(c);
		start_when_attached(s);
		return;
	}
	conn_free(c);
}

static void on_find_user(struct conn *c, const struct wire_msg *m)
{
	struct wire_w w;
	struct user u;
	char name[64];

	if (wire_get_str(m, WSLX_A_USER, name, sizeof(name)) <= 0 || user_by_name(name, &u) < 0) {
		reply_error(c, m, -ENOENT, "no such user");
		return;
	}
	wire_begin(&w, out_buf, sizeof(out_buf), m->type, WSLX_MSG_REPLY, m->id, 0);
	wire_u32(&w, WSLX_A_UID, u.uid);
	conn_send(c, &w);
}

static void on_files(struct session_server *srv, struct conn *c, const struct wire_msg *m)
{
	const struct exec_policy policy = policy_of(srv);
	struct err e = {0};
	struct wire_w w;
	struct user u;
	int r = srv->cfg.files ? exec_user(m, &policy, &u, &e)
			       : err_set(&e, -ENOSYS, "there are no files here");

	if (r < 0) {
		reply_error(c, m, r, e.text);
		return;
	}
	wire_begin(&w, out_buf, sizeof(out_buf), m->type, WSLX_MSG_REPLY, m->id, 0);
	wire_u32(&w, WSLX_A_UID, u.uid);
	wire_u32(&w, WSLX_A_GID, u.gid);
	wire_str(&w, WSLX_A_CWD, u.home);
	conn_send(c, &w);
	srv->cfg.files(srv->cfg.ctx, &u, conn_detach(c));
}

static void on_first(void *ctx, struct conn *c, const struct wire_msg *m)
{
	if (m->type == WSLX_EXEC && !(m->flags & WSLX_MSG_REPLY))
		on_exec(ctx, c, m);
	else if (m->type == WSLX_ATTACH)
		on_attach(ctx, c, m);
	else if (m->type == WSLX_FIND_USER && !(m->flags & WSLX_MSG_REPLY))
		on_find_user(c, m);
	else if (m->type == WSLX_FILES && !(m->flags & WSLX_MSG_REPLY))
		on_files(ctx, c, m);
	else
		reply_error(c, m, -ENOSYS, "unknown request");
}

static void on_first_end(void *ctx, struct conn *c, int code)
{
	conn_free(c);
}

void session_server_add(struct session_server *srv, int fd)
{
	struct conn *c;

	if (conn_new(&c, srv->cfg.loop, fd, &first_ops, srv) < 0)
		log_warn("session", "out of memory for a connection");
}

static void on_accept(void *ctx, int conn)
{
	session_server_add(ctx, conn);
}

int session_server_new(struct session_server **ret, const struct session_config *cfg)
{
	struct session_server *srv = calloc(1, sizeof(*srv));
	int r = -ENOMEM;

	if (srv) {
		srv->cfg = *cfg;
		r = cfg->listen_fd < 0 ? 0 : io_set_nonblock(cfg->listen_fd, true);
		if (r == 0 && cfg->listen_fd >= 0)
			r = acceptor_new(
				&srv->accept, cfg->loop, cfg->listen_fd, 0, on_accept, srv);
	}
	if (r < 0) {
		if (cfg->listen_fd >= 0)
			close(cfg->listen_fd);
		free(srv);
		return r;
	}
	*ret = srv;
	return 0;
}

unsigned session_server_count(const struct session_server *srv)
{
	return srv->count;
}

void session_server_free(struct session_server *srv)
{
	if (!srv)
		return;
	while (srv->sessions)
		on_session_end(srv->sessions, srv->sessions->ctl, 0);
	acceptor_free(srv->accept);
	if (srv->cfg.listen_fd >= 0)
		close(srv->cfg.listen_fd);
	free(srv);
}
