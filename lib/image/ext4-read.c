/* SPDX-License-Identifier: MIT */
#include "lib/image/ext4-read.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "lib/base/attr.h"
#include "lib/base/cleanup.h"
#include "lib/base/le.h"
#include "lib/image/ext4-internal.h"

enum {
	DEPTH_MAX = 5, /* of an extent tree; the kernel's limit, too */
	PIECES_MAX = 1 << 22,
	ACL_BYTES = 4 + 8 * 4096, /* what a block of 32 KiB can hold in short form */
	READABLE = EXT2_FEATURE_INCOMPAT_FILETYPE | EXT2_FEATURE_INCOMPAT_META_BG |
		   EXT3_FEATURE_INCOMPAT_EXTENTS | EXT4_FEATURE_INCOMPAT_64BIT |
		   EXT4_FEATURE_INCOMPAT_FLEX_BG | EXT4_FEATURE_INCOMPAT_EA_INODE |
		   EXT4_FEATURE_INCOMPAT_MMP | EXT4_FEATURE_INCOMPAT_CSUM_SEED |
		   EXT4_FEATURE_INCOMPAT_LARGEDIR | EXT4_FEATURE_INCOMPAT_CASEFOLD,
};

struct ext4_reader {
	ext2_filsys fs;
	const struct disk_read *disk;
	/* Blocks that files have claimed: each belongs to one, so more than there are is a lie, and a way to keep a
	 * reader busy for years. */
	uint64_t claimed, blocks;
	struct ext4_map dir_map; /* memory used again and again */
	uint8_t *dir_block;
};

static int damaged(struct err *e, uint32_t ino, const char *what)
{
	return err_set(e, -EUCLEAN, "the file system is damaged: inode %u: %s", ino, what);
}

/* libext2fs says that what it read cannot be. */
static int bad_read(struct err *e, uint32_t ino, errcode_t code)
{
	if (code < 256 || code == EXT2_ET_NO_MEMORY)
		return ext4_error(e, code, "read the file system");
	return damaged(e, ino, error_message(code));
}

/* --- the whole --- */

static int check_features(const struct ext2_super_block *s, struct err *e)
{
	uint32_t other = s->s_feature_incompat & ~(uint32_t)READABLE;

	if (other & EXT3_FEATURE_INCOMPAT_RECOVER)
		return err_set(e, -EUCLEAN,
			"the file system was not cleanly unmounted: its journal has to be replayed first");
	if (other)
		return err_set(e, -EOPNOTSUPP,
			"the file system uses features that cannot be read here (0x%x)", other);
	return 0;
}

int ext4_reader_open(struct ext4_reader **ret, const struct disk_read *disk, struct err *e)
{
	struct ext4_reader *x = calloc(1, sizeof(*x));
	char name[24];
	errcode_t code;
	int r = -ENOMEM;

	if (!x)
		return err_sys(e, r, "read the file system");
	initialize_ext2_error_table();
	x->disk = disk;
	snprintf(name, sizeof(name), "@%llx", (unsigned long long)(uintptr_t)disk);
	code = ext2fs_open2(name, NULL, EXT2_FLAG_64BITS, 0, 0, &ext4_io_manager, &x->fs);
	if (code) {
		x->fs = NULL;
		r = code < 256 || code == EXT2_ET_NO_MEMORY
			    ? ext4_error(e, code, "read the file system")
			    : err_set(e, -EUCLEAN, "the file system cannot be read: %s",
				      error_message(code));
		goto fail;
	}
	r = check_features(x->fs->super, e);
	if (r < 0)
		goto fail;
	x->blocks = ext2fs_blocks_count(x->fs->super);
	x->dir_block = malloc(x->fs->blocksize);
	if (!x->dir_block) {
		r = err_sys(e, -ENOMEM, "read the file system");
		goto fail;
	}
	*ret = x;
	return 0;
fail:
	ext4_reader_free(x);
	return r;
}

void ext4_reader_free(struct ext4_reader *x)
{
	if (!x)
		return;
	if (x->fs)
		ext2fs_free(x->fs);
	ext4_map_done(&x->dir_map);
	free(x->dir_block);
	free(x);
}

uint64_t ext4_reader_used(const struct ext4_reader *x)
{
	uint64_t free_blocks = ext2fs_free_blocks_count(x->fs->super);

	return (x->blocks - MIN(free_blocks, x->blocks)) * x->fs->blocksize;
}

uint32_t ext4_reader_inodes(const struct ext4_reader *x)
{
	return x->fs->super->s_inodes_count;
}

uint32_t ext4_reader_block_size(const struct ext4_reader *x)
{
	return x->fs->blocksize;
}

/* --- inodes --- */

static struct ext4_time get_time(uint32_t sec, uint32_t extra)
{
	struct ext4_time t = {(int64_t)(int32_t)sec + ((int64_t)(extra & 3) << 32), extra >> 2};

	if (t.nsec > 999999999)
		t.nsec = 0;
	return t;
}

/* Does the inode have this field of its second half? */
#define HAS_EXTRA(x, i, field)                                                                     \
	(EXT2_INODE_SIZE((x)->fs->super) > EXT2_GOOD_OLD_INODE_SIZE &&                             \
		offsetof(struct ext2_inode_large, field) + sizeof((i)->field) <=                   \
			EXT2_GOOD_OLD_INODE_SIZE + (size_t)(i)->i_extra_isize)

static void get_device(const struct ext2_inode_large *i, struct ext4_attr *a)
{
	uint32_t v = i->i_block[0] ? i->i_block[0] : i->i_block[1];

	a->major = v >> 8 & (i->i_block[0] ? 0xff : 0xfff);
	a->minor = i->i_block[0] ? v & 0xff : (v & 0xff) | (v >> 12 & 0xfff00);
}

int ext4_reader_stat(struct ext4_reader *x, uint32_t ino, struct ext4_file *ret, struct err *e)
{
	struct ext2_inode_large i = {0};
	errcode_t code;

	if (ino != EXT4_ROOT &&
		(ino < EXT2_FIRST_INODE(x->fs->super) || ino > x->fs->super->s_inodes_count))
		return damaged(e, ino, "there is no such file");
	code = ext2fs_read_inode_full(x->fs, ino, (struct ext2_inode *)&i, sizeof(i));
	if (code)
		return bad_read(e, ino, code);
	if (i.i_links_count == 0 || i.i_dtime != 0)
		return damaged(e, ino, "it has a name, but is not in use");
	if (i.i_flags & (EXT4_INLINE_DATA_FL | EXT4_ENCRYPT_FL | EXT4_EA_INODE_FL))
		return damaged(e, ino, "flags that a file cannot have here");
	*ret = (struct ext4_file){.ino = ino,
		.links = i.i_links_count,
		.size = i.i_size,
		.flags = i.i_flags,
		.has_blocks = !ext2fs_is_fast_symlink((struct ext2_inode *)&i),
		.attr = {.mode = i.i_mode,
			.uid = inode_uid(i),
			.gid = inode_gid(i),
			.atime = get_time(
				i.i_atime, HAS_EXTRA(x, &i, i_atime_extra) ? i.i_atime_extra : 0),
			.mtime = get_time(
				i.i_mtime, HAS_EXTRA(x, &i, i_mtime_extra) ? i.i_mtime_extra : 0)}};
	memcpy(ret->block, i.i_block, sizeof(ret->block));
	switch (i.i_mode & S_IFMT) {
	case S_IFREG:
	case S_IFDIR: ret->size |= (uint64_t)i.i_size_high << 32; break;
	case S_IFCHR:
	case S_IFBLK: get_device(&i, &ret->attr); break;
	case S_IFLNK:
	case S_IFIFO:
	case S_IFSOCK: break;
	default: return damaged(e, ino, "of an unknown type");
	}
	if (ret->size > 1ull << 44)
		return damaged(e, ino, "its size cannot be");
	return 0;
}

/* --- where the blocks are --- */

void ext4_map_done(struct ext4_map *m)
{
	free(m->piece);
	*m = (struct ext4_map){0};
}

struct mapping {
	struct ext4_reader *x;
	struct ext4_map *m;
	uint32_t ino;
	uint64_t end; /* logical, of the last piece, written or not */
	struct err *e;
	int r;
};

static int claim(struct mapping *g, uint64_t phys, uint64_t len)
{
	struct ext4_reader *x = g->x;

	if (phys < x->fs->super->s_first_data_block || len > x->blocks || phys > x->blocks - len)
		return damaged(g->e, g->ino, "blocks beyond the end of the disk");
	x->claimed += len;
	if (x->claimed > x->blocks)
		return damaged(g->e, g->ino, "files have more blocks than there are");
	return 0;
}

static int add_piece(struct mapping *g, uint64_t logical, uint64_t phys, uint64_t len, bool written)
{
	struct ext4_map *m = g->m;
	struct ext4_piece *last = m->n ? &m->piece[m->n - 1] : NULL;

	if (len == 0 || logical < g->end || logical + len > UINT32_MAX)
		return damaged(g->e, g->ino, "its blocks are out of order");
	g->end = logical + len;
	g->r = claim(g, phys, len);
	if (g->r < 0 || !written)
		return g->r;
	if (last && last->logical + (uint64_t)last->len == logical &&
		last->phys + last->len == phys) {
		last->len += (uint32_t)len;
		return 0;
	}
	if (m->n == m->max) {
		size_t max = m->max ? 2 * m->max : 16;
		struct ext4_piece *p =
			max <= PIECES_MAX ? reallocarray(m->piece, max, sizeof(*p)) : NULL;

		if (!p)
			return err_set(
				g->e, -EFBIG, "inode %u is in too many pieces (%zu)", g->ino, m->n);
		m->piece = p;
		m->max = max;
	}
	m->piece[m->n++] = (struct ext4_piece){phys, (uint32_t)logical, (uint32_t)len};
	return 0;
}

static int map_extents(struct mapping *g, ext2_extent_handle_t h)
{
	struct ext2_extent_info info;
	struct ext2fs_extent ex;
	int op = EXT2_EXTENT_ROOT, r = 0;
	errcode_t code = ext2fs_extent_get_info(h, &info);

	if (!code && info.max_depth > DEPTH_MAX)
		return damaged(g->e, g->ino, "its extent tree is too deep");
	for (; !code && r == 0; op = EXT2_EXTENT_NEXT) {
		code = ext2fs_extent_get(h, op, &ex);
		if (code == EXT2_ET_EXTENT_NO_NEXT)
			return 0;
		if (code)
			break;
		/* Every node is a block of its own, or the tree could go on for ever. */
		if (ex.e_flags & EXT2_EXTENT_FLAGS_LEAF)
			r = add_piece(g, ex.e_lblk, ex.e_pblk, ex.e_len,
				!(ex.e_flags & EXT2_EXTENT_FLAGS_UNINIT));
		else if (!(ex.e_flags & EXT2_EXTENT_FLAGS_SECOND_VISIT))
			r = claim(g, ex.e_pblk, 1);
	}
	return r < 0 ? r : bad_read(g->e, g->ino, code);
}

/* For files of ext2 and ext3. Blocks of the map itself have negative counts. */
static int on_block(
	ext2_filsys fs, blk64_t *block, e2_blkcnt_t count, blk64_t ref, int off, void *ctx)
{
	struct mapping *g = ctx;

	g->r = count < 0 ? claim(g, *block, 1)
			 : add_piece(g, (uint64_t)count, *block, 1, /* written= */ true);
	return g->r < 0 ? BLOCK_ABORT : 0;
}

int ext4_reader_map(
	struct ext4_reader *x, const struct ext4_file *f, struct ext4_map *ret, struct err *e)
{
	struct mapping g = {.x = x, .m = ret, .ino = f->ino, .e = e};
	struct ext2_inode inode = {.i_flags = f->flags, .i_mode = (uint16_t)f->attr.mode};
	errcode_t code;

	ret->n = 0;
	if (!f->has_blocks)
		return 0;
	if (f->flags & EXT4_EXTENTS_FL) {
		ext2_extent_handle_t h = NULL;

		memcpy(inode.i_block, f->block, sizeof(inode.i_block));
		code = ext2fs_extent_open2(x->fs, f->ino, &inode, &h);
		if (code)
			return bad_read(e, f->ino, code);
		g.r = map_extents(&g, h);
		ext2fs_extent_free(h);
		return g.r;
	}
	code = ext2fs_block_iterate3(x->fs, f->ino, BLOCK_FLAG_READ_ONLY, NULL, on_block, &g);
	if (g.r < 0)
		return g.r;
	return code ? bad_read(e, f->ino, code) : 0;
}

int ext4_reader_read(struct ext4_reader *x, const struct ext4_piece *p, uint64_t off, void *buf,
	size_t len, struct err *e)
{
	int r = disk_read_at(x->disk, buf, len, p->phys * x->fs->blocksize + off);

	if (r == -ENODATA)
		return err_set(e, -EUCLEAN, "the disk's end is missing");
	return r < 0 ? err_sys(e, r, "read the disk") : 0;
}

/* --- links, directories, attributes --- */

int ext4_reader_readlink(
	struct ext4_reader *x, const struct ext4_file *f, char buf[EXT4_TARGET_MAX], struct err *e)
{
	struct ext4_map *m = &x->dir_map;
	int r = 0;

	if (f->size == 0 || f->size >= EXT4_TARGET_MAX || f->size > x->fs->blocksize)
		return damaged(e, f->ino, "a symbolic link of impossible length");
	if (!f->has_blocks) {
		if (f->size > sizeof(f->block))
			return damaged(e, f->ino, "a symbolic link of impossible length");
		memcpy(buf, f->block, f->size);
	} else {
		r = ext4_reader_map(x, f, m, e);
		if (r == 0 && (m->n == 0 || m->piece[0].logical != 0))
			r = damaged(e, f->ino, "a symbolic link without its target");
		if (r == 0)
			r = ext4_reader_read(x, &m->piece[0], 0, buf, f->size, e);
	}
	buf[r < 0 ? 0 : f->size] = '\0';
	if (r == 0 && strlen(buf) != f->size)
		r = damaged(e, f->ino, "a symbolic link's target holds a NUL");
	return r;
}

static int each_entry(struct ext4_reader *x, uint32_t ino, ext4_dir_fn fn, void *ctx, struct err *e)
{
	uint8_t *block = x->dir_block;
	unsigned size = x->fs->blocksize, rec_len;

	for (unsigned off = 0; off < size; off += rec_len) {
		struct ext2_dir_entry *de = (struct ext2_dir_entry *)(block + off);
		size_t len = (size_t)ext2fs_dirent_name_len(de);
		int r;

		if (off + 8 > size || ext2fs_get_rec_len(x->fs, de, &rec_len) || rec_len < 8 ||
			rec_len % 4 || rec_len > size - off || len + 8 > rec_len)
			return damaged(e, ino, "a directory entry of impossible length");
		/* Unused; also the index of a large directory, and the checksum at the end. */
		if (de->inode == 0 || (len == 1 && de->name[0] == '.') ||
			(len == 2 && !memcmp(de->name, "..", 2)))
			continue;
		if (len == 0 || memchr(de->name, '/', len) || memchr(de->name, '\0', len))
			return damaged(e, ino, "a name that cannot be");
		r = fn(ctx, de->inode, de->name, len);
		if (r)
			return r;
	}
	return 0;
}

int ext4_reader_dir(
	struct ext4_reader *x, const struct ext4_file *f, ext4_dir_fn fn, void *ctx, struct err *e)
{
	struct ext4_map m = x->dir_map;
	int r;

	x->dir_map = (struct ext4_map){0};
	r = ext4_reader_map(x, f, &m, e);
	for (size_t i = 0; i < m.n && r == 0; i++)
		for (uint32_t k = 0; k < m.piece[i].len && r == 0; k++) {
			errcode_t code = ext2fs_read_dir_block4(
				x->fs, m.piece[i].phys + k, x->dir_block, 0, f->ino);

			r = code ? bad_read(e, f->ino, code) : each_entry(x, f->ino, fn, ctx, e);
		}
	x->dir_map = m;
	return r;
}

/*
 * On disk an access control list is short: version 1, and only entries for named users and groups have an id
 * (fs/ext4/acl.h). len bytes at p become those of linux/posix_acl_xattr.h; the length, or -EUCLEAN.
 */
static int acl_from_disk(const uint8_t *p, size_t len, uint8_t out[ACL_BYTES])
{
	enum { USER = 2, GROUP = 8 };
	size_t n = 4;

	if (len < 4 || le32_get(p) != 1)
		return -EUCLEAN;
	le32_put(out, 2);
	for (size_t off = 4; off < len; n += 8) {
		bool named =
			len - off >= 4 && (le16_get(p + off) == USER || le16_get(p + off) == GROUP);
		size_t size = named ? 8 : 4;

		if (len - off < size || n + 8 > ACL_BYTES)
			return -EUCLEAN;
		memcpy(out + n, p + off, 4);
		le32_put(out + n + 4, named ? le32_get(p + off + 4) : UINT32_MAX);
		off += size;
	}
	return (int)n;
}

struct xattrs {
	ext4_xattr_fn fn;
	void *ctx;
	int r;
	struct err *e;
	uint32_t ino;
	uint8_t acl[ACL_BYTES];
};

static int on_xattr(char *name, char *value, size_t len, void *ctx)
{
	struct xattrs *s = ctx;

	if (!strncmp(name, "system.posix_acl_", 17)) {
		int n = acl_from_disk((const uint8_t *)value, len, s->acl);

		s->r = n < 0 ? damaged(s->e, s->ino, "an access control list that cannot be")
			     : s->fn(s->ctx, name, s->acl, (size_t)n);
	} else {
		s->r = s->fn(s->ctx, name, value, len);
	}
	return s->r ? XATTR_ABORT : 0;
}

int ext4_reader_xattrs(struct ext4_reader *x, const struct ext4_file *f, ext4_xattr_fn fn,
	void *ctx, struct err *e)
{
	struct xattrs s = {.fn = fn, .ctx = ctx, .e = e, .ino = f->ino};
	struct ext2_xattr_handle *h = NULL;
	errcode_t code = ext2fs_xattrs_open(x->fs, f->ino, &h);

	if (!code)
		code = ext2fs_xattrs_read(h);
	if (!code)
		code = ext2fs_xattrs_iterate(h, on_xattr, &s);
	if (h)
		ext2fs_xattrs_close(&h);
	return s.r ? s.r : code ? bad_read(e, f->ino, code) : 0;
}

/* --- by name --- */

struct want {
	const char *name;
	size_t len;
	uint32_t ino;
};

static int is_wanted(void *ctx, uint32_t ino, const char *name, size_t len)
{
	struct want *w = ctx;

	if (len != w->len || memcmp(name, w->name, len) != 0)
		return 0;
	w->ino = ino;
	return 1;
}

void ext4_reader_again(struct ext4_reader *x)
{
	x->claimed = 0;
}

int ext4_reader_find(struct ext4_reader *x, const char *path, struct ext4_file *ret, struct err *e)
{
	int r;

	ext4_reader_again(x); /* directories are read again for every path */
	r = ext4_reader_stat(x, EXT4_ROOT, ret, e);
	while (r == 0 && *path) {
		struct want w = {.name = path, .len = strcspn(path, "/")};

		if (!S_ISDIR(ret->attr.mode))
			return -ENOENT;
		r = ext4_reader_dir(x, ret, is_wanted, &w, e);
		if (r == 0)
			return -ENOENT;
		if (r > 0)
			r = ext4_reader_stat(x, w.ino, ret, e);
		path += w.len;
		path += *path == '/';
	}
	return r;
}

int ext4_reader_load(struct ext4_reader *x, const struct ext4_file *f, size_t max, char **ret,
	size_t *ret_len, struct err *e)
{
	size_t len = MIN(f->size, max), bs = x->fs->blocksize;
	cleanup_free char *buf = calloc(1, len + 1);
	struct ext4_map m = {0};
	int r = buf ? ext4_reader_map(x, f, &m, e) : err_sys(e, -ENOMEM, "read a file");

	for (size_t i = 0; r == 0 && i < m.n && m.piece[i].logical * bs < len; i++) {
		size_t at = m.piece[i].logical * bs;

		r = ext4_reader_read(
			x, &m.piece[i], 0, buf + at, MIN(m.piece[i].len * bs, len - at), e);
	}
	ext4_map_done(&m);
	if (r == 0) {
		*ret = take_ptr(buf);
		*ret_len = len;
	}
	return r;
}
