/* SPDX-License-Identifier: MIT */
/* The client against the server, over a socket pair, on a folder of this machine. */
#define TEST_TIMEOUT_S 120
#include "lib/base/test.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include "lib/base/cleanup.h"
#include "lib/base/io.h"
#include "lib/base/le.h"
#include "lib/fs/host.h"
#include "lib/p9/client.h"
#include "lib/p9/server.h"

struct rig {
	char dir[64];
	int root, server_fd, client_fd;
	struct fs *fs;
	pthread_t thread;
	struct loop *loop;
	struct p9_client *c;
	bool closed, trust_ids;
};

static void *serve(void *ctx)
{
	const struct fs_cred cred = {.uid = geteuid(), .gid = getegid()};
	struct rig *x = ctx;
	struct p9_server *s;

	if (p9_server_new(&s, x->fs, &cred, fs_host_fd) == 0) {
		if (x->trust_ids)
			p9_server_trust_ids(s);
		p9_serve(s, x->server_fd);
		p9_server_free(s);
	}
	close(x->server_fd);
	return NULL;
}

static void on_closed(void *ctx)
{
	((struct rig *)ctx)->closed = true;
}

/* A server on a fresh folder; with_client: and a client of it. */
static bool rig_start(struct rig *x, bool with_client)
{
	int pair[2];

	*x = (struct rig){.root = -1, .trust_ids = x->trust_ids};
	signal(SIGPIPE, SIG_IGN);
	strcpy(x->dir, "/tmp/wslx-test-p9.XXXXXX");
	if (!mkdtemp(x->dir))
		return false;
	x->root = open(x->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (x->root < 0 || fs_host_new(&x->fs, x->root, NULL, NULL) < 0 ||
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return false;
	x->server_fd = pair[0];
	x->client_fd = pair[1];
	if (pthread_create(&x->thread, NULL, serve, x) != 0)
		return false;
	if (!with_client)
		return true;
	return loop_new(&x->loop) == 0 && p9_client_new(&x->c, x->loop, pair[1], on_closed, x) == 0;
}

static void rig_end(struct rig *x)
{
	char cmd[128];

	if (x->c)
		p9_client_free(x->c);
	else
		close(x->client_fd);
	pthread_join(x->thread, NULL);
	loop_free(x->loop);
	x->fs->ops->free(x->fs);
	close(x->root);
	snprintf(cmd, sizeof(cmd), "rm -rf %s", x->dir);
	if (system(cmd) != 0)
		CHECK(!"the folder is removed");
}

static int lookup(struct rig *x, uint32_t dir, const char *name, uint32_t *ret, struct p9_msg *r)
{
	struct p9_msg m = {
		.type = P9_TLOOKUP, .fid = dir, .fid2 = p9_client_fid(x->c), .nnames = 1};
	int err;

	m.names[0] = p9_str(name);
	err = p9_client_wait(x->c, &m, r);
	*ret = m.fid2;
	if (err < 0)
		p9_client_fid_unused(x->c, m.fid2);
	return err;
}

/* A new file in the root, open for reading and writing. */
static int create(struct rig *x, const char *name, uint32_t *ret)
{
	struct p9_msg m = {.type = P9_TWALK, .fid = P9_ROOT_FID, .fid2 = p9_client_fid(x->c)}, r;

	*ret = m.fid2;
	p9_client_call(x->c, &m, NULL, NULL);
	m = (struct p9_msg){.type = P9_TLCREATE,
		.fid = *ret,
		.name = p9_str(name),
		.flags = P9_O_RDWR | P9_O_EXCL,
		.mode = 0644,
		.gid = P9_NO_UID};
	return p9_client_wait(x->c, &m, &r);
}

static int write_at(struct rig *x, uint32_t fid, uint64_t off, const char *s)
{
	struct p9_msg m = {.type = P9_TWRITE,
			      .fid = fid,
			      .offset = off,
			      .count = (uint32_t)strlen(s),
			      .data = s},
		      r;
	int err = p9_client_wait(x->c, &m, &r);

	return err < 0 ? err : (int)r.count;
}

TEST(every_message_comes_back_as_it_was_encoded)
{
	static const uint8_t types[] = {P9_TSTATFS, P9_TLOPEN, P9_TLCREATE, P9_TSYMLINK, P9_TMKNOD,
		P9_TRENAME, P9_TREADLINK, P9_TGETATTR, P9_TSETATTR, P9_TXATTRWALK, P9_TXATTRCREATE,
		P9_TREADDIR, P9_TFSYNC, P9_TLOCK, P9_TGETLOCK, P9_TLINK, P9_TMKDIR, P9_TRENAMEAT,
		P9_TUNLINKAT, P9_TVERSION, P9_TAUTH, P9_TATTACH, P9_TFLUSH, P9_TWALK, P9_TREAD,
		P9_TWRITE, P9_TCLUNK, P9_TREMOVE, P9_TLOOKUP, P9_TREADDIRPLUS, P9_TFALLOCATE,
		P9_TSEEK, P9_TRENAMEAT2, P9_TCOPY, P9_TACCESS, P9_TGETXATTR, P9_TSETXATTR,
		P9_TREMOVEXATTR};
	uint8_t a[2048], b[2048];

	for (size_t i = 0; i < 2 * ARRAY_LEN(types); i++) {
		struct p9_msg m = {.type = (uint8_t)(types[i / 2] + i % 2),
				      .tag = 7,
				      .fid = 0x01020304,
				      .fid2 = 5,
				      .flags = 6,
				      .mode = 0777,
				      .uid = 8,
				      .gid = 9,
				      .major = 10,
				      .minor = 11,
				      .proc_id = 12,
				      .msize = 13,
				      .iounit = 14,
				      .ecode = 15,
				      .count = 4,
				      .data = "data",
				      .offset = 1ull << 40,
				      .offset2 = 17,
				      .length = 18,
				      .valid = 19,
				      .name = p9_str("name"),
				      .name2 = p9_str("second"),
				      .nnames = 2,
				      .nqids = 1,
				      .oldtag = 3},
			      back;
		int n, k;

		m.names[0] = p9_str("x");
		m.names[1] = p9_str("");
		m.qids[0] = (struct p9_qid){1, 2, 3};
		m.attr.size = 77;
		m.set.atime.nsec = 5;
		m.statfs.namelen = 255;
		memset(a, 0xaa, sizeof(a));
		n = p9_encode(&m, a, sizeof(a));
		CHECK(n >= P9_HEADER);
		CHECK_EQ(p9_size(a, sizeof(a)), n);
		CHECK_EQ(p9_decode(a, (size_t)n, &back), 0);
		k = p9_encode(&back, b, sizeof(b));
		CHECK_EQ(k, n);
		CHECK(memcmp(a, b, (size_t)n) == 0);
		/* A message that is cut anywhere is refused, as is one with more behind it. */
		for (int cut = 4; cut < n; cut++) {
			le32_put(a, (uint32_t)cut);
			CHECK(p9_decode(a, (size_t)cut, &back) < 0);
		}
		le32_put(a, (uint32_t)n + 1);
		CHECK_EQ(p9_decode(a, (size_t)n + 1, &back), -EBADMSG);
		CHECK_EQ(p9_encode(&m, b, (size_t)n - 1), -EMSGSIZE);
	}
}

TEST(names_that_no_folder_can_hold)
{
	char longest[300];

	memset(longest, 'x', sizeof(longest));
	CHECK(p9_name_ok(p9_str("a")));
	CHECK(p9_name_ok(p9_str("...")));
	CHECK(p9_name_ok((struct p9_str){longest, 255}));
	CHECK(!p9_name_ok((struct p9_str){longest, 256}));
	CHECK(!p9_name_ok(p9_str("")));
	CHECK(!p9_name_ok(p9_str(".")));
	CHECK(!p9_name_ok(p9_str("..")));
	CHECK(!p9_name_ok(p9_str("a/b")));
	CHECK(!p9_name_ok((struct p9_str){"a\0b", 3}));
}

TEST(files_are_written_and_read)
{
	struct p9_msg m, r;
	uint32_t fid, node;
	struct rig x = {0};

	REQUIRE(rig_start(&x, true));
	CHECK_EQ(create(&x, "f", &fid), 0);
	CHECK_EQ(write_at(&x, fid, 3, "hello"), 5);
	m = (struct p9_msg){.type = P9_TREAD, .fid = fid, .count = 100};
	CHECK_EQ(p9_client_wait(x.c, &m, &r), 0);
	CHECK(r.count == 8 && !memcmp(r.data, "\0\0\0hello", 8));
	CHECK_EQ(lookup(&x, P9_ROOT_FID, "f", &node, &r), 0);
	CHECK_EQ(r.attr.size, 8);
	CHECK(S_ISREG(r.attr.mode));
	CHECK_EQ(lookup(&x, P9_ROOT_FID, "g", &node, &r), -ENOENT);
	CHECK_EQ(lookup(&x, P9_ROOT_FID, "..", &node, &r), -EINVAL);
	CHECK_EQ(create(&x, "f", &node), -EEXIST);
	m = (struct p9_msg){.type = P9_TSEEK, .fid = fid, .flags = SEEK_DATA};
	CHECK_EQ(p9_client_wait(x.c, &m, &r), 0);
	m = (struct p9_msg){.type = P9_TREAD, .fid = 4711, .count = 1};
	CHECK_EQ(p9_client_wait(x.c, &m, &r), -EBADF);
	rig_end(&x);
}

struct count {
	unsigned n, errors, last;
	bool ordered;
};

static void counted(void *ctx, const struct p9_msg *r, int error)
{
	struct count *c = ctx;

	c->n++;
	c->errors += error != 0;
	if (r && r->type == P9_TREAD + 1) {
		unsigned v = r->count == 4 ? le32_get(r->data) : 0;

		c->ordered &= v == c->last;
		c->last = v + 1;
	}
}

TEST(more_requests_than_tags_are_all_answered_in_order)
{
	enum { N = 20000 };
	struct count c = {.ordered = true};
	struct p9_msg m;
	uint32_t fid;
	struct rig x = {0};

	REQUIRE(rig_start(&x, true));
	REQUIRE(create(&x, "f", &fid) == 0);
	for (uint32_t i = 0; i < N; i++) {
		uint8_t v[4];

		le32_put(v, i);
		m = (struct p9_msg){.type = P9_TWRITE, .fid = fid, .count = 4, .data = v};
		p9_client_call(x.c, &m, counted, &c);
		m = (struct p9_msg){.type = P9_TREAD, .fid = fid, .count = 4};
		p9_client_call(x.c, &m, counted, &c);
	}
	p9_client_drain(x.c);
	CHECK_EQ(c.n, 2 * N);
	CHECK_EQ(c.errors, 0);
	CHECK(c.ordered);
	CHECK_EQ(c.last, N);
	rig_end(&x);
}

TEST(large_reads_and_writes_are_whole)
{
	size_t size = P9_IO_MAX;
	cleanup_free char *buf = malloc(size);
	struct p9_msg m, r;
	uint32_t fid;
	struct rig x = {0};

	REQUIRE(buf != NULL && rig_start(&x, true));
	for (size_t i = 0; i < size; i++)
		buf[i] = (char)(i * 7 + (i >> 12));
	REQUIRE(create(&x, "f", &fid) == 0);
	m = (struct p9_msg){.type = P9_TWRITE, .fid = fid, .count = (uint32_t)size, .data = buf};
	CHECK_EQ(p9_client_wait(x.c, &m, &r), 0);
	CHECK_EQ(r.count, size);
	m = (struct p9_msg){.type = P9_TREAD, .fid = fid, .count = (uint32_t)size};
	CHECK_EQ(p9_client_wait(x.c, &m, &r), 0);
	CHECK(r.count == size && !memcmp(r.data, buf, size));
	rig_end(&x);
}

TEST(a_folder_is_listed_with_and_without_attributes)
{
	enum { N = 500 };
	struct p9_msg m, r;
	uint32_t fid;
	struct rig x = {0};

	REQUIRE(rig_start(&x, true));
	for (int i = 0; i < N; i++) {
		char name[16];

		snprintf(name, sizeof(name), "%d", i);
		close(openat(x.root, name, O_WRONLY | O_CREAT, 0600));
	}
	for (int plus = 0; plus < 2; plus++) {
		unsigned found = 0, dots = 0;
		uint64_t off = 0;

		m = (struct p9_msg){
			.type = P9_TWALK, .fid = P9_ROOT_FID, .fid2 = fid = p9_client_fid(x.c)};
		p9_client_call(x.c, &m, NULL, NULL);
		m = (struct p9_msg){.type = P9_TLOPEN, .fid = fid};
		REQUIRE(p9_client_wait(x.c, &m, &r) == 0);
		for (;;) {
			struct p9_dirent d;
			size_t at = 0;
			int n;

			m = (struct p9_msg){.type = plus ? P9_TREADDIRPLUS : P9_TREADDIR,
				.fid = fid,
				.offset = off,
				.count = 4096};
			REQUIRE(p9_client_wait(x.c, &m, &r) == 0);
			if (r.count == 0)
				break;
			while ((n = p9_dirent_decode(
					(const char *)r.data + at, r.count - at, plus, &d)) > 0) {
				at += (size_t)n;
				off = d.offset;
				if (d.name.s[0] == '.')
					dots++;
				else
					found++;
				if (plus && d.name.s[0] != '.')
					CHECK_EQ(d.attr.mode, S_IFREG | 0600);
			}
			REQUIRE(n == 0);
		}
		CHECK_EQ(found, N);
		CHECK_EQ(dots, 2);
		p9_client_clunk(x.c, fid);
	}
	rig_end(&x);
}

TEST(two_processes_of_a_peer_exclude_one_another)
{
	struct p9_msg m, r;
	uint32_t a, b;
	struct rig x = {0};

	REQUIRE(rig_start(&x, true));
	REQUIRE(create(&x, "f", &a) == 0);
	m = (struct p9_msg){.type = P9_TLOOKUP,
		.fid = P9_ROOT_FID,
		.fid2 = b = p9_client_fid(x.c),
		.nnames = 1};
	m.names[0] = p9_str("f");
	p9_client_call(x.c, &m, NULL, NULL);
	m = (struct p9_msg){.type = P9_TLOPEN, .fid = b, .flags = P9_O_RDWR};
	REQUIRE(p9_client_wait(x.c, &m, &r) == 0);
	m = (struct p9_msg){.type = P9_TLOCK,
		.fid = a,
		.lock_type = P9_LOCK_WRLCK,
		.offset = 10,
		.length = 10,
		.name = p9_str("one")};
	CHECK_EQ(p9_client_wait(x.c, &m, &r), 0);
	CHECK_EQ(r.status, P9_LOCK_SUCCESS);
	m.fid = b; /* the same process, by another descriptor */
	CHECK_EQ(p9_client_wait(x.c, &m, &r), 0);
	CHECK_EQ(r.status, P9_LOCK_SUCCESS);
	m.name = p9_str("two");
	CHECK_EQ(p9_client_wait(x.c, &m, &r), 0);
	CHECK_EQ(r.status, P9_LOCK_BLOCKED);
	m.type = P9_TGETLOCK;
	CHECK_EQ(p9_client_wait(x.c, &m, &r), 0);
	CHECK_EQ(r.lock_type, P9_LOCK_WRLCK);
	CHECK_EQ(r.offset, 10);
	CHECK_EQ(r.length, 10);
	m = (struct p9_msg){
		.type = P9_TLOCK, .fid = a, .lock_type = P9_LOCK_UNLCK, .name = p9_str("one")};
	CHECK_EQ(p9_client_wait(x.c, &m, &r), 0);
	m = (struct p9_msg){
		.type = P9_TLOCK, .fid = b, .lock_type = P9_LOCK_WRLCK, .name = p9_str("two")};
	CHECK_EQ(p9_client_wait(x.c, &m, &r), 0);
	CHECK_EQ(r.status, P9_LOCK_SUCCESS);
	rig_end(&x);
}

TEST(a_server_that_dies_fails_what_is_under_way)
{
	struct count c = {0};
	struct p9_msg m, r;
	struct rig x = {0};

	REQUIRE(rig_start(&x, true));
	m = (struct p9_msg){.type = P9_TGETATTR, .fid = P9_ROOT_FID, .valid = P9_GETATTR_ALL};
	CHECK_EQ(p9_client_wait(x.c, &m, &r), 0);
	shutdown(x.server_fd, SHUT_RDWR);
	for (int i = 0; i < 10; i++)
		p9_client_call(x.c, &m, counted, &c);
	CHECK_EQ(c.n, 0);
	p9_client_drain(x.c);
	CHECK_EQ(c.n, 10);
	CHECK_EQ(c.errors, 10);
	CHECK(x.closed);
	CHECK(!p9_client_alive(x.c));
	CHECK_EQ(p9_client_wait(x.c, &m, &r), -EIO);
	rig_end(&x);
}

TEST(a_peer_that_leaves_before_its_answer_does_no_harm)
{
	for (int i = 0; i < 50; i++) {
		struct p9_msg m = {.type = P9_TGETATTR,
				      .fid = P9_ROOT_FID,
				      .valid = P9_GETATTR_ALL},
			      r;
		struct rig x = {0};

		REQUIRE(rig_start(&x, true));
		CHECK_EQ(p9_client_wait(x.c, &m, &r), 0);
		for (int k = 0; k < 100; k++)
			p9_client_call(x.c, &m, NULL, NULL);
		rig_end(&x);
	}
}

/* --- the plain dialect, message by message --- */

static int ask(struct rig *x, struct p9_msg *m, struct p9_msg *r, uint8_t *buf, size_t cap)
{
	int n = p9_encode(m, buf, cap), err;

	if (n < 0 || io_write_full(x->client_fd, buf, (size_t)n) < 0 ||
		io_read_full(x->client_fd, buf, 4) < 0)
		return -EPIPE;
	n = p9_size(buf, cap);
	if (n < 0 || io_read_full(x->client_fd, buf + 4, (size_t)n - 4) < 0)
		return -EPIPE;
	err = p9_decode(buf, (size_t)n, r);
	return err < 0 ? err : r->type == P9_RLERROR ? -(int)r->ecode : 0;
}

TEST(the_plain_dialect_has_what_the_kernels_client_asks_for)
{
	uint8_t buf[8192];
	struct p9_msg m, r;
	struct rig x = {0};

	REQUIRE(rig_start(&x, false));
	m = (struct p9_msg){.type = P9_TATTACH, .fid = 1, .fid2 = P9_NO_FID, .uid = 0};
	CHECK_EQ(ask(&x, &m, &r, buf, sizeof(buf)), -EPROTO); /* before Tversion */
	m = (struct p9_msg){
		.type = P9_TVERSION, .tag = P9_NO_TAG, .msize = 8192, .name = p9_str("9P2000.L")};
	CHECK_EQ(ask(&x, &m, &r, buf, sizeof(buf)), 0);
	CHECK_EQ(r.msize, 8192);
	CHECK(r.name.len == 8 && !memcmp(r.name.s, "9P2000.L", 8));
	m = (struct p9_msg){.type = P9_TATTACH, .fid = 1, .fid2 = P9_NO_FID, .uid = 0};
	CHECK_EQ(ask(&x, &m, &r, buf, sizeof(buf)), 0);
	CHECK_EQ(r.qid.type, P9_QT_DIR);
	m = (struct p9_msg){.type = P9_TMKDIR, .fid = 1, .name = p9_str("d"), .mode = 0755};
	CHECK_EQ(ask(&x, &m, &r, buf, sizeof(buf)), 0);
	/* Half a walk is no error, and makes no fid. */
	m = (struct p9_msg){.type = P9_TWALK, .fid = 1, .fid2 = 2, .nnames = 2};
	m.names[0] = p9_str("d");
	m.names[1] = p9_str("nosuch");
	CHECK_EQ(ask(&x, &m, &r, buf, sizeof(buf)), 0);
	CHECK_EQ(r.nqids, 1);
	m = (struct p9_msg){.type = P9_TCLUNK, .fid = 2};
	CHECK_EQ(ask(&x, &m, &r, buf, sizeof(buf)), -EBADF);
	m = (struct p9_msg){.type = P9_TWALK, .fid = 1, .fid2 = 2, .nnames = 1};
	m.names[0] = p9_str("d");
	CHECK_EQ(ask(&x, &m, &r, buf, sizeof(buf)), 0);
	/* An attribute, by a fid of its own. */
	m = (struct p9_msg){
		.type = P9_TXATTRCREATE, .fid = 2, .name = p9_str("user.x"), .length = 5};
	CHECK_EQ(ask(&x, &m, &r, buf, sizeof(buf)), 0);
	m = (struct p9_msg){.type = P9_TWRITE, .fid = 2, .count = 5, .data = "value"};
	CHECK_EQ(ask(&x, &m, &r, buf, sizeof(buf)), 0);
	m = (struct p9_msg){.type = P9_TCLUNK, .fid = 2};
	CHECK_EQ(ask(&x, &m, &r, buf, sizeof(buf)), 0);
	m = (struct p9_msg){.type = P9_TWALK, .fid = 1, .fid2 = 2, .nnames = 1};
	m.names[0] = p9_str("d");
	CHECK_EQ(ask(&x, &m, &r, buf, sizeof(buf)), 0);
	m = (struct p9_msg){.type = P9_TXATTRWALK, .fid = 2, .fid2 = 3, .name = p9_str("user.x")};
	CHECK_EQ(ask(&x, &m, &r, buf, sizeof(buf)), 0);
	CHECK_EQ(r.length, 5);
	m = (struct p9_msg){.type = P9_TREAD, .fid = 3, .count = 100};
	CHECK_EQ(ask(&x, &m, &r, buf, sizeof(buf)), 0);
	CHECK(r.count == 5 && !memcmp(r.data, "value", 5));
	/* What belongs to our own dialect was not agreed on. */
	m = (struct p9_msg){.type = P9_TACCESS, .fid = 1};
	CHECK_EQ(ask(&x, &m, &r, buf, sizeof(buf)), -EOPNOTSUPP);
	rig_end(&x);
}

TEST(an_attribute_without_a_value_is_not_one_that_is_removed)
{
	static const struct {
		uint32_t flags;
		int error; /* of asking for it afterwards */
	} sets[] = {{0, 0}, {XATTR_REPLACE, -ENODATA}, {XATTR_CREATE, 0}};
	uint8_t buf[8192];
	struct p9_msg m, r;
	struct rig x = {0};

	REQUIRE(rig_start(&x, false));
	m = (struct p9_msg){
		.type = P9_TVERSION, .tag = P9_NO_TAG, .msize = 8192, .name = p9_str("9P2000.L")};
	CHECK_EQ(ask(&x, &m, &r, buf, sizeof(buf)), 0);
	m = (struct p9_msg){.type = P9_TATTACH, .fid = 1, .fid2 = P9_NO_FID, .uid = 0};
	CHECK_EQ(ask(&x, &m, &r, buf, sizeof(buf)), 0);
	for (size_t i = 0; i < ARRAY_LEN(sets); i++) {
		m = (struct p9_msg){.type = P9_TWALK, .fid = 1, .fid2 = 2};
		CHECK_EQ(ask(&x, &m, &r, buf, sizeof(buf)), 0);
		m = (struct p9_msg){.type = P9_TXATTRCREATE,
			.fid = 2,
			.name = p9_str("user.x"),
			.flags = sets[i].flags};
		CHECK_EQ(ask(&x, &m, &r, buf, sizeof(buf)), 0);
		m = (struct p9_msg){.type = P9_TCLUNK, .fid = 2};
		CHECK_EQ(ask(&x, &m, &r, buf, sizeof(buf)), 0);
		m = (struct p9_msg){
			.type = P9_TXATTRWALK, .fid = 1, .fid2 = 3, .name = p9_str("user.x")};
		CHECK_EQ(ask(&x, &m, &r, buf, sizeof(buf)), sets[i].error);
		if (sets[i].error)
			continue;
		CHECK_EQ(r.length, 0);
		m = (struct p9_msg){.type = P9_TCLUNK, .fid = 3};
		CHECK_EQ(ask(&x, &m, &r, buf, sizeof(buf)), 0);
	}
	rig_end(&x);
}

/* A connection that an attach has been made on, to the root's fid 1. */
static bool attached(struct rig *x, bool trust_ids)
{
	uint8_t buf[8192];
	struct p9_msg m, r;

	x->trust_ids = trust_ids;
	if (!rig_start(x, false))
		return false;
	m = (struct p9_msg){
		.type = P9_TVERSION, .tag = P9_NO_TAG, .msize = 8192, .name = p9_str("9P2000.L")};
	if (ask(x, &m, &r, buf, sizeof(buf)) < 0)
		return false;
	m = (struct p9_msg){.type = P9_TATTACH, .fid = 1, .fid2 = P9_NO_FID, .uid = geteuid()};
	return ask(x, &m, &r, buf, sizeof(buf)) == 0;
}

static int create_plain(struct rig *x, const char *name, uint32_t flags)
{
	struct p9_msg m = {.type = P9_TWALK, .fid = 1, .fid2 = 2}, r;
	uint8_t buf[8192];
	int err = ask(x, &m, &r, buf, sizeof(buf)), done;

	m = (struct p9_msg){.type = P9_TLCREATE,
		.fid = 2,
		.name = p9_str(name),
		.flags = flags,
		.mode = 0600,
		.gid = getegid()};
	done = err < 0 ? err : ask(x, &m, &r, buf, sizeof(buf));
	m = (struct p9_msg){.type = P9_TCLUNK, .fid = 2};
	err = ask(x, &m, &r, buf, sizeof(buf));
	return done < 0 ? done : err;
}

/* The kernel that asks had found nothing there, and asked nobody's rights. */
TEST(a_file_that_another_has_just_made_is_opened_whosever_it_is)
{
	for (int trust = 0; trust < 2; trust++) {
		const int there = trust ? -ESTALE : 0;
		struct rig x = {0};

		REQUIRE(attached(&x, trust));
		CHECK_EQ(create_plain(&x, "f", P9_O_RDWR), 0);
		CHECK_EQ(create_plain(&x, "f", P9_O_RDWR), there);
		CHECK_EQ(create_plain(&x, "f", P9_O_RDWR | P9_O_EXCL), -EEXIST);
		CHECK_EQ(create_plain(&x, "g", P9_O_RDWR | P9_O_EXCL), 0);
		rig_end(&x);
	}
}

TEST(values_of_attributes_take_all_the_memory)
{
	enum { SIZE = 65536, MAX = 64 << 20 };
	uint8_t buf[8192];
	struct p9_msg m, r;
	struct rig x = {0};
	uint32_t n;
	int err = 0;

	REQUIRE(attached(&x, false));
	for (n = 0; n < 2 * MAX / SIZE && err == 0; n++) {
		m = (struct p9_msg){.type = P9_TWALK, .fid = 1, .fid2 = 10 + n};
		CHECK_EQ(ask(&x, &m, &r, buf, sizeof(buf)), 0);
		m = (struct p9_msg){.type = P9_TXATTRCREATE,
			.fid = 10 + n,
			.name = p9_str("user.x"),
			.length = SIZE};
		err = ask(&x, &m, &r, buf, sizeof(buf));
	}
	CHECK_EQ(err, -ENFILE);
	CHECK(n > 64);
	/* by the other way neither */
	m = (struct p9_msg){.type = P9_TXATTRWALK, .fid = 1, .fid2 = 3, .name = p9_str("")};
	CHECK_EQ(ask(&x, &m, &r, buf, sizeof(buf)), -ENFILE);
	/* until one is given back */
	m = (struct p9_msg){.type = P9_TCLUNK, .fid = 10};
	CHECK_EQ(ask(&x, &m, &r, buf, sizeof(buf)), -EINVAL);
	for (int i = 0; i < 3; i++) {
		m = (struct p9_msg){.type = P9_TXATTRWALK, .fid = 1, .fid2 = 3, .name = p9_str("")};
		CHECK_EQ(ask(&x, &m, &r, buf, sizeof(buf)), 0);
		m = (struct p9_msg){.type = P9_TCLUNK, .fid = 3};
		CHECK_EQ(ask(&x, &m, &r, buf, sizeof(buf)), 0);
	}
	rig_end(&x);
}

TEST(nonsense_ends_the_connection)
{
	static const uint8_t bad[][11] = {{3, 0, 0, 0, 100, 0, 0},
		{0xff, 0xff, 0xff, 0xff, 100, 0, 0}, {7, 0, 0, 0, 101, 0, 0},
		{11, 0, 0, 0, 110, 0, 0}};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct rig x;
		char c;

		REQUIRE(rig_start(&x, false));
		CHECK_EQ(io_write_full(x.client_fd, bad[i], sizeof(bad[i])), 0);
		CHECK(recv(x.client_fd, &c, 1, 0) <= 0);
		rig_end(&x);
	}
}

/* --- a server that was started again --- */

/* One request, and its reply's type. */
static unsigned say(struct p9_server *s, struct p9_msg *m)
{
	static uint8_t in[4096], out[P9_MSIZE_MAX];
	int n;

	m->tag = 1;
	n = p9_encode(m, in, sizeof(in));
	if (n < 0 || p9_server_handle(s, in, (size_t)n, out) < P9_HEADER)
		return 0;
	return out[4];
}

static unsigned walk(struct p9_server *s, uint32_t fid, uint32_t fid2, const char *name)
{
	struct p9_msg m = {.type = P9_TWALK, .fid = fid, .fid2 = fid2, .nnames = name != NULL};

	if (name)
		m.names[0] = p9_str(name);
	return say(s, &m);
}

static unsigned getattr(struct p9_server *s, uint32_t fid)
{
	return say(s, &(struct p9_msg){.type = P9_TGETATTR, .fid = fid, .valid = P9_GETATTR_BASIC});
}

TEST(mounts_fail_after_the_server_was_started_again)
{
	const struct fs_cred cred = {.uid = geteuid(), .gid = getegid()};
	char dir[] = "/tmp/wslx-test-p9.XXXXXX", cmd[64];
	struct p9_server *s;
	struct fs *fs;
	int root, state = memfd_create("state", MFD_CLOEXEC);

	REQUIRE(mkdtemp(dir));
	root = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	REQUIRE(root >= 0 && state >= 0 && mkdirat(root, "top", 0700) == 0);
	REQUIRE(mkdirat(root, "top/below", 0700) == 0 && mkdirat(root, "gone", 0700) == 0);
	REQUIRE(mkdirat(root, "other", 0700) == 0);
	REQUIRE(fs_host_new(&fs, root, NULL, NULL) == 0);
	REQUIRE(p9_server_new(&s, fs, &cred, NULL) == 0 && p9_server_keep(s, state) == 0);
	CHECK_EQ(getattr(s, 1), P9_RLERROR); /* there is nothing to go on with */
	CHECK_EQ(say(s,
			 &(struct p9_msg){
				 .type = P9_TVERSION, .msize = 8192, .name = p9_str(P9_VERSION)}),
		P9_TVERSION + 1);
	CHECK_EQ(say(s, &(struct p9_msg){.type = P9_TATTACH, .fid = 1, .fid2 = P9_NO_FID}),
		P9_TATTACH + 1);
	CHECK_EQ(walk(s, 1, 2, "top"), P9_TWALK + 1);
	CHECK_EQ(walk(s, 2, 3, "below"), P9_TWALK + 1);
	CHECK_EQ(walk(s, 1, 4, "gone"), P9_TWALK + 1);
	CHECK_EQ(walk(s, 1, 5, NULL), P9_TWALK + 1);
	CHECK_EQ(say(s, &(struct p9_msg){.type = P9_TCLUNK, .fid = 5}), P9_TCLUNK + 1);
	CHECK_EQ(walk(s, 2, 6, NULL), P9_TWALK + 1);
	CHECK_EQ(say(s, &(struct p9_msg){.type = P9_TLOPEN, .fid = 6}), P9_TLOPEN + 1);
	CHECK_EQ(walk(s, 1, 7, "other"), P9_TWALK + 1);
	/* one is no more, another is a new one */
	REQUIRE(unlinkat(root, "gone", AT_REMOVEDIR) == 0 && mkdirat(root, "new", 0700) == 0);
	REQUIRE(renameat(root, "new", root, "other") == 0);
	p9_server_free(s);
	fs->ops->free(fs);

	REQUIRE(fs_host_new(&fs, root, NULL, NULL) == 0);
	REQUIRE(p9_server_new(&s, fs, &cred, NULL) == 0 && p9_server_keep(s, state) == 0);
	CHECK_EQ(getattr(s, 1), P9_TGETATTR + 1);
	CHECK_EQ(getattr(s, 2), P9_TGETATTR + 1);
	CHECK_EQ(getattr(s, 3), P9_TGETATTR + 1);
	for (uint32_t fid = 4; fid <= 7; fid++)
		CHECK_EQ(getattr(s, fid), P9_RLERROR);
	CHECK_EQ(walk(s, 2, 8, "below"), P9_TWALK + 1);
	CHECK_EQ(getattr(s, 8), P9_TGETATTR + 1);
	p9_server_free(s);
	fs->ops->free(fs);
	close(root);
	close(state);
	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	CHECK(system(cmd) == 0);
}

TEST_MAIN()
