/* SPDX-License-Identifier: MIT */
/*
 * The ext4 writer: the empty file system, inodes, file contents (Documentation/filesystems/ext4 in the kernel has the
 * format). Features are those of mke2fs's defaults; the journal is at most 64 MiB, since a sparse disk never gets its
 * space back.
 */
#include "lib/image/ext4-internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "lib/base/attr.h"
#include "lib/base/le.h"

enum {
	JOURNAL_MAX = 16384,  /* blocks */
	RESERVED_MAX = 16384, /* blocks for root */
	EXTENTS_IN_INODE = 4,
	FAST_SYMLINK = 60, /* shorter targets live in the inode */
};

int ext4_error(struct err *e, errcode_t code, const char *what)
{
	if (code < 256)
		return err_sys(e, -(int)code, "%s", what);
	switch (code) {
	case EXT2_ET_BLOCK_ALLOC_FAIL:
	case EXT2_ET_INODE_ALLOC_FAIL:
		return err_set(e, -ENOSPC, "%s: the disk is too small", what);
	case EXT2_ET_EA_NO_SPACE: return err_set(e, -E2BIG, "%s: too large", what);
	case EXT2_ET_NO_MEMORY: return err_sys(e, -ENOMEM, "%s", what);
	default: return err_set(e, -EIO, "%s: %s", what, error_message(code));
	}
}

int ext4_pwrite(struct ext4 *x, const void *data, size_t len, uint64_t off, struct err *e)
{
	while (len) {
		ssize_t n = pwrite(x->fd, data, len, off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(e, -errno, "write the disk");
		data = (const char *)data + n;
		len -= n;
		off += n;
	}
	return 0;
}

/* --- blocks --- */

int ext4_alloc(struct ext4 *x, uint64_t want, uint64_t *ret_start, uint64_t *ret_len, struct err *e)
{
	blk64_t last = ext2fs_blocks_count(x->fs->super) - 1, first, end;
	errcode_t r;

	want = MIN(want, MAX_RUN);
	if (x->next_block > last)
		return err_set(e, -ENOSPC, "the disk is too small for the archive");
	r = ext2fs_find_first_zero_block_bitmap2(x->fs->block_map, x->next_block, last, &first);
	if (r == ENOENT)
		return err_set(e, -ENOSPC, "the disk is too small for the archive");
	if (r)
		return ext4_error(e, r, "find free blocks");
	end = MIN(first + want - 1, last);
	r = ext2fs_find_first_set_block_bitmap2(x->fs->block_map, first, end, &end);
	if (r && r != ENOENT)
		return ext4_error(e, r, "find free blocks");
	*ret_start = first;
	*ret_len = r ? end - first + 1 : end - first;
	ext2fs_block_alloc_stats_range(x->fs, first, *ret_len, +1);
	x->next_block = first + *ret_len;
	return 0;
}

void ext4_runs_clear(struct ext4 *x)
{
	x->n_runs = 0;
	x->blocks = 0;
	x->end = 0;
}

int ext4_runs_add(struct ext4 *x, uint64_t logical, uint64_t phys, uint64_t len, struct err *e)
{
	struct run *last = x->n_runs ? &x->runs[x->n_runs - 1] : NULL;

	if (logical + len > UINT32_MAX)
		return err_set(e, -EFBIG, "a file too large for ext4");
	x->blocks += len;
	if (last && last->logical + last->len == logical && last->phys + last->len == phys &&
		last->len + len <= MAX_RUN) {
		last->len += len;
		return 0;
	}
	if (x->n_runs == x->max_runs) {
		size_t max = x->max_runs ? 2 * x->max_runs : 64;
		struct run *runs = reallocarray(x->runs, max, sizeof(*runs));

		if (!runs)
			return err_sys(e, -ENOMEM, "map a file");
		x->runs = runs;
		x->max_runs = max;
	}
	x->runs[x->n_runs++] = (struct run){phys, logical, len};
	return 0;
}

/* The root of an extent tree, in the inode. */
static void extent_root(struct ext2_inode_large *inode, const struct run *runs, size_t n)
{
	uint8_t *p = (uint8_t *)inode->i_block;

	memset(p, 0, sizeof(inode->i_block));
	le16_put(p, EXT3_EXT_MAGIC);
	le16_put(p + 2, n);
	le16_put(p + 4, EXTENTS_IN_INODE);
	for (size_t i = 0; i < n; i++) {
		uint8_t *q = p + 12 + 12 * i;

		le32_put(q, runs[i].logical);
		le16_put(q + 4, runs[i].len);
		le16_put(q + 6, runs[i].phys >> 32);
		le32_put(q + 8, runs[i].phys);
	}
	inode->i_flags |= EXT4_EXTENTS_FL;
}

static errcode_t extent_tree(struct ext4 *x, uint32_t ino)
{
	ext2_extent_handle_t h;
	errcode_t r = ext2fs_extent_open2(x->fs, ino, NULL, &h);

	for (size_t i = 0; i < x->n_runs && !r; i++) {
		struct ext2fs_extent ex = {.e_pblk = x->runs[i].phys,
			.e_lblk = x->runs[i].logical,
			.e_len = x->runs[i].len};

		r = ext2fs_extent_insert(h, EXT2_EXTENT_INSERT_AFTER, &ex);
	}
	if (h)
		ext2fs_extent_free(h);
	return r;
}

static errcode_t put_inode(struct ext4 *x, uint32_t ino, struct ext2_inode_large *inode)
{
	return ext2fs_write_inode_full(x->fs, ino, (struct ext2_inode *)inode, sizeof(*inode));
}

static errcode_t get_inode(struct ext4 *x, uint32_t ino, struct ext2_inode_large *inode)
{
	return ext2fs_read_inode_full(x->fs, ino, (struct ext2_inode *)inode, sizeof(*inode));
}

/* Writes the inode with the runs as its content. */
int ext4_runs_store(struct ext4 *x, uint32_t ino, struct ext2_inode_large *inode, struct err *e)
{
	bool in_inode = x->n_runs <= EXTENTS_IN_INODE;
	errcode_t r;

	extent_root(inode, x->runs, in_inode ? x->n_runs : 0);
	r = ext2fs_iblk_add_blocks(x->fs, (struct ext2_inode *)inode, x->blocks);
	if (!r)
		r = put_inode(x, ino, inode);
	if (!r && !in_inode)
		r = extent_tree(x, ino);
	return r ? ext4_error(e, r, "write a file's inode") : 0;
}

static void put_time(const struct ext4_time *t, uint32_t *sec, uint32_t *extra)
{
	/* 34 bits of seconds, from 1901 to 2446. */
	int64_t s = MAX(MIN(t->sec, 0x37fffffffll), -0x80000000ll);

	*sec = (uint32_t)s;
	*extra = (uint32_t)(((s - (int32_t)s) >> 32) & 3) | t->nsec << 2;
}

static void put_attr(struct ext4 *x, struct ext2_inode_large *inode, const struct ext4_attr *a)
{
	const struct ext4_time now = {x->now, 0};

	inode->i_mode = a->mode;
	inode->i_uid = a->uid;
	inode->i_gid = a->gid;
	inode->osd2.linux2.l_i_uid_high = a->uid >> 16;
	inode->osd2.linux2.l_i_gid_high = a->gid >> 16;
	inode->i_extra_isize = sizeof(*inode) - EXT2_GOOD_OLD_INODE_SIZE;
	put_time(&a->atime, &inode->i_atime, &inode->i_atime_extra);
	put_time(&a->mtime, &inode->i_mtime, &inode->i_mtime_extra);
	put_time(&now, &inode->i_ctime, &inode->i_ctime_extra);
	put_time(&now, &inode->i_crtime, &inode->i_crtime_extra);
}

/* --- the empty file system --- */

static void parameters(struct ext2_super_block *p, const struct ext4_config *cfg)
{
	uint64_t blocks = cfg->size / BLOCK;

	memset(p, 0, sizeof(*p));
	p->s_rev_level = EXT2_DYNAMIC_REV;
	p->s_log_block_size = 2;
	p->s_log_cluster_size = 2;
	ext2fs_blocks_count_set(p, blocks);
	ext2fs_r_blocks_count_set(p, MIN(blocks / 100, RESERVED_MAX));
	p->s_inodes_count = MIN(cfg->size / 16384, 1ull << 31);
	p->s_inode_size = 256;
	p->s_log_groups_per_flex = 4;
	p->s_feature_compat = EXT2_FEATURE_COMPAT_EXT_ATTR | EXT2_FEATURE_COMPAT_RESIZE_INODE |
			      EXT2_FEATURE_COMPAT_DIR_INDEX;
	p->s_feature_incompat = EXT2_FEATURE_INCOMPAT_FILETYPE | EXT3_FEATURE_INCOMPAT_EXTENTS |
				EXT4_FEATURE_INCOMPAT_64BIT | EXT4_FEATURE_INCOMPAT_FLEX_BG;
	p->s_feature_ro_compat =
		EXT2_FEATURE_RO_COMPAT_SPARSE_SUPER | EXT2_FEATURE_RO_COMPAT_LARGE_FILE |
		EXT4_FEATURE_RO_COMPAT_HUGE_FILE | EXT4_FEATURE_RO_COMPAT_DIR_NLINK |
		EXT4_FEATURE_RO_COMPAT_EXTRA_ISIZE | EXT4_FEATURE_RO_COMPAT_METADATA_CSUM;
	p->s_desc_size = EXT2_MIN_DESC_SIZE_64BIT;
}

static void superblock(ext2_filsys fs, const struct ext4_config *cfg)
{
	struct ext2_super_block *s = fs->super;

	memcpy(s->s_uuid, cfg->uuid, 16);
	memcpy(s->s_hash_seed, cfg->hash_seed, 16);
	ext2fs_init_csum_seed(fs);
	s->s_checksum_type = EXT2_CRC32C_CHKSUM;
	s->s_def_hash_version = EXT2_HASH_HALF_MD4;
	s->s_flags |= EXT2_FLAGS_SIGNED_HASH;
	s->s_min_extra_isize = s->s_want_extra_isize =
		sizeof(struct ext2_inode_large) - EXT2_GOOD_OLD_INODE_SIZE;
	s->s_default_mount_opts = EXT2_DEFM_XATTR_USER | EXT2_DEFM_ACL;
	s->s_errors = EXT2_ERRORS_RO;
	s->s_max_mnt_count = -1;
	s->s_checkinterval = 0;
	s->s_mkfs_time = s->s_lastcheck = s->s_wtime = cfg->now;
	if (cfg->label)
		strncpy((char *)s->s_volume_name, cfg->label, sizeof(s->s_volume_name));
}

/* The reserved inodes; the tables are holes of the file, and so zeroed already. */
static errcode_t reserved_inodes(ext2_filsys fs)
{
	ext2_badblocks_list none = NULL;
	errcode_t r;

	for (dgrp_t g = 0; g < fs->group_desc_count; g++) {
		ext2fs_bg_flags_set(fs, g, EXT2_BG_INODE_ZEROED);
		ext2fs_group_desc_csum_set(fs, g);
	}
	for (ext2_ino_t i = EXT2_BAD_INO; i < EXT2_FIRST_INODE(fs->super); i++)
		ext2fs_inode_alloc_stats2(fs, i, +1, /* isdir= */ i == EXT2_ROOT_INO);
	r = ext2fs_badblocks_list_create(&none, 0);
	if (!r)
		r = ext2fs_update_bb_inode(fs, none);
	ext2fs_badblocks_list_free(none);
	return r;
}

static errcode_t journal(ext2_filsys fs)
{
	int blocks = ext2fs_default_journal_size(ext2fs_blocks_count(fs->super));

	if (blocks < 0)
		return EXT2_ET_INVALID_ARGUMENT;
	return ext2fs_add_journal_inode2(fs, MIN(blocks, JOURNAL_MAX), /* goal= */ ~0ull,
		EXT2_MKJOURNAL_LAZYINIT | EXT2_MKJOURNAL_NO_MNT_CHECK);
}

static errcode_t root_inode(struct ext4 *x)
{
	const struct ext4_attr a = {
		.mode = S_IFDIR | 0755, .atime.sec = x->now, .mtime.sec = x->now};
	struct ext2_inode_large inode = {0};

	put_attr(x, &inode, &a);
	extent_root(&inode, NULL, 0);
	return put_inode(x, EXT4_ROOT, &inode);
}

int ext4_new(struct ext4 **ret, const struct ext4_config *cfg, struct err *e)
{
	struct ext2_super_block param;
	struct ext4 *x;
	char name[16];
	errcode_t r;

	if (cfg->size < EXT4_MIN_SIZE || cfg->size > 16ull << 40)
		return err_set(e, -EINVAL, "a disk of %llu bytes is %s",
			(unsigned long long)cfg->size,
			cfg->size < EXT4_MIN_SIZE ? "too small" : "too large");
	if (ftruncate(cfg->fd, 0) < 0 || ftruncate(cfg->fd, cfg->size) < 0)
		return err_sys(e, -errno, "set the size of the disk");
	x = calloc(1, sizeof(*x));
	if (!x)
		return err_sys(e, -ENOMEM, "make a file system");
	initialize_ext2_error_table(); /* texts of its errors */
	x->fd = cfg->fd;
	x->now = cfg->now;
	parameters(&param, cfg);
	snprintf(name, sizeof(name), "%d", cfg->fd);
	r = ext2fs_initialize(name, EXT2_FLAG_64BITS, &param, &ext4_io_manager, &x->fs);
	if (r)
		goto fail;
	x->fs->now = cfg->now;
	superblock(x->fs, cfg);
	if ((r = ext2fs_allocate_tables(x->fs)) || (r = reserved_inodes(x->fs)) ||
		(r = ext2fs_create_resize_inode(x->fs)) || (r = journal(x->fs)))
		goto fail;
	x->next_ino = EXT2_FIRST_INODE(x->fs->super);
	x->next_block = x->fs->super->s_first_data_block;
	r = root_inode(x);
	if (r)
		goto fail;
	*ret = x;
	return 0;
fail:
	ext4_free(x);
	return ext4_error(e, r, "make a file system");
}

void ext4_free(struct ext4 *x)
{
	if (!x)
		return;
	if (x->fs)
		ext2fs_free(x->fs);
	free(x->runs);
	free(x);
}

int ext4_finish(struct ext4 *x, struct err *e)
{
	errcode_t r = ext2fs_flush(x->fs);

	if (r)
		return ext4_error(e, r, "write the file system's tables");
	if (fsync(x->fd) < 0)
		return err_sys(e, -errno, "bring the disk to stable storage");
	return 0;
}

/* --- inodes --- */

static int new_ino(struct ext4 *x, bool dir, uint32_t *ret, struct err *e)
{
	if (x->next_ino > x->fs->super->s_inodes_count)
		return err_set(e, -ENOSPC, "the disk is too small for so many files");
	*ret = x->next_ino++;
	ext2fs_inode_alloc_stats2(x->fs, *ret, +1, dir);
	return 0;
}

int ext4_inode(struct ext4 *x, const struct ext4_attr *a, uint32_t *ret_ino, struct err *e)
{
	struct ext2_inode_large inode = {0};
	errcode_t er;
	int r = new_ino(x, S_ISDIR(a->mode), ret_ino, e);

	if (r < 0)
		return r;
	ext4_runs_clear(x);
	put_attr(x, &inode, a);
	inode.i_links_count = 1;
	if (S_ISREG(a->mode) || S_ISDIR(a->mode)) {
		extent_root(&inode, NULL, 0);
	} else if (S_ISCHR(a->mode) || S_ISBLK(a->mode)) {
		/* Small numbers in the old format, others in the new one, as the kernel does. */
		if (a->major < 256 && a->minor < 256)
			inode.i_block[0] = a->major << 8 | a->minor;
		else
			inode.i_block[1] = (a->minor & 0xff) | (a->major & 0xfff) << 8 |
					   (a->minor & ~0xffu) << 12;
	}
	er = put_inode(x, *ret_ino, &inode);
	return er ? ext4_error(e, er, "write an inode") : 0;
}

int ext4_symlink(struct ext4 *x, const struct ext4_attr *a, const char *target, uint32_t *ret_ino,
	struct err *e)
{
	struct ext2_inode_large inode = {0};
	size_t len = strlen(target);
	char block[BLOCK] = {0};
	uint64_t start, got;
	int r;

	if (len == 0 || len >= BLOCK)
		return err_set(e, -ENAMETOOLONG, "a symbolic link's target is %s",
			len ? "too long" : "empty");
	r = new_ino(x, /* dir= */ false, ret_ino, e);
	if (r < 0)
		return r;
	ext4_runs_clear(x);
	put_attr(x, &inode, a);
	inode.i_mode = S_IFLNK | 0777;
	inode.i_links_count = 1;
	inode.i_size = len;
	if (len < FAST_SYMLINK) {
		memcpy(inode.i_block, target, len);
		errcode_t er = put_inode(x, *ret_ino, &inode);
		return er ? ext4_error(e, er, "write an inode") : 0;
	}
	memcpy(block, target, len);
	if ((r = ext4_alloc(x, 1, &start, &got, e)) < 0 ||
		(r = ext4_runs_add(x, 0, start, 1, e)) < 0 ||
		(r = ext4_pwrite(x, block, BLOCK, start * BLOCK, e)) < 0)
		return r;
	return ext4_runs_store(x, *ret_ino, &inode, e);
}

/* Data up to the end of the block the last piece ended in go there; for the rest blocks are added. */
int ext4_write(struct ext4 *x, uint64_t off, const void *data, size_t len, struct err *e)
{
	const uint8_t *p = data;

	if (off < x->end || off > 1ull << 44 || len > 1ull << 44)
		return err_set(e, -EINVAL, "pieces of a file overlap");
	while (len) {
		const struct run *last = x->n_runs ? &x->runs[x->n_runs - 1] : NULL;
		uint64_t block = off / BLOCK, skip = off % BLOCK, start, got, n;
		int r;

		if (last && block < (uint64_t)last->logical + last->len) {
			start = last->phys + (block - last->logical);
			got = 1;
		} else {
			r = ext4_alloc(x, (skip + len + BLOCK - 1) / BLOCK, &start, &got, e);
			if (r < 0)
				return r;
			r = ext4_runs_add(x, block, start, got, e);
			if (r < 0)
				return r;
		}
		n = MIN(len, got * BLOCK - skip);
		r = ext4_pwrite(x, p, n, start * BLOCK + skip, e);
		if (r < 0)
			return r;
		p += n;
		off += n;
		len -= n;
		x->end = off;
	}
	return 0;
}

int ext4_write_end(struct ext4 *x, uint32_t ino, uint64_t size, struct err *e)
{
	struct ext2_inode_large inode;
	errcode_t r = get_inode(x, ino, &inode);

	if (r)
		return ext4_error(e, r, "read an inode");
	if (size < x->end || size > 1ull << 44)
		return err_set(e, -EFBIG, "a file of %llu bytes", (unsigned long long)size);
	inode.i_size = size;
	inode.i_size_high = size >> 32;
	return ext4_runs_store(x, ino, &inode, e);
}

int ext4_set_attr(struct ext4 *x, uint32_t ino, const struct ext4_attr *a, struct err *e)
{
	struct ext2_inode_large inode;
	errcode_t r = get_inode(x, ino, &inode);

	if (!r) {
		put_attr(x, &inode, a);
		r = put_inode(x, ino, &inode);
	}
	return r ? ext4_error(e, r, "change an inode") : 0;
}

int ext4_set_xattrs(
	struct ext4 *x, uint32_t ino, const struct ext4_xattr *xa, size_t n, struct err *e)
{
	struct ext2_xattr_handle *h = NULL;
	errcode_t r = ext2fs_xattrs_open(x->fs, ino, &h);

	for (size_t i = 0; i < n && !r; i++)
		r = ext2fs_xattr_set(h, xa[i].name, xa[i].value, xa[i].len);
	if (!r)
		r = ext2fs_xattrs_write(h);
	if (h)
		ext2fs_xattrs_close(&h);
	return r ? ext4_error(e, r, "write extended attributes") : 0;
}

static errcode_t free_inode(struct ext4 *x, uint32_t ino, struct ext2_inode_large *inode)
{
	bool dir = S_ISDIR(inode->i_mode);
	errcode_t r = 0;

	if (inode->i_flags & EXT4_EXTENTS_FL)
		r = ext2fs_punch(x->fs, ino, (struct ext2_inode *)inode, NULL, 0, ~0ull);
	if (!r)
		r = ext2fs_free_ext_attr(x->fs, ino, inode);
	if (!r) {
		*inode = (struct ext2_inode_large){.i_dtime = x->now};
		r = put_inode(x, ino, inode);
	}
	if (!r)
		ext2fs_inode_alloc_stats2(x->fs, ino, -1, dir);
	return r;
}

int ext4_link_count(struct ext4 *x, uint32_t ino, int by, struct err *e)
{
	struct ext2_inode_large inode;
	errcode_t r = get_inode(x, ino, &inode);

	if (r)
		return ext4_error(e, r, "read an inode");
	if (inode.i_links_count + by > EXT4_LINK_MAX)
		return err_set(e, -EMLINK, "more than %d hard links to one file", EXT4_LINK_MAX);
	inode.i_links_count += by;
	r = inode.i_links_count ? put_inode(x, ino, &inode) : free_inode(x, ino, &inode);
	return r ? ext4_error(e, r, "change an inode") : 0;
}
