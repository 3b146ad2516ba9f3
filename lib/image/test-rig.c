/* SPDX-License-Identifier: MIT */
#include "lib/image/test-rig.h"

#include <fcntl.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "lib/base/cleanup.h"
#include "lib/image/image.h"

char rig_path[] = "/tmp/wslx-test-image.XXXXXX";
char rig_tar[64], rig_disk[64];
struct err rig_err;
static struct archive *out;

/* --- making archives --- */

static void rig_clean_up(void)
{
	char cmd[80];

	snprintf(cmd, sizeof(cmd), "rm -rf %s", rig_path);
	if (system(cmd) != 0)
		printf("# %s stays\n", rig_path);
}

void rig_set_up(void)
{
	if (!rig_tar[0]) {
		atexit(rig_clean_up); /* also when only some tests run; children leave with _exit() */
		setlocale(LC_CTYPE, "C.UTF-8");
		if (!mkdtemp(rig_path))
			abort();
		snprintf(rig_tar, sizeof(rig_tar), "%s/tar", rig_path);
		snprintf(rig_disk, sizeof(rig_disk), "%s/disk", rig_path);
	}
}

void rig_start(void)
{
	rig_set_up();
	out = archive_write_new();
	archive_write_set_format_pax_restricted(out);
	archive_write_set_bytes_per_block(out, 512);
	if (archive_write_open_filename(out, rig_tar) != ARCHIVE_OK)
		abort();
}

void rig_finish(void)
{
	if (archive_write_close(out) != ARCHIVE_OK)
		abort();
	archive_write_free(out);
}

struct archive_entry *rig_entry(const char *path, unsigned mode)
{
	struct archive_entry *n = archive_entry_new();

	archive_entry_set_pathname(n, path);
	archive_entry_set_mode(n, mode);
	archive_entry_set_mtime(n, 1600000000, 0);
	return n;
}

void rig_put(struct archive_entry *n, const void *data, size_t len)
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

void rig_file(const char *path, const void *data, size_t len)
{
	rig_put(rig_entry(path, S_IFREG | 0644), data, len);
}

void rig_folder(const char *path)
{
	rig_put(rig_entry(path, S_IFDIR | 0755), NULL, 0);
}

void rig_symlink(const char *path, const char *target)
{
	struct archive_entry *n = rig_entry(path, S_IFLNK | 0777);

	archive_entry_set_symlink(n, target);
	rig_put(n, NULL, 0);
}

void rig_hardlink(const char *path, const char *target)
{
	struct archive_entry *n = rig_entry(path, S_IFREG | 0644);

	archive_entry_set_hardlink(n, target);
	rig_put(n, NULL, 0);
}

void rig_node(const char *path, unsigned type, unsigned major, unsigned minor)
{
	struct archive_entry *n = rig_entry(path, type | 0666);

	archive_entry_set_rdevmajor(n, major);
	archive_entry_set_rdevminor(n, minor);
	rig_put(n, NULL, 0);
}

/* What makes it a root file system. */
void rig_root(void)
{
	rig_folder("./");
	rig_folder("./etc/");
	rig_folder("./usr/");
	rig_folder("./usr/bin/");
	rig_file("./usr/bin/sh", "#!", 2);
	rig_symlink("./bin", "usr/bin");
}

/* --- importing --- */

int rig_import_fd(int in, uint64_t size)
{
	cleanup_close int fd = open(rig_disk, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	cleanup_close int spool = memfd_create("spool", MFD_CLOEXEC);
	const struct image_import_opts o = {
		.in_fd = in, .out_fd = fd, .spool_fd = spool, .size = size, .label = "test"};

	memset(&rig_err, 0, sizeof(rig_err));
	return image_import(&o, &rig_err);
}

int rig_import_size(uint64_t size)
{
	cleanup_close int in = open(rig_tar, O_RDONLY | O_CLOEXEC);

	return rig_import_fd(in, size);
}

int rig_import(void)
{
	return rig_import_size(256 << 20);
}

int rig_fsck(void)
{
	char cmd[160];
	int bad;

	snprintf(cmd, sizeof(cmd), "PATH=$PATH:/sbin:/usr/sbin e2fsck -fn %s >%s/fsck 2>&1",
		rig_disk, rig_path);
	bad = system(cmd) != 0;
	if (bad) {
		snprintf(cmd, sizeof(cmd), "sed 's/^/# /' %s/fsck", rig_path);
		if (system(cmd))
			printf("# e2fsck is not there\n");
	}
	return bad;
}

/* --- comparing --- */

ext2_filsys rig_fs;

bool rig_open(void)
{
	errcode_t r = ext2fs_open(rig_disk, EXT2_FLAG_64BITS, 0, 0, unix_io_manager, &rig_fs);

	if (r)
		printf("# cannot open the disk: %s\n", error_message(r));
	return r == 0;
}

ext2_ino_t rig_lookup(const char *path, struct ext2_inode_large *inode)
{
	ext2_ino_t ino = 0;

	while (*path == '.' || *path == '/')
		path++;
	if (!*path)
		ino = EXT2_ROOT_INO;
	else if (ext2fs_namei(rig_fs, EXT2_ROOT_INO, EXT2_ROOT_INO, path, &ino))
		return 0;
	if (inode &&
		ext2fs_read_inode_full(rig_fs, ino, (struct ext2_inode *)inode, sizeof(*inode)))
		return 0;
	return ino;
}

static uint64_t rnd_state = 88172645463325252ull;
uint64_t rig_rnd(void)
{
	rnd_state ^= rnd_state << 13;
	rnd_state ^= rnd_state >> 7;
	return rnd_state ^= rnd_state << 17;
}

size_t rig_read(ext2_ino_t ino, void *buf, size_t len)
{
	ext2_file_t f;
	unsigned got = 0;

	if (ext2fs_file_open(rig_fs, ino, 0, &f))
		return 0;
	if (ext2fs_file_read(f, buf, len, &got))
		got = 0;
	ext2fs_file_close(f);
	return got;
}

static int differences;

#define BAD(path, what)                                                                            \
	do {                                                                                       \
		printf("# %s: %s differs\n", path, what);                                          \
		differences++;                                                                     \
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
	if (rig_read(ino, got, size) != size || memcmp(want, got, size) != 0)
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

	if (ext2fs_xattrs_open(rig_fs, ino, &h) || ext2fs_xattrs_read(h)) {
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
	ext2_ino_t ino = rig_lookup(path, &i);
	unsigned mode = archive_entry_mode(n);
	uint64_t size;

	if (!ino) {
		BAD(path, "existence");
		return;
	}
	if (link) {
		if (rig_lookup(link, NULL) != ino)
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
			rig_read(ino, buf, sizeof(buf) - 1);
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
		ext2fs_dir_iterate2(rig_fs, de->inode, 0, NULL, count_dir, priv);
	return 0;
}

int rig_compare(const char *path, size_t more)
{
	struct archive *a = archive_read_new();
	struct archive_entry *n;
	size_t want = more, have = 0;
	int r;

	archive_read_support_filter_all(a);
	archive_read_support_format_tar(a);
	differences = 0;
	if (archive_read_open_filename(a, path, 65536) != ARCHIVE_OK || !rig_open()) {
		archive_read_free(a);
		return 1;
	}
	while ((r = archive_read_next_header(a, &n)) == ARCHIVE_OK) {
		const char *p = archive_entry_pathname(n);

		compare_entry(a, n);
		want += strspn(p, "./") != strlen(p);
	}
	if (r != ARCHIVE_EOF)
		BAD(path, "end");
	ext2fs_dir_iterate2(rig_fs, EXT2_ROOT_INO, 0, NULL, count_dir, &have);
	if (have != want)
		BAD(path, "number of names");
	archive_read_free(a);
	ext2fs_close_free(&rig_fs);
	return differences;
}

int rig_export(enum image_format format, enum image_compression compression, const char *path)
{
	cleanup_close int in = open(rig_disk, O_RDONLY | O_CLOEXEC);
	cleanup_close int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	const struct image_export_opts o = {.in_fd = in,
		.out_fd = fd,
		.format = format,
		.compression = compression,
		.threads = 2};

	memset(&rig_err, 0, sizeof(rig_err));
	return image_export(&o, &rig_err);
}
