/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation. EXEC on the first connection is answered with a cookie, ATTACH with the cookie makes the others
 * its streams, STARTED says that the program runs. From then on pumps (one thread a direction) copy bytes, and this
 * thread turns signals and the terminal's size into messages, until EXIT. The streams end by themselves when the last
 * byte has come: they are waited for, so that no output is lost.
 *
 * Until STARTED signals have their usual effect: nothing of ours is running that they could go to.
 */
#include "lib/session/client.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>
#include "lib/base/err.h"
#include "lib/session/pump.h"
#include "lib/session/terminal.h"

struct run {
	const struct client *c;
	const struct client_streams *st;
	const int *fds;
	int signals;
	bool started;
	struct pump pump[4];
	unsigned npumps;
	uint8_t *buf; /* WSLX_MSG_MAX bytes */
};

static const int forwarded[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2};

void client_streams(struct client_streams *ret)
{
	*ret = (struct client_streams){.tty = terminal_present()};
	ret->err_pipe = ret->tty && !isatty(STDERR_FILENO);
	if (ret->tty) {
		ret->stream[ret->n++] = WSLX_STREAM_TTY;
	} else {
		ret->stream[ret->n++] = 0;
		ret->stream[ret->n++] = 1;
	}
	if (!ret->tty || ret->err_pipe)
		ret->stream[ret->n++] = 2;
}

static int lost(struct run *s)
{
	terminal_restore();
	return s->c->lost(s->c->ctx);
}

static int send_exec(struct run *s)
{
	const char *term = getenv("TERM");
	bool tty = s->st->tty;
	unsigned rows, cols;
	char text[256];
	struct wire_w w;

	wire_begin(&w, s->buf, WSLX_MSG_MAX, WSLX_EXEC, 0, 1, 0);
	wire_u32(&w, WSLX_A_FD0, tty ? WSLX_FD_TTY : WSLX_FD_PIPE);
	wire_u32(&w, WSLX_A_FD1, tty ? WSLX_FD_TTY : WSLX_FD_PIPE);
	wire_u32(&w, WSLX_A_FD2, tty && !s->st->err_pipe ? WSLX_FD_TTY : WSLX_FD_PIPE);
	if (tty) {
		terminal_size(&rows, &cols);
		wire_u32(&w, WSLX_A_ROWS, rows);
		wire_u32(&w, WSLX_A_COLS, cols);
		snprintf(text, sizeof(text), "TERM=%s", term && *term ? term : "xterm");
		wire_str(&w, WSLX_A_ENV, text);
	}
	s->c->request(s->c->ctx, &w);
	return wire_send(&w, s->fds[0]);
}

/* EXEC and ATTACHes, up to where STARTED is to come. -EPIPE: the connection is gone. */
static int start(struct run *s, struct err *e)
{
	struct wire_msg m;
	char text[400];
	uint64_t cookie;
	int r = send_exec(s);

	if (r == -EMSGSIZE)
		return err_set(e, r, "the command line is too long");
	if (r == 0)
		r = wire_recv(s->fds[0], s->buf, WSLX_MSG_MAX, &m);
	if (r < 0)
		return err_set(e, r == -ECONNRESET ? -EPIPE : r, "there was no answer");
	if (wire_get_str(&m, WSLX_A_TEXT, text, sizeof(text)) < 0)
		text[0] = '\0';
	if (m.type != WSLX_EXEC || !(m.flags & WSLX_MSG_REPLY))
		return err_set(e, -EPROTO, "the answer was nonsense");
	if (m.error)
		return err_set(e, -EINVAL, "%s", *text ? text : strerror((int)m.error));
	if (*text)
		s->c->warning("%s", text);
	cookie = wire_get_u64(&m, WSLX_A_COOKIE, 0);
	for (unsigned i = 0; i < s->st->n; i++) {
		uint8_t small[64];
		struct wire_w w;

		wire_begin(&w, small, sizeof(small), WSLX_ATTACH, 0, 0, 0);
		wire_u64(&w, WSLX_A_COOKIE, cookie);
		wire_u32(&w, WSLX_A_STREAM, s->st->stream[i]);
		r = wire_send(&w, s->fds[i + 1]);
		if (r < 0)
			return err_sys(e, r, "attach the program's streams");
	}
	return 0;
}

static void send_event(struct run *s, enum wslx_type type, int signo)
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
	if (wire_send(&w, s->fds[0]) < 0)
		return;
}

static void catch_signals(struct run *s)
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

static void on_signal(struct run *s, int signo)
{
	if (signo == SIGWINCH || signo == SIGCONT) {
		if (!s->st->tty || !s->started)
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

static int start_pumps(struct run *s)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < s->st->n; i++) {
		int fd = s->fds[i + 1];

		if (s->st->stream[i] == 0 || s->st->stream[i] == WSLX_STREAM_TTY)
			r = pump_start(&s->pump[s->npumps++], STDIN_FILENO, fd, true);
		if (r == 0 && s->st->stream[i] != 0)
			r = pump_start(&s->pump[s->npumps++], fd,
				s->st->stream[i] == 2 ? STDERR_FILENO : STDOUT_FILENO, false);
	}
	return r;
}

/* Waits until all output is where it belongs; the status, or CLIENT_FAILED if it could not be written. */
static int drain(struct run *s, int status)
{
	for (unsigned i = 0; i < s->npumps; i++) {
		if (s->pump[i].outward)
			continue; /* it may wait for input for ever: it ends with the process */
		pump_join(&s->pump[i]);
		if (s->pump[i].error) {
			terminal_restore();
			status = s->c->fail("write the output: %s", strerror(-s->pump[i].error));
		}
	}
	terminal_restore();
	return status;
}

/* One message of the control connection: the exit status when it was the last, else -1. */
static int on_message(struct run *s, const struct wire_msg *m)
{
	char text[400];
	uint32_t code;

	switch (m->type) {
	case WSLX_STARTED:
		/* The other side is not to be trusted: for a second one there are no pumps. */
		if (s->started) {
			terminal_restore();
			return s->c->fail("%s: the answers were nonsense", s->c->intent);
		}
		s->started = true;
		if (s->st->tty)
			terminal_raw();
		if (start_pumps(s) < 0)
			return s->c->fail("%s: no threads", s->c->intent);
		return -1;
	case WSLX_FAILED:
		code = wire_get_u32(m, WSLX_A_ERRNO, EIO);
		if (wire_get_str(m, WSLX_A_TEXT, text, sizeof(text)) <= 0)
			snprintf(text, sizeof(text), "%s", strerror((int)code));
		terminal_restore();
		s->c->fail("%s: %s", s->c->intent, text);
		return code == ENOENT || code == ENOTDIR		     ? CLIENT_NOT_FOUND
		       : code == EACCES || code == ENOEXEC || code == EISDIR ? CLIENT_NOT_EXECUTABLE
									     : CLIENT_FAILED;
	case WSLX_EXIT:
		code = wire_get_u32(m, WSLX_A_SIGNAL, 0);
		code = code ? 128 + code : wire_get_u32(m, WSLX_A_STATUS, CLIENT_FAILED);
		return drain(s, (int)(code & 0xff));
	default: return -1;
	}
}

static int loop(struct run *s)
{
	struct pollfd pfd[2] = {
		{.fd = s->fds[0], .events = POLLIN}, {.fd = s->signals, .events = POLLIN}};
	struct signalfd_siginfo si;
	struct wire_msg m;
	int r = -1;

	while (r < 0) {
		if (poll(pfd, 2, -1) < 0) {
			if (errno != EINTR)
				return s->c->fail("wait for the program: %m");
			continue;
		}
		if (pfd[1].revents && read(s->signals, &si, sizeof(si)) == sizeof(si))
			on_signal(s, (int)si.ssi_signo);
		if (!pfd[0].revents)
			continue;
		if (wire_recv(s->fds[0], s->buf, WSLX_MSG_MAX, &m) < 0)
			return lost(s);
		r = on_message(s, &m);
	}
	return r;
}

int client_run(const struct client *c, const struct client_streams *st, const int *fds)
{
	/* Not on the stack: the thread that waits for input goes on until the process ends. */
	static struct run s;
	struct err e = {0};

	s = (struct run){.c = c, .st = st, .fds = fds, .buf = malloc(WSLX_MSG_MAX)};
	if (!s.buf)
		abort();
	if (start(&s, &e) < 0)
		return e.code == -EPIPE ? lost(&s) : c->fail("%s: %s", c->intent, e.text);
	catch_signals(&s);
	return loop(&s);
}
