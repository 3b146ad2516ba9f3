/* SPDX-License-Identifier: MIT */
/* Programs run in the tools' sandbox: they have the file, and nothing else of the host's. */
#include "lib/sandbox/tool.h"

#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <unistd.h>
#include "lib/base/cleanup.h"
#include "lib/base/test.h"

static char said[SANDBOX_TOOL_SAID];
static struct err err;

static int run(int file, const char *const *argv)
{
	const struct sandbox_tool t = {.argv = argv, .package = "some-package", .file = file};

	err = (struct err){0};
	return sandbox_tool_run(&t, said, &err);
}

static int scratch(const char *text)
{
	char path[] = "/tmp/test-tool.XXXXXX";
	int fd = mkostemp(path, O_CLOEXEC);

	if (fd < 0 || unlink(path) < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		abort();
	return fd;
}

TEST(a_tool_reads_its_file_and_cannot_open_etc_passwd)
{
	cleanup_close int fd = scratch("the file's text\n");
	const char *own[] = {"head", SANDBOX_TOOL_FILE, NULL},
		   *other[] = {"head", "/etc/passwd", NULL};

	CHECK_EQ(run(fd, own), 0);
	CHECK_STR(said, "the file's text\n");
	CHECK_EQ(run(fd, other), 1);
	CHECK(strstr(said, "Permission denied"));
	CHECK(!strstr(said, "root:"));
}

TEST(a_tool_writes_its_file_and_makes_none)
{
	cleanup_close int fd = scratch("0123456789");
	const char *dd[] = {"truncate", "-c", "-s", "4", SANDBOX_TOOL_FILE, NULL};
	const char *touch[] = {"touch", "/tmp/test-tool.new", NULL};

	CHECK_EQ(run(fd, dd), 0);
	CHECK_EQ(lseek(fd, 0, SEEK_END), 4);
	unlink("/tmp/test-tool.new");
	CHECK(run(fd, touch) != 0);
	CHECK(access("/tmp/test-tool.new", F_OK) < 0);
}

TEST(a_tool_starts_no_other_process)
{
	cleanup_close int fd = scratch("");
	const char *sh[] = {"sh", "-c", "true | true", NULL};

	CHECK(run(fd, sh) != 0);
}

TEST(a_tool_that_is_not_there_is_named_with_its_package)
{
	const char *argv[] = {"no-such-tool", NULL};

	CHECK_EQ(run(0, argv), -ENOENT);
	CHECK(strstr(err.text, "no-such-tool") && strstr(err.text, "install some-package"));
}

TEST(e2fsck_and_the_makers_of_file_systems_work)
{
	static const char *const tools[][5] = {{"mkfs.xfs", "-f", SANDBOX_TOOL_FILE, NULL},
		{"mkfs.btrfs", "-f", SANDBOX_TOOL_FILE, NULL},
		{"mke2fs", "-F", "-q", SANDBOX_TOOL_FILE, NULL},
		{"e2fsck", "-f", "-y", SANDBOX_TOOL_FILE, NULL},
		{"resize2fs", SANDBOX_TOOL_FILE, "200M", NULL}};
	cleanup_close int fd = scratch("");

	REQUIRE(ftruncate(fd, 512 << 20) == 0);
	for (size_t i = 0; i < sizeof(tools) / sizeof(*tools); i++) {
		int r = run(fd, tools[i]);

		CHECK_EQ(r, 0);
		if (r)
			printf("# %s: %s %s\n", tools[i][0], err.text, said);
	}
}

/* Such as every snap of an Ubuntu host. */
TEST(file_systems_are_made_beside_a_mounted_loop_device)
{
	static const char *const tools[][4] = {{"mkfs.btrfs", "-f", SANDBOX_TOOL_FILE, NULL},
		{"mkfs.xfs", "-f", SANDBOX_TOOL_FILE, NULL},
		{"mke2fs", "-F", SANDBOX_TOOL_FILE, NULL}};
	cleanup_close int fd = scratch("");
	char dir[] = "/tmp/wslx-tool.XXXXXX";

	if (getuid() != 0) {
		printf("# root is needed\n");
		return;
	}
	/* a mount that this process and its children alone see, and that is gone with them at the latest */
	REQUIRE(unshare(CLONE_NEWNS) == 0 &&
		mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
	REQUIRE(ftruncate(fd, 512 << 20) == 0 && mkdtemp(dir) && chdir(dir) == 0);
	CHECK_EQ(system("truncate -s 8M image && mke2fs -q -F image && mkdir m && "
			"mount -o loop,ro image m"),
		0);
	for (size_t i = 0; i < ARRAY_LEN(tools); i++) {
		int r = run(fd, tools[i]);

		CHECK_EQ(r, 0);
		if (r)
			printf("# %s: %s %s\n", tools[i][0], err.text, said);
	}
	CHECK_EQ(system("umount m && rm -r \"$PWD\""), 0);
	CHECK_EQ(chdir("/"), 0);
}

TEST_MAIN()
