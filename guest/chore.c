/* SPDX-License-Identifier: MIT */
#include "guest/chore.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include "guest/guest.h"

static struct chore {
	struct loop_src *src; /* NULL: there is none */
	int pair;
	uint32_t type, id;
	bool replied;
	void *buf;
	size_t cap;
	chore_says_fn says;
	void *ctx;
} the;

static void readable(void *ctx, int fd, uint32_t revents)
{
	struct wire_msg m;
	int r = pair_recv(fd, the.buf, the.cap, &m);

	if (r == 0) {
		the.replied |= (m.flags & WSLX_MSG_REPLY) != 0;
		the.says(the.ctx, the.type, the.id, &m);
		return;
	}
	/* The process itself is reaped with init's orphans. */
	the.src = loop_src_free(the.src);
	close(fd);
	if (!the.replied)
		the.says(the.ctx, the.type, the.id, NULL);
}

int chore_start(struct loop *l, const struct wire_msg *m, chore_fn fn, void *buf, size_t cap,
	chore_says_fn says, void *ctx)
{
	int pair[2], r;
	pid_t pid;

	if (the.src)
		return -EBUSY;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	pid = fork();
	if (pid == 0) {
		close(pair[0]);
		fn(m, pair[1]);
		_exit(0);
	}
	r = pid < 0 ? -errno : 0;
	close(pair[1]);
	the = (struct chore){.pair = pair[0],
		.type = m->type,
		.id = m->id,
		.buf = buf,
		.cap = cap,
		.says = says,
		.ctx = ctx};
	if (r == 0)
		r = loop_io(l, pair[0], EPOLLIN, readable, NULL, &the.src);
	if (r < 0)
		close(pair[0]);
	return r;
}
