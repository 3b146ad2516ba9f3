/* SPDX-License-Identifier: MIT */
#include "lib/base/test.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include "lib/base/loop.h"

static char order[64];

static void note(void *ctx)
{
	strcat(order, ctx);
}

static void quit(void *ctx)
{
	loop_quit(ctx, 7);
}

TEST(timers_fire_in_order_of_deadline)
{
	struct loop *l;
	struct loop_src *a, *b, *c, *d;
	uint64_t now = loop_now();

	order[0] = '\0';
	REQUIRE(loop_new(&l) == 0);
	loop_timer(l, note, (char[]){"a"}, &a);
	loop_timer(l, note, (char[]){"b"}, &b);
	loop_timer(l, note, (char[]){"c"}, &c);
	loop_timer(l, quit, l, &d);
	loop_timer_arm(b, now + 2000000);
	loop_timer_arm(a, now + 1000000);
	loop_timer_arm(c, now + 1500000);
	loop_timer_arm(c, 0);
	loop_timer_arm(d, now + 3000000);
	CHECK_EQ(loop_run(l), 7);
	CHECK_STR(order, "ab");
	loop_src_free(a);
	loop_src_free(b);
	loop_src_free(c);
	loop_src_free(d);
	loop_free(l);
}

/* In the order of their deadlines as they were moved, and none before its time. */
TEST(a_timer_that_was_moved_fires_when_it_is_due)
{
	struct loop *l;
	struct loop_src *a, *b, *c;
	uint64_t now = loop_now();

	order[0] = '\0';
	REQUIRE(loop_new(&l) == 0);
	loop_timer(l, note, (char[]){"a"}, &a);
	loop_timer(l, note, (char[]){"b"}, &b);
	loop_timer(l, quit, l, &c);
	loop_timer_arm(a, now + 1000000);
	loop_timer_arm(a, now + 20000000);
	loop_timer_arm(b, now + 3600000000000ull);
	loop_timer_arm(b, now + 10000000);
	loop_timer_arm(c, now + 15000000);
	CHECK_EQ(loop_run(l), 7);
	CHECK(loop_now() >= now + 15000000);
	CHECK_STR(order, "b");
	loop_timer_arm(c, now + 30000000);
	CHECK_EQ(loop_run(l), 7);
	CHECK(loop_now() >= now + 30000000);
	CHECK_STR(order, "ba");
	loop_src_free(a);
	loop_src_free(b);
	loop_src_free(c);
	loop_free(l);
}

static void *other_thread(void *ctx)
{
	loop_defer(ctx, note, (char *)(uintptr_t) "1");
	loop_defer(ctx, note, (char *)(uintptr_t) "2");
	loop_defer(ctx, quit, ctx);
	return NULL;
}

TEST(deferred_calls_from_another_thread_keep_their_order)
{
	struct loop *l;
	pthread_t t;

	order[0] = '\0';
	REQUIRE(loop_new(&l) == 0);
	REQUIRE(pthread_create(&t, NULL, other_thread, l) == 0);
	CHECK_EQ(loop_run(l), 7);
	pthread_join(t, NULL);
	CHECK_STR(order, "12");
	loop_free(l);
}

static void *go_on(void *ctx)
{
	CHECK_EQ(loop_run(ctx), 7);
	return NULL;
}

/* Overtaken in the middle of deferred calls. */
static void takes_long(void *ctx)
{
	pthread_t t;

	REQUIRE(pthread_create(&t, NULL, go_on, ctx) == 0);
	pthread_join(t, NULL);
	note((char *)(uintptr_t) "2");
	loop_leave();
}

TEST(another_thread_goes_on_with_the_loop)
{
	struct loop *l;

	order[0] = '\0';
	REQUIRE(loop_new(&l) == 0);
	loop_defer(l, takes_long, l);
	loop_defer(l, note, (char *)(uintptr_t) "1");
	loop_defer(l, quit, l);
	CHECK_EQ(loop_run(l), -ECANCELED);
	CHECK_STR(order, "12");
	/* and later on this one again */
	loop_defer(l, quit, l);
	CHECK_EQ(loop_run(l), 7);
	loop_free(l);
}

static struct loop_src *pair[2];
static struct loop *pair_loop;
static int pair_calls;

static void free_both(void *ctx, int fd, uint32_t revents)
{
	pair_calls++;
	pair[0] = loop_src_free(pair[0]);
	pair[1] = loop_src_free(pair[1]);
	loop_quit(pair_loop, 0);
}

TEST(a_source_freed_by_an_earlier_event_of_the_batch_is_not_called)
{
	int p[2], q[2];

	pair_calls = 0;
	REQUIRE(loop_new(&pair_loop) == 0 && pipe(p) == 0 && pipe(q) == 0);
	REQUIRE(write(p[1], "x", 1) == 1 && write(q[1], "x", 1) == 1);
	loop_io(pair_loop, p[0], EPOLLIN, free_both, NULL, &pair[0]);
	loop_io(pair_loop, q[0], EPOLLIN, free_both, NULL, &pair[1]);
	CHECK_EQ(loop_run(pair_loop), 0);
	CHECK_EQ(pair_calls, 1);
	loop_free(pair_loop);
	close(p[0]);
	close(p[1]);
	close(q[0]);
	close(q[1]);
}

static int hup_calls;

static void on_hup(void *ctx, int fd, uint32_t revents)
{
	hup_calls++;
}

TEST(a_paused_source_does_not_spin_on_a_hangup)
{
	struct loop *l;
	struct loop_src *s, *t;
	int p[2];

	hup_calls = 0;
	REQUIRE(loop_new(&l) == 0 && pipe(p) == 0);
	CHECK_EQ(loop_io(l, p[0], EPOLLIN, on_hup, NULL, &s), 0);
	CHECK_EQ(loop_io_events(s, 0), 0);
	close(p[1]);
	loop_timer(l, quit, l, &t);
	loop_timer_arm(t, loop_now() + 5000000);
	CHECK_EQ(loop_run(l), 7);
	CHECK_EQ(hup_calls, 0);
	CHECK_EQ(loop_io_events(s, EPOLLIN), 0);
	loop_timer_arm(t, loop_now() + 5000000);
	CHECK_EQ(loop_run(l), 7);
	CHECK(hup_calls > 0);
	loop_src_free(s);
	loop_src_free(t);
	loop_free(l);
	close(p[0]);
}

static int child_status;

static void on_child(void *ctx, pid_t pid, int status)
{
	child_status = status;
	loop_quit(ctx, 0);
}

TEST(a_child_is_reported_once_and_reaped)
{
	struct loop *l;
	struct loop_src *s;
	pid_t pid = fork();

	if (pid == 0)
		_exit(9);
	REQUIRE(loop_new(&l) == 0);
	CHECK_EQ(loop_child(l, pid, on_child, l, &s), 0);
	CHECK_EQ(loop_run(l), 0);
	CHECK(WIFEXITED(child_status) && WEXITSTATUS(child_status) == 9);
	CHECK_EQ(waitpid(pid, NULL, WNOHANG), -1);
	loop_src_free(s);
	loop_free(l);
}

static void on_signal(void *ctx, int signo)
{
	loop_quit(ctx, signo);
}

TEST(a_signal_becomes_a_callback)
{
	struct loop *l;
	struct loop_src *s;

	REQUIRE(loop_new(&l) == 0);
	CHECK_EQ(loop_signal(l, SIGUSR1, on_signal, l, &s), 0);
	raise(SIGUSR1);
	CHECK_EQ(loop_run(l), SIGUSR1);
	loop_src_free(s);
	loop_free(l);
}

TEST_MAIN()
