/* SPDX-License-Identifier: MIT */
#include "daemon/sidecar.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "lib/base/io.h"
#include "lib/base/log.h"
#include "lib/base/proc.h"

/* One that lived this long is started again at once, one that did not later and later. */
enum { STEADY_MS = 30000, FIRST_MS = 50, LAST_MS = 10000 };

struct sidecar {
	struct sidecar_config cfg;
	char path[PATH_MAX];
	char *args[SIDECAR_ARGS];
	struct ctl_async *ctl;
	struct loop_src *timer;
	int child; /* pidfd of the one that we started last, or negative */
	uint64_t since;
	unsigned wait_ms;
};

/* The process outlives struct sidecar. */
struct child {
	struct loop_src *src;
	const char *program;
};

static void ended(void *ctx, pid_t pid, int status)
{
	struct child *c = ctx;

	if (WIFSIGNALED(status))
		log_warn("vm", "%s (process %d) was killed by signal %d", c->program, pid,
			WTERMSIG(status));
	loop_src_free(c->src);
	free(c);
}

static void on_close(void *ctx)
{
	struct sidecar *s = ctx;

	s->ctl = ctl_async_free(s->ctl);
	if (loop_now() - s->since > STEADY_MS * 1000000ull)
		s->wait_ms = FIRST_MS;
	loop_timer_arm(s->timer, loop_now() + s->wait_ms * 1000000ull);
	s->wait_ms = MIN(s->wait_ms * 2, (unsigned)LAST_MS);
	if (s->cfg.down)
		s->cfg.down(s->cfg.ctx);
}

static int attach(struct sidecar *s)
{
	int fd = io_unix_connect(s->path), r;

	if (fd < 0)
		return fd;
	r = ctl_async_new(s->cfg.loop, fd, &s->ctl);
	if (r < 0)
		return r;
	ctl_async_on_close(s->ctl, on_close, s);
	s->since = loop_now();
	return 0;
}

static int start(struct sidecar *s, struct err *e)
{
	cleanup_close int fd = -EBADF;
	struct child *c;
	char prog[PATH_MAX];
	const char *argv[SIDECAR_ARGS + 2] = {prog};
	struct proc_spawn sp = {
		.argv = argv, .std = {-1, STDERR_FILENO, STDERR_FILENO}, .detach = true};
	pid_t pid;
	int r;

	/* Nobody could connect to it any more, and it may hold what its successor needs. */
	if (s->child >= 0) {
		syscall(SYS_pidfd_send_signal, s->child, SIGKILL, NULL, 0);
		close(take_fd(s->child));
	}
	fd = io_unix_listen(s->path, 16);
	if (fd < 0)
		return err_sys(e, fd, "listen on %s", s->path);
	sp.keep = fd;
	r = proc_find(s->cfg.program, s->cfg.folder, s->cfg.env, prog, sizeof(prog), e);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < SIDECAR_ARGS && s->args[i]; i++)
		argv[i + 1] = s->args[i];
	pid = proc_start(&sp, e);
	if (pid < 0)
		return pid;
	s->child = proc_pidfd(pid);
	c = calloc(1, sizeof(*c));
	if (!c)
		abort();
	c->program = s->cfg.program;
	if (loop_child(s->cfg.loop, pid, ended, c, &c->src) < 0)
		free(c); /* it stays a zombie until we end */
	r = attach(s);
	return r < 0 ? err_sys(e, r, "connect to %s", s->path) : 0;
}

static void begin(void *ctx)
{
	struct sidecar *s = ctx;
	struct err e = {0};

	/* It may have ended the connection, and live. */
	if (attach(s) == 0) {
		s->cfg.up(s->cfg.ctx, true);
		return;
	}
	if (start(s, &e) < 0) {
		log_warn("vm", "start %s: %s", s->cfg.program, e.text);
		loop_timer_arm(s->timer, loop_now() + LAST_MS * 1000000ull);
		return;
	}
	s->cfg.up(s->cfg.ctx, false);
}

int sidecar_new(struct sidecar **ret, const struct sidecar_config *cfg)
{
	struct sidecar *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		abort();
	s->cfg = *cfg;
	s->wait_ms = FIRST_MS;
	s->child = -EBADF;
	snprintf(s->path, sizeof(s->path), "%s", cfg->path);
	for (unsigned i = 0; i < SIDECAR_ARGS && cfg->args[i]; i++) {
		s->args[i] = strdup(cfg->args[i]);
		if (!s->args[i])
			abort();
	}
	r = loop_timer(cfg->loop, begin, s, &s->timer);
	if (r < 0) {
		sidecar_free(s);
		return r;
	}
	*ret = s;
	begin(s);
	return 0;
}

struct sidecar *sidecar_free(struct sidecar *s)
{
	if (!s)
		return NULL;
	ctl_async_free(s->ctl);
	loop_src_free(s->timer);
	if (s->child >= 0)
		close(s->child);
	for (unsigned i = 0; i < SIDECAR_ARGS; i++)
		free(s->args[i]);
	free(s);
	return NULL;
}

struct ctl_async *sidecar_ctl(struct sidecar *s)
{
	return s ? s->ctl : NULL;
}
