/* SPDX-License-Identifier: MIT */
/*
 * A root file system archive becomes a disk: libarchive reads it, tree.c keeps the names, ext4.c writes. What the
 * archive says is taken as the root of the new system and never followed out of it: no "..", no path through a symbolic
 * link, hard links only to what came before, device nodes only below /dev.
 */
#include "lib/image/image.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "lib/base/attr.h"
#include "lib/base/cleanup.h"
#include "lib/image/tar-internal.h"
#include "lib/image/tree.h"

enum { READ_CHUNK = 1 << 18, PROGRESS_STEP = 1 << 20 };

struct import {
	const struct image_write_opts *o;
	struct archive *a;
	struct ext4 *x;
	struct tree *t;
	struct image_progress progress;
	uint64_t next_report;
	int64_t consumed; /* of the decompressed archive, at the end of the last entry */
	bool docker;	  /* looks like the output of docker save */
};

static int archive_err(struct import *im, struct err *e)
{
	const char *text = archive_error_string(im->a);
	int code = archive_errno(im->a);

	if (code == ENOMEM)
		return err_sys(e, -ENOMEM, "read the archive");
	if (code == EIO || code == EISDIR || code == EBADF)
		return err_sys(e, -code, "read the archive");
	if (text && strstr(text, "Unrecognized archive format"))
		return err_set(e, -EINVAL,
			"not a tar archive, or compressed in a way that is not supported");
	return err_set(e, -EINVAL, "the archive is damaged or cut short: %s",
		text ? text : "unknown error");
}

static void report(struct import *im, bool now)
{
	const struct image_import_opts *io = im->o->io;

	im->progress.read = MAX(archive_filter_bytes(im->a, -1), 0);
	if (!io->progress || (!now && im->progress.read < im->next_report))
		return;
	im->next_report = im->progress.read + PROGRESS_STEP;
	io->progress(io->ctx, &im->progress);
}

/* --- entries --- */

static struct ext4_attr attr_of(const struct import *im, struct archive_entry *entry)
{
	struct ext4_attr a = {
		.mode = archive_entry_mode(entry),
		.uid = (uint32_t)archive_entry_uid(entry),
		.gid = (uint32_t)archive_entry_gid(entry),
		.mtime = {im->o->now, 0},
		.major = archive_entry_rdevmajor(entry),
		.minor = archive_entry_rdevminor(entry),
	};

	if (archive_entry_mtime_is_set(entry))
		a.mtime = (struct ext4_time){archive_entry_mtime(entry),
			(uint32_t)archive_entry_mtime_nsec(entry) % 1000000000u};
	a.atime = a.mtime;
	if (archive_entry_atime_is_set(entry))
		a.atime = (struct ext4_time){archive_entry_atime(entry),
			(uint32_t)archive_entry_atime_nsec(entry) % 1000000000u};
	return a;
}

/* The directory that path lies in, made if the archive forgot it; *ret_name: the last component. */
static int parent_of(struct import *im, const char *path, struct node **ret, const char **ret_name,
	struct err *e)
{
	const struct ext4_attr made = {
		.mode = S_IFDIR | 0755, .atime.sec = im->o->now, .mtime.sec = im->o->now};
	struct node *dir = tree_root(im->t);

	for (const char *slash; (slash = strchr(path, '/')); path = slash + 1) {
		size_t len = slash - path;
		struct node *n = tree_child(im->t, dir, path, len);
		uint32_t ino;
		int r;

		if (n && !S_ISDIR(n->mode))
			return err_set(
				e, -EINVAL, "lies below %s, which is not a directory", n->name);
		if (!n) {
			r = ext4_inode(im->x, &made, &ino, e);
			if (r < 0)
				return r;
			r = tree_add(im->t, dir, path, len, ino, made.mode, &n);
			if (r < 0)
				return err_sys(e, r, "add a directory");
		}
		dir = n;
	}
	*ret = dir;
	*ret_name = path;
	return 0;
}

static int put_xattrs(struct import *im, uint32_t ino, const struct xattr_set *s, struct err *e)
{
	return s->n ? ext4_set_xattrs(im->x, ino, s->xa, s->n, e) : 0;
}

static int copy_data(struct import *im, struct archive_entry *entry, uint32_t ino, struct err *e)
{
	int64_t size = archive_entry_size(entry), off;
	const void *buf;
	size_t len;
	int r;

	while ((r = archive_read_data_block(im->a, &buf, &len, &off)) == ARCHIVE_OK) {
		if (off < 0 || off > size || len > (uint64_t)(size - off))
			return err_set(e, -EINVAL, "more content than its size says");
		r = ext4_write(im->x, off, buf, len, e);
		if (r < 0)
			return r;
		report(im, /* now= */ false);
	}
	if (r != ARCHIVE_EOF)
		return archive_err(im, e);
	return ext4_write_end(im->x, ino, size, e);
}

/* Anything but directories and hard links, under a name that is free. */
static int add_new(struct import *im, struct archive_entry *entry, struct node *dir,
	const char *name, struct ext4_attr *a, const struct xattr_set *s, struct err *e)
{
	bool node = S_ISCHR(a->mode) || S_ISBLK(a->mode);
	struct node *n;
	uint32_t ino;
	int r;

	if (S_ISLNK(a->mode)) {
		const char *target = archive_entry_symlink(entry);

		if (!target)
			target = archive_entry_symlink_utf8(entry);
		r = ext4_symlink(im->x, a, target ? target : "", &ino, e);
	} else if (S_ISREG(a->mode) || S_ISFIFO(a->mode) || S_ISDIR(a->mode) || node) {
		if (node && (a->major > 0xfff || a->minor > 0xfffff))
			return err_set(e, -EINVAL, "device numbers out of range");
		r = ext4_inode(im->x, a, &ino, e);
		if (r == 0 && S_ISREG(a->mode))
			r = copy_data(im, entry, ino, e);
	} else {
		return err_set(e, -EINVAL, "of an unknown type");
	}
	if (r == 0)
		r = put_xattrs(im, ino, s, e);
	if (r < 0)
		return r;
	r = tree_add(im->t, dir, name, strlen(name), ino, a->mode, &n);
	return r < 0 ? err_sys(e, r, "add a name") : 0;
}

static int drop(struct import *im, struct node *old, struct err *e)
{
	int r = ext4_link_count(im->x, old->ino, -1, e);

	if (r == 0)
		tree_remove(im->t, old);
	return r;
}

static int add_link(struct import *im, struct node *dir, const char *name, struct node *old,
	const char *to, bool absolute, struct err *e)
{
	char target[TREE_MAX_PATH];
	bool to_absolute;
	struct node *n, *made;
	int r = tree_normalise(to, target, &to_absolute, e);

	if (r < 0)
		return err_wrap(e, r, "hard link");
	if (to_absolute && !absolute)
		return err_set(e, -EINVAL, "hard link to the absolute path %s", to);
	n = tree_find(im->t, target);
	if (!n)
		return err_set(
			e, -EINVAL, "hard link to %s, which the archive has not had before", to);
	if (S_ISDIR(n->mode))
		return err_set(e, -EINVAL, "hard link to the directory %s", to);
	if (n == old)
		return 0;
	r = ext4_link_count(im->x, n->ino, +1, e);
	if (r == 0 && old)
		r = drop(im, old, e);
	if (r < 0)
		return r;
	r = tree_add(im->t, dir, name, strlen(name), n->ino, n->mode, &made);
	return r < 0 ? err_sys(e, r, "add a name") : 0;
}

static int check_policy(
	const char *path, const struct ext4_attr *a, int64_t uid, int64_t gid, struct err *e)
{
	if (uid < 0 || gid < 0 || uid >= UINT32_MAX || gid >= UINT32_MAX)
		return err_set(e, -EINVAL, "owner out of range");
	if ((S_ISCHR(a->mode) || S_ISBLK(a->mode)) && strncmp(path, "dev/", 4) != 0)
		return err_set(e, -EINVAL, "device node outside /dev");
	return 0;
}

static int add_entry(struct import *im, struct archive_entry *entry, const char *path,
	bool absolute, struct err *e)
{
	const char *link = archive_entry_hardlink(entry), *name = NULL;
	struct ext4_attr a = attr_of(im, entry);
	struct node *dir = NULL, *old;
	struct xattr_set s;
	int r;

	if (!link)
		link = archive_entry_hardlink_utf8(entry);
	r = xattr_collect(entry, &s, &a.mode, e);
	if (r == 0)
		r = check_policy(path, &a, archive_entry_uid(entry), archive_entry_gid(entry), e);
	if (r < 0)
		return r;
	if (!*path) {
		if (link || !S_ISDIR(a.mode))
			return err_set(e, -EINVAL, "the root is not a directory");
		r = ext4_set_attr(im->x, EXT4_ROOT, &a, e);
		return r < 0 ? r : put_xattrs(im, EXT4_ROOT, &s, e);
	}
	r = parent_of(im, path, &dir, &name, e);
	if (r < 0)
		return r;
	old = tree_child(im->t, dir, name, strlen(name));
	if (old && S_ISDIR(old->mode) && !link && S_ISDIR(a.mode)) {
		r = ext4_set_attr(im->x, old->ino, &a, e);
		return r < 0 ? r : put_xattrs(im, old->ino, &s, e);
	}
	if (old && (S_ISDIR(old->mode) || (!link && S_ISDIR(a.mode))))
		return err_set(
			e, -EINVAL, "is in the archive both as a directory and as something else");
	if (link)
		return add_link(im, dir, name, old, link, absolute, e);
	if (old && (r = drop(im, old, e)) < 0)
		return r;
	return add_new(im, entry, dir, name, &a, &s, e);
}

/* Names in a message must not play with the reader's terminal. */
static int printable(struct err *e, int r)
{
	for (char *p = e ? e->text : NULL; p && *p; p++)
		if ((uint8_t)*p < ' ' || *p == 0x7f)
			*p = '?';
	return r;
}

static int short_name(const char *path)
{
	return (int)MIN(strlen(path), 200u);
}

static int read_entry(struct import *im, struct archive_entry *entry, int how, struct err *e)
{
	const char *path = archive_entry_pathname(entry);
	char safe[TREE_MAX_PATH];
	bool absolute;
	int r;

	if (!path)
		path = archive_entry_pathname_utf8(entry);
	if (how == ARCHIVE_WARN) {
		const char *text = archive_error_string(im->a);

		return err_set(
			e, -EINVAL, "%s: %s", path ? path : "an entry", text ? text : "damaged");
	}
	if (!path)
		return err_set(e, -EINVAL, "an entry without a name");
	r = tree_normalise(path, safe, &absolute, e);
	if (r < 0)
		return r;
	r = add_entry(im, entry, safe, absolute, e);
	if (r < 0)
		return err_wrap(e, r, "%.*s", short_name(path), path);
	if (!strcmp(safe, "manifest.json") || !strcmp(safe, "oci-layout"))
		im->docker = true;
	im->progress.files++;
	return 0;
}

static int read_all(struct import *im, struct err *e)
{
	struct archive_entry *entry;
	int r;

	for (;;) {
		int how = archive_read_next_header(im->a, &entry);

		if (how == ARCHIVE_EOF)
			break;
		if (how != ARCHIVE_OK && how != ARCHIVE_WARN)
			return archive_err(im, e);
		r = read_entry(im, entry, how, e);
		if (r < 0)
			return printable(e, r);
		im->consumed = archive_filter_bytes(im->a, 0);
		report(im, /* now= */ false);
	}
	/* Two blocks of zeroes end an archive. libarchive does not insist; but without them, who knows what is missing? */
	if (im->progress.files &&
		archive_filter_bytes(im->a, 0) - ALIGN_UP(im->consumed, 512) < 512)
		return err_set(e, -EINVAL, "the archive is cut short: its end mark is missing");
	return 0;
}

/* --- the whole --- */

static bool has(struct import *im, const char *path)
{
	return tree_find(im->t, path) != NULL;
}

/* As much as makes it worth booting: a shell, or /etc beside programs. /bin may be a link to usr/bin. */
static int check_root_fs(struct import *im, struct err *e)
{
	if (!im->progress.files)
		return err_set(e, -EINVAL, "the archive is empty");
	if (has(im, "bin/sh") || has(im, "usr/bin/sh") ||
		(has(im, "etc") && (has(im, "usr/bin") || has(im, "bin"))))
		return 0;
	if (im->docker)
		return err_set(e, -EINVAL,
			"an archive of container image layers, not of a root file system (use the output of \"export\")");
	return err_set(e, -EINVAL,
		"not a root file system: there is neither /bin/sh nor /etc with /usr/bin");
}

static int put_dir(void *ctx, struct node *dir)
{
	struct import *im = ((void **)ctx)[0];
	struct err *e = ((void **)ctx)[1];
	cleanup_free struct ext4_dirent *ent = calloc(dir->children + 1, sizeof(*ent));
	size_t i = dir->children;

	if (!ent)
		return err_sys(e, -ENOMEM, "write a directory");
	/* The list has the newest first. */
	for (struct node *n = dir->child; n; n = n->next)
		if (!n->gone)
			ent[--i] = (struct ext4_dirent){
				.ino = n->ino, .mode = n->mode, .name = n->name, .len = n->len};
	return ext4_dir(im->x, dir->ino, dir->parent->ino, ent, dir->children, dir->subdirs, e);
}

static int open_archive(struct import *im, struct err *e)
{
	im->a = archive_read_new();
	if (!im->a)
		return err_sys(e, -ENOMEM, "read the archive");
	/* Only what libarchive does itself: its other filters run programs. */
	archive_read_support_filter_gzip(im->a);
	archive_read_support_filter_bzip2(im->a);
	archive_read_support_filter_xz(im->a);
	archive_read_support_filter_lzma(im->a);
	archive_read_support_filter_lzip(im->a);
	archive_read_support_filter_zstd(im->a);
	archive_read_support_filter_lz4(im->a);
	archive_read_support_filter_compress(im->a);
	archive_read_support_format_tar(im->a);
	if (archive_read_open_fd(im->a, im->o->io->in_fd, READ_CHUNK) != ARCHIVE_OK)
		return archive_err(im, e);
	return 0;
}

static int lost_and_found(struct import *im, struct err *e)
{
	const struct ext4_attr a = {
		.mode = S_IFDIR | 0700, .atime.sec = im->o->now, .mtime.sec = im->o->now};
	struct node *n;
	uint32_t ino;
	int r = ext4_inode(im->x, &a, &ino, e);

	if (r < 0)
		return r;
	r = tree_add(im->t, tree_root(im->t), "lost+found", 10, ino, a.mode, &n);
	return r < 0 ? err_sys(e, r, "make a file system") : 0;
}

static int run(struct import *im, struct err *e)
{
	const struct image_import_opts *io = im->o->io;
	const struct ext4_config cfg = {.fd = io->out_fd,
		.size = io->size,
		.label = io->label,
		.uuid = im->o->uuid,
		.hash_seed = im->o->hash_seed,
		.now = im->o->now};
	struct stat st;
	int r;

	if (fstat(io->in_fd, &st) == 0 && S_ISREG(st.st_mode))
		im->progress.total = st.st_size;
	if ((r = open_archive(im, e)) < 0 || (r = ext4_new(&im->x, &cfg, e)) < 0)
		return r;
	r = tree_new(&im->t, EXT4_ROOT);
	if (r < 0)
		return err_sys(e, r, "make a file system");
	if ((r = lost_and_found(im, e)) < 0 || (r = read_all(im, e)) < 0 ||
		(r = check_root_fs(im, e)) < 0)
		return r;
	report(im, /* now= */ true);
	r = tree_each_dir(im->t, put_dir, (void *[]){im, e});
	if (r < 0)
		return r;
	return ext4_finish(im->x, e);
}

int image_write(const struct image_write_opts *o, struct err *e)
{
	struct import im = {.o = o};
	int r = run(&im, e);

	if (im.a)
		archive_read_free(im.a);
	ext4_free(im.x);
	tree_free(im.t);
	return r;
}
