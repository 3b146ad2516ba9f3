/* SPDX-License-Identifier: MIT */
/*
 * An archive becomes a disk: the file system is made, the archive's entries go into it (tar.c), or those of the layers it
 * holds (oci.c), and at the end the directories.
 */
#include "lib/image/import-internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "lib/base/attr.h"
#include "lib/base/cleanup.h"

enum { OS_RELEASE, USR_OS_RELEASE, WSL_DISTRIBUTION };
const char *const import_text_names[IMPORT_TEXTS] = {
	[OS_RELEASE] = "etc/os-release",
	[USR_OS_RELEASE] = "usr/lib/os-release",
	[WSL_DISTRIBUTION] = "etc/wsl-distribution.conf",
};

static int check_root_fs(struct import *im, struct err *e)
{
	const struct node *etc = tree_find(im->t, "etc");

	if (!im->progress.files)
		return err_set(e, -EINVAL, "the archive is empty");
	return facts_check_root(etc && S_ISDIR(etc->mode),
		tree_find(im->t, "bin/sh") || tree_find(im->t, "usr/bin/sh"), e);
}

/* Text of the file that has this name in the end; it may have come under another one. */
static const struct import_text *text_of(struct import *im, unsigned which)
{
	const struct node *n = tree_find(im->t, import_text_names[which]);

	for (unsigned i = 0; n && i < IMPORT_TEXTS; i++)
		if (im->text[i].data && im->text[i].ino == n->ino)
			return &im->text[i];
	return NULL;
}

static void collect_facts(struct import *im, struct image_facts *ret)
{
	const struct import_text *t = text_of(im, OS_RELEASE);

	if (!t)
		t = text_of(im, USR_OS_RELEASE); /* to which /etc/os-release is a link */
	if (t)
		facts_parse_os_release(t->data, t->len, ret);
	t = text_of(im, WSL_DISTRIBUTION);
	if (t)
		facts_parse_distribution(t->data, t->len, ret);
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
	source_formats(im->a);
	if (source_open(&im->src, im->a) != ARCHIVE_OK)
		return import_archive_error(im, e);
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

static int read_all(struct import *im, struct err *e)
{
	int r = open_archive(im, e);

	if (r == 0)
		r = import_entries(im, e);
	if (r != IMPORT_LAYERS)
		return r;
	archive_read_free(im->a);
	im->a = NULL;
	im->progress.files = 0;
	r = source_rewind(&im->src, e);
	return r < 0 ? r : oci_import(im, e);
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
	int r = source_init(&im->src, io->in_fd, io->spool_fd, e);

	if (r == 0)
		r = ext4_new(&im->x, &cfg, e);
	if (r < 0)
		return r;
	im->progress.total = im->src.size;
	r = tree_new(&im->t, EXT4_ROOT);
	if (r < 0)
		return err_sys(e, r, "make a file system");
	if ((r = lost_and_found(im, e)) < 0 || (r = read_all(im, e)) < 0 ||
		(r = check_root_fs(im, e)) < 0)
		return r;
	import_report(im, /* now= */ true);
	r = tree_each_dir(im->t, put_dir, (void *[]){im, e});
	if (r == 0)
		r = ext4_finish(im->x, e);
	if (r == 0 && im->o->facts)
		collect_facts(im, im->o->facts);
	return r;
}

int image_write(const struct image_write_opts *o, struct err *e)
{
	struct import im = {.o = o};
	int r = run(&im, e);

	if (im.a)
		archive_read_free(im.a);
	source_done(&im.src);
	for (unsigned i = 0; i < IMPORT_TEXTS; i++)
		free(im.text[i].data);
	ext4_free(im.x);
	tree_free(im.t);
	return r;
}
