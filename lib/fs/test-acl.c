/* SPDX-License-Identifier: MIT */
/* POSIX ACLs of a share's files: who is who in them. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include "lib/base/attr.h"
#include "lib/base/le.h"
#include "lib/base/test.h"
#include "lib/fs/host-internal.h"

#define ACCESS	"system.posix_acl_access"
#define DEFAULT "system.posix_acl_default"

enum { SIZE = 4 + 7 * 8 };

static const struct fs_cred cred;
static char top[64], file[96];
static int dir = -1;
static struct fs *fs;
static struct fs_node *node;

/* One user and one group beside the file's own. */
static void acl(uint8_t ret[SIZE], uint32_t user, uint32_t group)
{
	const struct {
		uint16_t tag, perm;
		uint32_t id;
	} e[] = {{1, 6, UINT32_MAX}, {2, 6, user}, {4, 4, UINT32_MAX}, {8, 4, group},
		{16, 7, UINT32_MAX}, {32, 4, UINT32_MAX}};

	le32_put(ret, 2);
	for (size_t i = 0; i < ARRAY_LEN(e); i++) {
		le16_put(ret + 4 + 8 * i, e[i].tag);
		le16_put(ret + 6 + 8 * i, e[i].perm);
		le32_put(ret + 8 + 8 * i, e[i].id);
	}
}

enum { LEN = 4 + 6 * 8, USER_ID = 4 + 8 + 4, GROUP_ID = 4 + 3 * 8 + 4 };

static bool set_up(const struct fs_share_opts *o)
{
	struct fs_entry e;
	uint8_t any[SIZE];
	bool works;
	int fd;

	strcpy(top, "/tmp/wslx-acl.XXXXXX");
	if (!mkdtemp(top))
		abort();
	dir = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	snprintf(file, sizeof(file), "%s/f", top);
	fd = open(file, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	close(fd);
	acl(any, 4711, 4711);
	works = setxattr(file, ACCESS, any, LEN, 0) == 0 && removexattr(file, ACCESS) == 0;
	if (!works)
		printf("# /tmp has no ACLs: %s\n", strerror(errno));
	if (fs_host_new(&fs, dir, o, NULL) < 0 ||
		fs->ops->lookup(fs, &cred, fs->ops->root(fs), "f", &e) < 0)
		abort();
	node = e.node;
	return works;
}

static void tear_down(void)
{
	fs->ops->free(fs);
	unlinkat(dir, "f", 0);
	close(dir);
	CHECK_EQ(rmdir(top), 0);
}

static int set(const char *name, uint32_t user, uint32_t group)
{
	uint8_t buf[SIZE];

	acl(buf, user, group);
	return fs->ops->setxattr(fs, &cred, node, name, buf, LEN, 0);
}

/* Somebody who is not meant would get the permission, or somebody who is would not. */
TEST(an_acl_names_other_users_on_the_host_than_in_the_guest)
{
	const uint32_t own = geteuid(), own_group = getegid(), as = 70001, as_group = 70002;
	const struct fs_share_opts o = {.squash = true, .uid = as, .gid = as_group};
	uint8_t host[SIZE], guest[SIZE];

	if (set_up(&o)) {
		CHECK_EQ(set(ACCESS, as, as_group), 0);
		REQUIRE(getxattr(file, ACCESS, host, sizeof(host)) == LEN);
		CHECK_EQ(le32_get(host + USER_ID), own);
		CHECK_EQ(le32_get(host + GROUP_ID), own_group);
		REQUIRE(fs->ops->getxattr(fs, node, ACCESS, guest, sizeof(guest)) == LEN);
		CHECK_EQ(le32_get(guest + USER_ID), as);
		CHECK_EQ(le32_get(guest + GROUP_ID), as_group);
		/* those who are the same on both sides */
		CHECK_EQ(set(ACCESS, 4711, 4712), 0);
		REQUIRE(getxattr(file, ACCESS, host, sizeof(host)) == LEN);
		CHECK(le32_get(host + USER_ID) == 4711 && le32_get(host + GROUP_ID) == 4712);
		/* who cannot be named is refused, and nothing is changed */
		CHECK_EQ(set(ACCESS, own, 1), -EINVAL);
		CHECK_EQ(set(ACCESS, 1, own_group), -EINVAL);
		CHECK_EQ(set(ACCESS, NOBODY, 1), -EINVAL);
		CHECK_EQ(set(ACCESS, 1, NOBODY), -EINVAL);
		REQUIRE(getxattr(file, ACCESS, guest, sizeof(guest)) == LEN);
		CHECK_EQ(memcmp(host, guest, LEN), 0);
		/* who has our number on the host is nobody in particular */
		acl(host, as, as_group);
		CHECK_EQ(setxattr(file, ACCESS, host, LEN, 0), 0);
		REQUIRE(fs->ops->getxattr(fs, node, ACCESS, guest, sizeof(guest)) == LEN);
		CHECK_EQ(le32_get(guest + USER_ID), NOBODY);
		CHECK_EQ(le32_get(guest + GROUP_ID), NOBODY);
		/* a folder's for what is made in it */
		node = fs->ops->root(fs);
		CHECK_EQ(set(DEFAULT, as, as_group), 0);
		REQUIRE(getxattr(top, DEFAULT, host, sizeof(host)) == LEN);
		CHECK_EQ(le32_get(host + USER_ID), own);
	}
	tear_down();
}

TEST(without_a_mapping_an_acl_is_what_it_is)
{
	uint8_t host[SIZE], mine[SIZE];

	if (set_up(NULL)) {
		acl(mine, NOBODY, geteuid());
		CHECK_EQ(set(ACCESS, NOBODY, geteuid()), 0);
		REQUIRE(getxattr(file, ACCESS, host, sizeof(host)) == LEN);
		CHECK_EQ(memcmp(host, mine, LEN), 0);
		REQUIRE(fs->ops->getxattr(fs, node, ACCESS, host, sizeof(host)) == LEN);
		CHECK_EQ(memcmp(host, mine, LEN), 0);
		CHECK_EQ(fs->ops->getxattr(fs, node, ACCESS, NULL, 0), LEN);
		CHECK_EQ(fs->ops->removexattr(fs, &cred, node, ACCESS), 0);
		CHECK_EQ(fs->ops->getxattr(fs, node, ACCESS, host, sizeof(host)), -ENODATA);
	}
	tear_down();
}

TEST(what_is_no_acl_is_stored_as_one)
{
	const struct fs_share_opts o = {.squash = true, .uid = 70001, .gid = 70002};
	uint8_t buf[SIZE] = {0};

	set_up(&o);
	acl(buf, 1, 1);
	for (size_t len = 1; len < LEN; len++)
		if ((len - 4) % 8)
			CHECK_EQ(fs->ops->setxattr(fs, &cred, node, ACCESS, buf, len, 0), -EINVAL);
	le32_put(buf, 1);
	CHECK_EQ(fs->ops->setxattr(fs, &cred, node, ACCESS, buf, LEN, 0), -EINVAL);
	CHECK(getxattr(file, ACCESS, buf, sizeof(buf)) < 0);
	tear_down();
}

/* Who may by the ACL could, whatever fmask says. */
TEST(an_acl_gives_back_what_fmask_took)
{
	const struct fs_share_opts o = {.fmask = 0137, .dmask = 0};
	uint8_t guest[SIZE];

	if (set_up(&o)) {
		CHECK_EQ(set(ACCESS, 4711, 4712), 0);
		REQUIRE(fs->ops->getxattr(fs, node, ACCESS, guest, sizeof(guest)) == LEN);
		/* of rw-, rw-, r--, r--, rwx, r-- */
		const uint16_t perms[] = {6, 4, 4, 4, 4, 0};
		for (size_t i = 0; i < ARRAY_LEN(perms); i++)
			CHECK_EQ(le16_get(guest + 4 + 8 * i + 2), perms[i]);
	}
	tear_down();
}

/* Owners and modes are beside the file there; ACLs would say something else. */
TEST(with_metadata_there_are_acls_that_nothing_follows)
{
	const struct fs_share_opts o = {.metadata = true};
	uint8_t host[SIZE];
	char list[256];

	if (set_up(&o)) {
		acl(host, 1, 1);
		CHECK_EQ(setxattr(file, ACCESS, host, LEN, 0), 0);
		CHECK_EQ(set(ACCESS, 2, 2), -EOPNOTSUPP);
		CHECK_EQ(fs->ops->getxattr(fs, node, ACCESS, list, sizeof(list)), -ENODATA);
		CHECK_EQ(fs->ops->removexattr(fs, &cred, node, ACCESS), -ENODATA);
		CHECK_EQ(fs->ops->listxattr(fs, node, list, sizeof(list)), 0);
	}
	tear_down();
}

TEST(an_acl_is_set_on_a_read_only_share)
{
	const struct fs_share_opts o = {.read_only = true};

	set_up(&o);
	CHECK_EQ(set(ACCESS, 1, 1), -EROFS);
	CHECK_EQ(fs->ops->removexattr(fs, &cred, node, ACCESS), -EROFS);
	tear_down();
}

TEST_MAIN()
