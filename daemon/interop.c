/* SPDX-License-Identifier: MIT */
#include "daemon/interop.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include "lib/base/io.h"
#include "lib/base/log.h"
#include "lib/base/proc.h"

struct interop {
	int channel; /* its other end is the process's; the end of it is the end of a process without a guest */
	uint32_t port;
	uint8_t secret[WSLX_SECRET_SIZE];
};

/* The process outlives struct interop. */
struct child {
	struct loop_src *src;
};

static void ended(void *ctx, pid_t pid, int status)
{
	struct child *c = ctx;

	if (WIFSIGNALED(status))
		log_warn("interop", "wslx-interop (process %d) was killed by signal %d", pid,
			WTERMSIG(status));
	loop_src_free(c->src);
	free(c);
}

static int start(struct loop *l, const char *name, int channel, struct err *e)
{
	struct child *c = calloc(1, sizeof(*c));
	char prog[PATH_MAX];
	const char *argv[] = {prog, "--name", name, NULL};
	struct proc_spawn s = {.argv = argv,
		.std = {-1, STDERR_FILENO, STDERR_FILENO},
		.keep = channel,
		.detach = true};
	pid_t pid;
	int r = proc_find("wslx-interop", "interop", "WSLX_INTEROP", prog, sizeof(prog), e);

	if (!c)
		abort();
	pid = r < 0 ? r : proc_start(&s, e);
	if (pid < 0) {
		free(c);
		return pid;
	}
	if (loop_child(l, pid, ended, c, &c->src) < 0)
		free(c); /* it stays a zombie until we end */
	return 0;
}

int interop_new(struct loop *l, int listen_fd, uint32_t port, const char *name,
	struct interop **ret, struct err *e)
{
	cleanup_close int theirs = -EBADF, fd = listen_fd;
	struct interop *i = calloc(1, sizeof(*i));
	int pair[2], r;

	if (!i)
		abort();
	*i = (struct interop){.channel = -EBADF, .port = port};
	if (getrandom(i->secret, sizeof(i->secret), 0) != sizeof(i->secret) ||
		socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
		r = err_sys(e, -errno, "start wslx-interop");
		interop_free(i);
		return r;
	}
	i->channel = pair[0];
	theirs = pair[1];
	r = start(l, name, theirs, e);
	/* The secret goes where nobody else can read it, which its arguments and its environment are not. */
	if (r == 0 && io_send_fds(i->channel, i->secret, sizeof(i->secret), &fd, 1) < 0)
		r = err_set(e, -EPIPE, "wslx-interop ended at once");
	if (r < 0) {
		interop_free(i);
		return r;
	}
	*ret = i;
	return 0;
}

void interop_add(const struct interop *i, struct wire_w *start)
{
	wire_bytes(start, WSLX_A_SECRET, i->secret, sizeof(i->secret));
	wire_u32(start, WSLX_A_INTEROP_PORT, i->port);
}

struct interop *interop_free(struct interop *i)
{
	if (!i)
		return NULL;
	if (i->channel >= 0)
		close(i->channel);
	explicit_bzero(i->secret, sizeof(i->secret));
	free(i);
	return NULL;
}
