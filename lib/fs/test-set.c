/* SPDX-License-Identifier: MIT */
/* Several shares, which are one file system for a peer: what keeps them apart. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include "lib/base/attr.h"
#include "lib/base/test.h"
#include "lib/fs/host-internal.h"

int __real_syncfs(int fd);
int __wrap_syncfs(int fd);

static unsigned n_synced;

int __wrap_syncfs(int fd)
{
	n_synced++;
	return __real_syncfs(fd);
}

static const struct fs_cred cred;
/* The third is on the file system of the first. */
static char top[3][64];
static int dirs[3];
static struct fs *set;

static void start(void)
{
	static const char *const names[] = {"one", "two", "three"};

	if (fs_host_new_set(&set, NULL) < 0)
		abort();
	for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
		int fd = open(top[i], O_PATH | O_DIRECTORY | O_CLOEXEC);

		if (fs_host_add(set, names[i], fd, NULL, NULL) < 0)
			abort();
	}
}

/* False: this machine has one file system only. */
static bool set_up(void)
{
	static const char *const folders[] = {"/tmp", "/dev/shm", "/tmp"};
	struct stat a, b;

	for (unsigned i = 0; i < ARRAY_LEN(folders); i++) {
		snprintf(top[i], sizeof(top[i]), "%s/wslx-set.XXXXXX", folders[i]);
		if (!mkdtemp(top[i]))
			abort();
		dirs[i] = open(top[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		close(openat(dirs[i], "f", O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
		CHECK_EQ(mkdirat(dirs[i], "d", 0700), 0);
	}
	start();
	fstat(dirs[0], &a);
	fstat(dirs[1], &b);
	if (a.st_dev == b.st_dev)
		printf("# /tmp and /dev/shm are one file system\n");
	return a.st_dev != b.st_dev;
}

static void tear_down(void)
{
	set->ops->free(set);
	for (unsigned i = 0; i < ARRAY_LEN(dirs); i++) {
		unlinkat(dirs[i], "f", 0);
		unlinkat(dirs[i], "d", AT_REMOVEDIR);
		close(dirs[i]);
		CHECK_EQ(rmdir(top[i]), 0);
	}
}

static struct fs_node *share(const char *name)
{
	struct fs_entry e;

	if (set->ops->lookup(set, &cred, set->ops->root(set), name, &e) < 0)
		abort();
	CHECK(!(e.attr.flags & FS_ATTR_SUBMOUNT));
	return e.node;
}

static uint64_t number_of(struct fs_node *dir, const char *name)
{
	struct fs_entry e;

	if (set->ops->lookup(set, &cred, dir, name, &e) < 0)
		abort();
	return e.attr.ino;
}

static bool listed(void *ctx, const struct fs_dirent *d)
{
	uint64_t *ret = ctx;

	if (strcmp(d->name, "f") == 0)
		*ret = d->ino;
	if (d->entry.node) {
		CHECK_EQ(d->entry.attr.ino, d->ino);
		set->ops->forget(set, d->entry.node, 1);
	}
	return true;
}

/* As each operation says it; they are the same. */
static uint64_t number_by_all(struct fs_node *dir)
{
	struct fs_handle *h;
	struct fs_entry e;
	struct fs_attr a;
	uint64_t ino;

	if (set->ops->lookup(set, &cred, dir, "f", &e) < 0)
		abort();
	CHECK_EQ(set->ops->getattr(set, &cred, e.node, NULL, &a), 0);
	CHECK_EQ(a.ino, e.attr.ino);
	a = (struct fs_attr){.mode = 0600};
	CHECK_EQ(set->ops->setattr(set, &cred, e.node, NULL, FS_SET_MODE, &a, &a), 0);
	CHECK_EQ(a.ino, e.attr.ino);
	if (set->ops->open(set, &cred, e.node, O_RDONLY, &h) < 0)
		abort();
	CHECK_EQ(set->ops->getattr(set, &cred, e.node, h, &a), 0);
	CHECK_EQ(a.ino, e.attr.ino);
	set->ops->close(set, h);
	if (set->ops->opendir(set, &cred, dir, &h) < 0)
		abort();
	for (int entries = 0; entries < 2; entries++) {
		ino = 0;
		CHECK_EQ(set->ops->readdir(set, &cred, h, 0, entries, listed, &ino), 0);
		CHECK_EQ(ino, e.attr.ino);
	}
	set->ops->close(set, h);
	return e.attr.ino;
}

TEST(files_of_two_file_systems_of_the_host_have_one_number)
{
	struct fs_attr root;
	struct stat st[3];
	uint64_t one, two, three;

	if (!set_up()) {
		tear_down();
		return;
	}
	for (unsigned i = 0; i < 3; i++)
		REQUIRE(fstatat(dirs[i], "f", &st[i], 0) == 0);
	one = number_by_all(share("one"));
	two = number_by_all(share("two"));
	three = number_by_all(share("three"));
	/* the first is as it is on the host */
	CHECK_EQ(one, st[0].st_ino);
	CHECK(two != st[1].st_ino && two >> 56 &&
		(two & 0xffffffff) == (st[1].st_ino & 0xffffffff));
	CHECK_EQ(three, st[2].st_ino);
	CHECK_EQ(number_of(share("two:uid=4711"), "f"), two);
	/* which the first file of a tmpfs could have */
	CHECK_EQ(set->ops->getattr(set, &cred, set->ops->root(set), NULL, &root), 0);
	CHECK(root.ino != 1 && root.ino >> 63);
	/* another server */
	set->ops->free(set);
	start();
	CHECK_EQ(number_of(share("two"), "f"), two);
	CHECK_EQ(number_of(share("one"), "f"), one);
	tear_down();
}

/* The guest's kernel sees one file system, and would ask for it where somebody reaches both by one mount. */
TEST(a_file_is_moved_or_linked_from_one_share_to_another)
{
	const char *const others[] = {"two", "three", "one:ro", "one:uid=4711"};
	struct fs_node *root, *one;
	struct fs_entry f, e;

	set_up();
	root = set->ops->root(set);
	one = share("one");
	REQUIRE(set->ops->lookup(set, &cred, one, "f", &f) == 0);
	for (unsigned i = 0; i < ARRAY_LEN(others); i++) {
		struct fs_node *other = share(others[i]);

		for (uint32_t flags = 0; flags <= RENAME_EXCHANGE; flags++) {
			CHECK_EQ(set->ops->rename(set, &cred, one, "f", other, "g", flags), -EXDEV);
			CHECK_EQ(set->ops->rename(set, &cred, other, "d", one, "d", flags), -EXDEV);
		}
		CHECK(set->ops->link(set, &cred, f.node, other, "g", &e) < 0);
	}
	CHECK_EQ(set->ops->link(set, &cred, f.node, share("two"), "g", &e), -EXDEV);
	/* nor are shares themselves anybody's to change */
	CHECK_EQ(set->ops->rename(set, &cred, root, "one", root, "two", RENAME_EXCHANGE), -EROFS);
	CHECK_EQ(set->ops->rename(set, &cred, root, "one", one, "x", 0), -EXDEV);
	CHECK_EQ(set->ops->rename(set, &cred, one, "f", root, "x", 0), -EXDEV);
	CHECK_EQ(set->ops->link(set, &cred, f.node, root, "x", &e), -EROFS);
	CHECK_EQ(set->ops->rmdir(set, &cred, root, "one"), -EROFS);
	for (unsigned i = 0; i < ARRAY_LEN(dirs); i++) {
		CHECK_EQ(faccessat(dirs[i], "f", F_OK, 0), 0);
		CHECK_EQ(faccessat(dirs[i], "d", F_OK, 0), 0);
		CHECK(faccessat(dirs[i], "g", F_OK, 0) < 0 && faccessat(dirs[i], "x", F_OK, 0) < 0);
	}
	tear_down();
}

TEST(sync_leaves_what_was_written_in_memory)
{
	struct stat a, b;

	set_up();
	share("two:ro");
	fstat(dirs[0], &a);
	fstat(dirs[1], &b);
	n_synced = 0;
	CHECK_EQ(set->ops->syncfs(set, set->ops->root(set)), 0);
	CHECK_EQ(n_synced, a.st_dev == b.st_dev ? 1 : 2);
	CHECK_EQ(set->ops->syncfs(set, share("three")), 0);
	CHECK_EQ(n_synced, a.st_dev == b.st_dev ? 2 : 3);
	tear_down();
}

TEST(each_share_says_how_much_room_is_left_in_it)
{
	struct fs_stat one, two;

	if (set_up()) {
		CHECK_EQ(set->ops->statfs(set, share("one"), &one), 0);
		CHECK_EQ(set->ops->statfs(set, share("two"), &two), 0);
		CHECK(one.fsid != two.fsid && one.blocks && two.blocks);
		CHECK_EQ(set->ops->statfs(set, set->ops->root(set), &two), 0);
		CHECK_EQ(two.fsid, one.fsid);
	}
	tear_down();
}

TEST_MAIN()
