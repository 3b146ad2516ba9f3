/* SPDX-License-Identifier: MIT */
/*
 * Connections to ports of the guest: "CONNECT port\n" to wslx-vmm's vsock socket, "OK port\n" back;
 * a closed connection says no. Not a byte beyond the answer is read: it is the session's.
 */
#include "daemon/vm.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include "daemon/vm-internal.h"
#include "lib/base/io.h"

enum { CONNECT_MS = 30000, ANSWER_MAX = 32 };

struct vm_connect {
	int fd;
	struct loop_src *src, *timer;
	vm_connected fn;
	void *ctx;
	char answer[ANSWER_MAX];
	size_t len;
};

void vm_connect_cancel(struct vm_connect *c)
{
	if (!c)
		return;
	loop_src_free(c->src);
	loop_src_free(c->timer);
	if (c->fd >= 0)
		close(c->fd);
	free(c);
}

static void done(struct vm_connect *c, int r)
{
	vm_connected fn = c->fn;
	void *ctx = c->ctx;
	int fd = r < 0 ? r : take_fd(c->fd);

	c->src = loop_src_free(c->src);
	vm_connect_cancel(c);
	if (fd >= 0)
		io_set_nonblock(fd, false);
	fn(ctx, fd);
}

static void readable(void *ctx, int fd, uint32_t revents)
{
	struct vm_connect *c = ctx;

	for (;;) {
		ssize_t n = recv(fd, c->answer + c->len, 1, MSG_DONTWAIT);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n <= 0) {
			done(c, n < 0 ? -errno : -ECONNREFUSED);
			return;
		}
		if (c->answer[c->len++] == '\n')
			break;
		if (c->len == ANSWER_MAX) {
			done(c, -EPROTO);
			return;
		}
	}
	done(c, memcmp(c->answer, "OK", 2) == 0 ? 0 : -ECONNREFUSED);
}

static void timed_out(void *ctx)
{
	done(ctx, -ETIMEDOUT);
}

int vm_connect(struct vm *vm, uint32_t port, vm_connected fn, void *ctx, struct vm_connect **ret)
{
	struct vm_connect *c = calloc(1, sizeof(*c));
	struct loop *loop = vm_loop(vm);
	char text[32];
	int r;

	if (!c)
		return -ENOMEM;
	*c = (struct vm_connect){.fn = fn, .ctx = ctx};
	r = c->fd = vm_dial(vm);
	if (r >= 0)
		r = io_set_nonblock(c->fd, true);
	if (r >= 0) {
		snprintf(text, sizeof(text), "CONNECT %u\n", port);
		r = send(c->fd, text, strlen(text), MSG_NOSIGNAL) == (ssize_t)strlen(text) ? 0
											   : -EIO;
	}
	if (r >= 0)
		r = loop_io(loop, c->fd, EPOLLIN, readable, c, &c->src);
	if (r >= 0)
		r = loop_timer(loop, timed_out, c, &c->timer);
	if (r < 0) {
		vm_connect_cancel(c);
		return r;
	}
	loop_timer_arm(c->timer, loop_now() + CONNECT_MS * 1000000ull);
	*ret = c;
	return 0;
}
