/* SPDX-License-Identifier: MIT */
#include "mount/disk-fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include "lib/base/attr.h"
#include "lib/image/ext4-read.h"

struct fs_node {
	uint32_t ino;
};

struct fs_handle {
	uint32_t ino;
	struct ext4_file file;
	struct ext4_map map;
};

struct entry {
	uint32_t ino;
	char *name;
};

/* The folder that was read last: looking names up in it reads it no second time. */
struct listing {
	uint32_t ino;
	size_t n, max;
	struct entry *entry;
};

struct disk_fs {
	struct fs fs;
	struct ext4_reader *x;
	struct fs_node root;
	struct listing dir;
};

static struct disk_fs *to_disk(struct fs *fs)
{
	return (struct disk_fs *)fs;
}

static struct fs_node *d_root(struct fs *fs)
{
	return &to_disk(fs)->root;
}

static void dir_forget(struct listing *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->entry[i].name);
	free(l->entry);
	*l = (struct listing){0};
}

static void d_free(struct fs *fs)
{
	struct disk_fs *d = to_disk(fs);

	dir_forget(&d->dir);
	ext4_reader_free(d->x);
	free(d);
}

static int stat_ino(struct disk_fs *d, uint32_t ino, struct ext4_file *f)
{
	ext4_reader_again(d->x);
	return ext4_reader_stat(d->x, ino, f, NULL);
}

static void attr_of(const struct disk_fs *d, const struct ext4_file *f, struct fs_attr *ret)
{
	*ret = (struct fs_attr){.ino = f->ino,
		.rdev = makedev(f->attr.major, f->attr.minor),
		.size = f->size,
		.blocks = (f->size + 511) / 512,
		.mode = f->attr.mode,
		.nlink = f->links,
		.uid = f->attr.uid,
		.gid = f->attr.gid,
		.blksize = ext4_reader_block_size(d->x),
		.atime = {f->attr.atime.sec, f->attr.atime.nsec},
		.mtime = {f->attr.mtime.sec, f->attr.mtime.nsec},
		.ctime = {f->attr.mtime.sec, f->attr.mtime.nsec}};
}

static int add_entry(void *ctx, uint32_t ino, const char *name, size_t len)
{
	struct listing *l = ctx;

	if (l->n == l->max) {
		size_t max = l->max ? 2 * l->max : 64;
		struct entry *p = reallocarray(l->entry, max, sizeof(*p));

		if (!p)
			return -ENOMEM;
		l->entry = p;
		l->max = max;
	}
	l->entry[l->n].ino = ino;
	l->entry[l->n].name = strndup(name, len);
	return l->entry[l->n].name ? (l->n++, 0) : -ENOMEM;
}

static int read_dir(struct disk_fs *d, uint32_t ino)
{
	struct ext4_file f;
	int r;

	if (d->dir.ino == ino)
		return 0;
	dir_forget(&d->dir);
	r = stat_ino(d, ino, &f);
	if (r == 0 && !S_ISDIR(f.attr.mode))
		r = -ENOTDIR;
	if (r == 0)
		r = ext4_reader_dir(d->x, &f, add_entry, &d->dir, NULL);
	if (r < 0)
		dir_forget(&d->dir);
	else
		d->dir.ino = ino;
	return r;
}

static int entry_for(struct disk_fs *d, uint32_t ino, struct fs_entry *ret)
{
	struct ext4_file f;
	int r = stat_ino(d, ino, &f);

	if (r < 0)
		return r;
	attr_of(d, &f, &ret->attr);
	ret->node = malloc(sizeof(*ret->node));
	if (!ret->node)
		return -ENOMEM;
	ret->node->ino = ino;
	return 0;
}

static int d_lookup(struct fs *fs, const struct fs_cred *c, struct fs_node *dir, const char *name,
	struct fs_entry *ret)
{
	struct disk_fs *d = to_disk(fs);
	int r = read_dir(d, dir->ino);

	for (size_t i = 0; r == 0 && i < d->dir.n; i++)
		if (!strcmp(d->dir.entry[i].name, name))
			return entry_for(d, d->dir.entry[i].ino, ret);
	return r < 0 ? r : -ENOENT;
}

static void d_forget(struct fs *fs, struct fs_node *n, uint64_t count)
{
	if (n != &to_disk(fs)->root)
		free(n);
}

static int d_getattr(struct fs *fs, const struct fs_cred *c, struct fs_node *n, struct fs_handle *h,
	struct fs_attr *ret)
{
	struct ext4_file f;
	int r = stat_ino(to_disk(fs), n->ino, &f);

	if (r == 0)
		attr_of(to_disk(fs), &f, ret);
	return r;
}

static ssize_t d_readlink(struct fs *fs, struct fs_node *n, char *buf, size_t cap)
{
	char target[EXT4_TARGET_MAX];
	struct ext4_file f;
	int r = stat_ino(to_disk(fs), n->ino, &f);
	size_t len;

	if (r == 0)
		r = S_ISLNK(f.attr.mode) ? ext4_reader_readlink(to_disk(fs)->x, &f, target, NULL)
					 : -EINVAL;
	if (r < 0)
		return r;
	len = MIN(strlen(target), cap);
	memcpy(buf, target, len);
	return (ssize_t)len;
}

/* What the files' owners would have allowed others is for this host's user to say, whose disk it is. */
static int d_access(struct fs *fs, const struct fs_cred *c, struct fs_node *n, int mask)
{
	return mask & W_OK ? -EROFS : 0;
}

static int open_ino(struct disk_fs *d, uint32_t ino, struct fs_handle **ret)
{
	struct fs_handle *h = calloc(1, sizeof(*h));
	int r = h ? stat_ino(d, ino, &h->file) : -ENOMEM;

	if (r == 0 && S_ISREG(h->file.attr.mode))
		r = ext4_reader_map(d->x, &h->file, &h->map, NULL);
	if (r < 0) {
		if (h)
			ext4_map_done(&h->map);
		free(h);
		return r;
	}
	h->ino = ino;
	*ret = h;
	return 0;
}

static int d_open(struct fs *fs, const struct fs_cred *c, struct fs_node *n, uint32_t flags,
	struct fs_handle **ret)
{
	if ((flags & O_ACCMODE) != O_RDONLY || flags & O_TRUNC)
		return -EROFS;
	return open_ino(to_disk(fs), n->ino, ret);
}

static int d_opendir(
	struct fs *fs, const struct fs_cred *c, struct fs_node *n, struct fs_handle **ret)
{
	return open_ino(to_disk(fs), n->ino, ret);
}

static void d_close(struct fs *fs, struct fs_handle *h)
{
	ext4_map_done(&h->map);
	free(h);
}

/* Holes are zeroes; pieces are in rising order. */
static ssize_t d_read(struct fs *fs, struct fs_handle *h, const struct iovec *iov, unsigned cnt,
	uint64_t off, uint32_t how)
{
	struct disk_fs *d = to_disk(fs);
	uint64_t bs = ext4_reader_block_size(d->x), end;
	char *buf = cnt ? iov[0].iov_base : NULL;

	if (!cnt || off >= h->file.size)
		return 0;
	end = MIN(h->file.size, off + iov[0].iov_len);
	memset(buf, 0, end - off);
	for (size_t i = 0; i < h->map.n; i++) {
		const struct ext4_piece *p = &h->map.piece[i];
		uint64_t from = MAX(p->logical * bs, off),
			 to = MIN((p->logical + p->len) * bs, end);
		int r;

		if (from >= to)
			continue;
		r = ext4_reader_read(
			d->x, p, from - p->logical * bs, buf + (from - off), to - from, NULL);
		if (r < 0)
			return r;
	}
	return (ssize_t)(end - off);
}

static int64_t d_lseek(struct fs *fs, struct fs_handle *h, uint64_t off, int whence)
{
	uint64_t bs = ext4_reader_block_size(to_disk(fs)->x), at = off;

	if (off >= h->file.size)
		return -ENXIO;
	for (size_t i = 0; i < h->map.n; i++) {
		uint64_t from = h->map.piece[i].logical * bs, to = from + h->map.piece[i].len * bs;

		if (to <= at)
			continue;
		if (whence == SEEK_DATA)
			return MAX(from, off) < h->file.size ? (int64_t)MAX(from, off) : -ENXIO;
		if (from > at)
			break;
		at = to;
	}
	return whence == SEEK_DATA ? -ENXIO : (int64_t)MIN(at, h->file.size);
}

static int d_readdir(struct fs *fs, const struct fs_cred *c, struct fs_handle *h, uint64_t off,
	bool entries, fs_dirent_fn fn, void *ctx)
{
	struct disk_fs *d = to_disk(fs);
	int r = read_dir(d, h->ino);

	for (uint64_t i = off; r == 0 && i < d->dir.n; i++) {
		struct fs_dirent de = {
			.ino = d->dir.entry[i].ino, .next = i + 1, .name = d->dir.entry[i].name};
		struct fs_entry en = {0};
		bool more;

		/* One that is damaged has no attributes; looking at it says so. */
		if (entry_for(d, (uint32_t)de.ino, &en) < 0)
			en.node = NULL;
		else
			de.type = IFTODT(en.attr.mode);
		if (entries)
			de.entry = en;
		/* What is taken has a node that goes with it; what finds no room comes with the next call. */
		more = fn(ctx, &de);
		if (!more || !entries)
			free(en.node);
		if (!more)
			break;
	}
	return r;
}

struct xattr_get {
	const char *name; /* NULL: their names are wanted */
	char *buf;
	size_t cap, len;
	bool found;
};

static int on_xattr(void *ctx, const char *name, const void *value, size_t len)
{
	struct xattr_get *g = ctx;

	if (g->name && strcmp(name, g->name) != 0)
		return 0;
	if (!g->name) {
		value = name;
		len = strlen(name) + 1;
	}
	g->found = true;
	if (g->cap && g->len + len > g->cap)
		return -ERANGE;
	if (g->cap)
		memcpy(g->buf + g->len, value, len);
	g->len += len;
	return 0;
}

static ssize_t xattrs(struct fs *fs, struct fs_node *n, struct xattr_get *g)
{
	struct ext4_file f;
	int r = stat_ino(to_disk(fs), n->ino, &f);

	if (r == 0)
		r = ext4_reader_xattrs(to_disk(fs)->x, &f, on_xattr, g, NULL);
	if (r == 0 && g->name && !g->found)
		r = -ENODATA;
	return r < 0 ? r : (ssize_t)g->len;
}

static ssize_t d_getxattr(struct fs *fs, struct fs_node *n, const char *name, void *buf, size_t cap)
{
	return xattrs(fs, n, &(struct xattr_get){.name = name, .buf = buf, .cap = cap});
}

static ssize_t d_listxattr(struct fs *fs, struct fs_node *n, char *buf, size_t cap)
{
	return xattrs(fs, n, &(struct xattr_get){.buf = buf, .cap = cap});
}

static int d_statfs(struct fs *fs, struct fs_node *n, struct fs_stat *ret)
{
	struct ext4_reader *x = to_disk(fs)->x;
	uint32_t bs = ext4_reader_block_size(x);

	*ret = (struct fs_stat){.type = 0xef53,
		.bsize = bs,
		.frsize = bs,
		.blocks = ext4_reader_used(x) / bs,
		.files = ext4_reader_inodes(x),
		.namelen = 255};
	return 0;
}

static int d_fsync(struct fs *fs, struct fs_handle *h, bool data_only)
{
	return 0;
}

/* --- all that would change something --- */

static int no_setattr(struct fs *fs, const struct fs_cred *c, struct fs_node *n,
	struct fs_handle *h, uint32_t set, const struct fs_attr *a, struct fs_attr *ret)
{
	return -EROFS;
}

static int no_mknod(struct fs *fs, const struct fs_cred *c, struct fs_node *dir, const char *name,
	uint32_t mode, uint64_t rdev, struct fs_entry *ret)
{
	return -EROFS;
}

static int no_mkdir(struct fs *fs, const struct fs_cred *c, struct fs_node *dir, const char *name,
	uint32_t mode, struct fs_entry *ret)
{
	return -EROFS;
}

static int no_symlink(struct fs *fs, const struct fs_cred *c, struct fs_node *dir, const char *name,
	const char *target, struct fs_entry *ret)
{
	return -EROFS;
}

static int no_link(struct fs *fs, const struct fs_cred *c, struct fs_node *n, struct fs_node *dir,
	const char *name, struct fs_entry *ret)
{
	return -EROFS;
}

static int no_unlink(struct fs *fs, const struct fs_cred *c, struct fs_node *dir, const char *name)
{
	return -EROFS;
}

static int no_rename(struct fs *fs, const struct fs_cred *c, struct fs_node *dir, const char *name,
	struct fs_node *new_dir, const char *new_name, uint32_t flags)
{
	return -EROFS;
}

static int no_create(struct fs *fs, const struct fs_cred *c, struct fs_node *dir, const char *name,
	uint32_t mode, uint32_t flags, struct fs_entry *ret, struct fs_handle **ret_h)
{
	return -EROFS;
}

static ssize_t no_write(struct fs *fs, struct fs_handle *h, const struct iovec *iov, unsigned cnt,
	uint64_t off, uint32_t how)
{
	return -EROFS;
}

static int no_fallocate(struct fs *fs, struct fs_handle *h, int mode, uint64_t off, uint64_t len)
{
	return -EROFS;
}

static ssize_t no_copy(struct fs *fs, struct fs_handle *in, uint64_t in_off, struct fs_handle *out,
	uint64_t out_off, uint64_t len)
{
	return -EROFS;
}

static int no_setxattr(struct fs *fs, const struct fs_cred *c, struct fs_node *n, const char *name,
	const void *val, size_t len, int flags)
{
	return -EROFS;
}

static int no_removexattr(
	struct fs *fs, const struct fs_cred *c, struct fs_node *n, const char *name)
{
	return -EROFS;
}

static const struct fs_ops ops = {.root = d_root,
	.free = d_free,
	.lookup = d_lookup,
	.forget = d_forget,
	.getattr = d_getattr,
	.setattr = no_setattr,
	.readlink = d_readlink,
	.access = d_access,
	.mknod = no_mknod,
	.mkdir = no_mkdir,
	.symlink = no_symlink,
	.link = no_link,
	.unlink = no_unlink,
	.rmdir = no_unlink,
	.rename = no_rename,
	.open = d_open,
	.create = no_create,
	.close = d_close,
	.read = d_read,
	.write = no_write,
	.fsync = d_fsync,
	.fallocate = no_fallocate,
	.lseek = d_lseek,
	.copy_range = no_copy,
	.opendir = d_opendir,
	.readdir = d_readdir,
	.getxattr = d_getxattr,
	.listxattr = d_listxattr,
	.setxattr = no_setxattr,
	.removexattr = no_removexattr,
	.statfs = d_statfs};

int disk_fs_new(struct fs **ret, const struct disk_read *disk, struct err *e)
{
	struct disk_fs *d = calloc(1, sizeof(*d));
	int r = d ? ext4_reader_open(&d->x, disk, e) : err_sys(e, -ENOMEM, "read the disk");

	if (r < 0) {
		free(d);
		return r;
	}
	d->fs.ops = &ops;
	d->root.ino = EXT4_ROOT;
	*ret = &d->fs;
	return 0;
}
