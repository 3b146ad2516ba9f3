/* SPDX-License-Identifier: MIT */
/*
 * Archives made here are imported (in the sandboxed child, as in earnest); the disk is checked by e2fsck and compared
 * with the archive, name by name and byte by byte. With WSLX_TEST_TAR=FILE that archive is compared, too.
 */
#include "lib/image/image.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <ext2fs/ext2fs.h>
#include <fcntl.h>
#include <locale.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#define TEST_TIMEOUT_S 240
#include "lib/base/attr.h"
#include "lib/base/cleanup.h"
#include "lib/base/le.h"
#include "lib/base/test.h"

static char dir[] = "/tmp/wslx-test-image.XXXXXX";
static char tar_path[64], disk_path[64];
static struct archive *out;
static struct err e;

/* --- making archives --- */

static void clean_up(void)
{
	char cmd[80];

	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	if (system(cmd) != 0)
		printf("# %s stays\n", dir);
}

static void set_up(void)
{
	if (!tar_path[0]) {
		atexit(clean_up); /* also when only some tests run; children leave with _exit() */
		setlocale(LC_CTYPE, "C.UTF-8");
		if (!mkdtemp(dir))
			abort();
		snprintf(tar_path, sizeof(tar_path), "%s/tar", dir);
		snprintf(disk_path, sizeof(disk_path), "%s/disk", dir);
	}
}

static void start(void)
{
	set_up();
	out = archive_write_new();
	archive_write_set_format_pax_restricted(out);
	archive_write_set_bytes_per_block(out, 512);
	if (archive_write_open_filename(out, tar_path) != ARCHIVE_OK)
		abort();
}

static void finish(void)
{
	if (archive_write_close(out) != ARCHIVE_OK)
		abort();
	archive_write_free(out);
}

static struct archive_entry *entry(const char *path, unsigned mode)
{
	struct archive_entry *n = archive_entry_new();

	archive_entry_set_pathname(n, path);
	archive_entry_set_mode(n, mode);
	archive_entry_set_mtime(n, 1600000000, 0);
	return n;
}

static void put(struct archive_entry *n, const void *data, size_t len)
{
	if (len || S_ISREG(archive_entry_mode(n)))
		archive_entry_set_size(n, (int64_t)len);
	if (archive_write_header(out, n) != ARCHIVE_OK) {
		printf("# %s: %s\n", archive_entry_pathname(n), archive_error_string(out));
		abort();
	}
	if (len && archive_write_data(out, data, len) != (ssize_t)len)
		abort();
	archive_entry_free(n);
}

static void put_file(const char *path, const void *data, size_t len)
{
	put(entry(path, S_IFREG | 0644), data, len);
}

static void put_dir(const char *path)
{
	put(entry(path, S_IFDIR | 0755), NULL, 0);
}

static void put_symlink(const char *path, const char *target)
{
	struct archive_entry *n = entry(path, S_IFLNK | 0777);

	archive_entry_set_symlink(n, target);
	put(n, NULL, 0);
}

static void put_hardlink(const char *path, const char *target)
{
	struct archive_entry *n = entry(path, S_IFREG | 0644);

	archive_entry_set_hardlink(n, target);
	put(n, NULL, 0);
}

static void put_node(const char *path, unsigned type, unsigned major, unsigned minor)
{
	struct archive_entry *n = entry(path, type | 0666);

	archive_entry_set_rdevmajor(n, major);
	archive_entry_set_rdevminor(n, minor);
	put(n, NULL, 0);
}

/* What makes it a root file system. */
static void put_root(void)
{
	put_dir("./");
	put_dir("./etc/");
	put_dir("./usr/");
	put_dir("./usr/bin/");
	put_file("./usr/bin/sh", "#!", 2);
	put_symlink("./bin", "usr/bin");
}

/* --- importing --- */

static int import_fd(int in, uint64_t size)
{
	cleanup_close int fd = open(disk_path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	const struct image_import_opts o = {
		.in_fd = in, .out_fd = fd, .size = size, .label = "test"};

	memset(&e, 0, sizeof(e));
	return image_import(&o, &e);
}

static int import_size(uint64_t size)
{
	cleanup_close int in = open(tar_path, O_RDONLY | O_CLOEXEC);

	return import_fd(in, size);
}

static int import(void)
{
	return import_size(256 << 20);
}

static void import_ok(void)
{
	int r = import();

	if (r) {
		printf("# import: %d %s\n", r, e.text);
		test_failed_checks++;
	}
}

static void refused(const char *what)
{
	int r = import();

	if (r >= 0 || !strstr(e.text, what)) {
		printf("# want \"%s\", got %d: %s\n", what, r, e.text);
		test_failed_checks++;
	}
	CHECK(!strchr(e.text, '\n'));
}

static void fsck(void)
{
	char cmd[160];

	snprintf(cmd, sizeof(cmd), "PATH=$PATH:/sbin:/usr/sbin e2fsck -fn %s >%s/fsck 2>&1",
		disk_path, dir);
	if (system(cmd) != 0) {
		snprintf(cmd, sizeof(cmd), "sed 's/^/# /' %s/fsck", dir);
		if (system(cmd))
			printf("# e2fsck is not there\n");
		test_failed_checks++;
	}
}

/* --- comparing --- */

static ext2_filsys fs;

static bool open_fs(void)
{
	errcode_t r = ext2fs_open(disk_path, EXT2_FLAG_64BITS, 0, 0, unix_io_manager, &fs);

	if (r)
		printf("# cannot open the disk: %s\n", error_message(r));
	return r == 0;
}

static ext2_ino_t lookup(const char *path, struct ext2_inode_large *inode)
{
	ext2_ino_t ino = 0;

	while (*path == '.' || *path == '/')
		path++;
	if (!*path)
		ino = EXT2_ROOT_INO;
	else if (ext2fs_namei(fs, EXT2_ROOT_INO, EXT2_ROOT_INO, path, &ino))
		return 0;
	if (inode && ext2fs_read_inode_full(fs, ino, (struct ext2_inode *)inode, sizeof(*inode)))
		return 0;
	return ino;
}

static uint64_t rnd_state = 88172645463325252ull;
static uint64_t rnd(void)
{
	rnd_state ^= rnd_state << 13;
	rnd_state ^= rnd_state >> 7;
	return rnd_state ^= rnd_state << 17;
}

static size_t read_file(ext2_ino_t ino, void *buf, size_t len)
{
	ext2_file_t f;
	unsigned got = 0;

	if (ext2fs_file_open(fs, ino, 0, &f))
		return 0;
	if (ext2fs_file_read(f, buf, len, &got))
		got = 0;
	ext2fs_file_close(f);
	return got;
}

#define BAD(path, what)                                                                            \
	do {                                                                                       \
		printf("# %s: %s differs\n", path, what);                                          \
		test_failed_checks++;                                                              \
	} while (0)

static void compare_data(struct archive *a, const char *path, ext2_ino_t ino, uint64_t size)
{
	cleanup_free char *want = calloc(1, size + 1), *got = malloc(size + 1);
	const void *buf;
	int64_t off;
	size_t len;

	if (!want || !got)
		abort();
	while (archive_read_data_block(a, &buf, &len, &off) == ARCHIVE_OK)
		memcpy(want + off, buf, len);
	if (read_file(ino, got, size) != size || memcmp(want, got, size) != 0)
		BAD(path, "content");
}

static uint64_t seconds(uint32_t sec, uint32_t extra)
{
	return (int64_t)(int32_t)sec + ((int64_t)(extra & 3) << 32);
}

static void compare_xattrs(struct archive_entry *n, const char *path, ext2_ino_t ino)
{
	struct ext2_xattr_handle *h;
	const char *name, *last = NULL;
	const void *value;
	size_t len, count = 0, want = 0;

	if (ext2fs_xattrs_open(fs, ino, &h) || ext2fs_xattrs_read(h)) {
		BAD(path, "attribute list");
		return;
	}
	for (archive_entry_xattr_reset(n);
		archive_entry_xattr_next(n, &name, &value, &len) == ARCHIVE_OK;) {
		size_t got_len;
		void *got;

		/* libarchive writes each in two forms */
		want += last == NULL || strcmp(last, name) != 0;
		last = name;
		if (ext2fs_xattr_get(h, name, &got, &got_len)) {
			BAD(path, name);
			continue;
		}
		if (got_len != len || memcmp(got, value, len) != 0)
			BAD(path, name);
		ext2fs_free_mem(&got);
	}
	want += archive_entry_acl_count(n, ARCHIVE_ENTRY_ACL_TYPE_ACCESS) > 0;
	want += archive_entry_acl_count(n, ARCHIVE_ENTRY_ACL_TYPE_DEFAULT) > 0;
	if (ext2fs_xattrs_count(h, &count) || count != want)
		BAD(path, "number of attributes");
	ext2fs_xattrs_close(&h);
}

static void compare_entry(struct archive *a, struct archive_entry *n)
{
	const char *path = archive_entry_pathname(n), *link = archive_entry_hardlink(n);
	struct ext2_inode_large i;
	ext2_ino_t ino = lookup(path, &i);
	unsigned mode = archive_entry_mode(n);
	uint64_t size;

	if (!ino) {
		BAD(path, "existence");
		return;
	}
	if (link) {
		if (lookup(link, NULL) != ino)
			BAD(path, "hard link");
		return;
	}
	size = EXT2_I_SIZE((struct ext2_inode *)&i);
	if (i.i_mode != mode && !archive_entry_acl_count(n, ARCHIVE_ENTRY_ACL_TYPE_ACCESS))
		BAD(path, "mode");
	if ((uint32_t)inode_uid(i) != (uint32_t)archive_entry_uid(n) ||
		(uint32_t)inode_gid(i) != (uint32_t)archive_entry_gid(n))
		BAD(path, "owner");
	if (seconds(i.i_mtime, i.i_mtime_extra) != (uint64_t)archive_entry_mtime(n) ||
		i.i_mtime_extra >> 2 != (uint32_t)archive_entry_mtime_nsec(n))
		BAD(path, "time");
	if (S_ISREG(mode)) {
		if (size != (uint64_t)archive_entry_size(n))
			BAD(path, "size");
		else
			compare_data(a, path, ino, size);
	} else if (S_ISLNK(mode)) {
		char buf[4096] = "";

		if (size < 60)
			memcpy(buf, i.i_block, size);
		else
			read_file(ino, buf, sizeof(buf) - 1);
		if (strcmp(buf, archive_entry_symlink(n)) != 0)
			BAD(path, "target");
	} else if (S_ISCHR(mode) || S_ISBLK(mode)) {
		unsigned v = i.i_block[0] ? i.i_block[0] : i.i_block[1];
		unsigned major = i.i_block[0] ? v >> 8 : (v >> 8) & 0xfff;
		unsigned minor = i.i_block[0] ? v & 0xff : (v & 0xff) | ((v >> 12) & 0xfff00);

		if (major != archive_entry_rdevmajor(n) || minor != archive_entry_rdevminor(n))
			BAD(path, "device number");
	}
	compare_xattrs(n, path, ino);
}

static int count_dir(
	ext2_ino_t d, int ent, struct ext2_dir_entry *de, int off, int bs, char *buf, void *priv)
{
	size_t *n = priv;
	unsigned len = ext2fs_dirent_name_len(de);

	if ((len == 1 && de->name[0] == '.') ||
		(len == 2 && de->name[0] == '.' && de->name[1] == '.'))
		return 0;
	n[0]++;
	if (ext2fs_dirent_file_type(de) == EXT2_FT_DIR)
		ext2fs_dir_iterate2(fs, de->inode, 0, NULL, count_dir, priv);
	return 0;
}

/* The archive has every name once; more: names the disk has beyond the archive's. */
static void compare(const char *path, size_t more)
{
	struct archive *a = archive_read_new();
	struct archive_entry *n;
	size_t want = more, have = 0;
	int r;

	archive_read_support_filter_all(a);
	archive_read_support_format_tar(a);
	REQUIRE(archive_read_open_filename(a, path, 65536) == ARCHIVE_OK);
	REQUIRE(open_fs());
	while ((r = archive_read_next_header(a, &n)) == ARCHIVE_OK) {
		const char *p = archive_entry_pathname(n);

		compare_entry(a, n);
		want += strspn(p, "./") != strlen(p);
	}
	CHECK_EQ(r, ARCHIVE_EOF);
	ext2fs_dir_iterate2(fs, EXT2_ROOT_INO, 0, NULL, count_dir, &have);
	CHECK_EQ(have, want);
	archive_read_free(a);
	ext2fs_close_free(&fs);
}

static void compare_and_check(size_t more)
{
	fsck();
	compare(tar_path, more);
}

/* --- tests --- */

TEST(small_root)
{
	start();
	put_root();
	finish();
	import_ok();
	compare_and_check(1); /* lost+found */
}

TEST(sizes)
{
	static uint8_t data[3 << 20];
	static const size_t sizes[] = {0, 1, 511, 4095, 4096, 4097, 65536, 1000000, sizeof(data)};

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)rnd();
	start();
	put_root();
	for (unsigned i = 0; i < ARRAY_LEN(sizes); i++) {
		char name[32];

		snprintf(name, sizeof(name), "./etc/size-%zu", sizes[i]);
		put_file(name, data + i, sizes[i] - (i == ARRAY_LEN(sizes) - 1 ? i : 0));
	}
	finish();
	import_ok();
	compare_and_check(1);
}

TEST(everything_a_name_can_be)
{
	char long_name[300], target[3001];
	struct archive_entry *n;

	start();
	put_root();
	put_dir("./dev");
	put_node("./dev/null", S_IFCHR, 1, 3);
	put_node("./dev/big", S_IFBLK, 259, 70000);
	put_node("./run/fifo", S_IFIFO, 0, 0); /* run/ is made */
	memset(target, 'x', 3000);
	target[3000] = 0;
	put_symlink("./etc/long", target);
	target[60] = 0;
	put_symlink("./etc/60", target);
	target[59] = 0;
	put_symlink("./etc/59", target);
	put_symlink("./etc/absolute", "/usr/bin/sh");
	put_symlink("./etc/out",
		"../../../../etc/passwd"); /* points where it will; nobody follows it here */
	put_hardlink("./etc/sh2", "./usr/bin/sh");
	put_hardlink("./etc/sh3", "usr/bin/sh");
	put_hardlink("./etc/link2", "./etc/long");
	memset(long_name, 'n', sizeof(long_name));
	memcpy(long_name, "./etc/", 6);
	long_name[6 + 255] = 0;
	put_file(long_name, "long", 4);
	put_file("./etc/F\xc5\x91tan\xc3\xbas\xc3\xadtv\xc3\xa1ny.crt", "utf-8", 5);
	put_file("./etc/ space \t\\ \"", "odd", 3);
	n = entry("./etc/setuid", S_IFREG | 06755);
	archive_entry_set_uid(n, 70001);
	archive_entry_set_gid(n, 0x7fffffff);
	archive_entry_set_mtime(n, 5000000000, 123456789);
	put(n, "s", 1);
	n = entry("./etc/old", S_IFREG | 0400);
	archive_entry_set_mtime(n, -1000, 5);
	put(n, "", 0);
	finish();
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
	start();
	put_root();
	n = entry("./usr/bin/ping", S_IFREG | 0755);
	archive_entry_xattr_add_entry(n, "security.capability", cap, sizeof(cap));
	archive_entry_xattr_add_entry(n, "user.note", "hello", 5);
	put(n, "x", 1);
	n = entry("./etc/big", S_IFDIR | 0755);
	archive_entry_xattr_add_entry(n, "user.big", big, sizeof(big));
	archive_entry_xattr_add_entry(n, "trusted.overlay.opaque", "y", 1);
	put(n, NULL, 0);
	n = entry("./etc/acl", S_IFDIR | 0750);
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
	put(n, NULL, 0);
	finish();
	import_ok();
	compare_and_check(1);

	REQUIRE(open_fs());
	ino = lookup("etc/acl", &inode);
	CHECK_EQ(inode.i_mode & 0777, 0770); /* the group's bits are the mask */
	REQUIRE(ext2fs_xattrs_open(fs, ino, &h) == 0 && ext2fs_xattrs_read(h) == 0);
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
	ext2fs_close_free(&fs);
}

TEST(attribute_too_large)
{
	struct archive_entry *n;
	char big[5000];

	memset(big, 7, sizeof(big));
	start();
	put_root();
	n = entry("./etc/big", S_IFREG | 0755);
	archive_entry_xattr_add_entry(n, "user.big", big, sizeof(big));
	put(n, "x", 1);
	finish();
	refused("etc/big: write extended attributes: too large");
}

/* One level of hash tree, and two. */
TEST(large_directories)
{
	char name[300];

	start();
	put_root();
	put_dir("./a");
	for (unsigned i = 0; i < 5000; i++) {
		snprintf(name, sizeof(name), "./a/file-%u", i);
		put_file(name, name, i % 50);
	}
	put_dir("./b");
	for (unsigned i = 0; i < 9000; i++) {
		int len = snprintf(name, sizeof(name), "./b/%u-", i);

		memset(name + len, 'a' + (int)(i % 26), 240 - len);
		name[240] = 0;
		put_file(name, "", 0);
	}
	finish();
	import_ok();
	compare_and_check(1);
	REQUIRE(open_fs());
	struct ext2_inode_large i;
	CHECK(lookup("a", &i) && i.i_flags & EXT2_INDEX_FL);
	CHECK(lookup("b", &i) && i.i_flags & EXT2_INDEX_FL);
	ext2fs_close_free(&fs);
}

/* Many holes: an extent tree outside the inode; blocks that hold the ends of two pieces. */
TEST(sparse_files)
{
	struct archive_entry *n = NULL;
	static char zero[8 << 20];
	struct ext2_inode_large i;
	unsigned blocks = 0;

	start();
	put_root();
	n = entry("./etc/sparse", S_IFREG | 0644);
	archive_entry_set_size(n, sizeof(zero));
	for (unsigned k = 0; k < 100; k++) {
		archive_entry_sparse_add_entry(n, k * 80000 + 512, 1024);
		memset(zero + k * 80000 + 512, (int)(k + 1), 1024);
		blocks += (k * 80000 + 512 + 1023) / 4096 - (k * 80000 + 512) / 4096 + 1;
	}
	put(n, zero, sizeof(zero));
	n = entry("./etc/hole", S_IFREG | 0644);
	archive_entry_set_size(n, 6 << 20);
	archive_entry_sparse_add_entry(n, (6 << 20) - 512, 512);
	memset(zero, 0, sizeof(zero));
	put(n, zero, 6 << 20);
	finish();
	import_ok();
	compare_and_check(1);
	REQUIRE(open_fs());
	CHECK(lookup("etc/sparse", &i));
	CHECK_EQ(i.i_blocks, (blocks + 1) * 8); /* and one of the tree */
	CHECK(lookup("etc/hole", &i));
	CHECK_EQ(i.i_blocks, 8);
	ext2fs_close_free(&fs);
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
	start();
	put_root();
	put_file("./etc/x", data, sizeof(data));
	put_file("./etc/linked", "old", 3);
	put_hardlink("./etc/keeps", "./etc/linked");
	put_file("./etc/x", "new", 3);
	put_file("./etc/linked", "new", 3);
	put_symlink("./etc/s", "a");
	put_file("etc//./s", "file", 4);
	put_hardlink("./etc/s", "./etc/s"); /* to itself: nothing */
	n = entry("./etc", S_IFDIR | 0700);
	archive_entry_set_uid(n, 5);
	put(n, NULL, 0);
	finish();
	import_ok();
	fsck();
	REQUIRE(open_fs());
	ino = lookup("etc/x", &i);
	CHECK_EQ(i.i_size, 3);
	CHECK_EQ(read_file(ino, buf, 16), 3);
	CHECK(!memcmp(buf, "new", 3));
	ino = lookup("etc/keeps", &i);
	CHECK_EQ(i.i_links_count, 1);
	CHECK_EQ(read_file(ino, buf, 16), 3);
	CHECK(!memcmp(buf, "old", 3));
	CHECK(lookup("etc/s", &i) && S_ISREG(i.i_mode) && i.i_links_count == 1);
	CHECK(lookup("etc", &i) && (i.i_mode & 0777) == 0700 && i.i_uid == 5);
	ext2fs_close_free(&fs);
}

TEST(absolute_names_are_taken_below_the_root)
{
	struct ext2_inode_large i;

	start();
	put_file("/usr/bin/sh", "x", 1);
	put_hardlink("/bin/sh", "/usr/bin/sh");
	finish();
	import_ok();
	fsck();
	REQUIRE(open_fs());
	CHECK(lookup("bin/sh", &i) && i.i_links_count == 2);
	ext2fs_close_free(&fs);
}

/* Bad archives: each refused, with its reason. */
TEST(refusals)
{
	start();
	put_root();
	put_file("./etc/../../x", "x", 1);
	finish();
	refused("unsafe path with \"..\"");

	start();
	put_root();
	put_hardlink("./etc/x", "../etc/passwd");
	finish();
	refused("etc/x: hard link: unsafe path");

	start();
	put_root();
	put_hardlink("./etc/x", "/etc/passwd");
	finish();
	refused("hard link to the absolute path");

	start();
	put_root();
	put_hardlink("./etc/x", "./etc/none");
	finish();
	refused("which the archive has not had before");

	start();
	put_root();
	put_hardlink("./etc/x", "./usr");
	finish();
	refused("hard link to the directory");

	start();
	put_root();
	put_file("./bin/escape", "x", 1); /* bin is a symbolic link */
	finish();
	refused("lies below bin, which is not a directory");

	start();
	put_root();
	put_node("./etc/sda", S_IFBLK, 8, 0);
	finish();
	refused("etc/sda: device node outside /dev");

	start();
	put_root();
	put_file("./usr", "x", 1);
	finish();
	refused("both as a directory and as something else");

	start();
	put_root();
	put_dir("./usr/bin/sh");
	finish();
	refused("both as a directory and as something else");

	start();
	put_root();
	put_file("./", "x", 1);
	finish();
	refused("");

	start();
	put_dir("project-1.0");
	put_file("project-1.0/main.c", "x", 1);
	finish();
	refused("not a root file system");

	start();
	put_file("manifest.json", "x", 1);
	put_file("abc/layer.tar", "x", 1);
	finish();
	refused("container image layers");

	start();
	put_root();
	put_hardlink("./etc/x\033[2J\ny", "./etc/\033[2J");
	finish();
	refused("./etc/x?[2J?y: hard link to ");
	CHECK(!strchr(e.text, '\033'));
}

TEST(cut_short)
{
	static char data[100000];
	struct stat st;

	for (unsigned i = 0; i < sizeof(data); i++)
		data[i] = (char)rnd();
	start();
	put_root();
	put_file("./etc/x", data, sizeof(data));
	put_file("./etc/y", data, 512);
	finish();
	import_ok();
	/* Everywhere: at record boundaries, within headers, within data. Only the second zero block may be missing. */
	stat(tar_path, &st);
	for (off_t cut = st.st_size - 1024; cut > 0; cut -= cut > 103000 ? 256 : 20000) {
		REQUIRE(truncate(tar_path, cut) == 0);
		if (import() == 0) {
			printf("# cut at %ld of %ld: taken\n", (long)cut, (long)st.st_size);
			test_failed_checks++;
		}
	}
	REQUIRE(truncate(tar_path, 0) == 0);
	refused("");
}

TEST(not_archives)
{
	cleanup_close int fd = -1;

	start();
	finish();
	refused("empty");
	fd = open(tar_path, O_WRONLY | O_TRUNC | O_CLOEXEC);
	REQUIRE(write(fd, "hello, world\n", 13) == 13);
	refused("not a tar archive");
}

TEST(compressed_and_piped)
{
	static const char *const tools[] = {"gzip", "xz", "zstd -q", "bzip2"};
	char cmd[200];

	start();
	put_root();
	finish();
	for (unsigned i = 0; i < ARRAY_LEN(tools); i++) {
		FILE *p;

		snprintf(cmd, sizeof(cmd), "%s <%s", tools[i], tar_path);
		p = popen(cmd, "r");
		REQUIRE(p);
		int r = import_fd(fileno(p), 64 << 20);
		if (pclose(p) != 0) {
			printf("# no %s here\n", tools[i]);
			continue;
		}
		if (r < 0)
			printf("# %s: %s\n", tools[i], e.text);
		CHECK_EQ(r, 0);
		compare_and_check(1);
	}
}

TEST(disk_too_small)
{
	static char data[20 << 20];

	memset(data, 1, sizeof(data));
	start();
	put_root();
	put_file("./etc/x", data, sizeof(data));
	finish();
	CHECK_EQ(import_size(16 << 20), -ENOSPC);
	CHECK(strstr(e.text, "etc/x: the disk is too small"));
	CHECK_EQ(import_size(1 << 20), -EINVAL);
	CHECK(strstr(e.text, "too small"));
}

/* In namespaces of its own a child mounts a file system of 8 MiB; the archive needs 20. */
static int on_full_disk(void)
{
	int r;

	if (unshare(CLONE_NEWNS | (geteuid() ? CLONE_NEWUSER : 0)) < 0 ||
		mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return 77;
	snprintf(disk_path, sizeof(disk_path), "%s/small", dir);
	mkdir(disk_path, 0700);
	if (mount("none", disk_path, "tmpfs", 0, "size=8m") < 0)
		return 77;
	strcat(disk_path, "/disk");
	r = import();
	if (r != -ENOSPC || !strstr(e.text, "No space left on device")) {
		printf("# %d %s\n", r, e.text);
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
	start();
	put_root();
	put_file("./etc/x", data, sizeof(data));
	finish();
	fflush(stdout);
	pid = fork();
	if (pid == 0)
		_exit(on_full_disk());
	waitpid(pid, &status, 0);
	rmdir(strcat(strcpy(disk_path, dir), "/small"));
	snprintf(disk_path, sizeof(disk_path), "%s/disk", dir);
	if (WEXITSTATUS(status) == 77)
		printf("# cannot mount here: not tested\n");
	else
		CHECK_EQ(status, 0);
}

TEST(a_job_can_be_given_up)
{
	struct image_import_opts o = {.size = 64 << 20};
	struct image_progress p;
	struct image_job *j;
	int pipe_fds[2];

	REQUIRE(pipe(pipe_fds) == 0); /* an archive that never comes */
	o.in_fd = pipe_fds[0];
	o.out_fd = open(disk_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	REQUIRE(image_job_start(&j, &o, &e) == 0);
	CHECK(image_job_pid(j) > 0 && image_job_fd(j) >= 0);
	CHECK_EQ(image_job_read(j, &p, &e), 0);
	kill(image_job_pid(j), SIGKILL);
	int r;
	while ((r = image_job_read(j, &p, &e)) == 0)
		usleep(1000);
	CHECK_EQ(r, -ECHILD);
	CHECK(strstr(e.text, "killed by signal 9"));
	image_job_free(j);
	REQUIRE(image_job_start(&j, &o, &e) == 0);
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
	set_up();
	cleanup_close int in = open(path, O_RDONLY | O_CLOEXEC);
	CHECK_EQ(import_fd(in, 1ull << 40), 0);
	printf("# %s\n", e.text);
	fsck();
	compare(path, 1);
}

TEST_MAIN()
