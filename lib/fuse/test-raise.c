/* SPDX-License-Identifier: MIT */
/* Changes of the host's as the peer's kernel is made to tell them: what is asked for succeeds, and nothing is done. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <wslx/abi/watch.h>
#include "lib/base/attr.h"
#include "lib/base/test.h"
#include "lib/fs/host.h"
#include "lib/fuse/fuse.h"

enum { AGENT = 77, OTHER = 78 };

static char top[64];
static int dir = -1;
static struct fs *fs;
static struct fuse_server *server;
static uint32_t pid, uid;
static char answer[4096] ALIGNED(8);
static const char *const body = answer + sizeof(struct fuse_out_header);

/* A request of up to three parts; a negative errno, or how long the answer's body is. */
static int ask3(uint32_t op, uint64_t node, const void *a, size_t a_len, const void *b,
	size_t b_len, const void *c, size_t c_len, uint32_t flags)
{
	struct fuse_in_header h = {.len = (uint32_t)(sizeof(h) + a_len + b_len + c_len),
		.opcode = op,
		.nodeid = node,
		.pid = pid,
		.uid = uid};
	const struct iovec in[] = {{&h, sizeof(h)}, {(void *)(uintptr_t)a, a_len},
		{(void *)(uintptr_t)b, b_len}, {(void *)(uintptr_t)c, c_len}};
	const struct iovec out = {answer, sizeof(answer)};
	const struct fuse_out_header *oh = (void *)answer;
	ssize_t n = fuse_server_handle(server, in, 4, &out, 1, flags);

	if (n < (ssize_t)sizeof(*oh))
		return n < 0 ? (int)n : -EIO;
	return oh->error ? oh->error : (int)(n - (ssize_t)sizeof(*oh));
}

static int ask(uint32_t op, uint64_t node, const void *arg, size_t len, const char *name)
{
	return ask3(op, node, arg, len, name, strlen(name) + 1, NULL, 0, 0);
}

static uint64_t lookup(uint64_t node, const char *name)
{
	struct fuse_entry_out e;

	if (ask(FUSE_LOOKUP, node, NULL, 0, name) < 0)
		return 0;
	memcpy(&e, body, sizeof(e));
	return e.nodeid;
}

static int watch(uint64_t node, uint32_t events)
{
	const struct wslx_watch w = {node, events, 1};
	const struct fuse_setxattr_in in = {.size = sizeof(w)};

	return ask3(FUSE_SETXATTR, 1, &in, FUSE_COMPAT_SETXATTR_IN_SIZE, WSLX_WATCH_XATTR,
		sizeof(WSLX_WATCH_XATTR), &w, sizeof(w), 0);
}

static int get(const char *name, uint32_t flags)
{
	const struct fuse_getxattr_in in = {.size = WSLX_CHANGE_MAX};

	return ask3(FUSE_GETXATTR, 1, &in, sizeof(in), name, strlen(name) + 1, NULL, 0, flags);
}

/* The next change's kind; 0: there is none. */
static uint32_t next(void)
{
	struct wslx_change c;

	fs_host_look(fs);
	if (get(WSLX_CHANGE_XATTR, 0) < (int)sizeof(c))
		return 0;
	memcpy(&c, body, sizeof(c));
	return c.kind;
}

static void put(const char *name)
{
	close(openat(dir, name, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
}

static bool there(const char *name)
{
	return faccessat(dir, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void set_up(void)
{
	const struct fuse_init_in in = {.major = 7, .minor = 36};
	const struct fuse_opts opts = {.entry_ms = 1000, .attr_ms = 1000};

	strcpy(top, "/tmp/wslx-raise.XXXXXX");
	if (!mkdtemp(top))
		abort();
	dir = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fs_host_new(&fs, dir, NULL, NULL) < 0 || fs_host_enable_watches(fs) < 0 ||
		fuse_server_new(&server, fs, &opts) < 0)
		abort();
	pid = AGENT;
	uid = 0;
	if (ask3(FUSE_INIT, 0, &in, sizeof(in), NULL, 0, NULL, 0, 0) < 0)
		abort();
}

static void tear_down(void)
{
	char cmd[96];

	fuse_server_free(server);
	fs->ops->free(fs);
	close(dir);
	snprintf(cmd, sizeof(cmd), "rm -rf %s", top);
	CHECK_EQ(system(cmd), 0);
}

static int mknod_(uint64_t node, const char *name)
{
	const struct fuse_mknod_in in = {.mode = S_IFREG | 0600};

	return ask(FUSE_MKNOD, node, &in, sizeof(in), name);
}

static int rename_(uint64_t from, const char *name, uint64_t to, const char *to_name)
{
	const struct fuse_rename_in in = {.newdir = to};

	return ask3(FUSE_RENAME, from, &in, sizeof(in), name, strlen(name) + 1, to_name,
		strlen(to_name) + 1, 0);
}

static int touch(uint64_t node, uint64_t sec, uint32_t nsec)
{
	const struct fuse_setattr_in in = {.valid = FATTR_MTIME, .mtime = sec, .mtimensec = nsec};

	return ask3(FUSE_SETATTR, node, &in, sizeof(in), NULL, 0, NULL, 0, 0);
}

TEST(a_change_in_hand_succeeds_and_is_not_done)
{
	uint64_t d, id;

	set_up();
	mkdirat(dir, "d", 0700);
	d = lookup(1, "d");
	CHECK_EQ(watch(d, UINT32_MAX), 0);
	CHECK_EQ(next(), 0);

	put("d/new");
	CHECK_EQ(next(), WSLX_CHANGE_CREATE);
	CHECK_EQ(lookup(d, "new"), 0);
	CHECK(mknod_(d, "new") > 0);
	CHECK_EQ(mknod_(d, "more"), -EEXIST);
	CHECK(!there("d/more"));
	CHECK_EQ(ask(FUSE_UNLINK, d, NULL, 0, "new"), -EPERM);
	CHECK(there("d/new"));
	CHECK_EQ(next(), WSLX_CHANGE_CLOSE_WRITE);

	/* one that was made and is gone again */
	id = lookup(d, "new");
	CHECK(id);
	CHECK_EQ(unlinkat(dir, "d/new", 0), 0);
	CHECK_EQ(next(), WSLX_CHANGE_DELETE);
	CHECK_EQ(lookup(d, "new"), id);
	CHECK_EQ(mknod_(d, "new"), -EEXIST);
	/* the host was faster */
	put("d/new");
	CHECK_EQ(ask(FUSE_UNLINK, d, NULL, 0, "new"), 0);
	CHECK(there("d/new"));
	while (next())
		;

	CHECK_EQ(renameat(dir, "d/new", dir, "d/newer"), 0);
	CHECK_EQ(next(), WSLX_CHANGE_MOVE);
	CHECK(lookup(d, "new"));
	CHECK_EQ(lookup(d, "newer"), 0);
	CHECK_EQ(rename_(d, "new", d, "newer"), 0);
	CHECK(there("d/newer") && !there("d/new"));
	CHECK_EQ(ask(FUSE_RMDIR, 1, NULL, 0, "d"), -EPERM);
	CHECK_EQ(next(), 0);

	/* with nothing in hand it is one like others */
	CHECK_EQ(rename_(d, "newer", d, "mine"), 0);
	CHECK(there("d/mine"));
	tear_down();
}

TEST(others_do_what_they_ask_for_while_a_change_is_in_hand)
{
	uint64_t d, f;
	struct stat st;

	set_up();
	mkdirat(dir, "d", 0700);
	d = lookup(1, "d");
	CHECK_EQ(watch(d, UINT32_MAX), 0);
	put("d/f");
	CHECK_EQ(next(), WSLX_CHANGE_CREATE);
	pid = OTHER;
	f = lookup(d, "f");
	CHECK(f);
	CHECK(mknod_(d, "own") > 0);
	CHECK(there("d/own"));
	CHECK(touch(f, 1000, 0) > 0);
	CHECK(fstatat(dir, "d/f", &st, 0) == 0 && st.st_mtime == 1000);
	pid = AGENT;
	CHECK_EQ(touch(f, 2000, 0), -EPERM);
	CHECK(touch(f, (uint64_t)WSLX_RAISE_SEC, WSLX_RAISE_NSEC) > 0);
	CHECK(fstatat(dir, "d/f", &st, 0) == 0 && st.st_mtime == 1000);
	CHECK_EQ(next(), WSLX_CHANGE_CLOSE_WRITE);
	/* what a peer did is not told */
	CHECK_EQ(next(), 0);
	tear_down();
}

TEST(a_file_that_goes_away_passes_through_the_folder_that_is_everywhere)
{
	struct fuse_entry_out e;
	uint64_t d, f, away;

	set_up();
	mkdirat(dir, "d", 0700);
	put("d/f");
	d = lookup(1, "d");
	f = lookup(d, "f");
	CHECK_EQ(lookup(d, WSLX_RAISE_DIR), 0);
	CHECK_EQ(watch(d, UINT32_MAX), 0);
	CHECK_EQ(renameat(dir, "d/f", dir, "f"), 0);
	CHECK_EQ(next(), WSLX_CHANGE_MOVED_FROM);
	away = lookup(d, WSLX_RAISE_DIR);
	REQUIRE(away);
	memcpy(&e, body, sizeof(e));
	CHECK(S_ISDIR(e.attr.mode));
	CHECK_EQ(lookup(d, "f"), f);
	CHECK_EQ(lookup(away, WSLX_RAISE_TO), 0);
	CHECK_EQ(rename_(d, "f", away, WSLX_RAISE_TO), 0);
	CHECK(there("f"));
	CHECK_EQ(renameat(dir, "f", dir, "d/g"), 0);
	CHECK_EQ(next(), WSLX_CHANGE_MOVED_TO);
	away = lookup(d, WSLX_RAISE_DIR);
	CHECK(lookup(away, WSLX_RAISE_FROM));
	CHECK_EQ(rename_(away, WSLX_RAISE_FROM, d, "g"), 0);
	CHECK(there("d/g"));
	CHECK_EQ(next(), 0);
	CHECK_EQ(lookup(d, WSLX_RAISE_DIR), 0);
	tear_down();
}

TEST(who_waits_is_answered_when_there_is_a_change)
{
	set_up();
	CHECK_EQ(watch(1, UINT32_MAX), 0);
	CHECK_EQ(get(WSLX_WAIT_XATTR, 0), -EBUSY);
	CHECK_EQ(get(WSLX_WAIT_XATTR, FUSE_HANDLE_NO_PARK), 0);
	put("f");
	fs_host_look(fs);
	CHECK_EQ(get(WSLX_WAIT_XATTR, 0), 0);
	tear_down();
}

/* Numbers of nodes begin at random; some looked like ghosts, and the kernel took their files for broken. */
TEST(a_node_of_any_number_is_no_ghost)
{
	struct fuse_attr_out a;

	for (unsigned i = 0; i < 20; i++) {
		const struct fuse_getattr_in in = {0};
		uint64_t d;

		set_up();
		mkdirat(dir, "d", 0755);
		d = lookup(1, "d");
		CHECK_EQ(watch(1, UINT32_MAX), 0);
		put("new");
		CHECK_EQ(next(), WSLX_CHANGE_CREATE);
		CHECK(ask3(FUSE_GETATTR, d, &in, sizeof(in), NULL, 0, NULL, 0, 0) > 0);
		memcpy(&a, body, sizeof(a));
		CHECK_EQ(a.attr.mode, S_IFDIR | 0755);
		tear_down();
	}
}

TEST(only_root_watches)
{
	const struct fuse_setxattr_in in = {.size = 1};

	set_up();
	uid = 1000;
	CHECK_EQ(watch(1, UINT32_MAX), -EPERM);
	CHECK_EQ(get(WSLX_WAIT_XATTR, 0), -ENODATA);
	CHECK_EQ(get(WSLX_CHANGE_XATTR, 0), -ENODATA);
	uid = 0;
	CHECK_EQ(watch(12345, UINT32_MAX), -ESTALE);
	/* no attribute of such a name gets into a file */
	put("f");
	CHECK_EQ(ask3(FUSE_SETXATTR, lookup(1, "f"), &in, FUSE_COMPAT_SETXATTR_IN_SIZE,
			 "trusted.wslx.x", 15, "x", 1, 0),
		-EPERM);
	tear_down();
}

TEST(who_asks_before_the_answer_to_FUSE_INIT_in_the_short_form_is_understood)
{
	const struct fuse_init_in init = {.major = 7, .minor = 36, .flags = FUSE_SETXATTR_EXT};
	const struct wslx_watch w = {1, IN_CREATE, 1};
	struct fuse_setxattr_in in = {.size = sizeof(w)};
	static const char *const names[] = {WSLX_WATCH_XATTR, "user.x"};

	set_up();
	CHECK_EQ(ask3(FUSE_INIT, 0, &init, sizeof(init), NULL, 0, NULL, 0, 0),
		sizeof(struct fuse_init_out));
	for (unsigned i = 0; i < ARRAY_LEN(names); i++)
		for (unsigned ext = 0; ext < 2; ext++)
			for (in.setxattr_flags = 0; in.setxattr_flags < 2 * ext + 1;
				in.setxattr_flags++)
				CHECK_EQ(ask3(FUSE_SETXATTR, 1, &in,
						 ext ? sizeof(in) : FUSE_COMPAT_SETXATTR_IN_SIZE,
						 names[i], strlen(names[i]) + 1, &w, sizeof(w), 0),
					0);
	CHECK_EQ(fgetxattr(dir, "user.x", NULL, 0), sizeof(w));
	in.size = 0;
	CHECK_EQ(ask3(FUSE_SETXATTR, 1, &in, FUSE_COMPAT_SETXATTR_IN_SIZE, WSLX_WATCH_XATTR,
			 sizeof(WSLX_WATCH_XATTR), NULL, 0, 0),
		0);
	tear_down();
}

TEST_MAIN()
