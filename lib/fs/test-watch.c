/* SPDX-License-Identifier: MIT */
/* What the host changes in nodes that are watched, and what peers change there. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include "lib/base/attr.h"
#include "lib/base/test.h"
#include "lib/fs/host-internal.h"

static char top[64];
static int dir = -1;
static struct fs *fs;
static struct fs_node *root;
static const struct fs_cred cred;

static void set_up(void)
{
	strcpy(top, "/tmp/wslx-watch.XXXXXX");
	if (!mkdtemp(top))
		abort();
	dir = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fs_host_new(&fs, dir, NULL, NULL) < 0 || fs_host_enable_watches(fs) < 0)
		abort();
	root = fs->ops->root(fs);
}

static void tear_down(void)
{
	char cmd[96];

	fs->ops->free(fs);
	close(dir);
	snprintf(cmd, sizeof(cmd), "rm -rf %s", top);
	CHECK_EQ(system(cmd), 0);
}

static void put(const char *name)
{
	close(openat(dir, name, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
}

static struct fs_node *node(const char *name)
{
	struct fs_entry e = {0};

	CHECK_EQ(fs->ops->lookup(fs, &cred, root, name, &e), 0);
	return e.node;
}

static const char *name_of(uint32_t kind)
{
	static const char *const names[] = {"-", "create", "delete", "move", "from", "to", "modify",
		"attrib", "close", "delete-self", "move-self", "lost"};

	return names[kind];
}

/* What came, as text: "create f, modify f". */
static const char *news(void)
{
	static char text[2048];
	struct fs_change c;
	size_t n = 0;

	text[0] = '\0';
	fs_host_look(fs);
	while (fs->ops->next_change(fs, &c) && n < sizeof(text) - 600)
		n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%s%s%s%s%s%s", n ? ", " : "",
			name_of(c.kind), c.dir ? "/" : "", c.name[0] ? " " : "", c.name,
			c.to_name[0] ? " " : "", c.to_name);
	return text;
}

static void check_news(const char *want)
{
	const char *got = news();

	if (strcmp(got, want) != 0)
		printf("# \"%s\", not \"%s\"\n", got, want);
	CHECK(strcmp(got, want) == 0);
}

TEST(what_the_host_changes_is_news)
{
	struct fs_node *sub;

	set_up();
	put("there");
	mkdirat(dir, "sub", 0700);
	sub = node("sub");
	check_news("");
	CHECK_EQ(fs->ops->watch(fs, root, UINT32_MAX, 1), 0);
	CHECK_EQ(fs->ops->watch(fs, sub, UINT32_MAX, 1), 0);
	CHECK_EQ(fs->ops->watch(fs, node("there"), UINT32_MAX, 1), 0);
	put("f");
	check_news("create f, close f");
	CHECK_EQ(fchmodat(dir, "there", 0644, 0), 0);
	check_news("attrib there, attrib");
	mkdirat(dir, "d", 0700);
	CHECK_EQ(renameat(dir, "f", dir, "g"), 0);
	CHECK_EQ(renameat(dir, "g", dir, "sub/g"), 0);
	check_news("create/ d, move f g, move g g");
	CHECK_EQ(renameat(dir, "sub/g", AT_FDCWD, "/tmp/wslx-watch-away"), 0);
	CHECK_EQ(renameat(AT_FDCWD, "/tmp/wslx-watch-away", dir, "back"), 0);
	check_news("from g, to back");
	CHECK_EQ(unlinkat(dir, "there", 0), 0);
	CHECK_EQ(unlinkat(dir, "d", AT_REMOVEDIR), 0);
	/* which of them is first, kernels differ in */
	const char *got = news();
	CHECK(strstr(got, "delete there") && strstr(got, "delete-self") &&
		strstr(got, "delete/ d"));
	CHECK_EQ(fs->ops->watch(fs, sub, 0, 0), 0);
	put("sub/quiet");
	check_news("");
	CHECK_EQ(fs->ops->watch(fs, root, IN_DELETE, 1), 0);
	put("h");
	CHECK_EQ(unlinkat(dir, "h", 0), 0);
	check_news("delete h");
	tear_down();
}

static void touched(struct fs_node *n, const char *name, void (*fn)(void), bool done)
{
	const struct fs_touch t = {n, name};
	bool any = fs->ops->touch(fs, &t, 1);

	fn();
	if (any)
		fs->ops->touched(fs, done);
}

static void make_own(void)
{
	put("own");
	/* in that moment */
	put("other");
}

static void change_file(void)
{
	CHECK_EQ(fchmodat(dir, "file", 0640, 0), 0);
}

TEST(what_a_peer_changes_is_none)
{
	struct fs_node *file;

	set_up();
	put("file");
	file = node("file");
	touched(root, "own", make_own, true);
	CHECK_EQ(fs->ops->watch(fs, root, UINT32_MAX, 1), 0);
	put("before");
	CHECK_EQ(unlinkat(dir, "own", 0), 0);
	CHECK_EQ(unlinkat(dir, "other", 0), 0);
	touched(root, "own", make_own, true);
	check_news(
		"create before, close before, delete own, delete other, create other, close other");
	touched(root, "own", change_file, true);
	check_news("attrib file");
	touched(file, NULL, change_file, true);
	check_news("");
	CHECK_EQ(fs->ops->watch(fs, file, UINT32_MAX, 1), 0);
	touched(file, NULL, change_file, true);
	check_news("");
	/* the operation failed: somebody else did it */
	touched(file, NULL, change_file, false);
	check_news("attrib file, attrib");
	/* another inode of the peer's learns of it from us alone */
	CHECK_EQ(fs->ops->watch(fs, file, UINT32_MAX, 2), 0);
	touched(file, NULL, change_file, true);
	check_news("attrib");
	tear_down();
}

static sem_t under_way, go_on;

static void hang(void)
{
	sem_post(&under_way);
	sem_wait(&go_on);
}

static void *hang_and_fail(void *arg)
{
	touched(root, "slow", hang, false);
	return NULL;
}

static void *hang_and_do(void *arg)
{
	touched(root, "slow", hang, true);
	return NULL;
}

/* One that waits for a file system of the host's, maybe for good. */
TEST(an_operation_that_hangs_keeps_others_from_hearing_of_anything)
{
	pthread_t slow;

	set_up();
	sem_init(&under_way, 0, 0);
	sem_init(&go_on, 0, 0);
	CHECK_EQ(fs->ops->watch(fs, root, UINT32_MAX, 1), 0);
	for (int done = 0; done < 2; done++) {
		pthread_create(&slow, NULL, done ? hang_and_do : hang_and_fail, NULL);
		sem_wait(&under_way);
		put("f");
		CHECK_EQ(mkdirat(dir, "slow", 0700), 0);
		touched(root, "own", make_own, true);
		check_news(done ? "close f, close other"
				: "create f, close f, create other, close other");
		CHECK_EQ(fs->ops->watch(fs, node("f"), UINT32_MAX, 1), 0);
		fs->ops->forget(fs, node("f"), 2);
		CHECK(!fs->ops->has_change(fs));
		sem_post(&go_on);
		pthread_join(slow, NULL);
		/* whose it was, is known by now */
		check_news(done ? "" : "create/ slow");
		CHECK_EQ(unlinkat(dir, "slow", AT_REMOVEDIR), 0);
		check_news("delete/ slow");
	}
	tear_down();
}

/* More than are kept. */
static void *many(void *arg)
{
	for (unsigned i = 0; i < 300; i++)
		CHECK(mkdirat(dir, "slow", 0700) == 0 && unlinkat(dir, "slow", AT_REMOVEDIR) == 0);
	fs_host_look(fs);
	return NULL;
}

static void many_meanwhile(void)
{
	pthread_t t;

	pthread_create(&t, NULL, many, NULL);
	pthread_join(t, NULL);
}

TEST(changes_while_an_operation_hangs_have_a_limit)
{
	set_up();
	CHECK_EQ(fs->ops->watch(fs, root, UINT32_MAX, 1), 0);
	touched(root, "slow", many_meanwhile, true);
	check_news("");
	touched(root, "slow", many_meanwhile, false);
	check_news("lost");
	tear_down();
}

TEST(too_many_changes_are_told_as_such)
{
	struct fs_change c;

	set_up();
	CHECK_EQ(fs->ops->watch(fs, root, IN_CREATE | IN_DELETE, 1), 0);
	to_host(fs)->w.max_queued = 100;
	for (unsigned i = 0; i < 51; i++)
		CHECK(mkdirat(dir, "d", 0700) == 0 && unlinkat(dir, "d", AT_REMOVEDIR) == 0);
	fs_host_look(fs);
	REQUIRE(fs->ops->next_change(fs, &c));
	CHECK_EQ(c.kind, FS_CHANGE_LOST);
	CHECK(!fs->ops->has_change(fs));
	put("f");
	mkdirat(dir, "d", 0700);
	check_news("create f, create/ d");
	tear_down();
}

TEST(a_file_that_is_forgotten_is_watched_no_more)
{
	struct host *h;
	struct fs_node *n;

	set_up();
	h = to_host(fs);
	put("f");
	n = node("f");
	CHECK_EQ(fs->ops->watch(fs, n, UINT32_MAX, 1), 0);
	CHECK_EQ(fs->ops->watch(fs, root, UINT32_MAX, 1), 0);
	CHECK_EQ(h->w.n, 2);
	fs->ops->forget(fs, n, 1);
	CHECK_EQ(h->w.n, 1);
	CHECK_EQ(fchmodat(dir, "f", 0644, 0), 0);
	check_news("attrib f");
	fs->ops->forget_all(fs);
	CHECK_EQ(h->w.n, 0);
	CHECK_EQ(fchmodat(dir, "f", 0600, 0), 0);
	check_news("");
	tear_down();
}

TEST(what_departed_is_found_as_it_was)
{
	struct fs_entry e;
	struct fs_node *f;
	uint64_t id;

	set_up();
	put("f");
	f = node("f");
	id = fs->ops->id(f);
	CHECK_EQ(fs->ops->departed(fs, root, "f", &e), -ENOENT);
	CHECK_EQ(unlinkat(dir, "f", 0), 0);
	REQUIRE(fs->ops->departed(fs, root, "f", &e) == 0);
	CHECK_EQ(fs->ops->id(e.node), id);
	CHECK(S_ISREG(e.attr.mode) && e.attr.nlink == 1);
	/* another that took the name is not it */
	CHECK_EQ(mkdirat(dir, "f", 0700), 0);
	REQUIRE(fs->ops->departed(fs, root, "f", &e) == 0);
	CHECK_EQ(fs->ops->id(e.node), id);
	node("f");
	CHECK_EQ(fs->ops->departed(fs, root, "f", &e), -ENOENT);
	CHECK_EQ(fs->ops->departed(fs, root, "..", &e), -ENOENT);
	CHECK_EQ(fs->ops->parent(fs, root, &e), -ENOENT);
	tear_down();
}

TEST_MAIN()
