/* SPDX-License-Identifier: MIT */
/*
 * The importer's process: forked, cut off from everything but the archive, the disk and a pipe to its parent, limited in
 * memory. What it says on the pipe is fixed-size records; a record that cannot be, or silence, counts as failure.
 */
#include "lib/image/image.h"

#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "lib/base/cleanup.h"
#include "lib/base/io.h"
#include "lib/sandbox/sandbox.h"

enum { MEMORY_LIMIT = 2047 << 20 };
enum record_kind { REC_PROGRESS = 1, REC_RESULT = 2 };

struct record {
	uint32_t kind;
	int32_t code;
	struct image_progress progress;
	char text[1024];
};

struct image_job {
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

static int confine(const struct image_import_opts *o, int pipe_fd, struct err *e)
{
	const int keep[] = {STDERR_FILENO, o->in_fd, o->out_fd, pipe_fd};
	const struct sandbox_opts so = {
		.keep_fds = keep, .n_keep = 4, .debug = getenv("WSLX_SANDBOX_DEBUG") != NULL};
	struct rlimit lim = {MEMORY_LIMIT, MEMORY_LIMIT};

	if (!sandbox_address_space_is_huge() && setrlimit(RLIMIT_AS, &lim) < 0)
		return err_sys(e, -errno, "limit memory");
	/* The locale is read from files: now, not later. */
	if (!setlocale(LC_CTYPE, "C.UTF-8"))
		setlocale(LC_CTYPE, "en_US.UTF-8");
	return sandbox_enter(&sandbox_importer, &so, e);
}

static NORETURN void child(const struct image_import_opts *o, int pipe_fd, pid_t parent)
{
	struct image_import_opts io = *o;
	uint8_t uuid[16], seed[16];
	const struct image_write_opts w = {
		.io = &io, .uuid = uuid, .hash_seed = seed, .now = time(NULL)};
	struct record rec = {.kind = REC_RESULT};
	struct err e = {0};

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	signal(SIGPIPE, SIG_DFL);
	signal(SIGXFSZ, SIG_IGN);
	if (getrandom(uuid, 16, 0) != 16 || getrandom(seed, 16, 0) != 16)
		_exit(1);
	uuid[6] = (uuid[6] & 0x0f) | 0x40; /* RFC 4122: random */
	uuid[8] = (uuid[8] & 0x3f) | 0x80;
	io.progress = on_progress;
	io.ctx = &pipe_fd;
	rec.code = confine(o, pipe_fd, &e);
	if (rec.code < 0)
		err_wrap(&e, rec.code, "confine the importer");
	else
		rec.code = image_write(&w, &e);
	memcpy(rec.text, e.text, sizeof(rec.text));
	send_record(pipe_fd, &rec);
	_exit(0);
}

/* --- the parent --- */

int image_job_start(struct image_job **ret, const struct image_import_opts *o, struct err *e)
{
	struct image_job *j = calloc(1, sizeof(*j));
	pid_t self = getpid();
	int fds[2];

	if (!j)
		return err_sys(e, -ENOMEM, "start the importer");
	if (pipe2(fds, O_CLOEXEC) < 0) {
		free(j);
		return err_sys(e, -errno, "start the importer");
	}
	j->fd = fds[0];
	io_set_nonblock(j->fd, true);
	j->pid = fork();
	if (j->pid == 0)
		child(o, fds[1], self);
	close(fds[1]);
	if (j->pid < 0) {
		int r = -errno;

		j->pid = 0;
		image_job_free(j);
		return err_sys(e, r, "start the importer");
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
			"the importer was stopped: it made a system call that it may not");
	if (WIFSIGNALED(status))
		return err_set(e, -ECHILD, "the importer was killed by signal %d (%s)",
			WTERMSIG(status), strsignal(WTERMSIG(status)));
	return err_set(e, -ECHILD, "the importer ended without a result");
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
			return err_sys(e, -errno, "hear from the importer");
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
			return err_set(e, -EBADMSG, "the importer spoke nonsense");
		j->rec.text[sizeof(j->rec.text) - 1] = 0;
		return j->rec.code < 0 ? err_set(e, j->rec.code, "%s", j->rec.text) : 1;
	}
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

int image_import(const struct image_import_opts *o, struct err *e)
{
	struct image_progress p = {0};
	struct image_job *j;
	int r = image_job_start(&j, o, e);

	if (r < 0)
		return r;
	while (r == 0) {
		struct pollfd pfd = {.fd = j->fd, .events = POLLIN};

		if (poll(&pfd, 1, -1) < 0 && errno != EINTR) {
			r = err_sys(e, -errno, "wait for the importer");
			break;
		}
		r = image_job_read(j, &p, e);
		if (o->progress)
			o->progress(o->ctx, &p);
	}
	image_job_free(j);
	return r < 0 ? r : 0;
}
