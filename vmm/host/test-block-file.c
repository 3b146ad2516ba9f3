/* SPDX-License-Identifier: MIT */
#include "vmm/host/block-file.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include "lib/base/cleanup.h"
#include "lib/base/test.h"
#include "lib/os/thread.h"
#include "vmm/scsi/scsi.h"

enum { SIZE = 1 << 20 };

static struct loop *loop;
static char dir[] = "/tmp/wslx-test-disk.XXXXXX";
static char path[64];
static struct err e;

/* A fresh disk of SIZE bytes of 0xaa, open. */
static struct blk *fresh(bool readonly)
{
	static uint8_t fill[SIZE];
	struct blk *b = NULL;
	int fd;

	if (!loop && (loop_new(&loop) < 0 || !mkdtemp(dir)))
		abort();
	snprintf(path, sizeof(path), "%s/disk", dir);
	memset(fill, 0xaa, sizeof(fill));
	fd = open(path, O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, fill, SIZE) != SIZE)
		abort();
	close(fd);
	memset(&e, 0, sizeof(e));
	if (blk_file_open(&b,
		    &(struct blk_file_config){
			    .path = path, .fd = -1, .readonly = readonly, .loop = loop},
		    &e) < 0) {
		printf("# %s\n", e.text);
		abort();
	}
	return b;
}

static void gone(struct blk *b)
{
	blk_free(b);
	unlink(path);
	rmdir(dir);
	mkdir(dir, 0700);
}

static int results[8], n_results;

static void on_done(struct blk_req *r, int res)
{
	results[n_results++] = res;
	loop_quit(loop, 0);
}

static int io(struct blk *b, enum blk_op op, uint64_t off, void *buf, uint64_t len)
{
	/* In three pieces, one of them empty. */
	struct iovec iov[3] = {{buf, len / 3}, {buf, 0}, {(char *)buf + len / 3, len - len / 3}};
	struct blk_req r = {
		.op = op, .off = off, .len = len, .iov = iov, .iovcnt = 3, .done = on_done};

	return blk_submit(b, &r);
}

/* For what runs on the worker: waits in the loop. */
static int slow(struct blk *b, enum blk_op op, bool may_unmap, uint64_t off, uint64_t len)
{
	struct blk_req r = {
		.op = op, .off = off, .len = len, .may_unmap = may_unmap, .done = on_done};
	int res;

	n_results = 0;
	res = blk_submit(b, &r);
	if (res != BLK_PENDING)
		return res;
	while (!n_results)
		loop_run(loop);
	CHECK_EQ(n_results, 1);
	return results[0];
}

TEST(reads_and_writes)
{
	struct blk *b = fresh(false);
	uint8_t buf[4096], back[4096];

	CHECK_EQ(b->geo.size, SIZE);
	CHECK_EQ(io(b, BLK_READ, 512, buf, 4096), 0);
	CHECK_EQ(buf[0], 0xaa);
	CHECK_EQ(buf[4095], 0xaa);
	for (unsigned i = 0; i < sizeof(buf); i++)
		buf[i] = (uint8_t)(i * 7 + 1);
	CHECK_EQ(io(b, BLK_WRITE, SIZE - 4096, buf, 4096), 0);
	CHECK_EQ(io(b, BLK_READ, SIZE - 4096, back, 4096), 0);
	CHECK(!memcmp(buf, back, 4096));
	CHECK_EQ(io(b, BLK_WRITE, SIZE - 512, buf, 1024), -EINVAL);
	CHECK_EQ(io(b, BLK_READ, UINT64_MAX - 511, buf, 512), -EINVAL);
	CHECK_EQ(slow(b, BLK_FLUSH, false, 0, 0), 0);
	gone(b);
}

/* More pieces than one system call takes, and a vector longer than the request. */
TEST(many_pieces)
{
	struct blk *b = fresh(false);
	static uint8_t buf[600 * 512];
	struct iovec iov[600];
	struct blk_req r = {
		.op = BLK_WRITE, .off = 1024, .len = 599 * 512, .iov = iov, .iovcnt = 600};

	for (unsigned i = 0; i < 600; i++) {
		iov[i] = (struct iovec){buf + (599 - i) * 512, 512};
		memset(buf + i * 512, (int)i, 512);
	}
	CHECK_EQ(blk_submit(b, &r), 0);
	r.len = 512;
	r.op = BLK_READ;
	for (unsigned i = 0; i < 600; i++) {
		uint8_t one[512];
		struct iovec v = {one, 512};

		r.off = 1024 + i * 512;
		r.iov = &v;
		r.iovcnt = 1;
		CHECK_EQ(blk_submit(b, &r), 0);
		CHECK_EQ(one[511], i == 599 ? 0xaa : (uint8_t)(599 - i));
	}
	gone(b);
}

TEST(discard_gives_space_back)
{
	struct blk *b = fresh(false);
	uint8_t buf[4096];
	struct stat st;
	long before;

	CHECK_EQ(slow(b, BLK_FLUSH, false, 0, 0), 0);
	stat(path, &st);
	before = st.st_blocks;
	if (!b->geo.discard) {
		printf("# no discard on this file system\n");
		gone(b);
		return;
	}
	CHECK_EQ(slow(b, BLK_DISCARD, false, 65536, SIZE - 2 * 65536), 0);
	stat(path, &st);
	CHECK(st.st_blocks < before / 2);
	CHECK_EQ(st.st_size, SIZE);
	CHECK_EQ(io(b, BLK_READ, 65536, buf, 4096), 0);
	CHECK_EQ(buf[17], 0);
	CHECK_EQ(io(b, BLK_READ, 65536 - 4096, buf, 4096), 0);
	CHECK_EQ(buf[4095], 0xaa);
	CHECK_EQ(slow(b, BLK_DISCARD, false, SIZE, 512), -EINVAL);
	gone(b);
}

TEST(zeroes)
{
	struct blk *b = fresh(false);
	uint8_t buf[3 * 512];

	for (unsigned unmap = 0; unmap < 2; unmap++) {
		CHECK_EQ(slow(b, BLK_ZERO, unmap, 4096 + 8192 * unmap + 512, 512), 0);
		CHECK_EQ(io(b, BLK_READ, 4096 + 8192 * unmap, buf, sizeof(buf)), 0);
		CHECK_EQ(buf[511], 0xaa);
		CHECK_EQ(buf[512], 0);
		CHECK_EQ(buf[1023], 0);
		CHECK_EQ(buf[1024], 0xaa);
	}
	gone(b);
}

TEST(drain_completes_everything)
{
	struct blk *b = fresh(false);
	struct blk_req r[8];

	n_results = 0;
	for (unsigned i = 0; i < 8; i++) {
		r[i] = (struct blk_req){.op = i == 3 ? BLK_ZERO : BLK_FLUSH,
			.len = i == 3 ? 512 : 0,
			.done = on_done};
		CHECK_EQ(blk_submit(b, &r[i]), BLK_PENDING);
	}
	blk_drain(b);
	CHECK_EQ(n_results, 8);
	for (unsigned i = 0; i < 8; i++)
		CHECK_EQ(results[i], 0);
	blk_drain(b);
	gone(b);
}

TEST(one_user_at_a_time)
{
	struct blk *b = fresh(false), *c;
	struct blk_file_config cfg = {.path = path, .fd = -1, .loop = loop};

	CHECK_EQ(blk_file_open(&c, &cfg, &e), -EBUSY);
	CHECK(strstr(e.text, "in use"));
	cfg.readonly = true;
	CHECK_EQ(blk_file_open(&c, &cfg, &e), -EBUSY);
	blk_free(b);
	REQUIRE(blk_file_open(&b, &cfg, &e) == 0);
	REQUIRE(blk_file_open(&c, &cfg, &e) == 0); /* readers share */
	blk_free(c);
	gone(b);
}

TEST(read_only)
{
	struct blk *b = fresh(true);
	uint8_t buf[512];

	CHECK(b->geo.readonly);
	CHECK(!b->geo.discard);
	CHECK_EQ(io(b, BLK_READ, 0, buf, 512), 0);
	CHECK_EQ(io(b, BLK_WRITE, 0, buf, 512), -EROFS);
	CHECK_EQ(slow(b, BLK_ZERO, false, 0, 512), -EROFS);
	CHECK_EQ(slow(b, BLK_FLUSH, false, 0, 0), 0);
	gone(b);
}

TEST(bad_disks)
{
	struct blk *b;
	struct blk_file_config cfg = {.path = "/nonexistent/x", .fd = -1, .loop = loop};

	CHECK_EQ(blk_file_open(&b, &cfg, &e), -ENOENT);
	CHECK(strstr(e.text, "/nonexistent/x"));
	cfg.path = "/dev/null";
	CHECK_EQ(blk_file_open(&b, &cfg, &e), -EINVAL);
	cfg.path = "/";
	cfg.readonly = true;
	CHECK_EQ(blk_file_open(&b, &cfg, &e), -EINVAL);
	b = fresh(false);
	blk_free(b);
	cfg = (struct blk_file_config){.path = path, .loop = loop};
	cfg.fd = open(path, O_RDONLY | O_CLOEXEC); /* passed, but not writable */
	CHECK_EQ(blk_file_open(&b, &cfg, &e), -EINVAL);
	cfg.fd = open(path, O_RDWR | O_CLOEXEC);
	REQUIRE(ftruncate(cfg.fd, 100) == 0);
	CHECK_EQ(blk_file_open(&b, &cfg, &e), -EINVAL);
	CHECK_EQ(fcntl(cfg.fd, F_GETFD), -1); /* taken over and closed */
	unlink(path);
}

TEST(grows)
{
	struct blk *b = fresh(false);
	uint8_t buf[512] = {0};

	CHECK_EQ(blk_file_refresh(b), 0);
	REQUIRE(truncate(path, SIZE * 2) == 0);
	CHECK_EQ(io(b, BLK_WRITE, SIZE, buf, 512), -EINVAL);
	CHECK_EQ(blk_file_refresh(b), 1);
	CHECK_EQ(b->geo.size, SIZE * 2);
	CHECK_EQ(io(b, BLK_WRITE, SIZE, buf, 512), 0);
	/* A file cut behind our back: an error, not a crash. */
	REQUIRE(truncate(path, SIZE) == 0);
	CHECK_EQ(blk_file_refresh(b), -EINVAL);
	CHECK_EQ(io(b, BLK_READ, SIZE, buf, 512), -EIO);
	gone(b);
}

/* A host without space, as far as a process can arrange one for itself: a limit on file size. */
TEST(full_host_disk)
{
	struct blk *b = fresh(false);
	uint8_t buf[4096] = {1};
	struct rlimit old, lim;

	signal(SIGXFSZ, SIG_IGN);
	REQUIRE(truncate(path, SIZE * 2) == 0);
	CHECK_EQ(blk_file_refresh(b), 1);
	getrlimit(RLIMIT_FSIZE, &old);
	lim = old;
	lim.rlim_cur = SIZE + 2048;
	REQUIRE(setrlimit(RLIMIT_FSIZE, &lim) == 0);
	CHECK_EQ(io(b, BLK_WRITE, SIZE + 4096, buf, 4096), -ENOSPC);
	CHECK_EQ(io(b, BLK_WRITE, SIZE, buf, 4096), -ENOSPC); /* half of it fits */
	CHECK_EQ(io(b, BLK_WRITE, 0, buf, 4096), 0);
	CHECK_EQ(slow(b, BLK_FLUSH, false, 0, 0), 0);
	setrlimit(RLIMIT_FSIZE, &old);
	CHECK_EQ(io(b, BLK_WRITE, SIZE, buf, 4096), 0);
	gone(b);
}

/* In a process of its own: the limit is one of its user's, and root has none. */
TEST(a_disk_goes_on_when_there_can_be_no_more_threads)
{
	struct blk *b = fresh(false);
	int status = -1;
	pid_t pid = fork();

	if (pid == 0) {
		struct rlimit none = {0};
		struct os_thread *t;
		uint8_t buf[512];
		bool ok;

		/* Where there is no other user, root is none either. */
		(void)!setresuid(65534, 65534, 65534);
		if (setrlimit(RLIMIT_NPROC, &none) < 0 ||
			os_thread_start(&t, "test", NULL, NULL) != -EAGAIN)
			_exit(2);
		ok = slow(b, BLK_FLUSH, false, 0, 0) == 0 &&
		     slow(b, BLK_ZERO, true, 512, 512) == 0 &&
		     io(b, BLK_READ, 512, buf, sizeof(buf)) == 0 && buf[0] == 0 && buf[511] == 0;
		blk_drain(b);
		_exit(!ok);
	}
	REQUIRE(pid > 0 && waitpid(pid, &status, 0) == pid);
	CHECK_EQ(status, 0);
	gone(b);
}

/* Several threads write and flush at once through the SCSI target; nothing is lost. */
struct writer {
	struct os_thread *th;
	struct scsi_target *t;
	unsigned i;
	int bad;
};

static atomic_int flushed;

static void scsi_done(struct scsi_req *r)
{
	atomic_fetch_add(&flushed, 1);
}

static void write_some(void *ctx)
{
	struct writer *w = ctx;
	static struct scsi_req flushes[4][100];

	for (unsigned k = 0; k < 100; k++) {
		uint8_t buf[1024];
		struct iovec v = {buf, sizeof(buf)};
		struct scsi_req r = {
			.cdb = {0x2a, 0, 0, 0, (uint8_t)w->i, (uint8_t)(2 * k), 0, 0, 2},
			.cdb_len = 10,
			.out = &v,
			.out_n = 1,
			.out_len = sizeof(buf)};
		struct scsi_req *fl = &flushes[w->i][k];

		memset(buf, (int)(w->i * 50 + k), sizeof(buf));
		if (!scsi_submit(w->t, &r) || r.status)
			w->bad++;
		fl->cdb[0] = 0x35;
		fl->cdb_len = 10;
		fl->done = scsi_done;
		if (scsi_submit(w->t, fl))
			w->bad++;
	}
}

TEST(threads)
{
	struct blk *b = fresh(false);
	struct scsi_target *t;
	struct writer w[4] = {0};
	struct scsi_req tur = {.cdb_len = 6};
	uint8_t buf[1024];

	REQUIRE(scsi_target_new(&t) == 0);
	REQUIRE(scsi_attach(t, 0, b, &(struct scsi_disk_config){.serial = "s"}) == 0);
	scsi_submit(t, &tur); /* takes the power-on attention */
	for (unsigned i = 0; i < 4; i++) {
		w[i].t = t;
		w[i].i = i;
		REQUIRE(os_thread_start(&w[i].th, "writer", write_some, &w[i]) == 0);
	}
	for (unsigned i = 0; i < 4; i++) {
		os_thread_join(w[i].th);
		CHECK_EQ(w[i].bad, 0);
	}
	scsi_drain(t);
	CHECK_EQ(flushed, 400);
	for (unsigned i = 0; i < 400; i++) {
		CHECK_EQ(io(b, BLK_READ, (i / 100 * 256 + 2 * (i % 100)) * 512, buf, 1024), 0);
		CHECK_EQ(buf[1023], (uint8_t)(i / 100 * 50 + i % 100));
	}
	scsi_target_free(t);
	unlink(path);
	rmdir(dir);
}

TEST_MAIN()
