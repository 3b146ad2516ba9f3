/* SPDX-License-Identifier: MIT */
/*
 * Many connections at once, in one process.
 *
 *	crowd serve ADDRESS PORT		sends back what comes; "up" when it listens, ends with its input
 *	crowd connect ADDRESS PORT COUNT	opens them all; "COUNT made, COUNT failed[: WHY]", and for each line of input
 *						sends a number through each: "COUNT answered"; closes them with its input
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SILENCE_MS = 60000 };

struct peer {
	int fd; /* -1: failed */
	bool made;
	uint32_t got;
};

static int epfd;

static void fatal(const char *what)
{
	perror(what);
	exit(1);
}

static void watch(int fd, uint32_t events, uint64_t who, int op)
{
	struct epoll_event ev = {.events = events, .data.u64 = who};

	if (epoll_ctl(epfd, op, fd, &ev) < 0)
		fatal("epoll_ctl");
}

static void serve(const struct sockaddr_in *at)
{
	int s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1, n, fd;
	struct epoll_event ev[256];
	char buf[65536];

	setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(s, (const struct sockaddr *)at, sizeof(*at)) < 0 || listen(s, 4096) < 0)
		fatal("listen");
	watch(s, EPOLLIN, (uint64_t)s, EPOLL_CTL_ADD);
	watch(0, EPOLLIN, 0, EPOLL_CTL_ADD);
	puts("up");
	while ((n = epoll_wait(epfd, ev, 256, -1)) > 0)
		for (int i = 0; i < n; i++) {
			if (ev[i].data.u64 == 0)
				exit(0);
			if (ev[i].data.u64 != (uint64_t)s) {
				ssize_t len = read((int)ev[i].data.u64, buf, sizeof(buf));

				if (len <= 0 || write((int)ev[i].data.u64, buf, (size_t)len) != len)
					close((int)ev[i].data.u64);
				continue;
			}
			while ((fd = accept(s, NULL, NULL)) >= 0)
				watch(fd, EPOLLIN, (uint64_t)fd, EPOLL_CTL_ADD);
			if (errno != EAGAIN)
				fatal("accept");
		}
	fatal("epoll_wait");
}

/* Events until nothing is open; which: what is waited for. How many there were. */
static unsigned turn(struct peer *p, unsigned open, const char **why)
{
	struct epoll_event ev[256];
	unsigned good = 0;

	while (open) {
		int n = epoll_wait(epfd, ev, 256, SILENCE_MS);

		if (n <= 0) {
			*why = "silence";
			break;
		}
		for (int i = 0; i < n; i++) {
			struct peer *q = &p[ev[i].data.u64];
			int error = 0;
			socklen_t len = sizeof(error);
			uint32_t number;
			ssize_t got;

			if (!q->made) {
				getsockopt(q->fd, SOL_SOCKET, SO_ERROR, &error, &len);
			} else {
				got = read(q->fd, &number, sizeof(number));
				error = got < 0					    ? errno
					: got != sizeof(number) || number != q->got ? EPIPE
										    : 0;
			}
			open--;
			good += !error;
			q->made |= !error;
			if (error) {
				*why = strerror(error);
				close(q->fd);
				q->fd = -1;
			} else {
				watch(q->fd, 0, ev[i].data.u64, EPOLL_CTL_MOD);
			}
		}
	}
	return good;
}

static void connect_all(const struct sockaddr_in *to, unsigned n)
{
	struct peer *p = calloc(n, sizeof(*p));
	const char *why = "";
	unsigned asked = 0, made, round = 0;
	char line[16];

	if (!p)
		fatal("calloc");
	for (unsigned i = 0; i < n; i++) {
		p[i].fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		if (p[i].fd < 0)
			fatal("socket");
		if (connect(p[i].fd, (const struct sockaddr *)to, sizeof(*to)) < 0 &&
			errno != EINPROGRESS) {
			why = strerror(errno);
			close(p[i].fd);
			p[i].fd = -1;
			continue;
		}
		watch(p[i].fd, EPOLLOUT, i, EPOLL_CTL_ADD);
		asked++;
	}
	made = turn(p, asked, &why);
	printf("%u made, %u failed%s%s\n", made, n - made, *why ? ": " : "", why);
	while (fgets(line, sizeof(line), stdin)) {
		why = "";
		asked = 0;
		round++;
		for (unsigned i = 0; i < n; i++) {
			if (p[i].fd < 0 || !p[i].made)
				continue;
			p[i].got = i * 100 + round;
			if (write(p[i].fd, &p[i].got, sizeof(p[i].got)) != sizeof(p[i].got))
				fatal("write");
			watch(p[i].fd, EPOLLIN, i, EPOLL_CTL_MOD);
			asked++;
		}
		made = turn(p, asked, &why);
		printf("%u answered%s%s\n", made, *why ? ": " : "", why);
	}
}

int main(int argc, char **argv)
{
	struct sockaddr_in at = {.sin_family = AF_INET};
	struct rlimit rl;

	setvbuf(stdout, NULL, _IOLBF, 0);
	getrlimit(RLIMIT_NOFILE, &rl);
	rl.rlim_cur = rl.rlim_max;
	setrlimit(RLIMIT_NOFILE, &rl);
	epfd = epoll_create1(EPOLL_CLOEXEC);
	if (argc < 4 || inet_pton(AF_INET, argv[2], &at.sin_addr) != 1)
		return 2;
	at.sin_port = htons((uint16_t)atoi(argv[3]));
	if (!strcmp(argv[1], "serve"))
		serve(&at);
	else if (argc == 5)
		connect_all(&at, (unsigned)atoi(argv[4]));
	return 0;
}
