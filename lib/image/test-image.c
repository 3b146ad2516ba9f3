/* SPDX-License-Identifier: MIT */
/* Archives good and bad are imported. With WSLX_TEST_TAR=FILE that archive is, too, and compared with its disk. */
#include "lib/image/image.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#define TEST_TIMEOUT_S 240
#include "lib/base/attr.h"
#include "lib/base/cleanup.h"
#include "lib/base/le.h"
#include "lib/base/test.h"
#include "lib/image/test-rig.h"

static void import_ok(void)
{
	int r = rig_import();

	if (r) {
		printf("# import: %d %s\n", r, rig_err.text);
		test_failed_checks++;
	}
}

static void refused(const char *what)
{
	int r = rig_import();

	if (r >= 0 || !strstr(rig_err.text, what)) {
		printf("# want \"%s\", got %d: %s\n", what, r, rig_err.text);
		test_failed_checks++;
	}
	CHECK(!strchr(rig_err.text, '\n'));
}

/* What is exported is what the disk holds. */
static void exported(void)
{
	char path[80];
	int r;

	snprintf(path, sizeof(path), "%s/exported", rig_path);
	r = rig_export(IMAGE_TAR, IMAGE_PLAIN, path);
	if (r < 0)
		printf("# export: %d %s\n", r, rig_err.text);
	CHECK_EQ(r, 0);
	CHECK_EQ(rig_compare(path, 0), 0);
	unlink(path);
}

static void compare_and_check(size_t more)
{
	CHECK_EQ(rig_fsck(), 0);
	CHECK_EQ(rig_compare(rig_tar, more), 0);
	exported();
}

/* --- tests --- */

TEST(small_root)
{
	rig_start();
	rig_root();
	rig_finish();
	import_ok();
	compare_and_check(1); /* lost+found */
}

TEST(sizes)
{
	static uint8_t data[3 << 20];
	static const size_t sizes[] = {0, 1, 511, 4095, 4096, 4097, 65536, 1000000, sizeof(data)};

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)rig_rnd();
	rig_start();
	rig_root();
	for (unsigned i = 0; i < ARRAY_LEN(sizes); i++) {
		char name[32];

		snprintf(name, sizeof(name), "./etc/size-%zu", sizes[i]);
		rig_file(name, data + i, sizes[i] - (i == ARRAY_LEN(sizes) - 1 ? i : 0));
	}
	rig_finish();
	import_ok();
	compare_and_check(1);
}

TEST(everything_a_name_can_be)
{
	char long_name[300], target[3001];
	struct archive_entry *n;

	rig_start();
	rig_root();
	rig_folder("./dev");
	rig_node("./dev/null", S_IFCHR, 1, 3);
	rig_node("./dev/big", S_IFBLK, 259, 70000);
	rig_node("./run/fifo", S_IFIFO, 0, 0); /* run/ is made */
	memset(target, 'x', 3000);
	target[3000] = 0;
	rig_symlink("./etc/long", target);
	target[60] = 0;
	rig_symlink("./etc/60", target);
	target[59] = 0;
	rig_symlink("./etc/59", target);
	rig_symlink("./etc/absolute", "/usr/bin/sh");
	rig_symlink("./etc/out",
		"../../../../etc/passwd"); /* points where it will; nobody follows it here */
	rig_hardlink("./etc/sh2", "./usr/bin/sh");
	rig_hardlink("./etc/sh3", "usr/bin/sh");
	rig_hardlink("./etc/link2", "./etc/long");
	memset(long_name, 'n', sizeof(long_name));
	memcpy(long_name, "./etc/", 6);
	long_name[6 + 255] = 0;
	rig_file(long_name, "long", 4);
	rig_file("./etc/F\xc5\x91tan\xc3\xbas\xc3\xadtv\xc3\xa1ny.crt", "utf-8", 5);
	rig_file("./etc/ space \t\\ \"", "odd", 3);
	n = rig_entry("./etc/setuid", S_IFREG | 06755);
	archive_entry_set_uid(n, 70001);
	archive_entry_set_gid(n, 0x7fffffff);
	archive_entry_set_mtime(n, 5000000000, 123456789);
	rig_put(n, "s", 1);
	n = rig_entry("./etc/old", S_IFREG | 0400);
	archive_entry_set_mtime(n, -1000, 5);
	rig_put(n, "", 0);
	rig_finish();
	import_ok();
	compare_and_check(2); /* lost+found, run */
}

TEST(attributes)
{
	static const uint8_t cap[20] = {1, 0, 0, 2, 0, 4};
	struct archive_entry *n;
	struct ext2_xattr_handle *h;
	char big[3000];
	ext2_ino_t ino;
	struct ext2_inode_large inode;
	uint8_t *acl;
	size_t len;

	memset(big, 7, sizeof(big));
	rig_start();
	rig_root();
	n = rig_entry("./usr/bin/ping", S_IFREG | 0755);
	archive_entry_xattr_add_entry(n, "security.capability", cap, sizeof(cap));
	archive_entry_xattr_add_entry(n, "user.note", "hello", 5);
	rig_put(n, "x", 1);
	n = rig_entry("./etc/big", S_IFDIR | 0755);
	archive_entry_xattr_add_entry(n, "user.big", big, sizeof(big));
	archive_entry_xattr_add_entry(n, "trusted.overlay.opaque", "y", 1);
	rig_put(n, NULL, 0);
	n = rig_entry("./etc/acl", S_IFDIR | 0750);
	archive_entry_acl_add_entry(
		n, ARCHIVE_ENTRY_ACL_TYPE_ACCESS, 7, ARCHIVE_ENTRY_ACL_USER_OBJ, -1, NULL);
	archive_entry_acl_add_entry(
		n, ARCHIVE_ENTRY_ACL_TYPE_ACCESS, 5, ARCHIVE_ENTRY_ACL_GROUP_OBJ, -1, NULL);
	archive_entry_acl_add_entry(
		n, ARCHIVE_ENTRY_ACL_TYPE_ACCESS, 0, ARCHIVE_ENTRY_ACL_OTHER, -1, NULL);
	archive_entry_acl_add_entry(
		n, ARCHIVE_ENTRY_ACL_TYPE_ACCESS, 7, ARCHIVE_ENTRY_ACL_MASK, -1, NULL);
	archive_entry_acl_add_entry(
		n, ARCHIVE_ENTRY_ACL_TYPE_ACCESS, 6, ARCHIVE_ENTRY_ACL_GROUP, 4, "adm");
	archive_entry_acl_add_entry(
		n, ARCHIVE_ENTRY_ACL_TYPE_ACCESS, 4, ARCHIVE_ENTRY_ACL_USER, 1000, "u");
	rig_put(n, NULL, 0);
	rig_finish();
	import_ok();
	compare_and_check(1);

	REQUIRE(rig_open());
	ino = rig_lookup("etc/acl", &inode);
	CHECK_EQ(inode.i_mode & 0777, 0770); /* the group's bits are the mask */
	REQUIRE(ext2fs_xattrs_open(rig_fs, ino, &h) == 0 && ext2fs_xattrs_read(h) == 0);
	REQUIRE(ext2fs_xattr_get(h, "system.posix_acl_access", (void **)&acl, &len) == 0);
	CHECK_EQ(len, 4 + 6 * 8);
	CHECK_EQ(le32_get(acl), 2);
	/* owner 7, user 1000 4, group 5, group 4 6, mask 7, others 0 */
	static const uint16_t tags[6] = {1, 2, 4, 8, 16, 32}, perms[6] = {7, 4, 5, 6, 7, 0};
	for (unsigned i = 0; i < 6 && len == 52; i++) {
		CHECK_EQ(le16_get(acl + 4 + 8 * i), tags[i]);
		CHECK_EQ(le16_get(acl + 6 + 8 * i), perms[i]);
	}
	CHECK_EQ(le32_get(acl + 4 + 8 + 4), 1000);
	ext2fs_free_mem(&acl);
	ext2fs_xattrs_close(&h);
	ext2fs_close_free(&rig_fs);
}

TEST(attribute_too_large)
{
	struct archive_entry *n;
	char big[5000];

	memset(big, 7, sizeof(big));
	rig_start();
	rig_root();
	n = rig_entry("./etc/big", S_IFREG | 0755);
	archive_entry_xattr_add_entry(n, "user.big", big, sizeof(big));
	rig_put(n, "x", 1);
	rig_finish();
	refused("etc/big: write extended attributes: too large");
}

/* One level of hash tree, and two. */
TEST(large_directories)
{
	char name[300];

	rig_start();
	rig_root();
	rig_folder("./a");
	for (unsigned i = 0; i < 5000; i++) {
		snprintf(name, sizeof(name), "./a/file-%u", i);
		rig_file(name, name, i % 50);
	}
	rig_folder("./b");
	for (unsigned i = 0; i < 9000; i++) {
		int len = snprintf(name, sizeof(name), "./b/%u-", i);

		memset(name + len, 'a' + (int)(i % 26), 240 - len);
		name[240] = 0;
		rig_file(name, "", 0);
	}
	rig_finish();
	import_ok();
	compare_and_check(1);
	REQUIRE(rig_open());
	struct ext2_inode_large i;
	CHECK(rig_lookup("a", &i) && i.i_flags & EXT2_INDEX_FL);
	CHECK(rig_lookup("b", &i) && i.i_flags & EXT2_INDEX_FL);
	ext2fs_close_free(&rig_fs);
}

/* Many holes: an extent tree outside the inode; blocks that hold the ends of two pieces. */
TEST(sparse_files)
{
	struct archive_entry *n = NULL;
	static char zero[8 << 20];
	struct ext2_inode_large i;
	unsigned blocks = 0;

	rig_start();
	rig_root();
	n = rig_entry("./etc/sparse", S_IFREG | 0644);
	archive_entry_set_size(n, sizeof(zero));
	for (unsigned k = 0; k < 100; k++) {
		archive_entry_sparse_add_entry(n, k * 80000 + 512, 1024);
		memset(zero + k * 80000 + 512, (int)(k + 1), 1024);
		blocks += (k * 80000 + 512 + 1023) / 4096 - (k * 80000 + 512) / 4096 + 1;
	}
	rig_put(n, zero, sizeof(zero));
	n = rig_entry("./etc/hole", S_IFREG | 0644);
	archive_entry_set_size(n, 6 << 20);
	archive_entry_sparse_add_entry(n, (6 << 20) - 512, 512);
	memset(zero, 0, sizeof(zero));
	rig_put(n, zero, 6 << 20);
	rig_finish();
	import_ok();
	compare_and_check(1);
	REQUIRE(rig_open());
	CHECK(rig_lookup("etc/sparse", &i));
	CHECK_EQ(i.i_blocks, (blocks + 1) * 8); /* and one of the tree */
	CHECK(rig_lookup("etc/hole", &i));
	CHECK_EQ(i.i_blocks, 8);
	ext2fs_close_free(&rig_fs);
}

/* A name twice: the later one wins, and what it replaces is freed. */
TEST(later_entries_win)
{
	static char data[100000];
	struct archive_entry *n;
	struct ext2_inode_large i;
	char buf[16] = "";
	ext2_ino_t ino;

	memset(data, 3, sizeof(data));
	rig_start();
	rig_root();
	rig_file("./etc/x", data, sizeof(data));
	rig_file("./etc/linked", "old", 3);
	rig_hardlink("./etc/keeps", "./etc/linked");
	rig_file("./etc/x", "new", 3);
	rig_file("./etc/linked", "new", 3);
	rig_symlink("./etc/s", "a");
	rig_file("etc//./s", "file", 4);
	rig_hardlink("./etc/s", "./etc/s"); /* to itself: nothing */
	n = rig_entry("./etc", S_IFDIR | 0700);
	archive_entry_set_uid(n, 5);
	rig_put(n, NULL, 0);
	rig_finish();
	import_ok();
	CHECK_EQ(rig_fsck(), 0);
	REQUIRE(rig_open());
	ino = rig_lookup("etc/x", &i);
	CHECK_EQ(i.i_size, 3);
	CHECK_EQ(rig_read(ino, buf, 16), 3);
	CHECK(!memcmp(buf, "new", 3));
	ino = rig_lookup("etc/keeps", &i);
	CHECK_EQ(i.i_links_count, 1);
	CHECK_EQ(rig_read(ino, buf, 16), 3);
	CHECK(!memcmp(buf, "old", 3));
	CHECK(rig_lookup("etc/s", &i) && S_ISREG(i.i_mode) && i.i_links_count == 1);
	CHECK(rig_lookup("etc", &i) && (i.i_mode & 0777) == 0700 && i.i_uid == 5);
	ext2fs_close_free(&rig_fs);
}

TEST(absolute_names_are_taken_below_the_root)
{
	struct ext2_inode_large i;

	rig_start();
	rig_file("/usr/bin/sh", "x", 1);
	rig_hardlink("/bin/sh", "/usr/bin/sh");
	rig_finish();
	import_ok();
	CHECK_EQ(rig_fsck(), 0);
	REQUIRE(rig_open());
	CHECK(rig_lookup("bin/sh", &i) && i.i_links_count == 2);
	ext2fs_close_free(&rig_fs);
}

/* Bad archives: each refused, with its reason. */
TEST(refusals)
{
	rig_start();
	rig_root();
	rig_file("./etc/../../x", "x", 1);
	rig_finish();
	refused("unsafe path with \"..\"");

	rig_start();
	rig_root();
	rig_hardlink("./etc/x", "../etc/passwd");
	rig_finish();
	refused("etc/x: hard link: unsafe path");

	rig_start();
	rig_root();
	rig_hardlink("./etc/x", "/etc/passwd");
	rig_finish();
	refused("hard link to the absolute path");

	rig_start();
	rig_root();
	rig_hardlink("./etc/x", "./etc/none");
	rig_finish();
	refused("which the archive has not had before");

	rig_start();
	rig_root();
	rig_hardlink("./etc/x", "./usr");
	rig_finish();
	refused("hard link to the directory");

	rig_start();
	rig_root();
	rig_file("./bin/escape", "x", 1); /* bin is a symbolic link */
	rig_finish();
	refused("lies below bin, which is not a directory");

	rig_start();
	rig_root();
	rig_node("./etc/sda", S_IFBLK, 8, 0);
	rig_finish();
	refused("etc/sda: device node outside /dev");

	rig_start();
	rig_root();
	rig_file("./usr", "x", 1);
	rig_finish();
	refused("both as a directory and as something else");

	rig_start();
	rig_root();
	rig_folder("./usr/bin/sh");
	rig_finish();
	refused("both as a directory and as something else");

	rig_start();
	rig_root();
	rig_file("./", "x", 1);
	rig_finish();
	refused("");

	rig_start();
	rig_folder("project-1.0");
	rig_file("project-1.0/main.c", "x", 1);
	rig_finish();
	refused("not a root file system");

	rig_start();
	rig_file("manifest.json", "x", 1);
	rig_file("abc/layer.tar", "x", 1);
	rig_finish();
	refused("manifest.json is not JSON");

	rig_start();
	rig_root();
	rig_hardlink("./etc/x\033[2J\ny", "./etc/\033[2J");
	rig_finish();
	refused("./etc/x?[2J?y: hard link to ");
	CHECK(!strchr(rig_err.text, '\033'));
}

TEST(cut_short)
{
	static char data[100000];
	struct stat st;

	for (unsigned i = 0; i < sizeof(data); i++)
		data[i] = (char)rig_rnd();
	rig_start();
	rig_root();
	rig_file("./etc/x", data, sizeof(data));
	rig_file("./etc/y", data, 512);
	rig_finish();
	import_ok();
	/* Everywhere: at record boundaries, within headers, within data. Only the second zero block may be missing. */
	stat(rig_tar, &st);
	for (off_t cut = st.st_size - 1024; cut > 0; cut -= cut > 103000 ? 256 : 20000) {
		REQUIRE(truncate(rig_tar, cut) == 0);
		if (rig_import() == 0) {
			printf("# cut at %ld of %ld: taken\n", (long)cut, (long)st.st_size);
			test_failed_checks++;
		}
	}
	REQUIRE(truncate(rig_tar, 0) == 0);
	refused("");
}

TEST(not_archives)
{
	cleanup_close int fd = -1;

	rig_start();
	rig_finish();
	refused("empty");
	fd = open(rig_tar, O_WRONLY | O_TRUNC | O_CLOEXEC);
	REQUIRE(write(fd, "hello, world\n", 13) == 13);
	refused("not a tar archive");
}

TEST(compressed_and_piped)
{
	static const char *const tools[] = {"gzip", "xz", "zstd -q", "bzip2"};
	char cmd[200];

	rig_start();
	rig_root();
	rig_finish();
	for (unsigned i = 0; i < ARRAY_LEN(tools); i++) {
		FILE *p;

		snprintf(cmd, sizeof(cmd), "%s <%s", tools[i], rig_tar);
		p = popen(cmd, "r");
		REQUIRE(p);
		int r = rig_import_fd(fileno(p), 64 << 20);
		if (pclose(p) != 0) {
			printf("# no %s here\n", tools[i]);
			continue;
		}
		if (r < 0)
			printf("# %s: %s\n", tools[i], rig_err.text);
		CHECK_EQ(r, 0);
		compare_and_check(1);
	}
}

TEST(disk_too_small)
{
	static char data[20 << 20];

	memset(data, 1, sizeof(data));
	rig_start();
	rig_root();
	rig_file("./etc/x", data, sizeof(data));
	rig_finish();
	CHECK_EQ(rig_import_size(16 << 20), -ENOSPC);
	CHECK(strstr(rig_err.text, "etc/x: the disk is too small"));
	CHECK_EQ(rig_import_size(1 << 20), -EINVAL);
	CHECK(strstr(rig_err.text, "too small"));
}

/* In namespaces of its own a child mounts a file system of 8 MiB; the archive needs 20. */
static int on_full_disk(void)
{
	int r;

	if (unshare(CLONE_NEWNS | (geteuid() ? CLONE_NEWUSER : 0)) < 0 ||
		mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return 77;
	snprintf(rig_disk, sizeof(rig_disk), "%s/small", rig_path);
	mkdir(rig_disk, 0700);
	if (mount("none", rig_disk, "tmpfs", 0, "size=8m") < 0)
		return 77;
	strcat(rig_disk, "/disk");
	r = rig_import();
	if (r != -ENOSPC || !strstr(rig_err.text, "No space left on device")) {
		printf("# %d %s\n", r, rig_err.text);
		return 1;
	}
	return 0;
}

TEST(full_host_disk)
{
	static char data[20 << 20];
	int status;
	pid_t pid;

	memset(data, 1, sizeof(data));
	rig_start();
	rig_root();
	rig_file("./etc/x", data, sizeof(data));
	rig_finish();
	fflush(stdout);
	pid = fork();
	if (pid == 0)
		_exit(on_full_disk());
	waitpid(pid, &status, 0);
	rmdir(strcat(strcpy(rig_disk, rig_path), "/small"));
	snprintf(rig_disk, sizeof(rig_disk), "%s/disk", rig_path);
	if (WEXITSTATUS(status) == 77)
		printf("# cannot mount here: not tested\n");
	else
		CHECK_EQ(status, 0);
}

TEST(a_job_can_be_given_up)
{
	struct image_import_opts o = {.size = 64 << 20, .spool_fd = -1};
	struct image_progress p;
	struct image_job *j;
	int pipe_fds[2];

	REQUIRE(pipe(pipe_fds) == 0); /* an archive that never comes */
	o.in_fd = pipe_fds[0];
	o.out_fd = open(rig_disk, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	REQUIRE(image_job_start(&j, &o, &rig_err) == 0);
	CHECK(image_job_pid(j) > 0 && image_job_fd(j) >= 0);
	CHECK_EQ(image_job_read(j, &p, &rig_err), 0);
	kill(image_job_pid(j), SIGKILL);
	int r;
	while ((r = image_job_read(j, &p, &rig_err)) == 0)
		usleep(1000);
	CHECK_EQ(r, -ECHILD);
	CHECK(strstr(rig_err.text, "killed by signal 9"));
	image_job_free(j);
	REQUIRE(image_job_start(&j, &o, &rig_err) == 0);
	image_job_free(j);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	close(o.out_fd);
}

TEST(archive_of_the_environment)
{
	const char *path = getenv("WSLX_TEST_TAR");

	if (!path)
		return;
	rig_set_up();
	cleanup_close int in = open(path, O_RDONLY | O_CLOEXEC);
	CHECK_EQ(rig_import_fd(in, 1ull << 40), 0);
	printf("# %s\n", rig_err.text);
	CHECK_EQ(rig_fsck(), 0);
	CHECK_EQ(rig_compare(path, 1), 0);
}

TEST_MAIN()
