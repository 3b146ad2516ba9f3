/* SPDX-License-Identifier: MIT */
/*
 * wslx-interop: runs programs of the host for one distribution that its user allowed to, as that user. Started by wslxd,
 * which gives it the distribution's secret and the socket where the guest's connections arrive; lives until the
 * distribution's init, once it has connected, is gone.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>
#include "interop/server.h"
#include "lib/base/io.h"
#include "lib/base/log.h"

enum { CHANNEL = 3 };

static const char usage[] =
	"usage: wslx-interop --name DISTRIBUTION\n"
	"\n"
	"Runs programs of the host for a distribution. Started by wslxd, not by hand.\n";

struct main {
	struct loop *loop;
	struct interop_server *server;
	struct loop_src *chld, *channel;
};

static void on_chld(void *ctx, int signo)
{
	struct main *m = ctx;
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		interop_server_child_ended(m->server, pid, status);
}

static void gone(void *ctx)
{
	struct main *m = ctx;

	loop_quit(m->loop, 0);
}

/* wslxd never writes again: it has ended, or the distribution has before its init came to us. */
static void on_channel(void *ctx, int fd, uint32_t revents)
{
	struct main *m = ctx;

	m->channel = loop_src_free(m->channel);
	if (!interop_server_joined(m->server))
		loop_quit(m->loop, 0);
}

static void on_term(void *ctx, int signo)
{
	gone(ctx);
}

/* What systemd told wslxd, and the terminal it was started on, are no business of the programs. */
static void clean_environment(void)
{
	static const char *const names[] = {"NOTIFY_SOCKET", "LISTEN_PID", "LISTEN_FDS",
		"LISTEN_FDNAMES", "WATCHDOG_PID", "WATCHDOG_USEC", "JOURNAL_STREAM",
		"INVOCATION_ID", "SYSTEMD_EXEC_PID", "MANAGERPID", "TERM", "COLUMNS", "LINES",
		"OLDPWD", "PWD", "SHLVL", "_"};

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		unsetenv(names[i]);
}

static int serve(struct main *m)
{
	uint8_t secret[WSLX_SECRET_SIZE];
	unsigned nfds = 1;
	int fd = -1;
	struct interop_server_config cfg = {.secret = secret, .gone = gone, .ctx = m};
	struct loop_src *term;
	ssize_t n = io_recv_fds(CHANNEL, secret, sizeof(secret), &fd, &nfds);
	int r;

	if (n != sizeof(secret) || nfds != 1)
		return n < 0 ? (int)n : -EPROTO;
	r = loop_new(&m->loop);
	if (r == 0)
		r = loop_signal(m->loop, SIGCHLD, on_chld, m, &m->chld);
	if (r == 0)
		r = loop_signal(m->loop, SIGTERM, on_term, m, &term);
	cfg.loop = m->loop;
	cfg.listen_fd = fd;
	if (r == 0)
		r = interop_server_new(&m->server, &cfg);
	if (r == 0)
		r = loop_io(m->loop, CHANNEL, EPOLLIN, on_channel, m, &m->channel);
	explicit_bzero(secret, sizeof(secret));
	if (r < 0)
		return r;
	r = loop_run(m->loop);
	interop_server_free(m->server);
	return r;
}

int main(int argc, char **argv)
{
	static const struct option longopts[] = {
		{"name", required_argument, NULL, 'n'}, {"help", no_argument, NULL, 'h'}, {0}};
	static char program[96] = "wslx-interop";
	static struct main m;
	int c, r;

	while ((c = getopt_long(argc, argv, "", longopts, NULL)) != -1) {
		switch (c) {
		case 'n': snprintf(program, sizeof(program), "wslx-interop: %s", optarg); break;
		case 'h': fputs(usage, stdout); return 0;
		default: return 2;
		}
	}
	log_init(program, LOG_LVL_INFO);
	clean_environment();
	signal(SIGPIPE, SIG_IGN);
	if (chdir("/") < 0)
		log_debug("main", "chdir: %m");
	r = serve(&m);
	if (r < 0)
		log_err(NULL, "%s", strerror(-r));
	return r < 0;
}
