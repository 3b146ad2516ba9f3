/* SPDX-License-Identifier: MIT */
#include "lib/image/job.h"

#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include "lib/base/cleanup.h"
#include "lib/base/io.h"
#include "lib/base/utf8.h"

#define MEMORY_LIMIT ((rlim_t)4 << 30)
enum record_kind { REC_PROGRESS = 1, REC_RESULT = 2 };

struct record {
	uint32_t kind;
	int32_t code;
	struct image_progress progress;
	struct image_facts facts;
	char text[1024];
};

struct image_job {
	const char *who;
	pid_t pid; /* 0: reaped */
	int fd;
	size_t have; /* bytes of rec */
	struct record rec;
};

/* --- the child --- */

static void send_record(int fd, const struct record *r)
{
	if (io_write_full(fd, r, sizeof(*r)) < 0)
		_exit(1); /* nobody listens any more */
}

static void on_progress(void *ctx, const struct image_progress *p)
{
	struct record r = {.kind = REC_PROGRESS, .progress = *p};

	send_record(*(int *)ctx, &r);
}

static int confine(const struct job_work *w, int pipe_fd, struct err *e)
{
	int keep[2 + ARRAY_LEN(w->fds)] = {STDERR_FILENO, pipe_fd};
	struct sandbox_opts so = {
		.keep_fds = keep, .n_keep = 2, .debug = getenv("WSLX_SANDBOX_DEBUG") != NULL};
	struct rlimit lim = {MEMORY_LIMIT, MEMORY_LIMIT};

	for (unsigned i = 0; i < ARRAY_LEN(w->fds); i++)
		if (w->fds[i] >= 0)
			keep[so.n_keep++] = w->fds[i];
	if (!w->profile)
		return sandbox_close_others(keep, so.n_keep, e);
	if (!sandbox_address_space_is_huge() && setrlimit(RLIMIT_AS, &lim) < 0)
		return err_sys(e, -errno, "limit memory");
	/* The locale is read from files: now, not later. */
	if (!setlocale(LC_CTYPE, "C.UTF-8"))
		setlocale(LC_CTYPE, "en_US.UTF-8");
	return sandbox_enter(w->profile, &so, e);
}

static NORETURN void child(const struct job_work *w, int pipe_fd, pid_t parent)
{
	struct record rec = {.kind = REC_RESULT};
	const struct job_report to = {on_progress, &pipe_fd, &rec.facts};
	struct err e = {0};
	sigset_t none;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	rec.code = confine(w, pipe_fd, &e);
	if (rec.code < 0)
		err_wrap(&e, rec.code, "confine the %s", w->who);
	else
		rec.code = w->fn(w->opts, &to, &e);
	memcpy(rec.text, e.text, sizeof(rec.text));
	send_record(pipe_fd, &rec);
	_exit(0);
}

/* --- the parent --- */

int job_start(struct image_job **ret, const struct job_work *w, struct err *e)
{
	struct image_job *j = calloc(1, sizeof(*j));
	pid_t self = getpid();
	int fds[2];

	if (!j)
		return err_sys(e, -ENOMEM, "start the %s", w->who);
	if (pipe2(fds, O_CLOEXEC) < 0) {
		free(j);
		return err_sys(e, -errno, "start the %s", w->who);
	}
	j->who = w->who;
	j->fd = fds[0];
	io_set_nonblock(j->fd, true);
	j->pid = fork();
	if (j->pid == 0)
		child(w, fds[1], self);
	close(fds[1]);
	if (j->pid < 0) {
		int r = -errno;

		j->pid = 0;
		image_job_free(j);
		return err_sys(e, r, "start the %s", w->who);
	}
	*ret = j;
	return 0;
}

int image_job_fd(const struct image_job *j)
{
	return j->fd;
}

pid_t image_job_pid(const struct image_job *j)
{
	return j->pid;
}

static int reap(struct image_job *j)
{
	int status = 0;

	while (j->pid && waitpid(j->pid, &status, 0) < 0 && errno == EINTR)
		;
	j->pid = 0;
	return status;
}

/* The pipe is closed and there was no result. */
static int died(struct image_job *j, struct err *e)
{
	int status = reap(j);

	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS)
		return err_set(e, -ECHILD,
			"the %s was stopped: it made a system call that it may not", j->who);
	if (WIFSIGNALED(status))
		return err_set(e, -ECHILD, "the %s was killed by signal %d (%s)", j->who,
			WTERMSIG(status), strsignal(WTERMSIG(status)));
	return err_set(e, -ECHILD, "the %s ended without a result", j->who);
}

/* What it says of the image is the image's own words: text of one line, or nothing. */
static void make_plain(char *s, size_t cap)
{
	s[cap - 1] = '\0';
	for (const char *p = s; *p; p += utf8_len(p))
		if ((unsigned char)*p < ' ' || *p == 0x7f || !utf8_len(p)) {
			*s = '\0';
			return;
		}
}

int image_job_read(struct image_job *j, struct image_progress *p, struct err *e)
{
	for (;;) {
		ssize_t n = read(j->fd, (char *)&j->rec + j->have, sizeof(j->rec) - j->have);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n < 0)
			return err_sys(e, -errno, "hear from the %s", j->who);
		if (n == 0)
			return died(j, e);
		j->have += n;
		if (j->have < sizeof(j->rec))
			continue;
		j->have = 0;
		if (j->rec.kind == REC_PROGRESS) {
			*p = j->rec.progress;
			continue;
		}
		reap(j);
		if (j->rec.kind != REC_RESULT || j->rec.code > 0)
			return err_set(e, -EBADMSG, "the %s spoke nonsense", j->who);
		make_plain(j->rec.facts.flavor, sizeof(j->rec.facts.flavor));
		make_plain(j->rec.facts.version, sizeof(j->rec.facts.version));
		make_plain(j->rec.facts.name, sizeof(j->rec.facts.name));
		j->rec.text[sizeof(j->rec.text) - 1] = '\0';
		/* Names in a message must not play with the reader's terminal. */
		utf8_make_printable(j->rec.text);
		return j->rec.code < 0 ? err_set(e, j->rec.code, "%s", j->rec.text) : 1;
	}
}

const struct image_facts *image_job_facts(const struct image_job *j)
{
	return &j->rec.facts;
}

void image_job_free(struct image_job *j)
{
	if (!j)
		return;
	if (j->pid) {
		kill(j->pid, SIGKILL);
		reap(j);
	}
	close(j->fd);
	free(j);
}

int job_run(const struct job_work *w, const struct job_report *to, struct err *e)
{
	struct image_progress p = {0};
	struct image_job *j;
	int r = job_start(&j, w, e);

	if (r < 0)
		return r;
	while (r == 0) {
		struct pollfd pfd = {.fd = j->fd, .events = POLLIN};

		if (poll(&pfd, 1, -1) < 0 && errno != EINTR) {
			r = err_sys(e, -errno, "wait for the %s", w->who);
			break;
		}
		r = image_job_read(j, &p, e);
		if (to->progress)
			to->progress(to->ctx, &p);
	}
	if (r > 0 && to->facts)
		*to->facts = *image_job_facts(j);
	image_job_free(j);
	return r < 0 ? r : 0;
}
