/* SPDX-License-Identifier: MIT */
/*
 * Directories of the ext4 writer. What fits in one block is a plain list; a larger directory is written as a hash tree
 * (one level of index, or two) straight away: entries sorted by hash, packed into leaves, the index on top. Every
 * block ends in a checksum, which libext2fs fills in.
 */
#include "lib/image/ext4-internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "lib/base/attr.h"
#include "lib/base/cleanup.h"
#include "lib/base/le.h"

enum {
	LEAF_SPACE = BLOCK - 12, /* less the checksum */
	ROOT_LIMIT = (BLOCK - 32 - 8) /
		     8, /* index entries behind ".", ".." and the root's description */
	NODE_LIMIT = (BLOCK - 8 - 8) / 8,
};

static unsigned entry_size(unsigned name_len)
{
	return ALIGN_UP(8 + name_len, 4);
}

static uint8_t type_of(uint32_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG: return EXT2_FT_REG_FILE;
	case S_IFDIR: return EXT2_FT_DIR;
	case S_IFCHR: return EXT2_FT_CHRDEV;
	case S_IFBLK: return EXT2_FT_BLKDEV;
	case S_IFIFO: return EXT2_FT_FIFO;
	case S_IFSOCK: return EXT2_FT_SOCK;
	case S_IFLNK: return EXT2_FT_SYMLINK;
	default: return EXT2_FT_UNKNOWN;
	}
}

static void put_entry(
	uint8_t *p, uint32_t ino, unsigned rec_len, const char *name, unsigned len, uint32_t mode)
{
	le32_put(p, ino);
	le16_put(p + 4, rec_len);
	p[6] = len;
	p[7] = type_of(mode);
	memcpy(p + 8, name, len);
}

static void put_dots(uint8_t *p, uint32_t ino, uint32_t parent, unsigned second_len)
{
	put_entry(p, ino, 12, ".", 1, S_IFDIR);
	put_entry(p + 12, parent, second_len, "..", 2, S_IFDIR);
}

/* Puts entries until the block is full; returns how many. The last one takes the rest of the space. */
static size_t fill_leaf(
	struct ext4 *x, uint8_t *block, unsigned used, const struct ext4_dirent *ent, size_t n)
{
	unsigned last = used ? 12 : 0; /* ".." when the dots come first */
	size_t i = 0;

	for (; i < n && used + entry_size(ent[i].len) <= LEAF_SPACE; i++) {
		last = used;
		put_entry(block + used, ent[i].ino, entry_size(ent[i].len), ent[i].name, ent[i].len,
			ent[i].mode);
		used += entry_size(ent[i].len);
	}
	le16_put(block + last + 4, LEAF_SPACE - last);
	ext2fs_initialize_dirent_tail(x->fs, EXT2_DIRENT_TAIL(block, BLOCK));
	return i;
}

static int by_hash(const void *va, const void *vb)
{
	const struct ext4_dirent *a = va, *b = vb;

	if (a->hash != b->hash)
		return a->hash < b->hash ? -1 : 1;
	if (a->minor != b->minor)
		return a->minor < b->minor ? -1 : 1;
	return 0;
}

static errcode_t hash_all(struct ext4 *x, struct ext4_dirent *ent, size_t n)
{
	errcode_t r = 0;

	for (size_t i = 0; i < n && !r; i++)
		r = ext2fs_dirhash2(EXT2_HASH_HALF_MD4, ent[i].name, ent[i].len,
			/* charset= */ NULL,
			/* hash_flags= */ 0, x->fs->super->s_hash_seed, &ent[i].hash,
			&ent[i].minor);
	qsort(ent, n, sizeof(*ent), by_hash);
	return r;
}

/* The first entry of each leaf, packing them full; returns the number of leaves. */
static size_t split(const struct ext4_dirent *ent, size_t n, size_t *first)
{
	size_t leaves = 0;
	unsigned used = LEAF_SPACE;

	for (size_t i = 0; i < n; i++) {
		unsigned size = entry_size(ent[i].len);

		if (used + size > LEAF_SPACE) {
			first[leaves++] = i;
			used = 0;
		}
		used += size;
	}
	return leaves;
}

/* The hash from which on a leaf is responsible; odd where the hash before it is the same. */
static uint32_t leaf_hash(const struct ext4_dirent *ent, size_t first)
{
	uint32_t h = ent[first].hash & ~1u;

	return first && (ent[first - 1].hash & ~1u) == h ? h | 1 : h;
}

/* limit and count lie where the first entry's hash would be. */
static void put_index_count(uint8_t *p, unsigned limit, size_t count)
{
	le16_put(p, limit);
	le16_put(p + 2, count);
}

struct index {
	struct ext4_dirent *ent;
	size_t n, leaves, nodes; /* nodes: 0 when the root points to the leaves */
	size_t *first;
};

static void put_root(uint8_t *block, uint32_t ino, uint32_t parent, const struct index *t)
{
	size_t count = t->nodes ? t->nodes : t->leaves;
	uint8_t *index = block + 32;

	put_dots(block, ino, parent, BLOCK - 12);
	block[28] = EXT2_HASH_HALF_MD4;
	block[29] = 8; /* length of this description */
	block[30] = t->nodes != 0;
	for (size_t i = 0; i < count; i++) {
		le32_put(index + 8 * i, leaf_hash(t->ent, t->first[t->nodes ? i * NODE_LIMIT : i]));
		le32_put(index + 8 * i + 4, 1 + i);
	}
	put_index_count(index, ROOT_LIMIT, count);
}

static void put_node(uint8_t *block, const struct index *t, size_t node)
{
	size_t from = node * NODE_LIMIT, count = MIN(t->leaves - from, NODE_LIMIT);
	uint8_t *index = block + 8;

	le16_put(block + 4, BLOCK); /* one unused entry over all of it */
	for (size_t i = 0; i < count; i++) {
		le32_put(index + 8 * i, leaf_hash(t->ent, t->first[from + i]));
		le32_put(index + 8 * i + 4, 1 + t->nodes + from + i);
	}
	put_index_count(index, NODE_LIMIT, count);
}

/* Logical block i of the directory: root, nodes, leaves. */
static void put_tree_block(struct ext4 *x, uint8_t *block, uint32_t ino, uint32_t parent,
	const struct index *t, size_t i)
{
	if (i == 0) {
		put_root(block, ino, parent, t);
	} else if (i <= t->nodes) {
		put_node(block, t, i - 1);
	} else {
		size_t leaf = i - 1 - t->nodes, from = t->first[leaf];
		size_t to = leaf + 1 < t->leaves ? t->first[leaf + 1] : t->n;

		fill_leaf(x, block, 0, t->ent + from, to - from);
	}
}

static int write_tree(struct ext4 *x, uint32_t ino, uint32_t parent, struct index *t, struct err *e)
{
	size_t blocks = 1 + t->nodes + t->leaves;

	for (size_t i = 0; i < blocks;) {
		uint64_t start, got;
		int r = ext4_alloc(x, blocks - i, &start, &got, e);

		if (r == 0)
			r = ext4_runs_add(x, i, start, got, e);
		if (r < 0)
			return r;
		for (; got; got--, i++, start++) {
			uint8_t block[BLOCK] = {0};
			errcode_t er;

			put_tree_block(x, block, ino, parent, t, i);
			er = ext2fs_write_dir_block4(x->fs, start, block, 0, ino);
			if (er)
				return ext4_error(e, er, "write a directory");
		}
	}
	return 0;
}

static int write_indexed(struct ext4 *x, uint32_t ino, uint32_t parent, struct ext4_dirent *ent,
	size_t n, struct err *e)
{
	cleanup_free size_t *first = calloc(n, sizeof(*first));
	struct index t = {.ent = ent, .n = n, .first = first};
	errcode_t er;

	if (!first)
		return err_sys(e, -ENOMEM, "write a directory");
	er = hash_all(x, ent, n);
	if (er)
		return ext4_error(e, er, "write a directory");
	t.leaves = split(ent, n, first);
	if (t.leaves > ROOT_LIMIT)
		t.nodes = (t.leaves + NODE_LIMIT - 1) / NODE_LIMIT;
	if (t.nodes > ROOT_LIMIT)
		return err_set(e, -EFBIG, "a directory of %zu entries", n);
	return write_tree(x, ino, parent, &t, e);
}

static int write_list(struct ext4 *x, uint32_t ino, uint32_t parent, struct ext4_dirent *ent,
	size_t n, struct err *e)
{
	uint8_t block[BLOCK] = {0};
	uint64_t start, got;
	errcode_t er;
	int r = ext4_alloc(x, 1, &start, &got, e);

	if (r == 0)
		r = ext4_runs_add(x, 0, start, 1, e);
	if (r < 0)
		return r;
	put_dots(block, ino, parent, 12);
	fill_leaf(x, block, 24, ent, n);
	er = ext2fs_write_dir_block4(x->fs, start, block, 0, ino);
	return er ? ext4_error(e, er, "write a directory") : 0;
}

int ext4_dir(struct ext4 *x, uint32_t ino, uint32_t parent, struct ext4_dirent *ent, size_t n,
	size_t subdirs, struct err *e)
{
	struct ext2_inode_large inode;
	uint64_t used = 24, size;
	errcode_t er;
	int r;

	for (size_t i = 0; i < n; i++)
		used += entry_size(ent[i].len);
	ext4_runs_clear(x);
	r = used <= LEAF_SPACE ? write_list(x, ino, parent, ent, n, e)
			       : write_indexed(x, ino, parent, ent, n, e);
	if (r < 0)
		return r;
	er = ext2fs_read_inode_full(x->fs, ino, (struct ext2_inode *)&inode, sizeof(inode));
	if (er)
		return ext4_error(e, er, "read an inode");
	size = x->blocks * BLOCK;
	inode.i_size = size;
	inode.i_size_high = size >> 32;
	/* With more subdirectories than links can be counted the count is 1 (dir_nlink). */
	inode.i_links_count = subdirs + 2 < EXT4_LINK_MAX ? subdirs + 2 : 1;
	if (used > LEAF_SPACE)
		inode.i_flags |= EXT2_INDEX_FL;
	return ext4_runs_store(x, ino, &inode, e);
}
