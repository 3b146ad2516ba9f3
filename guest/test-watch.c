/* SPDX-License-Identifier: MIT */
/* What the kernel's files say of watches. */
#include "lib/base/test.h"

#include <errno.h>
#include "guest/watch.h"
#include "lib/base/attr.h"

TEST(a_line_of_fdinfo_is_a_node)
{
	static const char *const others[] = {"", "pos:\t0", "inotify wd:1",
		/* ext4 */
		"inotify wd:1 ino:2 sdev:800000 mask:fce ignored_mask:0 fhandle-bytes:8 fhandle-type:1 f_handle:0200000000000000",
		"inotify wd:1 ino:2 sdev:21 mask:fce ignored_mask:0 fhandle-bytes:c fhandle-type:81 f_handle:b6629",
		"inotify wd:1 ino:2 sdev:21 mask:fce ignored_mask:0 fhandle-bytes:c fhandle-type:81 f_handle:b662994f9f0000000000000g"};
	struct watched w;

	CHECK(watch_parse(
		"inotify wd:3 ino:b40242 sdev:21 mask:fce ignored_mask:0 fhandle-bytes:c fhandle-type:81 f_handle:b662994f9f00000001020000\n",
		&w));
	CHECK_EQ(w.node, UINT64_C(0x4f9962b60000009f));
	CHECK_EQ(w.gen, 0x201);
	CHECK_EQ(w.dev, 0x21);
	CHECK_EQ(w.events, 0xfce);
	for (size_t i = 0; i < ARRAY_LEN(others); i++)
		CHECK(!watch_parse(others[i], &w));
}

static void add(struct watch_list *l, uint64_t node, uint32_t dev, uint32_t events)
{
	const struct watched w = {.node = node, .dev = dev, .events = events};

	CHECK_EQ(watch_add(l, &w), 0);
}

TEST(the_server_is_told_what_changes)
{
	struct watch_list before = {0}, now = {0};
	struct wslx_watch w[8];

	add(&now, 5, 1, 2);
	add(&now, 3, 1, 2);
	add(&now, 5, 2, 4);
	add(&now, 5, 1, 8);
	watch_merge(&now);
	CHECK_EQ(now.n, 3);
	CHECK(watch_find(&now, 5) == &now.w[1] && watch_find(&now, 5)->events == 10);
	CHECK(!watch_find(&now, 4) && !watch_find(&now, 6) && !watch_find(&before, 1));
	REQUIRE(watch_diff(&before, &now, w, 8) == 2);
	CHECK(w[0].node == 3 && w[0].events == 2 && w[0].peers == 1);
	CHECK(w[1].node == 5 && w[1].events == 14 && w[1].peers == 2);
	CHECK_EQ(watch_diff(&now, &now, w, 8), 0);
	add(&before, 3, 1, 2);
	add(&before, 4, 1, 2);
	add(&before, 5, 1, 14);
	watch_merge(&before);
	REQUIRE(watch_diff(&before, &now, w, 8) == 2);
	CHECK(w[0].node == 4 && w[0].events == 0);
	CHECK(w[1].node == 5 && w[1].peers == 2);
	free(before.w);
	free(now.w);
}

TEST(more_than_can_be_watched)
{
	struct watch_list l = {0};
	const struct watched w = {0};

	for (unsigned i = 0; i < WATCHED_MAX; i++)
		watch_add(&l, &w);
	CHECK_EQ(l.n, WATCHED_MAX);
	CHECK_EQ(watch_add(&l, &w), -ENOSPC);
	free(l.w);
}

TEST(the_mount_point_of_a_file_system)
{
	static const char text[] =
		"21 1 0:19 / /proc rw,nosuid - proc proc rw\n"
		"30 1 0:33 / /mnt/my\\040host rw,nosuid shared:3 - virtiofs wslx rw\n"
		"31 1 0:34 / /other rw - fuse.sshfs x rw\n";
	char path[32];

	CHECK(watch_mount_point(text, 33, path, sizeof(path)));
	CHECK(strcmp(path, "/mnt/my host") == 0);
	CHECK(!watch_mount_point(text, 33, path, 5));
	CHECK(!watch_mount_point(text, 34, path, sizeof(path)));
	CHECK(!watch_mount_point(text, 35, path, sizeof(path)));
	CHECK(!watch_mount_point("x\n\n30 1 0:33", 33, path, sizeof(path)));
}

TEST(lines_of_the_trace)
{
	static const struct {
		const char *line;
		enum watch_trace what;
	} lines[] = {
		{"         python3-109     [000] .....     1.234567: watch_add: (__x64_sys_inotify_add_watch+0x0/0x500) fd=3",
			WATCH_BEGINS},
		{"         python3-109     [000] .....     1.234567: watch_added: (do_syscall_64+0x5d/0xb0 <- x) ret=1",
			WATCH_BEGAN},
		{"         python3-109     [000] .....     1.234567: watch_added: (do_syscall_64+0x5d/0xb0 <- x) ret=-2",
			WATCH_FAILED},
		{"         python3-109     [000] .....     1.234567: watch_closed: (x <- inotify_release)",
			WATCH_ENDED},
		{"         python3-109     [000] .....     1.234567: watch_removed: (x <- y)",
			WATCH_ENDED},
		{": watch_add: fd=-109     [000] .....     1.234567: watch_add: (x+0x0/0x500) fd=3",
			WATCH_BEGINS},
		{"CPU:0 [LOST 123 EVENTS]", WATCH_OTHER},
		{"", WATCH_OTHER},
		{"                -", WATCH_OTHER},
	};
	pid_t pid;
	int fd;

	for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
		enum watch_trace what = watch_trace_parse(lines[i].line, &pid, &fd);

		CHECK_EQ(what, lines[i].what);
		if (what != WATCH_OTHER)
			CHECK_EQ(pid, 109);
		if (what == WATCH_BEGINS)
			CHECK_EQ(fd, 3);
	}
}

TEST_MAIN()
