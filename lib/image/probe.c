/* SPDX-License-Identifier: MIT */
/*
 * What is in a disk file? The superblocks of the file systems that a distribution can have are checked as far as they
 * describe themselves: ext4's at byte 1024 (fs/ext4/ext4.h in the kernel, "Super Block" in its documentation), xfs's at the
 * start (fs/xfs/libxfs/xfs_format.h, big-endian), btrfs's at 64 KiB (include/uapi/linux/btrfs_tree.h). Other formats are
 * told by their magic numbers, so that a message can name them.
 */
#include "lib/image/probe-internal.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "lib/base/attr.h"
#include "lib/base/checked.h"
#include "lib/base/cleanup.h"
#include "lib/base/crc32c.h"
#include "lib/base/le.h"
#include "lib/base/io.h"

enum { SB = 1024, SB_LEN = 1024, SB_CHECKSUM = 0x3fc };
enum { INCOMPAT_RECOVER = 0x4, INCOMPAT_JOURNAL_DEV = 0x8, INCOMPAT_64BIT = 0x80 };
/* filetype, recover, meta_bg, extents, 64bit, mmp, flex_bg, ea_inode, csum_seed, largedir, inline_data, encrypt,
 * casefold: what kernels mount */
enum { INCOMPAT_KNOWN = 0x3e7d6 | 0x2 };
enum { RO_METADATA_CSUM = 0x400 };
enum { STATE_ERRORS = 2 };
enum { XFS_BLOCK_SIZE = 4, XFS_BLOCKS = 8, XFS_UUID = 32, XFS_LEN = 48 };
enum {
	BTRFS = 0x10000,
	BTRFS_UUID = 0x20,
	BTRFS_MAGIC = 0x40,
	BTRFS_SIZE = 0x70,
	BTRFS_DEVICES = 0x88,
	BTRFS_LEN = 0x90
};

static void corrupt(struct image_info *i, const char *what)
{
	i->kind = IMAGE_CORRUPT;
	i->what = what;
}

static void probe_ext4(const uint8_t *s, uint64_t file_size, struct image_info *i)
{
	uint32_t log = le32_get(s + 24), incompat = le32_get(s + 96), ro = le32_get(s + 100);
	uint32_t per_group = le32_get(s + 32), inodes_per_group = le32_get(s + 40);
	uint64_t blocks = le32_get(s + 4), bits;
	uint16_t inode_size = le32_get(s + 76) ? le16_get(s + 88) : 128;

	i->kind = IMAGE_EXT4;
	i->what = "an ext4 file system";
	memcpy(i->uuid, s + 104, 16);
	i->needs_recovery = incompat & INCOMPAT_RECOVER;
	i->has_errors = le16_get(s + 58) & STATE_ERRORS;
	if (ro & RO_METADATA_CSUM && ~crc32c(0, s, SB_CHECKSUM) != le32_get(s + SB_CHECKSUM)) {
		corrupt(i, "its superblock has a wrong checksum");
		return;
	}
	if (incompat & INCOMPAT_JOURNAL_DEV) {
		i->kind = IMAGE_FOREIGN;
		i->what = "an ext4 journal without a file system";
		return;
	}
	if (incompat & ~(uint32_t)INCOMPAT_KNOWN) {
		i->kind = IMAGE_FOREIGN;
		i->what = "an ext4 file system with features that no kernel has";
		return;
	}
	if (incompat & INCOMPAT_64BIT)
		blocks |= (uint64_t)le32_get(s + 0x150) << 32;
	if (log > 6) {
		corrupt(i, "its block size cannot be");
		return;
	}
	bits = 8ull << (10 + log);
	if (!blocks || mul_overflows(blocks, 1024ull << log, &i->size) || i->size > INT64_MAX ||
		!per_group || per_group > bits || !inodes_per_group || inodes_per_group > bits ||
		le32_get(s) < inodes_per_group || inode_size < 128 || inode_size > 1024u << log ||
		(inode_size & (inode_size - 1))) {
		corrupt(i, "its superblock contradicts itself");
		i->size = 0;
		return;
	}
	if (i->size > file_size) {
		i->kind = IMAGE_TRUNCATED;
		i->what = "an ext4 file system whose end is missing";
	}
}

static void check_size(uint64_t blocks, uint64_t block_size, uint64_t file_size,
	const char *truncated, struct image_info *i)
{
	if (!blocks || mul_overflows(blocks, block_size, &i->size) || i->size > INT64_MAX) {
		corrupt(i, "its superblock contradicts itself");
		i->size = 0;
	} else if (i->size > file_size) {
		i->kind = IMAGE_TRUNCATED;
		i->what = truncated;
	}
}

static void probe_xfs(const uint8_t *s, uint64_t file_size, struct image_info *i)
{
	uint32_t block_size = be32_get(s + XFS_BLOCK_SIZE);

	i->kind = IMAGE_XFS;
	i->what = "an xfs file system";
	memcpy(i->uuid, s + XFS_UUID, 16);
	if (block_size < 512 || block_size > 65536 || (block_size & (block_size - 1)))
		corrupt(i, "its block size cannot be");
	else
		check_size(be64_get(s + XFS_BLOCKS), block_size, file_size,
			"an xfs file system whose end is missing", i);
}

static void probe_btrfs(const uint8_t *s, uint64_t file_size, struct image_info *i)
{
	i->kind = IMAGE_BTRFS;
	i->what = "a btrfs file system";
	memcpy(i->uuid, s + BTRFS_UUID, 16);
	if (le64_get(s + BTRFS_DEVICES) != 1) {
		i->kind = IMAGE_FOREIGN;
		i->what = "one of several parts of a btrfs file system";
		return;
	}
	check_size(le64_get(s + BTRFS_SIZE), 1, file_size,
		"a btrfs file system whose end is missing", i);
}

static const struct {
	uint32_t off;
	uint8_t len;
	const char *magic, *what;
	bool archive; /* or compressed: for the importer to look into */
} magics[] = {
	{0, 4, "hsqs", "a squashfs file system"},
	{1024, 4, "\x10\x20\xf5\xf2", "an f2fs file system"},
	{3, 8, "NTFS    ", "an NTFS file system"},
	{0, 8, "vhdxfile", "a VHDX container"},
	{0, 8, "conectix", "a VHD container"},
	{0, 4, "QFI\xfb", "a qcow2 container"},
	{0, 4, "KDMV", "a VMDK container"},
	{0, 6, "LUKS\xba\xbe", "an encrypted (LUKS) volume"},
	{32769, 5, "CD001", "a CD image"},
	{4086, 10, "SWAPSPACE2", "swap space"},
	{512, 8, "EFI PART", "a disk with a partition table (GPT)"},
	{257, 5, "ustar", "a tar archive, to be imported", true},
	{0, 2, "\x1f\x8b", "a gzip file", true},
	{0, 6,
		"\xfd"
		"7zXZ",
		"an xz file", true},
	{0, 4, "\x28\xb5\x2f\xfd", "a zstd file", true},
	{0, 3, "BZh", "a bzip2 file", true},
	{0, 4, "\x04\x22\x4d\x18", "an lz4 file", true},
	{0, 4, "LZIP", "an lzip file", true},
	{0, 2, "\x1f\x9d", "a file of compress(1)", true},
	{510, 2, "\x55\xaa", "a disk with a partition table (MBR)"},
};

static bool all_zero(const uint8_t *p, size_t len)
{
	return !len || (!p[0] && !memcmp(p, p + 1, len - 1));
}

void image_probe_bytes(const uint8_t *p, size_t len, uint64_t size, struct image_info *ret)
{
	*ret = (struct image_info){.kind = IMAGE_UNKNOWN, .what = "nothing that is known"};
	if (len >= SB + SB_LEN && le16_get(p + SB + 56) == 0xef53) {
		probe_ext4(p + SB, size, ret);
		return;
	}
	if (len >= XFS_LEN && !memcmp(p, "XFSB", 4)) {
		probe_xfs(p, size, ret);
		return;
	}
	if (len >= BTRFS + BTRFS_LEN && !memcmp(p + BTRFS + BTRFS_MAGIC, "_BHRfS_M", 8)) {
		probe_btrfs(p + BTRFS, size, ret);
		return;
	}
	if (all_zero(p, len)) {
		ret->kind = IMAGE_EMPTY;
		ret->what = "nothing but zeroes";
		return;
	}
	for (unsigned i = 0; i < ARRAY_LEN(magics); i++) {
		if (range_ok(magics[i].off, magics[i].len, len) &&
			!memcmp(p + magics[i].off, magics[i].magic, magics[i].len)) {
			ret->kind = IMAGE_FOREIGN;
			ret->what = magics[i].what;
			ret->archive = magics[i].archive;
			return;
		}
	}
}

int image_probe(int fd, struct image_info *ret)
{
	cleanup_free uint8_t *buf = malloc(PROBE_BYTES);
	ssize_t len;
	off_t size;
	struct stat st;

	if (!buf)
		return -ENOMEM;
	if (fstat(fd, &st) < 0)
		return -errno;
	size = st.st_size;
	if (S_ISBLK(st.st_mode)) {
		off_t at = lseek(fd, 0, SEEK_CUR);

		size = lseek(fd, 0, SEEK_END);
		if (at < 0 || size < 0 || lseek(fd, at, SEEK_SET) < 0)
			return -errno;
	}
	len = io_pread(fd, buf, PROBE_BYTES, 0);
	if (len < 0)
		return (int)len;
	image_probe_bytes(buf, (size_t)len, size, ret);
	return 0;
}

const char *image_fs(enum image_kind kind)
{
	switch (kind) {
	case IMAGE_EXT4: return "ext4";
	case IMAGE_XFS: return "xfs";
	case IMAGE_BTRFS: return "btrfs";
	default: return NULL;
	}
}

int image_check_info(const struct image_info *i, const char *name, struct err *e)
{
	switch (i->kind) {
	case IMAGE_EXT4:
	case IMAGE_XFS:
	case IMAGE_BTRFS: return 0;
	case IMAGE_CORRUPT: return err_set(e, -EINVAL, "disk %s is damaged: %s", name, i->what);
	case IMAGE_EMPTY: return err_set(e, -EINVAL, "disk %s is empty: %s", name, i->what);
	default: return err_set(e, -EINVAL, "disk %s cannot be used: it holds %s", name, i->what);
	}
}

int image_check(int fd, const char *name, struct err *e)
{
	struct image_info i;
	int r = image_probe(fd, &i);

	return r < 0 ? err_sys(e, r, "read disk %s", name) : image_check_info(&i, name, e);
}

int image_check_fs(int fd, const char *name, const char *fs, struct err *e)
{
	struct image_info i;
	int r = image_check(fd, name, e);

	if (r < 0)
		return r;
	r = image_probe(fd, &i);
	if (r < 0)
		return err_sys(e, r, "read disk %s", name);
	return strcmp(image_fs(i.kind) ? image_fs(i.kind) : "", fs) == 0
		       ? 0
		       : err_set(e, -EINVAL,
				 "disk %s cannot be used: it holds %s, and not %s any more", name,
				 i.what, fs);
}
