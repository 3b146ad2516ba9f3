/* SPDX-License-Identifier: MIT */
#include "guest/worker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include "guest/guest.h"

/* Of the process, for its reply; of init, for what it passes on. */
static uint8_t buf[WSLX_MSG_MAX];
/* In the process. */
static int to_init = -1;

struct worker {
	struct loop_src *src;
	int fd;
	uint32_t type, id;
	worker_send_fn send;
};

static void NORETURN work(int fd, const struct wire_msg *m, worker_fn fn)
{
	struct err e = {0};
	struct wire_w w;
	int r;

	to_init = fd;
	wire_begin(&w, buf, sizeof(buf), m->type, WSLX_MSG_REPLY, m->id, 0);
	r = fn(m, &w, &e);
	if (r < 0) {
		wire_begin(&w, buf, sizeof(buf), m->type, WSLX_MSG_REPLY, m->id, (uint32_t)-r);
		wire_str(&w, WSLX_A_TEXT, e.code ? e.text : strerror(-r));
	}
	pair_send(fd, &w);
	_exit(0);
}

void worker_tell(struct wire_w *event)
{
	pair_send(to_init, event);
}

static void on_message(void *ctx, int fd, uint32_t revents)
{
	struct worker *k = ctx;
	struct wire_msg m;
	struct wire_w w;

	if (pair_recv(fd, buf, sizeof(buf), &m) == 0) {
		w = (struct wire_w){
			.buf = buf, .cap = sizeof(buf), .len = sizeof(struct wslx_msg) + m.len};
		if (!(m.flags & WSLX_MSG_REPLY)) {
			k->send(&w);
			return;
		}
	} else {
		wire_begin(&w, buf, sizeof(buf), k->type, WSLX_MSG_REPLY, k->id, EIO);
		wire_str(&w, WSLX_A_TEXT, "the process that was to do it died");
	}
	k->send(&w);
	loop_src_free(k->src);
	close(k->fd);
	free(k);
}

int worker_start(struct loop *l, const struct wire_msg *m, worker_fn fn, worker_send_fn send)
{
	struct worker *k = malloc(sizeof(*k));
	int pair[2], r;
	pid_t pid;

	if (!k || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
		free(k);
		return -ENOMEM;
	}
	pid = fork();
	if (pid == 0) {
		close(pair[0]);
		work(pair[1], m, fn);
	}
	r = pid < 0 ? -errno : 0;
	close(pair[1]);
	*k = (struct worker){.fd = pair[0], .type = m->type, .id = m->id, .send = send};
	if (r == 0)
		r = loop_io(l, k->fd, EPOLLIN, on_message, k, &k->src);
	if (r < 0) {
		close(pair[0]);
		free(k);
	}
	return r;
}
