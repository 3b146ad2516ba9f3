/* SPDX-License-Identifier: MIT */
/* What the kernel is told of reads and writes that are several requests: file.c by itself, between a kernel and a server that are not there. */
#include <errno.h>
#include <stdlib.h>
#include "lib/base/test.h"
#include "mount/mount.h"

enum { KIB = 1024, PIECES = 4, PIECE = 256 * KIB, NOTHING = -1000000 };

static struct mnt mnt;
static struct dist dist;
static struct node node;
static struct file file;
static struct {
	p9_done done;
	void *ctx;
} asked[PIECES];
static unsigned n_asked;
static long answer; /* bytes, or a negative errno */

/* --- the kernel --- */

int fuse_reply_err(fuse_req_t req, int err)
{
	answer = -err;
	return 0;
}

int fuse_reply_buf(fuse_req_t req, const char *buf, size_t size)
{
	answer = (long)size;
	return 0;
}

int fuse_reply_open(fuse_req_t req, const struct fuse_file_info *fi)
{
	return 0;
}

int fuse_reply_create(
	fuse_req_t req, const struct fuse_entry_param *e, const struct fuse_file_info *fi)
{
	return 0;
}

int fuse_reply_write(fuse_req_t req, size_t count)
{
	answer = (long)count;
	return 0;
}

int fuse_reply_lseek(fuse_req_t req, off_t off)
{
	return 0;
}

void *fuse_req_userdata(fuse_req_t req)
{
	return &mnt;
}

/* --- the rest of the program --- */

struct rq *rq_new(fuse_req_t req, struct node *n, void (*go)(struct rq *rq))
{
	struct rq *rq = calloc(1, sizeof(*rq));

	if (!rq)
		abort();
	rq->d = &dist;
	rq->node = n;
	return rq;
}

void rq_free(struct rq *rq)
{
	free(rq->buf);
	free(rq);
}

void rq_error(struct rq *rq, int error)
{
	fuse_reply_err(rq->req, -error);
	rq_free(rq);
}

char *rq_str(const char *s)
{
	return NULL;
}

void rq_run(struct rq *rq)
{
}

bool rq_fid(struct rq *rq, uint32_t *ret)
{
	return false;
}

void dist_used(struct dist *d)
{
}

void dist_call(struct rq *rq, struct p9_msg *m, p9_done done)
{
}

void dist_clunk(struct dist *d, uint64_t gen, uint32_t fid)
{
}

struct node *node_of(struct mnt *m, fuse_ino_t ino)
{
	return &node;
}

fuse_ino_t node_ino(const struct node *n)
{
	return 2;
}

struct node *node_found(
	struct node *parent, const char *name, const struct p9_attr *a, uint32_t fid)
{
	return &node;
}

void node_forget(struct mnt *m, struct node *n, uint64_t lookups)
{
}

void node_ref(struct node *n)
{
}

void node_unref(struct node *n)
{
}

void node_changes(struct node *n)
{
}

uint32_t node_fid(struct node *n)
{
	return 1;
}

void attr_stat(
	const struct dist *d, const struct node *n, const struct p9_attr *a, struct stat *ret)
{
}

void attr_remember(struct node *n, const struct p9_attr *a)
{
}

bool ops_refuse(fuse_req_t req, fuse_ino_t parent)
{
	return false;
}

uint32_t p9_client_fid(struct p9_client *c)
{
	return 1;
}

void p9_client_fid_unused(struct p9_client *c, uint32_t fid)
{
}

void p9_client_call(struct p9_client *c, struct p9_msg *m, p9_done done, void *ctx)
{
	if (n_asked == PIECES)
		abort();
	asked[n_asked].done = done;
	asked[n_asked++].ctx = ctx;
}

/* --- the server --- */

static void ask(size_t size)
{
	struct fuse_lowlevel_ops ops = {0};
	struct fuse_file_info fi = {.fh = (uintptr_t)&file};

	ops_file(&ops);
	dist.state = DIST_UP;
	file = (struct file){.node = &node, .d = &dist};
	answer = NOTHING;
	n_asked = 0;
	ops.read(NULL, 2, size, 0, &fi);
}

static void ask_to_write(size_t size, bool cached)
{
	static const char data[PIECES * PIECE];
	struct fuse_lowlevel_ops ops = {0};
	struct fuse_file_info fi = {.fh = (uintptr_t)&file, .writepage = cached};

	ops_file(&ops);
	dist.state = DIST_UP;
	file = (struct file){.node = &node, .d = &dist};
	answer = NOTHING;
	n_asked = 0;
	ops.write(NULL, 2, data, size, 0, &fi);
}

static void say(unsigned i, unsigned count, int error)
{
	static const char data[PIECE];
	const struct p9_msg r = {.count = count, .data = data};

	asked[i].done(asked[i].ctx, error ? NULL : &r, error);
}

TEST(a_read_of_which_some_came_looks_like_the_end_of_the_file)
{
	ask(PIECES * PIECE);
	REQUIRE(n_asked == PIECES);
	say(0, PIECE, 0);
	say(1, PIECE, 0);
	CHECK_EQ(answer, NOTHING);
	/* the distribution has ended, or its disk is broken there */
	say(2, 0, -EIO);
	say(3, 0, -EIO);
	CHECK_EQ(answer, -EIO);
	/* behind an error it does not matter what came */
	ask(2 * PIECE);
	say(0, 0, -EIO);
	say(1, PIECE, 0);
	CHECK_EQ(answer, -EIO);
}

TEST(the_end_of_a_file_is_a_short_read)
{
	ask(PIECES * PIECE);
	say(0, PIECE, 0);
	say(1, KIB, 0);
	say(2, 0, 0);
	say(3, 0, 0);
	CHECK_EQ(answer, PIECE + KIB);
	ask(KIB);
	say(0, 100, 0);
	CHECK_EQ(answer, 100);
}

TEST(what_was_mapped_and_finds_half_the_room_it_needs_is_lost_without_an_error)
{
	for (int cached = 0; cached < 2; cached++) {
		ask_to_write(2 * PIECE, cached);
		REQUIRE(n_asked == 2);
		say(0, PIECE, 0);
		say(1, 0, -EDQUOT);
		CHECK_EQ(answer, cached ? -EDQUOT : PIECE);
		ask_to_write(PIECE, cached);
		say(0, KIB, 0);
		CHECK_EQ(answer, cached ? -ENOSPC : KIB);
		ask_to_write(PIECE, cached);
		say(0, PIECE, 0);
		CHECK_EQ(answer, PIECE);
	}
}

TEST_MAIN()
