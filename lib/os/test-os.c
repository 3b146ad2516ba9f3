/* SPDX-License-Identifier: MIT */
#include "lib/base/test.h"

#include "lib/os/mem.h"
#include "lib/os/notifier.h"
#include "lib/os/thread.h"

TEST(two_mappings_of_one_object_agree)
{
	struct os_memobj *o;
	void *a, *b;

	REQUIRE(os_memobj_new(&o, "t", 1 << 20) == 0);
	REQUIRE(os_memobj_map(o, 0, 1 << 20, OS_PROT_R | OS_PROT_W, &a) == 0);
	REQUIRE(os_memobj_map(o, 4096, 4096, OS_PROT_R, &b) == 0);
	((char *)a)[4097] = 5;
	CHECK_EQ(((char *)b)[1], 5);
	CHECK_EQ(os_memobj_punch(o, 4096, 4096), 0);
	CHECK_EQ(((char *)b)[1], 0);
	os_mem_unmap(a, 1 << 20);
	os_mem_unmap(b, 4096);
	os_memobj_free(o);
}

static struct os_event ev;

static void setter(void *ctx)
{
	*(int *)ctx = 1;
	os_event_set(&ev);
}

TEST(an_event_is_remembered_once)
{
	struct os_thread *t;
	int ran = 0;

	os_event_init(&ev);
	CHECK(!os_event_wait(&ev, os_now() + 1000000));
	REQUIRE(os_thread_start(&t, "setter", setter, &ran) == 0);
	CHECK(os_event_wait(&ev, UINT64_MAX));
	os_thread_join(t);
	CHECK_EQ(ran, 1);
	CHECK(!os_event_wait(&ev, os_now()));
	os_event_set(&ev);
	os_event_set(&ev);
	CHECK(os_event_wait(&ev, UINT64_MAX));
	CHECK(!os_event_wait(&ev, os_now()));
	os_event_done(&ev);
}

static void quit(void *ctx)
{
	loop_quit(ctx, 3);
}

TEST(a_notifier_wakes_the_loop)
{
	struct loop *l;
	struct os_notifier *n;

	REQUIRE(loop_new(&l) == 0 && os_notifier_new(&n) == 0);
	CHECK_EQ(os_notifier_watch(n, l, quit, l), 0);
	os_notifier_signal(n);
	CHECK_EQ(loop_run(l), 3);
	os_notifier_free(n);
	loop_free(l);
}

TEST(the_tsc_rate_is_that_of_a_real_cpu)
{
	CHECK(os_tsc_hz() > 100000000ull);
	CHECK(os_tsc_hz() < 20000000000ull);
}

TEST_MAIN()
