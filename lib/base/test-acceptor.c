/* SPDX-License-Identifier: MIT */
#include "lib/base/test.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include "lib/base/acceptor.h"

static struct {
	struct loop *l;
	unsigned tries; /* of accept4() */
	int got;	/* the connection; negative: none yet */
} t = {.got = -1};

/* The linker has the acceptor call this one. */
int __wrap_accept4(int fd, struct sockaddr *sa, socklen_t *len, int flags);
int __real_accept4(int fd, struct sockaddr *sa, socklen_t *len, int flags);
int __wrap_accept4(int fd, struct sockaddr *sa, socklen_t *len, int flags)
{
	t.tries++;
	return __real_accept4(fd, sa, len, flags);
}

static void accepted(void *ctx, int fd)
{
	t.got = fd;
	loop_quit(t.l, 0);
}

static void quit(void *ctx)
{
	loop_quit(t.l, 0);
}

TEST(without_descriptors_it_waits_and_does_not_spin_and_then_takes_who_waits)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(sa);
	struct loop_src *timer;
	struct acceptor *a;
	struct rlimit few, all;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), client;

	REQUIRE(bind(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0 && listen(fd, 5) == 0);
	REQUIRE(getsockname(fd, (struct sockaddr *)&sa, &len) == 0);
	REQUIRE(loop_new(&t.l) == 0);
	REQUIRE(acceptor_new(&a, t.l, fd, SOCK_NONBLOCK, accepted, NULL) == 0);
	REQUIRE(loop_timer(t.l, quit, NULL, &timer) == 0);
	client = socket(AF_INET, SOCK_STREAM, 0);
	REQUIRE(connect(client, (struct sockaddr *)&sa, sizeof(sa)) == 0);

	REQUIRE(getrlimit(RLIMIT_NOFILE, &all) == 0);
	few = (struct rlimit){(rlim_t)client + 1, all.rlim_max};
	REQUIRE(setrlimit(RLIMIT_NOFILE, &few) == 0);
	loop_timer_arm(timer, loop_now() + 500000000ull);
	loop_run(t.l);
	CHECK(t.got < 0);
	CHECK(t.tries >= 1 && t.tries < 20);

	REQUIRE(setrlimit(RLIMIT_NOFILE, &all) == 0);
	loop_run(t.l);
	CHECK(t.got >= 0);
	CHECK(fcntl(t.got, F_GETFL) & O_NONBLOCK);
	CHECK(fcntl(t.got, F_GETFD) & FD_CLOEXEC);
	close(t.got);
	close(client);
	loop_src_free(timer);
	acceptor_free(a);
	loop_free(t.l);
	close(fd);
}

TEST_MAIN()
