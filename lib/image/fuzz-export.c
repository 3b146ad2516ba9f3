/* SPDX-License-Identifier: MIT */
/*
 * A small disk with a bit of everything is damaged here and there, and exported: an archive, or a reason why not. The
 * input is a list of {u24 place, u8 n, n bytes}; places count through the blocks that are in use. Checksums are off, or
 * nearly all damage would end there.
 */
#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "lib/base/attr.h"
#include "lib/base/le.h"
#include "lib/image/image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int __lsan_is_turned_off(void);

/* libarchive leaks its buffer when an archive is given up (archive_write_fail()), and to be told so takes its time. */
int __lsan_is_turned_off(void)
{
	return 1;
}

enum { DISK = 16 << 20, BLOCK = 4096, BLOCKS = DISK / BLOCK };

static uint8_t good[DISK], *disk;
static uint16_t used[BLOCKS];
static size_t n_used;
static int disk_fd, null_fd;

static struct archive_entry *entry(const char *path, unsigned mode, int64_t size)
{
	struct archive_entry *n = archive_entry_new();

	archive_entry_set_pathname(n, path);
	archive_entry_set_mode(n, (mode_t)mode);
	archive_entry_set_size(n, size);
	return n;
}

static void put(struct archive *a, struct archive_entry *n, const void *data, size_t len)
{
	if (archive_write_header(a, n) != ARCHIVE_OK ||
		archive_write_data(a, data, len) != (la_ssize_t)len)
		abort();
	archive_entry_free(n);
}

static void put_all(struct archive *a)
{
	static const uint8_t cap[20] = {1, 0, 0, 2};
	static char text[1 << 18], target[200];
	struct archive_entry *n;
	char name[32];

	memset(text, 'x', sizeof(text));
	memset(target, 't', sizeof(target) - 1);
	put(a, entry("etc", S_IFDIR | 0755, 0), "", 0);
	n = entry("etc/f", S_IFREG | 04755, 5000);
	archive_entry_xattr_add_entry(n, "security.capability", cap, sizeof(cap));
	archive_entry_xattr_add_entry(n, "user.long", text, 400);
	archive_entry_acl_add_entry(
		n, ARCHIVE_ENTRY_ACL_TYPE_ACCESS, 6, ARCHIVE_ENTRY_ACL_USER, 1000, NULL);
	archive_entry_acl_add_entry(
		n, ARCHIVE_ENTRY_ACL_TYPE_ACCESS, 6, ARCHIVE_ENTRY_ACL_MASK, -1, NULL);
	put(a, n, text, 5000);
	n = entry("etc/link", S_IFREG | 0755, 0);
	archive_entry_set_hardlink(n, "etc/f");
	put(a, n, "", 0);
	n = entry("short", S_IFLNK | 0777, 0);
	archive_entry_set_symlink(n, "etc/f");
	put(a, n, "", 0);
	n = entry("long", S_IFLNK | 0777, 0);
	archive_entry_set_symlink(n, target);
	put(a, n, "", 0);
	put(a, entry("fifo", S_IFIFO | 0600, 0), "", 0);
	put(a, entry("dev/null", S_IFCHR | 0666, 0), "", 0);
	n = entry("comb", S_IFREG | 0644, sizeof(text));
	for (int i = 0; i < 16; i++) /* more pieces than an inode has room for */
		archive_entry_sparse_add_entry(n, i * 16384, 10);
	put(a, n, text, sizeof(text));
	for (int i = 0; i < 150; i++) { /* more names than a block has room for */
		snprintf(name, sizeof(name), "many/name-that-is-long-%d", i);
		put(a, entry(name, S_IFREG | 0644, 0), "", 0);
	}
}

static void set_up(void)
{
	static const uint8_t id[16] = {1};
	int tar = memfd_create("tar", MFD_CLOEXEC);
	const struct image_import_opts io = {
		.in_fd = tar, .out_fd = disk_fd, .spool_fd = -1, .size = DISK};
	const struct image_write_opts o = {
		.io = &io, .uuid = id, .hash_seed = id, .now = 1700000000};
	struct archive *a = archive_write_new();
	uint8_t *sb = good + 1024;

	archive_write_set_format_pax_restricted(a);
	if (tar < 0 || archive_write_open_fd(a, tar) != ARCHIVE_OK)
		abort();
	put_all(a);
	archive_write_close(a);
	archive_write_free(a);
	if (lseek(tar, 0, SEEK_SET) < 0 || image_write(&o, NULL) < 0 ||
		pread(disk_fd, good, DISK, 0) != DISK)
		abort();
	close(tar);
	le32_put(sb + 100, le32_get(sb + 100) & ~0x400u); /* metadata_csum */
	for (size_t i = 0; i < BLOCKS; i++)
		for (size_t k = 0; k < BLOCK; k++)
			if (good[i * BLOCK + k]) {
				used[n_used++] = (uint16_t)i;
				break;
			}
	disk = mmap(NULL, DISK, PROT_READ | PROT_WRITE, MAP_SHARED, disk_fd, 0);
	if (disk == MAP_FAILED)
		abort();
	memcpy(disk, good, DISK);
}

/* Damages the disk, or repairs it where it was damaged. */
static void patch(const uint8_t *data, size_t size, bool repair)
{
	while (size > 4) {
		size_t place =
			(data[0] | (size_t)data[1] << 8 | (size_t)data[2] << 16) % (n_used * BLOCK);
		size_t at = used[place / BLOCK] * (size_t)BLOCK + place % BLOCK;
		size_t n = MIN(MIN(data[3], size - 4), DISK - at);

		memcpy(disk + at, repair ? good + at : data + 4, n);
		data += 4 + n;
		size -= 4 + n;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct image_export_opts o = {.format = IMAGE_TAR};
	struct err e = {0};

	if (!disk) {
		disk_fd = memfd_create("disk", MFD_CLOEXEC);
		null_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
		if (disk_fd < 0 || null_fd < 0)
			abort();
		set_up();
	}
	patch(data, size, /* repair= */ false);
	o.in_fd = disk_fd;
	o.out_fd = null_fd;
	if (image_export_here(&o, &e) < 0 && !e.text[0])
		abort(); /* every refusal has a reason */
	patch(data, size, /* repair= */ true);
	return 0;
}
