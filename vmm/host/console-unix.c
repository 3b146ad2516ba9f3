/* SPDX-License-Identifier: MIT */
/* The guest's console on a unix socket; see console-unix.h. State is under the device's lock; the client is watched by an
 * epoll instance of our own, edge-triggered, so that a vCPU's thread may write to it without touching the loop. */
#include "vmm/host/console-unix.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include "lib/base/cleanup.h"
#include "lib/base/io.h"

enum { BACKLOG = 4, EVENTS = 8, ON_LISTEN = 0 };

struct console_unix {
	struct console *c;
	int epfd, listen_fd, client; /* owned; client -1: none */
	uint64_t number;	     /* of the client: events of earlier ones are stale */
	struct loop_src *src;
	uint64_t end, at; /* bytes of output ever, and how many of them the client was sent */
	char *path;	  /* owned */
	char kept[CONSOLE_KEPT]; /* byte n of the output is at n % CONSOLE_KEPT */
};

static void drop_client(struct console_unix *u)
{
	if (u->client >= 0)
		close(u->client);
	u->client = -1;
}

/* To the client, as much as it takes. */
static void flush(struct console_unix *u)
{
	if (u->end - u->at > CONSOLE_KEPT)
		u->at = u->end - CONSOLE_KEPT;
	while (u->client >= 0 && u->at < u->end) {
		size_t off = u->at % CONSOLE_KEPT;
		size_t n = MIN((size_t)(u->end - u->at), CONSOLE_KEPT - off);
		ssize_t sent = send(u->client, u->kept + off, n, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0) {
			if (errno != EAGAIN)
				drop_client(u);
			return;
		}
		u->at += (size_t)sent;
	}
}

static void keep(struct console_unix *u, const uint8_t *p, size_t len)
{
	if (len > CONSOLE_KEPT) {
		u->end += len - CONSOLE_KEPT;
		p += len - CONSOLE_KEPT;
		len = CONSOLE_KEPT;
	}
	while (len) {
		size_t off = u->end % CONSOLE_KEPT, n = MIN(len, CONSOLE_KEPT - off);

		memcpy(u->kept + off, p, n);
		u->end += n;
		p += n;
		len -= n;
	}
}

static void back_write(void *ctx, const struct iovec *iov, unsigned n)
{
	struct console_unix *u = ctx;

	for (unsigned i = 0; i < n; i++)
		keep(u, iov[i].iov_base, iov[i].iov_len);
	flush(u);
}

static size_t back_read(void *ctx, const struct iovec *iov, unsigned n)
{
	struct console_unix *u = ctx;
	ssize_t got;

	if (u->client < 0)
		return 0;
	do
		got = readv(u->client, iov, (int)MIN(n, (unsigned)IOV_MAX));
	while (got < 0 && errno == EINTR);
	/* At the end of its input the client may go on listening: it leaves when it closes. */
	return got > 0 ? (size_t)got : 0;
}

static void back_free(void *ctx)
{
	struct console_unix *u = ctx;

	loop_src_free(u->src);
	drop_client(u);
	if (u->listen_fd >= 0) {
		close(u->listen_fd);
		unlink(u->path);
	}
	if (u->epfd >= 0)
		close(u->epfd);
	free(u->path);
	free(u);
}

static const struct console_back_ops unix_ops = {back_write, back_read, back_free};

static void accept_client(struct console_unix *u)
{
	struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET};
	int fd = accept4(u->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return;
	drop_client(u);
	u->client = fd;
	u->at = 0;
	ev.data.u64 = ++u->number;
	if (epoll_ctl(u->epfd, EPOLL_CTL_ADD, fd, &ev) < 0)
		drop_client(u);
	flush(u);
}

static void events(void *ctx, int fd, uint32_t revents)
{
	struct console_unix *u = ctx;
	struct epoll_event ev[EVENTS];
	VIRTIO_GUARD(console_dev(u->c));
	int n = epoll_wait(u->epfd, ev, EVENTS, 0);

	for (int i = 0; i < n; i++) {
		if (ev[i].data.u64 == ON_LISTEN) {
			accept_client(u);
			continue;
		}
		if (u->client < 0 || ev[i].data.u64 != u->number)
			continue;
		if (ev[i].events & EPOLLOUT)
			flush(u);
		if (ev[i].events & EPOLLIN)
			console_readable(u->c);
		/* Gone; what it typed before was offered to the guest just now. */
		if (ev[i].events & (EPOLLHUP | EPOLLERR))
			drop_client(u);
	}
}

int console_unix_attach(struct console *c, struct loop *loop, const char *path, struct err *e)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.u64 = ON_LISTEN};
	struct console_unix *u = calloc(1, sizeof(*u));
	int r;

	if (!u)
		return err_set(e, -ENOMEM, "console: out of memory");
	u->c = c;
	u->epfd = u->listen_fd = u->client = -1;
	u->path = strdup(path);
	u->epfd = epoll_create1(EPOLL_CLOEXEC);
	if (!u->path || u->epfd < 0) {
		r = err_sys(e, u->path ? -errno : -ENOMEM, "console");
		goto fail;
	}
	u->listen_fd = r = io_unix_listen(path, BACKLOG);
	if (r >= 0)
		r = io_set_nonblock(u->listen_fd, true);
	if (r >= 0 && epoll_ctl(u->epfd, EPOLL_CTL_ADD, u->listen_fd, &ev) < 0)
		r = -errno;
	if (r >= 0)
		r = loop_io(loop, u->epfd, EPOLLIN, events, u, &u->src);
	if (r < 0) {
		err_sys(e, r, "console socket %s", path);
		goto fail;
	}
	console_set_back(c, &unix_ops, u);
	return 0;
fail:
	back_free(u);
	return r;
}
