/* SPDX-License-Identifier: MIT */
/* The server's own state, over a file server that only says when it is called. What files do: tests/fs. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include "lib/base/attr.h"
#include "lib/base/iov.h"
#include "lib/base/test.h"
#include "lib/fs/fs.h"
#include "lib/fuse/fuse.h"

static struct fuse_server *server;
static sem_t resetting, entered;
static atomic_bool in_reset, met;

/* Gives the other request every chance to come in. */
static void fake_forget_all(struct fs *fs)
{
	struct timespec t;

	in_reset = true;
	sem_post(&resetting);
	clock_gettime(CLOCK_REALTIME, &t);
	t.tv_nsec += 200 * 1000 * 1000;
	t.tv_sec += t.tv_nsec / 1000000000;
	t.tv_nsec %= 1000000000;
	(void)!sem_timedwait(&entered, &t);
	in_reset = false;
}

static struct fs_node *fake_get(struct fs *fs, uint64_t id)
{
	if (in_reset)
		met = true;
	sem_post(&entered);
	return NULL;
}

static const struct fs_ops fake_ops = {.forget_all = fake_forget_all, .get = fake_get};
static struct fs fake = {.ops = &fake_ops};
static _Thread_local char answer[256] ALIGNED(8);

static int request(uint32_t op, const void *arg, size_t len)
{
	struct fuse_in_header h = {.len = (uint32_t)(sizeof(h) + len), .opcode = op, .nodeid = 7};
	struct fuse_out_header *out;
	const struct iovec in[] = {{&h, sizeof(h)}, {(void *)(uintptr_t)arg, len}};
	const struct iovec o = {answer, sizeof(answer)};

	if (fuse_server_handle(server, in, 2, &o, 1, 0) < (ssize_t)sizeof(*out))
		return -EIO;
	out = (void *)answer;
	return out->error;
}

static int init(void)
{
	const struct fuse_init_in in = {.major = 7, .minor = 36};

	return request(FUSE_INIT, &in, sizeof(in));
}

static void *init_again(void *arg)
{
	CHECK_EQ(init(), 0);
	return NULL;
}

/* A guest can change what a request is between the two times that it is looked at, and so have a second one from a worker. */
TEST(a_request_runs_while_another_FUSE_INIT_forgets_all)
{
	const struct fuse_opts opts = {0};
	pthread_t thread;

	sem_init(&resetting, 0, 0);
	sem_init(&entered, 0, 0);
	REQUIRE(fuse_server_new(&server, &fake, &opts) == 0);
	CHECK_EQ(init(), 0);
	sem_wait(&resetting);
	REQUIRE(pthread_create(&thread, NULL, init_again, NULL) == 0);
	sem_wait(&resetting);
	request(FUSE_STATFS, NULL, 0);
	pthread_join(thread, NULL);
	CHECK(!met);
	CHECK_EQ(request(FUSE_STATFS, NULL, 0), -ESTALE);
	fuse_server_free(server);
	sem_destroy(&resetting);
	sem_destroy(&entered);
}

/* --- a file system that says late what went wrong --- */

static bool remote;
static char some; /* every node and handle */

static struct fs_node *net_get(struct fs *fs, uint64_t id)
{
	return (void *)&some;
}

static void net_put(struct fs *fs, struct fs_node *n)
{
}

static void net_forget_all(struct fs *fs)
{
}

static int net_open(struct fs *fs, const struct fs_cred *c, struct fs_node *n, uint32_t flags,
	struct fs_handle **ret)
{
	*ret = (void *)&some;
	return 0;
}

static void net_close(struct fs *fs, struct fs_handle *h)
{
}

static bool net_unchanged(struct fs *fs, struct fs_handle *h)
{
	return false;
}

static bool net_fails_late(struct fs *fs, struct fs_handle *h)
{
	return remote;
}

static int net_flush(struct fs *fs, struct fs_handle *h, uint64_t owner)
{
	return remote ? -EDQUOT : 0;
}

static size_t room; /* on its disk */

static ssize_t net_write(struct fs *fs, struct fs_handle *h, const struct iovec *iov, unsigned cnt,
	uint64_t off, uint32_t how)
{
	size_t n = MIN(iov_size(iov, cnt), room);

	room -= n;
	return n ? (ssize_t)n : -ENOSPC;
}

static const struct fs_ops net_ops = {
	.forget_all = net_forget_all,
	.get = net_get,
	.put = net_put,
	.open = net_open,
	.close = net_close,
	.unchanged = net_unchanged,
	.fails_late = net_fails_late,
	.flush = net_flush,
	.write = net_write,
};
static struct fs net = {.ops = &net_ops};

TEST(close_says_nothing_of_writes_that_a_network_file_system_lost)
{
	const struct fuse_opts opts = {0};
	struct fuse_open_in in = {.flags = O_WRONLY};
	struct fuse_flush_in flush = {0};
	struct fuse_open_out out;

	REQUIRE(fuse_server_new(&server, &net, &opts) == 0);
	CHECK_EQ(init(), 0);
	for (int i = 0; i < 3; i++) {
		remote = i > 0;
		in.flags = i == 2 ? O_RDONLY : O_WRONLY;
		CHECK_EQ(request(FUSE_OPEN, &in, sizeof(in)), 0);
		memcpy(&out, answer + sizeof(struct fuse_out_header), sizeof(out));
		/* where there is nothing to say, nobody asks */
		CHECK_EQ(!(out.open_flags & FOPEN_NOFLUSH), i == 1);
		flush.fh = out.fh;
		CHECK_EQ(request(FUSE_FLUSH, &flush, sizeof(flush)), remote ? -EDQUOT : 0);
	}
	flush.fh = 1;
	CHECK_EQ(request(FUSE_FLUSH, &flush, sizeof(flush)), -EBADF);
	fuse_server_free(server);
}

TEST(what_was_mapped_and_finds_half_the_room_it_needs_is_lost_without_an_error)
{
	const struct fuse_opts opts = {0};
	const struct fuse_open_in in = {.flags = O_RDWR};
	struct {
		struct fuse_write_in in;
		char data[100];
	} w = {.in.size = sizeof(w.data)};
	struct fuse_open_out out;
	struct fuse_write_out done;

	remote = false;
	REQUIRE(fuse_server_new(&server, &net, &opts) == 0);
	CHECK_EQ(init(), 0);
	CHECK_EQ(request(FUSE_OPEN, &in, sizeof(in)), 0);
	memcpy(&out, answer + sizeof(struct fuse_out_header), sizeof(out));
	w.in.fh = out.fh;
	/* write(2) says how much it was, and the next one why */
	room = 50;
	CHECK_EQ(request(FUSE_WRITE, &w, sizeof(w)), 0);
	memcpy(&done, answer + sizeof(struct fuse_out_header), sizeof(done));
	CHECK_EQ(done.size, 50);
	CHECK_EQ(request(FUSE_WRITE, &w, sizeof(w)), -ENOSPC);
	w.in.write_flags = FUSE_WRITE_CACHE;
	room = 50;
	CHECK_EQ(request(FUSE_WRITE, &w, sizeof(w)), -ENOSPC);
	room = 100;
	CHECK_EQ(request(FUSE_WRITE, &w, sizeof(w)), 0);
	memcpy(&done, answer + sizeof(struct fuse_out_header), sizeof(done));
	CHECK_EQ(done.size, 100);
	fuse_server_free(server);
}

TEST_MAIN()
