/* SPDX-License-Identifier: MIT */
/*
 * The entries of a root file system archive, or of one layer of a container image, go into a disk: libarchive reads them,
 * tree.c keeps the names, ext4.c writes. What the archive says is taken as the root of the new system and never followed
 * out of it: no "..", no path through a symbolic link, hard links only to what came before, device nodes only below /dev.
 *
 * A layer adds to those before it; names that begin with ".wh." take away (OCI image specification, "Image Layer
 * Filesystem Changeset").
 */
#include "lib/image/import-internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "lib/base/attr.h"
#include "lib/base/cleanup.h"
#include "lib/image/tar-internal.h"

enum { PROGRESS_STEP = 1 << 20 };

int import_archive_error(const struct import *im, struct err *e)
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

void import_report(struct import *im, bool now)
{
	const struct image_import_opts *io = im->o->io;

	if (im->a)
		im->progress.read = im->base + (uint64_t)MAX(archive_filter_bytes(im->a, -1), 0);
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

/* Files that say what the distribution is. */
static struct import_text *text_to_keep(
	struct import *im, const char *path, uint32_t ino, uint64_t size)
{
	for (unsigned i = 0; i < IMPORT_TEXTS; i++) {
		struct import_text *t = &im->text[i];

		if (strcmp(path, import_text_names[i]) != 0 || size > FACTS_FILE_MAX)
			continue;
		free(t->data);
		*t = (struct import_text){ino, calloc(1, size + 1), size};
		return t->data ? t : NULL;
	}
	return NULL;
}

static int put_xattrs(struct import *im, uint32_t ino, const struct xattr_set *s, struct err *e)
{
	return s->n ? ext4_set_xattrs(im->x, ino, s->xa, s->n, e) : 0;
}

static int copy_data(struct import *im, struct archive_entry *entry, uint32_t ino, const char *path,
	struct err *e)
{
	int64_t size = archive_entry_size(entry), off;
	struct import_text *text = text_to_keep(im, path, ino, (uint64_t)MAX(size, 0));
	const void *buf;
	size_t len;
	int r;

	while ((r = archive_read_data_block(im->a, &buf, &len, &off)) == ARCHIVE_OK) {
		if (off < 0 || off > size || len > (uint64_t)(size - off))
			return err_set(e, -EINVAL, "more content than its size says");
		r = ext4_write(im->x, off, buf, len, e);
		if (r < 0)
			return r;
		if (text && (uint64_t)off < text->len)
			memcpy(text->data + off, buf, MIN(len, text->len - (uint64_t)off));
		import_report(im, /* now= */ false);
	}
	if (r != ARCHIVE_EOF)
		return import_archive_error(im, e);
	return ext4_write_end(im->x, ino, size, e);
}

/* Anything but directories and hard links, under a name that is free. */
static int add_new(struct import *im, struct archive_entry *entry, const char *path,
	struct node *dir, struct ext4_attr *a, const struct xattr_set *s, struct err *e)
{
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
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
			r = copy_data(im, entry, ino, path, e);
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

/* --- layers --- */

static int forget(void *ctx, struct node *n)
{
	struct import *im = ((void **)ctx)[0];

	return ext4_link_count(im->x, n->ino, -1, ((void **)ctx)[1]);
}

/* Takes away what earlier layers put under a name; of this layer's own nothing goes. */
static int prune(struct import *im, struct node *n, bool itself, struct err *e)
{
	return tree_prune(im->t, n, itself, im->layer, forget, (void *[]){im, e});
}

/* path: normalised; its last component, name, begins with ".wh.". */
static int whiteout(struct import *im, const char *path, const char *name, struct err *e)
{
	char parent[TREE_MAX_PATH];
	struct node *dir, *n;

	snprintf(parent, sizeof(parent), "%.*s", name > path ? (int)(name - path - 1) : 0, path);
	dir = tree_find(im->t, parent);
	if (!dir || !S_ISDIR(dir->mode))
		return 0;
	if (!strcmp(name, ".wh..wh..opq"))
		return prune(im, dir, /* itself= */ false, e);
	name += 4;
	if (!strncmp(name, ".wh.", 4))
		return 0; /* notes of a union file system to itself */
	n = tree_child(im->t, dir, name, strlen(name));
	return n ? prune(im, n, /* itself= */ true, e) : 0;
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
	name = strrchr(path, '/');
	name = name ? name + 1 : path;
	if (im->layer && !strncmp(name, ".wh.", 4))
		return whiteout(im, path, name, e);
	r = parent_of(im, path, &dir, &name, e);
	if (r < 0)
		return r;
	old = tree_child(im->t, dir, name, strlen(name));
	if (old && S_ISDIR(old->mode) && !link && S_ISDIR(a.mode)) {
		old->layer = (uint16_t)im->layer;
		r = ext4_set_attr(im->x, old->ino, &a, e);
		return r < 0 ? r : put_xattrs(im, old->ino, &s, e);
	}
	if (old && old->layer < im->layer && (S_ISDIR(old->mode) || S_ISDIR(a.mode))) {
		r = prune(im, old, /* itself= */ true, e);
		if (r < 0)
			return r;
		old = tree_child(im->t, dir, name, strlen(name));
	}
	if (old && (S_ISDIR(old->mode) || (!link && S_ISDIR(a.mode))))
		return err_set(
			e, -EINVAL, "is in the archive both as a directory and as something else");
	if (link)
		return add_link(im, dir, name, old, link, absolute, e);
	if (old && (r = drop(im, old, e)) < 0)
		return r;
	return add_new(im, entry, path, dir, &a, &s, e);
}

static int short_name(const char *path)
{
	return (int)MIN(strlen(path), 200u);
}

/* A name that is not UTF-8, though its header should be: it is taken as it is, as the kernel would. */
static bool is_only_a_charset(struct archive *a)
{
	const char *text = archive_error_string(a);

	return text && strstr(text, "can't be converted from");
}

static int read_entry(struct import *im, struct archive_entry *entry, int how, struct err *e)
{
	const char *path = archive_entry_pathname(entry);
	char safe[TREE_MAX_PATH];
	bool absolute;
	int r;

	if (!path)
		path = archive_entry_pathname_utf8(entry);
	if (how == ARCHIVE_WARN && !is_only_a_charset(im->a)) {
		const char *text = archive_error_string(im->a);

		return err_set(
			e, -EINVAL, "%s: %s", path ? path : "an entry", text ? text : "damaged");
	}
	if (!path)
		return err_set(e, -EINVAL, "an entry without a name");
	r = tree_normalise(path, safe, &absolute, e);
	if (r < 0)
		return r;
	if (!im->layer && im->progress.files < 2 && oci_looks_like(safe))
		return IMPORT_LAYERS;
	r = add_entry(im, entry, safe, absolute, e);
	if (r < 0)
		return err_wrap(e, r, "%.*s", short_name(path), path);
	im->progress.files++;
	return 0;
}

int import_entries(struct import *im, struct err *e)
{
	uint64_t before = im->progress.files;
	struct archive_entry *entry;
	int r;

	im->consumed = 0;
	tree_set_layer(im->t, im->layer);
	for (;;) {
		int how = archive_read_next_header(im->a, &entry);

		if (how == ARCHIVE_EOF)
			break;
		if (how != ARCHIVE_OK && how != ARCHIVE_WARN)
			return import_archive_error(im, e);
		r = read_entry(im, entry, how, e);
		if (r)
			return r;
		im->consumed = archive_filter_bytes(im->a, 0);
		import_report(im, /* now= */ false);
	}
	/* Two blocks of zeroes end an archive. libarchive does not insist; but without them, who knows what is missing? */
	if (im->progress.files != before &&
		archive_filter_bytes(im->a, 0) - ALIGN_UP(im->consumed, 512) < 512)
		return err_set(e, -EINVAL, "the archive is cut short: its end mark is missing");
	return 0;
}
