/* SPDX-License-Identifier: MIT */
#include "daemon/work.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "lib/base/cleanup.h"
#include "lib/base/io.h"

enum { PROGRESS_MS = 100, MAX_KEEP = 8 };

/* From child to parent; at most PIPE_BUF bytes, so that it arrives whole. */
struct record {
	bool last;
	int code;
	uint64_t done, total;
	char text[sizeof(((struct err *)0)->text)];
};
_Static_assert(sizeof(struct record) <= PIPE_BUF, "one write(2) each");

struct work_out {
	int fd;
	uint64_t told; /* when, loop_now() */
};

struct work {
	pid_t pid;
	int fd;
	struct loop_src *src;
	const struct work_ops *ops;
	void *ctx;
	struct record rec;
	size_t have;
};

void work_progress(void *out, uint64_t done, uint64_t total)
{
	struct work_out *o = out;
	struct record r = {.done = done, .total = total};

	if (loop_now() - o->told < PROGRESS_MS * 1000000ull)
		return;
	o->told = loop_now();
	if (io_write_full(o->fd, &r, sizeof(r)) < 0)
		_exit(1);
}

/* Everything but these and the standard ones is the service's. */
static void close_others(const int *keep, unsigned n)
{
	int sorted[MAX_KEEP + 1], from = STDERR_FILENO + 1;

	memcpy(sorted, keep, n * sizeof(*keep));
	for (unsigned i = 1; i < n; i++)
		for (unsigned j = i; j && sorted[j - 1] > sorted[j]; j--) {
			int t = sorted[j];

			sorted[j] = sorted[j - 1];
			sorted[j - 1] = t;
		}
	for (unsigned i = 0; i < n; i++) {
		if (sorted[i] > from)
			close_range((unsigned)from, (unsigned)sorted[i] - 1, 0);
		from = MAX(from, sorted[i] + 1);
	}
	close_range((unsigned)from, UINT_MAX, 0);
}

static void NORETURN child(
	work_fn fn, void *arg, const int *keep, unsigned nkeep, int fd, pid_t parent)
{
	struct work_out out = {.fd = fd};
	struct record r = {.last = true};
	struct err e = {0};
	int all[MAX_KEEP + 1];
	sigset_t none;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	memcpy(all, keep, nkeep * sizeof(*keep));
	all[nkeep] = fd;
	close_others(all, nkeep + 1);
	r.code = fn(arg, &out, &e);
	memcpy(r.text, e.text, sizeof(r.text));
	_exit(io_write_full(fd, &r, sizeof(r)) < 0);
}

static void reap(struct work *w)
{
	while (w->pid > 0 && waitpid(w->pid, NULL, 0) < 0 && errno == EINTR)
		;
	w->pid = 0;
}

static void finish(struct work *w, int code, const char *text)
{
	struct err e = {0};

	w->src = loop_src_free(w->src);
	reap(w);
	if (code < 0)
		err_set(&e, code, "%s", text);
	w->ops->end(w->ctx, code < 0 ? &e : NULL);
}

static void readable(void *ctx, int fd, uint32_t revents)
{
	struct work *w = ctx;
	ssize_t n = read(fd, (char *)&w->rec + w->have, sizeof(w->rec) - w->have);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		finish(w, -ECHILD, "the process that worked on it was killed");
		return;
	}
	w->have += (size_t)n;
	if (w->have < sizeof(w->rec))
		return;
	w->have = 0;
	w->rec.text[sizeof(w->rec.text) - 1] = '\0';
	if (w->rec.last)
		finish(w, w->rec.code, w->rec.text);
	else
		w->ops->progress(w->ctx, w->rec.done, w->rec.total);
}

int work_start(struct loop *l, work_fn fn, void *arg, const int *keep, unsigned nkeep,
	const struct work_ops *ops, void *ctx, struct work **ret, struct err *e)
{
	struct work *w = calloc(1, sizeof(*w));
	pid_t self = getpid();
	int p[2];

	if (!w || nkeep > MAX_KEEP)
		abort();
	*w = (struct work){.fd = -EBADF, .ops = ops, .ctx = ctx};
	if (pipe2(p, O_CLOEXEC) < 0) {
		free(w);
		return err_sys(e, -errno, "start a process");
	}
	w->fd = p[0];
	io_set_nonblock(w->fd, true);
	w->pid = fork();
	if (w->pid == 0)
		child(fn, arg, keep, nkeep, p[1], self);
	close(p[1]);
	if (w->pid < 0 || loop_io(l, w->fd, EPOLLIN, readable, w, &w->src) < 0) {
		int r = w->pid < 0 ? -errno : -ENOMEM;

		work_free(w);
		return err_sys(e, r, "start a process");
	}
	*ret = w;
	return 0;
}

struct work *work_free(struct work *w)
{
	if (!w)
		return NULL;
	if (w->pid > 0) {
		kill(w->pid, SIGKILL);
		reap(w);
	}
	loop_src_free(w->src);
	if (w->fd >= 0)
		close(w->fd);
	free(w);
	return NULL;
}
