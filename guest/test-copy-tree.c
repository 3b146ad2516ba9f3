/* SPDX-License-Identifier: MIT */
/*
 * A tree with every kind of file, copied within the host's file system. What only root may make is made where the test is
 * run by root; tests/e2e/test_filesystem.py does it all in a guest, between file systems.
 */
#include "guest/copy-tree.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>
#include "lib/base/cleanup.h"
#include "lib/base/test.h"

static char dir[64];
static int from, to;
static struct err err;

static void set_up(void)
{
	strcpy(dir, "/tmp/test-copy-tree.XXXXXX");
	if (!mkdtemp(dir) || chdir(dir) < 0 || mkdir("from", 0755) < 0 || mkdir("to", 0755) < 0)
		abort();
	from = open("from", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	to = open("to", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (from < 0 || to < 0)
		abort();
	err = (struct err){0};
}

static void tear_down(void)
{
	char cmd[160];

	close(from);
	close(to);
	snprintf(cmd, sizeof(cmd), "cd / && chattr -R -i %s 2>/dev/null; rm -rf %s", dir, dir);
	if (system(cmd) || chdir("/") < 0)
		abort();
}

static void sh(const char *script)
{
	if (system(script))
		abort();
}

static bool same(const char *script)
{
	char cmd[600];

	snprintf(
		cmd, sizeof(cmd), "test \"$(cd from && %s)\" = \"$(cd to && %s)\"", script, script);
	return system(cmd) == 0;
}

#define FIND "find . -printf '%p %y %m %U:%G %T@ %n %l\\n' | sort"

TEST(a_tree_is_copied_with_all_that_is_known_of_it)
{
	set_up();
	sh("cd from && mkdir -p a/b 'with space' && echo text > a/b/f && ln a/b/f 'with space/again' && ln -s nowhere l &&"
	   " mkfifo p && truncate -s 5M sparse && printf x >> sparse && chmod 4751 a/b/f && chmod 1770 a &&"
	   " touch -h -d 2001-02-03 l p a/b/f a && touch -d 1999-01-01 .");
	if (geteuid() == 0)
		sh("cd from && chown 12:34 a/b/f && chmod 4751 a/b/f && mknod n c 1 3 && chown -h 5:6 l"
		   " && touch -d 2001-02-03 a/b");
	CHECK_EQ(copy_tree(from, to, NULL, NULL, &err), 0);
	CHECK_STR(err.text, "");
	CHECK(same(FIND));
	CHECK(same("cat a/b/f && md5sum sparse && stat -c %s sparse"));
	CHECK(same("test a/b/f -ef 'with space/again' && echo yes"));
	CHECK(same("du -k sparse"));
	tear_down();
}

TEST(attributes_come_along)
{
	char value[8] = "";

	set_up();
	sh("cd from && echo x > f && mkdir d");
	if (setxattr("from/f", "user.a", "1234", 4, 0) < 0 && errno == EOPNOTSUPP) {
		printf("# no user attributes on this file system\n");
		tear_down();
		return;
	}
	CHECK_EQ(setxattr("from/d", "user.a", "5678", 4, 0), 0);
	CHECK_EQ(copy_tree(from, to, NULL, NULL, &err), 0);
	CHECK_EQ(getxattr("to/f", "user.a", value, sizeof(value)), 4);
	CHECK_STR(value, "1234");
	CHECK_EQ(getxattr("to/d", "user.a", value, sizeof(value)), 4);
	CHECK_STR(value, "5678");
	tear_down();
}

TEST(an_immutable_file_with_two_names_keeps_both)
{
	int flags = FS_IMMUTABLE_FL, got = 0;

	set_up();
	sh("cd from && echo x > f && ln f g");
	cleanup_close int fd = open("from/f", O_RDONLY | O_CLOEXEC);
	if (ioctl(fd, FS_IOC_SETFLAGS, &flags) < 0) {
		printf("# files cannot be made immutable here\n");
		tear_down();
		return;
	}
	CHECK_EQ(copy_tree(from, to, NULL, NULL, &err), 0);
	cleanup_close int copy = open("to/g", O_RDONLY | O_CLOEXEC);
	CHECK_EQ(ioctl(copy, FS_IOC_GETFLAGS, &got), 0);
	CHECK(got & FS_IMMUTABLE_FL);
	CHECK(same(FIND));
	tear_down();
}

TEST(what_is_there_already_is_not_overwritten)
{
	set_up();
	sh("echo x > from/f && echo y > to/f");
	CHECK_EQ(copy_tree(from, to, NULL, NULL, &err), -EEXIST);
	CHECK(strstr(err.text, "f"));
	tear_down();
}

TEST_MAIN()
