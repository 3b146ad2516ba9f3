/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation. wslxd gives us one connection for control and one for each stream. EXEC on
 * the first is answered with a cookie, ATTACH with the cookie makes the others its streams, STARTED
 * says that the program runs. From then on pumps (one thread a direction) copy bytes, and this
 * thread turns signals and the terminal's size into messages, until EXIT. The streams end by
 * themselves when the last byte has come: they are waited for, so that no output is lost.
 *
 * Until STARTED signals have their usual effect: nothing of ours is running that they could go to.
 */
#include "cli/session.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include "cli/pump.h"
#include "cli/terminal.h"
#include "lib/base/cleanup.h"
#include "lib/base/io.h"
#include "lib/wire/msg.h"

enum { MAX_CONNECTIONS = 4 };

struct session {
	const struct session_spec *spec;
	struct ctl_client *service;
	struct ctl_fds conn; /* 0: control; the others in the order of stream[] */
	unsigned stream[MAX_CONNECTIONS];
	unsigned nstreams;
	bool tty, err_pipe;
	char name[65]; /* the distribution's */
	uint64_t vm;   /* process id of its VM */
	int signals;
	bool started;
	struct pump pump[MAX_CONNECTIONS];
	unsigned npumps;
	uint8_t *buf; /* WSLX_MSG_MAX bytes */
};

static const int forwarded[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2};

static bool wanted_env(const char *e)
{
	return !strncmp(e, "LANG=", 5) || !strncmp(e, "LC_", 3) || !strncmp(e, "LANGUAGE=", 9) ||
	       !strncmp(e, "COLORTERM=", 10);
}

static int open_connections(struct session *s, struct err *e)
{
	cleanup_js struct json_object *reply = NULL;
	struct json_object *params = js_object(), *warnings;
	struct ctl_req req = {.method = "open", .params = params, .ret_fds = &s->conn};
	int r;

	if (s->tty) {
		s->stream[s->nstreams++] = WSLX_STREAM_TTY;
	} else {
		s->stream[s->nstreams++] = 0;
		s->stream[s->nstreams++] = 1;
	}
	if (!s->tty || s->err_pipe)
		s->stream[s->nstreams++] = 2;
	js_set_u64(params, "connections", s->nstreams + 1);
	if (s->spec->distribution)
		js_set_str(params, "distribution", s->spec->distribution);
	r = service_connect(&s->service, e);
	if (r < 0) {
		js_free(params);
		return r;
	}
	r = ctl_call(s->service, &req, &reply, e);
	if (r < 0)
		return r;
	if (s->conn.n != s->nstreams + 1)
		return err_set(e, -EPROTO, "wslxd sent %u connections instead of %u", s->conn.n,
			s->nstreams + 1);
	snprintf(s->name, sizeof(s->name), "%s", js_str(reply, "name", "?"));
	s->vm = js_u64(reply, "vm", 0);
	warnings = js_get(reply, "warnings");
	for (size_t i = 0; warnings && i < json_object_array_length(warnings); i++)
		warning("%s", json_object_get_string(json_object_array_get_idx(warnings, i)));
	return 0;
}

static int send_exec(struct session *s)
{
	const struct session_spec *spec = s->spec;
	const char *term = getenv("TERM");
	char text[256];
	unsigned rows, cols, flags = 0;
	struct wire_w w;

	wire_begin(&w, s->buf, WSLX_MSG_MAX, WSLX_EXEC, 0, 1, 0);
	if (spec->args[0] && !spec->exec)
		flags |= WSLX_EXEC_SHELL;
	if (!spec->args[0] || spec->login)
		flags |= WSLX_EXEC_LOGIN;
	if (spec->cwd) {
		flags |= WSLX_EXEC_CWD_MUST;
		wire_str(&w, WSLX_A_CWD, spec->cwd);
	}
	if (spec->user)
		wire_str(&w, WSLX_A_USER, spec->user);
	wire_u32(&w, WSLX_A_FLAGS, flags);
	wire_u32(&w, WSLX_A_FD0, s->tty ? WSLX_FD_TTY : WSLX_FD_PIPE);
	wire_u32(&w, WSLX_A_FD1, s->tty ? WSLX_FD_TTY : WSLX_FD_PIPE);
	wire_u32(&w, WSLX_A_FD2, s->tty && !s->err_pipe ? WSLX_FD_TTY : WSLX_FD_PIPE);
	if (s->tty) {
		terminal_size(&rows, &cols);
		wire_u32(&w, WSLX_A_ROWS, rows);
		wire_u32(&w, WSLX_A_COLS, cols);
		snprintf(text, sizeof(text), "TERM=%s", term && *term ? term : "xterm");
		wire_str(&w, WSLX_A_ENV, text);
	}
	for (char **e = environ; *e; e++)
		if (wanted_env(*e))
			wire_str(&w, WSLX_A_ENV, *e);
	for (char **a = spec->args; *a; a++)
		wire_str(&w, WSLX_A_ARG, *a);
	return wire_send(&w, s->conn.fd[0]);
}

/* EXEC and ATTACHes, up to where STARTED is to come. */
static int start(struct session *s, struct err *e)
{
	struct wire_msg m;
	char text[400];
	uint64_t cookie;
	int r = send_exec(s);

	if (r == -EMSGSIZE)
		return err_set(e, r, "the command line is too long");
	if (r == 0)
		r = wire_recv(s->conn.fd[0], s->buf, WSLX_MSG_MAX, &m);
	if (r < 0)
		return err_set(e, r == -EPIPE ? -EPIPE : r, "the distribution did not answer");
	if (wire_get_str(&m, WSLX_A_TEXT, text, sizeof(text)) < 0)
		text[0] = '\0';
	if (m.type != WSLX_EXEC || !(m.flags & WSLX_MSG_REPLY))
		return err_set(e, -EPROTO, "the distribution's init answered nonsense");
	if (m.error)
		return err_set(e, -EINVAL, "%s", *text ? text : strerror((int)m.error));
	if (*text)
		warning("%s", text);
	cookie = wire_get_u64(&m, WSLX_A_COOKIE, 0);
	for (unsigned i = 0; i < s->nstreams; i++) {
		uint8_t small[64];
		struct wire_w w;

		wire_begin(&w, small, sizeof(small), WSLX_ATTACH, 0, 0, 0);
		wire_u64(&w, WSLX_A_COOKIE, cookie);
		wire_u32(&w, WSLX_A_STREAM, s->stream[i]);
		r = wire_send(&w, s->conn.fd[i + 1]);
		if (r < 0)
			return err_sys(e, r, "attach the program's streams");
	}
	return 0;
}

static void send_event(struct session *s, enum wslx_type type, int signo)
{
	unsigned rows, cols;
	uint8_t small[64];
	struct wire_w w;

	wire_begin(&w, small, sizeof(small), type, 0, 0, 0);
	if (type == WSLX_RESIZE) {
		terminal_size(&rows, &cols);
		wire_u32(&w, WSLX_A_ROWS, rows);
		wire_u32(&w, WSLX_A_COLS, cols);
	} else {
		wire_u32(&w, WSLX_A_SIGNAL, (uint32_t)signo);
	}
	/* A connection that does not take it is at its end, which is seen when reading. */
	if (wire_send(&w, s->conn.fd[0]) < 0)
		return;
}

static void catch_signals(struct session *s)
{
	sigset_t set;

	sigemptyset(&set);
	for (unsigned i = 0; i < ARRAY_LEN(forwarded); i++) {
		struct sigaction sa;

		/* What is ignored (nohup, "&") stays so. */
		if (sigaction(forwarded[i], NULL, &sa) == 0 && sa.sa_handler != SIG_IGN)
			sigaddset(&set, forwarded[i]);
	}
	sigaddset(&set, SIGWINCH);
	sigaddset(&set, SIGCONT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	s->signals = signalfd(-1, &set, SFD_CLOEXEC);
}

static void on_signal(struct session *s, int signo)
{
	if (signo == SIGWINCH || signo == SIGCONT) {
		if (!s->tty || !s->started)
			return;
		if (signo == SIGCONT)
			terminal_raw(); /* whoever had the terminal meanwhile changed it */
		send_event(s, WSLX_RESIZE, 0);
	} else if (s->started) {
		send_event(s, WSLX_SIGNAL_SEND, signo);
	} else {
		exit(128 + signo);
	}
}

static int start_pumps(struct session *s)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < s->nstreams; i++) {
		int fd = s->conn.fd[i + 1];

		if (s->stream[i] == 0 || s->stream[i] == WSLX_STREAM_TTY)
			r = pump_start(&s->pump[s->npumps++], STDIN_FILENO, fd, true);
		if (r == 0 && s->stream[i] != 0)
			r = pump_start(&s->pump[s->npumps++], fd,
				s->stream[i] == 2 ? STDERR_FILENO : STDOUT_FILENO, false);
	}
	return r;
}

/* The session's connection broke off: why? wslxd may hear of it a moment later than we do. */
static int lost(struct session *s)
{
	const struct timespec pause = {.tv_nsec = 50000000};

	terminal_restore();
	for (int i = 0; i < 40; i++) {
		cleanup_js struct json_object *o = NULL;
		struct ctl_req req = {
			.method = "vm-end", .params = js_set_u64(js_object(), "pid", s->vm)};

		if (ctl_call(s->service, &req, &o, NULL) < 0)
			return fail("run a command in %s: the connection to it was lost, and "
				    "wslxd is gone; try again",
				s->name);
		if (!js_bool(o, "running", true))
			return fail("run a command in %s: its virtual machine ended: %s", s->name,
				js_str(o, "why", "unknown"));
		nanosleep(&pause, NULL);
	}
	return fail("run a command in %s: the distribution was stopped", s->name);
}

/* Waits until all output is where it belongs; the status, or EX_OURS if it could not be written. */
static int drain(struct session *s, int status)
{
	for (unsigned i = 0; i < s->npumps; i++) {
		if (s->pump[i].to_guest)
			continue; /* it may wait for input for ever: it ends with the process */
		pump_join(&s->pump[i]);
		if (s->pump[i].error) {
			terminal_restore();
			status = fail("write the output: %s", strerror(-s->pump[i].error));
		}
	}
	terminal_restore();
	return status;
}

/* One message of the control connection: the exit status when it was the last, else -1. */
static int on_message(struct session *s, const struct wire_msg *m)
{
	char text[400];
	uint32_t code;

	switch (m->type) {
	case WSLX_STARTED:
		s->started = true;
		if (s->tty)
			terminal_raw();
		if (start_pumps(s) < 0)
			return fail("run a command in %s: no threads", s->name);
		return -1;
	case WSLX_FAILED:
		code = wire_get_u32(m, WSLX_A_ERRNO, EIO);
		if (wire_get_str(m, WSLX_A_TEXT, text, sizeof(text)) <= 0)
			snprintf(text, sizeof(text), "%s", strerror((int)code));
		terminal_restore();
		fail("run a command in %s: %s", s->name, text);
		return code == ENOENT || code == ENOTDIR		     ? EX_NOT_FOUND
		       : code == EACCES || code == ENOEXEC || code == EISDIR ? EX_NOT_EXECUTABLE
									     : EX_OURS;
	case WSLX_EXIT:
		code = wire_get_u32(m, WSLX_A_SIGNAL, 0);
		code = code ? 128 + code : wire_get_u32(m, WSLX_A_STATUS, EX_OURS);
		return drain(s, (int)(code & 0xff));
	default: return -1;
	}
}

static int loop(struct session *s)
{
	struct pollfd pfd[2] = {
		{.fd = s->conn.fd[0], .events = POLLIN}, {.fd = s->signals, .events = POLLIN}};
	struct signalfd_siginfo si;
	struct wire_msg m;
	int r = -1;

	while (r < 0) {
		if (poll(pfd, 2, -1) < 0) {
			if (errno != EINTR)
				return fail("wait for the program: %m");
			continue;
		}
		if (pfd[1].revents && read(s->signals, &si, sizeof(si)) == sizeof(si))
			on_signal(s, (int)si.ssi_signo);
		if (!pfd[0].revents)
			continue;
		if (wire_recv(s->conn.fd[0], s->buf, WSLX_MSG_MAX, &m) < 0)
			return lost(s);
		r = on_message(s, &m);
	}
	return r;
}

int session_run(const struct session_spec *spec)
{
	/* Not on the stack: the thread that waits for input goes on until the process ends. */
	static struct session s;
	struct err e = {0};

	s.spec = spec;
	s.buf = malloc(WSLX_MSG_MAX);
	if (!s.buf)
		abort();
	s.tty = terminal_present();
	s.err_pipe = s.tty && !isatty(STDERR_FILENO);
	if (open_connections(&s, &e) < 0)
		return fail("run a command: %s", e.text);
	if (start(&s, &e) < 0) {
		if (e.code == -EPIPE)
			return lost(&s);
		return fail("run a command in %s: %s", s.name, e.text);
	}
	catch_signals(&s);
	return loop(&s);
}
