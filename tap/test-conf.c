/* SPDX-License-Identifier: MIT */
#include "lib/base/test.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "tap/conf.h"

static struct tap_conf got;
static struct err why;

/* For a user with this id in group 0. */
static int conf(const char *text, bool trusted, mode_t mode, uid_t uid)
{
	char path[] = "/tmp/test-tap-conf.XXXXXX";
	const gid_t groups[] = {0};
	int fd = mkstemp(path), r;

	CHECK(fd >= 0);
	CHECK(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	CHECK(fchmod(fd, mode) == 0);
	close(fd);
	why = (struct err){0};
	r = tap_conf_read(path, trusted, uid, groups, 1, &got, &why);
	unlink(path);
	return r;
}

static const char *network(void)
{
	return inet_ntoa(got.network);
}

TEST(who_is_allowed)
{
	CHECK_EQ(conf("", false, 0644, 4711), 0);
	CHECK(!got.allowed);
	CHECK_STR(network(), "10.254.0.0");
	CHECK_EQ(conf("", false, 0644, 0), 0);
	CHECK(got.allowed);
	CHECK_EQ(conf("allow root\nallow nobody-of-that-name # \n", false, 0644, 4711), 0);
	CHECK(!got.allowed);
	CHECK_EQ(conf("# comment\n\n allow\tdaemon \n", false, 0644, 1), 0);
	CHECK(got.allowed);
	CHECK_EQ(conf("allow @root", false, 0644, 4711), 0);
	CHECK(got.allowed);
	CHECK_EQ(conf("allow @daemon", false, 0644, 4711), 0);
	CHECK(!got.allowed);
	CHECK_EQ(conf("allow *\nnetwork 10.99.0.0/16\n", false, 0644, 4711), 0);
	CHECK(got.allowed);
	CHECK_STR(network(), "10.99.0.0");
}

TEST(no_file_allows_root_alone)
{
	CHECK_EQ(tap_conf_read("/nowhere/tap.conf", true, 4711, NULL, 0, &got, NULL), 0);
	CHECK(!got.allowed);
	CHECK_EQ(tap_conf_read("/nowhere/tap.conf", true, 0, NULL, 0, &got, NULL), 0);
	CHECK(got.allowed);
}

TEST(bad_lines_are_refused_by_number)
{
	static const char *const bad[] = {"allow", "allow a b", "deny root", "network",
		"network 10.0.0.0", "network 10.0.0.0/24", "network 10.0.1.0/16",
		"network 10.0.0/16", "network fd00::/16", "network 10.0.0.0/16x"};

	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		char text[80];

		snprintf(text, sizeof(text), "# one\n%s\nallow *\n", bad[i]);
		CHECK_EQ(conf(text, false, 0644, 4711), -EINVAL);
		CHECK(strstr(why.text, "line 2:"));
		CHECK(!got.allowed);
	}
}

TEST(a_file_that_others_can_change_does_not_count)
{
	if (geteuid() != 0) {
		CHECK_EQ(conf("allow *", true, 0644, 4711), -EPERM);
		return;
	}
	CHECK_EQ(conf("allow *", true, 0644, 4711), 0);
	CHECK(got.allowed);
	CHECK_EQ(conf("allow *", true, 0664, 4711), -EPERM);
	CHECK_EQ(conf("allow *", true, 0646, 4711), -EPERM);
	CHECK(!got.allowed);
	CHECK(strstr(why.text, "others than root can change it"));
}

TEST_MAIN()
