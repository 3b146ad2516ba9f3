/* SPDX-License-Identifier: MIT */
#include "lib/session/pump.h"

#include <errno.h>
#include <stdlib.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CHUNK = 256 * 1024 };

/* The descriptor may have been made non-blocking by whoever shares it. */
static ssize_t wait_for(int fd, short events)
{
	struct pollfd pfd = {.fd = fd, .events = events};

	return poll(&pfd, 1, -1);
}

static ssize_t read_some(int fd, char *buf)
{
	for (;;) {
		ssize_t n = read(fd, buf, CHUNK);

		if (n >= 0 || (errno != EINTR && errno != EAGAIN))
			return n;
		if (errno == EAGAIN)
			wait_for(fd, POLLIN);
	}
}

static int write_all(int fd, const char *buf, size_t len)
{
	while (len) {
		ssize_t n = write(fd, buf, len);

		if (n < 0 && errno == EAGAIN)
			wait_for(fd, POLLOUT);
		else if (n < 0 && errno != EINTR)
			return -errno;
		else if (n > 0) {
			buf += n;
			len -= (size_t)n;
		}
	}
	return 0;
}

static void *run(void *ctx)
{
	struct pump *p = ctx;
	char *buf = malloc(CHUNK);
	ssize_t n = -1;
	int r = 0;

	if (!buf)
		abort();
	while (r == 0 && (n = read_some(p->from, buf)) > 0)
		r = write_all(p->to, buf, (size_t)n);
	if (p->outward) {
		if (n < 0 && errno != EIO) /* EIO: the terminal is gone */
			p->error = -errno;
		shutdown(p->to, SHUT_WR);
	} else {
		if (r < 0 && r != -EPIPE)
			p->error = r;
		shutdown(p->from, SHUT_RDWR);
	}
	free(buf);
	return NULL;
}

int pump_start(struct pump *p, int from, int to, bool outward)
{
	int r;

	*p = (struct pump){.from = from, .to = to, .outward = outward};
	r = pthread_create(&p->thread, NULL, run, p);
	p->running = r == 0;
	return -r;
}

void pump_join(struct pump *p)
{
	if (p->running)
		pthread_join(p->thread, NULL);
	p->running = false;
}
