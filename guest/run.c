/* SPDX-License-Identifier: MIT */
/*
 * wslx-run(1), and what the kernel starts for a stub that bears the name of a program of the host. The distribution's
 * init passes us connections to the host (guest/interop.c); lib/session/client does the rest.
 */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "guest/info.h"
#include "guest/tools.h"
#include "lib/base/io.h"
#include "lib/session/client.h"
#include "lib/wire/msg.h"
#include "lib/wslpath/env.h"

struct run {
	char **args;
	struct info info;
};

static PRINTF_LIKE(2, 0) void say(const char *prefix, const char *fmt, va_list ap)
{
	char text[1500];

	vsnprintf(text, sizeof(text), fmt, ap);
	fprintf(stderr, "wslx-run: %s%s\n", prefix, text);
}

static PRINTF_LIKE(1, 2) int fail(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say("", fmt, ap);
	va_end(ap);
	return CLIENT_FAILED;
}

static PRINTF_LIKE(1, 2) void warning(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say("warning: ", fmt, ap);
	va_end(ap);
}

static int lost(void *ctx)
{
	return fail("run a program on the host: the connection to the host was lost");
}

static int env_path(void *ctx, const char *path, char *buf, size_t cap)
{
	const struct run *run = ctx;

	return info_to_host(&run->info, path, buf, cap);
}

/* The variables that WSLENV lets out, and itself. */
static void add_env(struct run *run, struct wire_w *w)
{
	const char *list = getenv("WSLENV"), *pos = list;
	struct wslenv_entry e;

	while (pos && wslenv_next(&pos, &e)) {
		cleanup_free char *name = strndup(e.name, e.len), *value = NULL, *text = NULL;
		const char *ours = name ? getenv(name) : NULL;

		if (!ours || !e.pass[WSLENV_TO_HOST])
			continue;
		value = wslenv_value(&e, ours, env_path, run);
		if (value && asprintf(&text, "%s=%s", name, value) > 0)
			wire_str(w, WSLX_A_ENV, text);
	}
	if (list) {
		cleanup_free char *text = NULL;

		if (asprintf(&text, "WSLENV=%s", list) > 0)
			wire_str(w, WSLX_A_ENV, text);
	}
}

static void request(void *ctx, struct wire_w *w)
{
	struct run *run = ctx;
	char cwd[2 * PATH_MAX];

	wire_u32(w, WSLX_A_FLAGS, run->args[0] ? 0 : WSLX_EXEC_LOGIN);
	/* Where the host has no such folder, its side says so and starts in the user's home. */
	if (info_to_host(&run->info, ".", cwd, sizeof(cwd)) == 0)
		wire_str(w, WSLX_A_CWD, cwd);
	add_env(run, w);
	for (char **a = run->args; *a; a++)
		wire_str(w, WSLX_A_ARG, *a);
}

/* As many authenticated connections to the host, from our distribution's init. */
static int open_connections(unsigned n, int *fds, struct err *e)
{
	cleanup_close int sock = io_unix_connect(WSLX_INTEROP_SOCKET);
	unsigned got = IO_MAX_FDS;
	int received[IO_MAX_FDS];
	struct wire_msg m;
	uint8_t buf[1024];
	struct wire_w w;
	char text[600];
	ssize_t len;
	int r;

	if (sock < 0)
		return err_sys(e, sock, "%s", WSLX_INTEROP_SOCKET);
	wire_begin(&w, buf, sizeof(buf), WSLX_CONNECT, 0, 1, 0);
	wire_u32(&w, WSLX_A_COUNT, n);
	r = wire_send(&w, sock);
	if (r < 0)
		return err_sys(e, r, "ask this distribution's init");
	len = io_recv_fds(sock, buf, sizeof(buf), received, &got);
	if (len < 0)
		return err_sys(e, (int)len, "ask this distribution's init");
	r = wire_parse(buf, (size_t)len, &m);
	if (r == 0 && m.error)
		r = wire_get_str(&m, WSLX_A_TEXT, text, sizeof(text)) > 0
			    ? err_set(e, -(int)m.error, "%s", text)
			    : err_sys(e, -EIO, "ask this distribution's init");
	else if (r < 0 || m.type != WSLX_CONNECT || got != n)
		r = err_set(e, -EPROTO, "this distribution's init answered nonsense");
	for (unsigned i = 0; i < got; i++) {
		if (r < 0)
			close(received[i]);
		else
			fds[i] = received[i];
	}
	return r;
}

static int run_on_host(char **args)
{
	static struct client_streams st;
	static struct run run;
	static int fds[IO_MAX_FDS];
	char intent[300];
	struct client c = {.intent = intent,
		.fail = fail,
		.warning = warning,
		.request = request,
		.lost = lost,
		.ctx = &run};
	struct err e = {0};

	signal(SIGPIPE, SIG_IGN);
	run.args = args;
	snprintf(intent, sizeof(intent), "run %s on the host", args[0] ? args[0] : "a shell");
	client_streams(&st);
	if (info_load(&run.info, &e) < 0 || open_connections(st.n + 1, fds, &e) < 0)
		return fail("%s: %s", intent, e.text);
	return client_run(&c, &st, fds);
}

int run_main(int argc, char **argv)
{
	char **args = argv + 1;

	if (args[0] && (!strcmp(args[0], "--help") || !strcmp(args[0], "-h"))) {
		puts("usage: wslx-run [--] [PROGRAM [ARG...]]\n\n"
		     "Runs a program on the host, or the user's shell there, with this terminal and directory.");
		return 0;
	}
	if (args[0] && !strcmp(args[0], "--"))
		args++;
	else if (args[0] && args[0][0] == '-')
		return fail("unknown option '%s'; see 'wslx-run --help'", args[0]);
	return run_on_host(args);
}

int binfmt_main(int argc, char **argv)
{
	const char *base;

	/* Ours, the stub's path, the name it was called by (flag P), its arguments. */
	if (argc < 3)
		return fail("this is started by the kernel, not by hand");
	base = strrchr(argv[1], '/');
	argv[2] = argv[1] + (base ? base + 1 - argv[1] : 0);
	return run_on_host(argv + 2);
}
