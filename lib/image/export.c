/* SPDX-License-Identifier: MIT */
/*
 * A disk becomes an archive: ext4-read.c reads, libarchive writes a pax archive (POSIX.1-2008) with what GNU tar, bsdtar
 * and our own importer understand: SCHILY.xattr and SCHILY.acl records, GNU.sparse 1.0 files. Directories come before
 * what is in them, and all of it in one piece, so that a reader can finish one before the next.
 */
#include "lib/image/image.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <poll.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "lib/base/attr.h"
#include "lib/base/cleanup.h"
#include "lib/base/le.h"
#include "lib/image/ext4-read.h"
#include "lib/image/job.h"

/* Holes are given to libarchive in pieces of HOLE bytes, of memory that nobody looks into. */
enum {
	CHUNK = 1 << 20,
	HOLE = 1 << 30,
	PATH_LIMIT = 4096,
	PROGRESS_STEP = 4 << 20,
	PROGRESS_FILES = 1024
};

/* A directory to be written, with its path below the root: "" or "usr/bin/". */
struct dir {
	struct dir *next;
	uint32_t ino;
	char path[];
};

/* A file with more than one name: the first, under which the others refer to it. */
struct linked {
	uint32_t ino, left;
	char path[];
};

/* The directory being written. */
struct names {
	struct name {
		uint32_t ino;
		uint32_t at; /* in text */
	} * name;
	size_t n, max;
	char *text;
	size_t len, cap;
};

struct exporter {
	const struct image_export_opts *o;
	const struct job_report *to;
	struct archive *a;
	struct archive_entry *entry;
	struct ext4_reader *x;
	struct disk_read disk;
	struct ext4_map map;
	struct names names;
	struct dir *todo, *fresh, **tail; /* fresh: found in the directory being written */
	void *links;			  /* tsearch(3) tree of struct linked */
	uint8_t *seen;			  /* a bit an inode: directories that have been written */
	uint8_t *buf;			  /* CHUNK bytes */
	char path[PATH_LIMIT + 2];
	int write_error;
	struct image_progress progress;
	uint64_t next_bytes, next_files;
};

static void report(struct exporter *x, bool now)
{
	struct image_progress *p = &x->progress;

	if (!x->to->progress || (!now && p->read < x->next_bytes && p->files < x->next_files))
		return;
	x->next_bytes = p->read + PROGRESS_STEP;
	x->next_files = p->files + PROGRESS_FILES;
	x->to->progress(x->to->ctx, p);
}

/* --- the archive --- */

static la_ssize_t out_write(struct archive *a, void *ctx, const void *buf, size_t len)
{
	struct exporter *x = ctx;

	for (;;) {
		ssize_t n = write(x->o->out_fd, buf, len);
		struct pollfd p = {.fd = x->o->out_fd, .events = POLLOUT};

		if (n >= 0)
			return n;
		if (errno == EAGAIN)
			poll(&p, 1, -1);
		else if (errno != EINTR)
			break;
	}
	x->write_error = errno;
	archive_set_error(a, errno, "write");
	return -1;
}

static int archive_failed(struct exporter *x, struct err *e)
{
	const char *text = archive_error_string(x->a);

	if (x->write_error)
		return err_sys(e, -x->write_error, "write the archive");
	if (archive_errno(x->a) == ENOMEM)
		return err_sys(e, -ENOMEM, "write the archive");
	return err_set(e, -EIO, "write the archive: %s", text ? text : "unknown error");
}

static int open_archive(struct exporter *x, struct err *e)
{
	static int (*const add[])(struct archive *) = {
		[IMAGE_PLAIN] = archive_write_add_filter_none,
		[IMAGE_GZIP] = archive_write_add_filter_gzip,
		[IMAGE_XZ] = archive_write_add_filter_xz,
		[IMAGE_ZSTD] = archive_write_add_filter_zstd,
	};
	char threads[16];

	x->a = archive_write_new();
	x->entry = archive_entry_new();
	if (!x->a || !x->entry)
		return err_sys(e, -ENOMEM, "write the archive");
	if (archive_write_set_format_pax(x->a) != ARCHIVE_OK ||
		archive_write_set_format_option(x->a, "pax", "xattrheader", "SCHILY") !=
			ARCHIVE_OK ||
		add[x->o->compression](x->a) != ARCHIVE_OK ||
		/* Zeroes behind its end would be no part of a compressed file. */
		archive_write_set_bytes_in_last_block(x->a, 1) != ARCHIVE_OK)
		return archive_failed(x, e);
	/* Not every version of libarchive and of every compressor has threads. */
	snprintf(threads, sizeof(threads), "%u", MAX(x->o->threads, 1u));
	archive_write_set_filter_option(x->a, NULL, "threads", threads);
	archive_clear_error(x->a);
	if (archive_write_open(x->a, x, NULL, out_write, NULL) != ARCHIVE_OK)
		return archive_failed(x, e);
	return 0;
}

/* --- attributes --- */

struct attrs {
	struct exporter *x;
	struct err *e;
};

static int bad_acl(struct err *e)
{
	return err_set(e, -EUCLEAN, "a damaged access control list");
}

/* The form of setxattr(2), as in xattr.c. */
static int put_acl(struct attrs *s, int type, const uint8_t *p, size_t len)
{
	static const struct {
		uint16_t from;
		int to;
	} tags[] = {{1, ARCHIVE_ENTRY_ACL_USER_OBJ}, {2, ARCHIVE_ENTRY_ACL_USER},
		{4, ARCHIVE_ENTRY_ACL_GROUP_OBJ}, {8, ARCHIVE_ENTRY_ACL_GROUP},
		{16, ARCHIVE_ENTRY_ACL_MASK}, {32, ARCHIVE_ENTRY_ACL_OTHER}};

	if (len < 4 || (len - 4) % 8 || le32_get(p) != 2)
		return bad_acl(s->e);
	for (size_t off = 4; off < len; off += 8) {
		unsigned tag = le16_get(p + off), perm = le16_get(p + off + 2), i = 0;
		uint32_t id = le32_get(p + off + 4);
		bool named = tag == 2 || tag == 8;

		while (i < ARRAY_LEN(tags) && tags[i].from != tag)
			i++;
		if (i == ARRAY_LEN(tags) || perm > 7 || (named && id > INT32_MAX))
			return bad_acl(s->e);
		if (archive_entry_acl_add_entry(s->x->entry, type, (int)perm, tags[i].to,
			    named ? (int)id : -1, NULL) != ARCHIVE_OK)
			return bad_acl(s->e);
	}
	return 0;
}

static int put_xattr(void *ctx, const char *name, const void *value, size_t len)
{
	struct attrs *s = ctx;

	if (!strcmp(name, "system.posix_acl_access"))
		return put_acl(s, ARCHIVE_ENTRY_ACL_TYPE_ACCESS, value, len);
	if (!strcmp(name, "system.posix_acl_default"))
		return put_acl(s, ARCHIVE_ENTRY_ACL_TYPE_DEFAULT, value, len);
	archive_entry_xattr_add_entry(s->x->entry, name, value, len);
	return 0;
}

/* --- content --- */

/* Tells libarchive which parts of the file are more than holes. */
static void put_sparse(struct exporter *x, const struct ext4_file *f)
{
	uint64_t bs = ext4_reader_block_size(x->x), from = 0, to = 0;

	for (size_t i = 0; i < x->map.n; i++) {
		const struct ext4_piece *p = &x->map.piece[i];
		uint64_t start = MIN(p->logical * bs, f->size);
		uint64_t end = MIN((p->logical + (uint64_t)p->len) * bs, f->size);

		if (start != to) {
			if (to > from)
				archive_entry_sparse_add_entry(
					x->entry, (int64_t)from, (int64_t)(to - from));
			from = start;
		}
		to = end;
	}
	if (from == 0 && to == f->size)
		return;
	if (to > from)
		archive_entry_sparse_add_entry(x->entry, (int64_t)from, (int64_t)(to - from));
	else
		archive_entry_sparse_add_entry(x->entry, (int64_t)f->size, 0);
}

/* HOLE bytes of address space; once a process, since it costs nothing to keep. NULL: there are not so many. */
static const void *hole(void)
{
	static void *p;

	if (!p)
		p = mmap(NULL, HOLE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	return p == MAP_FAILED ? NULL : p;
}

static int put_bytes(struct exporter *x, const void *p, size_t len, struct err *e)
{
	if (archive_write_data(x->a, p, len) != (la_ssize_t)len)
		return archive_failed(x, e);
	x->progress.read += p == hole() ? 0 : len;
	report(x, /* now= */ false);
	return 0;
}

/* libarchive leaves out what lies in holes, but wants to be given it. */
static int put_hole(struct exporter *x, uint64_t len, struct err *e)
{
	int r = 0;

	for (uint64_t n; len && r == 0; len -= n) {
		n = MIN(len, (uint64_t)HOLE);
		r = put_bytes(x, hole(), n, e);
	}
	return r;
}

static int put_data(struct exporter *x, const struct ext4_file *f, struct err *e)
{
	uint64_t bs = ext4_reader_block_size(x->x), at = 0;
	int r = 0;

	for (size_t i = 0; i < x->map.n && r == 0; i++) {
		const struct ext4_piece *p = &x->map.piece[i];
		uint64_t start = p->logical * bs, len = p->len * bs;

		if (start >= f->size)
			break;
		r = put_hole(x, start - at, e);
		len = MIN(len, f->size - start);
		for (uint64_t off = 0, n; off < len && r == 0; off += n) {
			n = MIN(len - off, (uint64_t)CHUNK);
			r = ext4_reader_read(x->x, p, off, x->buf, n, e);
			if (r == 0)
				r = put_bytes(x, x->buf, n, e);
		}
		at = start + len;
	}
	return r < 0 ? r : put_hole(x, f->size - at, e);
}

/* --- entries --- */

static int by_ino(const void *va, const void *vb)
{
	const struct linked *a = va, *b = vb;

	return a->ino < b->ino ? -1 : a->ino > b->ino;
}

/* The name under which the file is in the archive already; NULL: this is the first one. -ENOMEM. */
static int other_name(struct exporter *x, const struct ext4_file *f, const char **ret)
{
	struct linked key = {.ino = f->ino}, *l;
	struct linked **found = tfind(&key, &x->links, by_ino);
	size_t len = strlen(x->path);

	*ret = NULL;
	if (found) {
		*ret = (*found)->path;
		(*found)->left--;
		return 0;
	}
	l = malloc(sizeof(*l) + len + 1);
	if (!l)
		return -ENOMEM;
	l->ino = f->ino;
	l->left = f->links - 1;
	memcpy(l->path, x->path, len + 1);
	if (!tsearch(l, &x->links, by_ino)) {
		free(l);
		return -ENOMEM;
	}
	return 0;
}

/* After its last name nobody asks for it any more: the table stays small. */
static void forget_link(struct exporter *x, uint32_t ino)
{
	struct linked key = {.ino = ino};
	struct linked **found = tfind(&key, &x->links, by_ino), *l;

	if (!found || (*found)->left)
		return;
	l = *found;
	tdelete(l, &x->links, by_ino);
	free(l);
}

static void fill_entry(struct exporter *x, const struct ext4_file *f)
{
	struct archive_entry *n = archive_entry_clear(x->entry);
	const struct ext4_attr *a = &f->attr;

	archive_entry_set_pathname(n, x->path);
	archive_entry_set_mode(n, (mode_t)a->mode);
	archive_entry_set_uid(n, a->uid);
	archive_entry_set_gid(n, a->gid);
	archive_entry_set_mtime(n, a->mtime.sec, a->mtime.nsec);
	archive_entry_set_atime(n, a->atime.sec, a->atime.nsec);
}

static int put_header(struct exporter *x, struct err *e)
{
	int r = archive_write_header(x->a, x->entry);

	/* A name that is not UTF-8 is written as it is, with a warning. */
	if (r != ARCHIVE_OK && r != ARCHIVE_WARN)
		return archive_failed(x, e);
	x->progress.files++;
	report(x, /* now= */ false);
	return 0;
}

static int put_entry(struct exporter *x, const struct ext4_file *f, struct err *e)
{
	struct attrs s = {x, e};
	char target[EXT4_TARGET_MAX];
	const char *first;
	int r;

	fill_entry(x, f);
	if (!S_ISDIR(f->attr.mode) && f->links > 1) {
		if (other_name(x, f, &first) < 0)
			return err_sys(e, -ENOMEM, "remember a hard link");
		if (first) {
			archive_entry_set_hardlink(x->entry, first);
			r = put_header(x, e);
			forget_link(x, f->ino);
			return r;
		}
	}
	r = ext4_reader_xattrs(x->x, f, put_xattr, &s, e);
	if (r < 0)
		return r;
	x->map.n = 0;
	switch (f->attr.mode & S_IFMT) {
	case S_IFREG:
		archive_entry_set_size(x->entry, (int64_t)f->size);
		r = ext4_reader_map(x->x, f, &x->map, e);
		put_sparse(x, f);
		break;
	case S_IFLNK:
		r = ext4_reader_readlink(x->x, f, target, e);
		archive_entry_set_symlink(x->entry, target);
		break;
	case S_IFCHR:
	case S_IFBLK:
		archive_entry_set_rdevmajor(x->entry, f->attr.major);
		archive_entry_set_rdevminor(x->entry, f->attr.minor);
		break;
	default: break;
	}
	if (r == 0)
		r = put_header(x, e);
	if (r == 0 && S_ISREG(f->attr.mode))
		r = put_data(x, f, e);
	return r;
}

/* --- the tree --- */

static int add_name(void *ctx, uint32_t ino, const char *name, size_t len)
{
	struct names *t = ctx;

	if (t->n == t->max) {
		size_t max = t->max ? 2 * t->max : 256;
		struct name *p = reallocarray(t->name, max, sizeof(*p));

		if (!p)
			return -ENOMEM;
		t->name = p;
		t->max = max;
	}
	if (t->cap - t->len < len + 1) {
		size_t cap = t->cap ? 2 * t->cap : 1 << 16;
		char *p = cap <= UINT32_MAX ? realloc(t->text, cap) : NULL;

		if (!p)
			return -ENOMEM;
		t->text = p;
		t->cap = cap;
	}
	t->name[t->n++] = (struct name){ino, (uint32_t)t->len};
	memcpy(t->text + t->len, name, len);
	t->text[t->len + len] = '\0';
	t->len += len + 1;
	return 0;
}

/* In the order of inodes, which is nearly that of their blocks. */
static int by_inode(const void *va, const void *vb)
{
	const struct name *a = va, *b = vb;

	if (a->ino != b->ino)
		return a->ino < b->ino ? -1 : 1;
	return a->at < b->at ? -1 : a->at > b->at;
}

static int push_dir(struct exporter *x, uint32_t ino, const char *path, struct err *e)
{
	size_t len = strlen(path);
	struct dir *d;

	if (x->seen[ino / 8] & 1 << ino % 8)
		return err_set(
			e, -EUCLEAN, "the file system is damaged: directory %u has two names", ino);
	x->seen[ino / 8] |= (uint8_t)(1 << ino % 8);
	d = malloc(sizeof(*d) + len + 1);
	if (!d)
		return err_sys(e, -ENOMEM, "remember a directory");
	d->ino = ino;
	memcpy(d->path, path, len + 1);
	d->next = NULL;
	*x->tail = d;
	x->tail = &d->next;
	return 0;
}

/* x->path becomes "./" and the name; a directory's ends in a slash. */
static int set_path(struct exporter *x, const char *dir, const char *name, struct err *e)
{
	int n = snprintf(x->path, sizeof(x->path), "./%s%s", dir, name);

	if (n < 0 || n >= PATH_LIMIT)
		return err_set(e, -ENAMETOOLONG, "path too long: %.60s...%.60s", dir, name);
	return 0;
}

static int put_name(struct exporter *x, const char *dir, const struct name *name, struct err *e)
{
	struct ext4_file f;
	int r = set_path(x, dir, x->names.text + name->at, e);

	if (r == 0)
		r = ext4_reader_stat(x->x, name->ino, &f, e);
	if (r < 0)
		return r;
	if (S_ISDIR(f.attr.mode)) {
		strcat(x->path, "/");
		return push_dir(x, f.ino, x->path + 2, e);
	}
	if (S_ISSOCK(f.attr.mode)) {
		x->progress.skipped++;
		return 0;
	}
	return put_entry(x, &f, e);
}

/* The directory itself, then what is in it but directories: they are written next, before all that waits already. */
static int put_dir(struct exporter *x, const struct dir *d, struct err *e)
{
	struct names *t = &x->names;
	struct ext4_file f;
	int r = set_path(x, d->path, "", e);

	if (r == 0)
		r = ext4_reader_stat(x->x, d->ino, &f, e);
	if (r == 0 && !S_ISDIR(f.attr.mode))
		r = err_set(e, -EUCLEAN, "the file system is damaged: its root is no directory");
	if (r == 0)
		r = put_entry(x, &f, e);
	if (r < 0)
		return r;
	t->n = t->len = 0;
	r = ext4_reader_dir(x->x, &f, add_name, t, e);
	if (r == -ENOMEM)
		return err_sys(e, r, "read a directory");
	if (t->n)
		qsort(t->name, t->n, sizeof(*t->name), by_inode);
	for (size_t i = 0; i < t->n && r == 0; i++) {
		r = put_name(x, d->path, &t->name[i], e);
		if (r < 0)
			err_wrap(e, r, "%.200s", x->path + 2);
	}
	return r;
}

static int put_tree(struct exporter *x, struct err *e)
{
	int r;

	x->tail = &x->todo;
	r = push_dir(x, EXT4_ROOT, "", e);
	while (x->todo && r == 0) {
		struct dir *d = x->todo;

		x->todo = d->next;
		x->fresh = NULL;
		x->tail = &x->fresh;
		r = put_dir(x, d, e);
		*x->tail = x->todo;
		x->todo = x->fresh;
		free(d);
	}
	return r;
}

/* --- the whole --- */

static int run(struct exporter *x, struct err *e)
{
	int r = disk_read_open(&x->disk, x->o->in_fd, x->o->vhdx, e);

	if (r == 0)
		r = ext4_reader_open(&x->x, &x->disk, e);
	if (r < 0)
		return r;
	x->seen = calloc(1, (size_t)ext4_reader_inodes(x->x) / 8 + 1);
	x->buf = malloc(CHUNK);
	if (!x->seen || !x->buf || !hole())
		return err_sys(e, -ENOMEM, "read the file system");
	x->progress.total = ext4_reader_used(x->x);
	r = open_archive(x, e);
	if (r == 0)
		r = put_tree(x, e);
	if (r < 0)
		return r;
	if (archive_write_close(x->a) != ARCHIVE_OK)
		return archive_failed(x, e);
	if (fsync(x->o->out_fd) < 0 && errno != EINVAL && errno != EROFS)
		return err_sys(e, -errno, "bring the archive to stable storage");
	report(x, /* now= */ true);
	return 0;
}

static int export_tar(const struct image_export_opts *o, const struct job_report *to, struct err *e)
{
	struct exporter x = {.o = o, .to = to};
	int r = run(&x, e);

	if (x.a) {
		if (r < 0)
			archive_write_fail(x.a);
		archive_write_free(x.a);
	}
	archive_entry_free(x.entry);
	for (struct dir *d; (d = x.todo); free(d))
		x.todo = d->next;
	tdestroy(x.links, free);
	ext4_map_done(&x.map);
	ext4_reader_free(x.x);
	disk_read_done(&x.disk);
	free(x.names.name);
	free(x.names.text);
	free(x.seen);
	free(x.buf);
	return r;
}

int image_export_here(const struct image_export_opts *o, struct err *e)
{
	const struct job_report to = {o->progress, o->ctx, NULL};

	return export_tar(o, &to, e);
}

/* What its kernel has not finished, nobody else can. Replays the file's own log, whatever is made of it then. */
static int check_virtual_disk(int fd, struct err *e)
{
	struct disk_read disk;
	struct image_info info;
	int r = disk_read_open(&disk, fd, /* vhdx= */ true, e);

	if (r < 0)
		return r;
	r = disk_read_probe(&disk, &info);
	disk_read_done(&disk);
	if (r < 0)
		return err_sys(e, r, "read the disk");
	return info.needs_recovery
		       ? err_set(e, -EUCLEAN, "the file system was not cleanly unmounted")
		       : 0;
}

static int export_fn(const void *opts, const struct job_report *to, struct err *e)
{
	const struct image_export_opts *o = opts;
	int r = o->vhdx ? check_virtual_disk(o->in_fd, e) : 0;

	if (r < 0)
		return r;
	switch (o->format) {
	case IMAGE_TAR: return export_tar(o, to, e);
	case IMAGE_RAW:
		return o->vhdx ? job_from_vhdx(o->in_fd, o->out_fd, to, e)
			       : job_copy(o->in_fd, o->out_fd, to, e);
	case IMAGE_VHDX:
		return o->vhdx ? job_copy(o->in_fd, o->out_fd, to, e)
			       : job_to_vhdx(o->in_fd, o->out_fd, to, e);
	}
	return err_set(e, -EINVAL, "no such format");
}

static struct job_work export_work(const struct image_export_opts *o)
{
	return (struct job_work){.who = "exporter",
		.profile = &sandbox_exporter,
		.fds = {o->in_fd, o->out_fd, -1},
		.fn = export_fn,
		.opts = o};
}

int image_export_start(struct image_job **ret, const struct image_export_opts *o, struct err *e)
{
	const struct job_work w = export_work(o);

	return job_start(ret, &w, e);
}

int image_export(const struct image_export_opts *o, struct err *e)
{
	const struct job_work w = export_work(o);
	const struct job_report to = {o->progress, o->ctx, NULL};

	return job_run(&w, &to, e);
}
