/* SPDX-License-Identifier: MIT */
/* The device by itself, driven by a fake front end; its requests are done by fuse_server_handle() below. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <unistd.h>
#include "fsd/device.h"
#include "lib/base/attr.h"
#include "lib/base/test.h"
#include "lib/fs/host.h"
#include "lib/fuse/fuse.h"
#include "lib/vhost/fake-front.h"

enum { Q = 1, OTHER_Q = 2, LEN = 16, MANY = 100000 };

static struct front front;
static struct loop *loop;
static struct fs_device *dev;
static pthread_t thread;
static uint16_t buf_head;
static uint64_t buf;
static atomic_uint handled;
static atomic_bool endless, slow, no_threads, waits, quiet;
static atomic_uint hang; /* so many of the next requests, until freed is posted for each */
static sem_t begun, asked, freed;

int __real_pthread_create(
	pthread_t *ret, const pthread_attr_t *attr, void *(*fn)(void *), void *arg);
int __wrap_pthread_create(
	pthread_t *ret, const pthread_attr_t *attr, void *(*fn)(void *), void *arg);

int __wrap_pthread_create(
	pthread_t *ret, const pthread_attr_t *attr, void *(*fn)(void *), void *arg)
{
	return no_threads ? EAGAIN : __real_pthread_create(ret, attr, fn, arg);
}

static void add_request(void)
{
	const struct front_buf b = {buf, LEN, true};

	buf_head = front_add(&front, Q, &b, 1);
}

/* Nothing here maps files. */
int fs_host_fd(const struct fs_handle *h)
{
	return -1;
}

void fuse_server_set_window(struct fuse_server *s, const struct fuse_window_ops *ops, void *ctx)
{
}

ssize_t fuse_server_handle(struct fuse_server *s, const struct iovec *in, unsigned n_in,
	const struct iovec *out, unsigned n_out, uint32_t flags)
{
	if (slow && flags & FUSE_HANDLE_NO_WAIT)
		return -EAGAIN;
	if (quiet && !(flags & FUSE_HANDLE_NO_PARK)) {
		sem_post(&asked);
		return -EBUSY;
	}
	for (unsigned n = hang; n > 0;)
		if (atomic_compare_exchange_weak(&hang, &n, n - 1)) {
			sem_post(&begun);
			sem_wait(&freed);
			break;
		}
	if (waits && !(flags & FUSE_HANDLE_NO_PARK)) {
		sem_post(&begun);
		return -EBUSY;
	}
	if (handled++ == 0 && endless) {
		sem_post(&begun);
		sem_wait(&asked);
	}
	if (!endless || handled >= MANY)
		return LEN;
	/* the guest has the next one ready whenever one is done, until the front end has its answer */
	struct pollfd p = {.fd = front.fd, .events = POLLIN};
	if (poll(&p, 1, 0) == 0)
		add_request();
	return LEN;
}

void fs_host_let_go(struct fs *fs)
{
}

int fs_host_enable_watches(struct fs *fs)
{
	return -EOPNOTSUPP;
}

void fs_host_look(struct fs *fs)
{
}

static void *run(void *arg)
{
	CHECK_EQ(fs_device_run(dev), 0);
	return NULL;
}

static void set_up(void)
{
	int fd;

	handled = 0;
	sem_init(&begun, 0, 0);
	sem_init(&asked, 0, 0);
	sem_init(&freed, 0, 0);
	front_init(&front, &fd);
	if (loop_new(&loop) < 0 || fs_device_new(&dev, loop, fd, NULL, NULL, NULL) < 0 ||
		__real_pthread_create(&thread, NULL, run, NULL) != 0)
		abort();
	front_start(&front, OTHER_Q + 1);
	buf = front_alloc(&front, LEN);
}

static void tear_down(void)
{
	close(front.fd);
	front.fd = -1;
	pthread_join(thread, NULL);
	fs_device_free(dev);
	loop_free(loop);
	front_done(&front);
}

TEST(a_busy_guest_keeps_the_front_end_waiting)
{
	endless = true;
	set_up();
	add_request();
	front_kick(&front, Q);
	sem_wait(&begun);
	front_send(&front, VU_GET_QUEUE_NUM, 0, NULL, 0, NULL, 0);
	sem_post(&asked);
	struct vu_msg m;
	REQUIRE(front_answer(&front, &m));
	CHECK(handled < MANY / 2);
	endless = false;
	tear_down();
}

TEST(a_request_that_waits_is_lost_when_there_can_be_no_thread)
{
	uint32_t written;

	slow = no_threads = true;
	set_up();
	add_request();
	front_kick(&front, Q);
	CHECK_EQ(front_wait(&front, Q, &written), buf_head);
	CHECK_EQ(written, LEN);
	tear_down();
	/* and with them */
	no_threads = false;
	set_up();
	add_request();
	front_kick(&front, Q);
	CHECK_EQ(front_wait(&front, Q, &written), buf_head);
	tear_down();
	slow = false;
}

static void restart_queue(void)
{
	struct vu_msg m;

	front_send(&front, VU_GET_VRING_BASE, 0, &(uint32_t[2]){Q, 0}, 8, NULL, 0);
	CHECK(front_answer(&front, &m));
}

TEST(a_request_that_waits_for_changes_ends_with_its_queue)
{
	uint32_t written;

	waits = true;
	set_up();
	add_request();
	front_kick(&front, Q);
	sem_wait(&begun);
	restart_queue();
	CHECK_EQ(front_wait(&front, Q, &written), buf_head);
	CHECK_EQ(written, LEN);
	tear_down();
	waits = false;
}

TEST(there_is_one_request_that_waits_for_changes)
{
	uint32_t written;
	uint16_t first;

	waits = true;
	set_up();
	add_request();
	first = buf_head;
	front_kick(&front, Q);
	sem_wait(&begun);
	add_request();
	front_kick(&front, Q);
	/* it makes room for the second */
	CHECK_EQ(front_wait(&front, Q, &written), first);
	tear_down();
	waits = false;
}

/* The loop has done what there was to do for it. */
static void wait_for_loop(void)
{
	struct vu_msg m;

	for (int i = 0; i < 2; i++) {
		front_send(&front, VU_GET_QUEUE_NUM, 0, NULL, 0, NULL, 0);
		CHECK(front_answer(&front, &m));
	}
}

TEST(changes_that_a_worker_took_in_wait_for_the_next_request)
{
	uint32_t written;
	uint16_t first;

	quiet = true;
	set_up();
	add_request();
	first = buf_head;
	front_kick(&front, Q);
	sem_wait(&asked);
	wait_for_loop();
	slow = true;
	hang = 1;
	add_request();
	front_kick(&front, Q);
	sem_wait(&begun);
	wait_for_loop();
	quiet = slow = false;
	sem_post(&freed);
	CHECK_EQ(front_wait(&front, Q, &written), buf_head);
	CHECK_EQ(front_wait(&front, Q, &written), first);
	tear_down();
}

/* n of them; they hang, and one more does not. */
static void hang_beside(unsigned n)
{
	uint32_t written;

	hang = n;
	set_up();
	for (unsigned i = 0; i < n; i++) {
		add_request();
		front_kick(&front, Q);
		sem_wait(&begun);
	}
	add_request();
	front_kick(&front, Q);
	CHECK_EQ(front_wait(&front, Q, &written), buf_head);
	CHECK_EQ(written, LEN);
	for (unsigned i = 0; i < n; i++)
		sem_post(&freed);
	for (unsigned i = 0; i < n; i++) {
		CHECK(front_wait(&front, Q, &written) != buf_head);
		CHECK_EQ(written, LEN);
	}
	/* and all is as before */
	add_request();
	front_kick(&front, Q);
	CHECK_EQ(front_wait(&front, Q, &written), buf_head);
	tear_down();
}

TEST(others_go_on_beside_requests_that_hang)
{
	hang_beside(1);
	hang_beside(3);
}

TEST(others_go_on_beside_workers_that_hang)
{
	slow = true;
	hang_beside(12);
	slow = false;
}

TEST(when_all_requests_hang_the_next_is_done_once_one_is_free)
{
	enum { ALL = 65, FEW = 5 };
	struct front_buf b = {.len = LEN, .write = true};
	uint32_t written;

	hang = ALL;
	set_up();
	for (unsigned i = 0; i < ALL - FEW; i++)
		add_request();
	front_kick(&front, Q);
	for (unsigned i = 0; i < ALL - FEW; i++)
		sem_wait(&begun);
	b.gpa = buf;
	for (unsigned i = 0; i < 2 * FEW; i++)
		front_add(&front, OTHER_Q, &b, 1);
	front_kick(&front, OTHER_Q);
	for (unsigned i = 0; i < FEW; i++)
		sem_wait(&begun);
	for (unsigned i = 0; i < ALL; i++)
		sem_post(&freed);
	for (unsigned i = 0; i < ALL - FEW; i++)
		front_wait(&front, Q, &written);
	for (unsigned i = 0; i < 2 * FEW; i++)
		front_wait(&front, OTHER_Q, &written);
	CHECK_EQ(handled, ALL + FEW);
	tear_down();
}

TEST(the_device_ends_with_a_request_that_hung)
{
	hang = 1;
	set_up();
	add_request();
	front_kick(&front, Q);
	sem_wait(&begun);
	close(front.fd);
	front.fd = -1;
	sem_post(&freed);
	tear_down();
}

TEST_MAIN()
