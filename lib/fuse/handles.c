/* SPDX-License-Identifier: MIT */
/*
 * The peer's numbers for what it has open: slot and generation. A file that is closed while others work on it goes when
 * the last of them is done.
 */
#include "lib/fuse/internal.h"

#include <stdlib.h>

enum { MAX_FILES = 1 << 20 };

int files_add(struct fuse_server *s, struct fs_handle *h, bool dir, uint64_t *ret)
{
	struct open_file *f;
	uint32_t i;

	pthread_mutex_lock(&s->lock);
	if (!s->free && s->n_files == s->cap) {
		uint32_t cap = s->cap ? s->cap * 2 : 64;

		f = cap <= MAX_FILES ? realloc(s->files, cap * sizeof(*f)) : NULL;
		if (!f) {
			pthread_mutex_unlock(&s->lock);
			return -ENFILE;
		}
		s->files = f;
		s->cap = cap;
		/* slot 0 ends the list of free ones */
		if (!s->n_files)
			s->files[s->n_files++] = (struct open_file){0};
	}
	i = s->free;
	if (i) {
		s->free = s->files[i].next_free;
	} else {
		i = s->n_files++;
		s->files[i] = (struct open_file){.gen = s->first_gen};
	}
	f = &s->files[i];
	f->h = h;
	f->users = 1;
	f->dir = dir;
	f->closing = false;
	*ret = (uint64_t)f->gen << 32 | i;
	pthread_mutex_unlock(&s->lock);
	return 0;
}

static struct open_file *find(struct fuse_server *s, uint64_t fh)
{
	uint32_t i = (uint32_t)fh;

	return i < s->n_files && s->files[i].h && s->files[i].gen == fh >> 32 ? &s->files[i] : NULL;
}

struct fs_handle *files_get(struct fuse_server *s, uint64_t fh, bool dir)
{
	struct fs_handle *h = NULL;
	struct open_file *f;

	pthread_mutex_lock(&s->lock);
	f = find(s, fh);
	if (f && f->dir == dir && !f->closing) {
		f->users++;
		h = f->h;
	}
	pthread_mutex_unlock(&s->lock);
	return h;
}

void files_put(struct fuse_server *s, uint64_t fh)
{
	struct fs_handle *last = NULL;
	struct open_file *f;

	pthread_mutex_lock(&s->lock);
	f = find(s, fh);
	if (f && --f->users == 0) {
		last = f->h;
		f->h = NULL;
		f->gen++;
		f->next_free = s->free;
		s->free = (uint32_t)fh;
	}
	pthread_mutex_unlock(&s->lock);
	if (last)
		s->fs->ops->close(s->fs, last);
}

bool files_close(struct fuse_server *s, uint64_t fh, bool dir)
{
	struct open_file *f;
	bool ok;

	pthread_mutex_lock(&s->lock);
	f = find(s, fh);
	ok = f && f->dir == dir && !f->closing;
	if (ok)
		f->closing = true;
	pthread_mutex_unlock(&s->lock);
	if (ok)
		files_put(s, fh);
	return ok;
}

void files_close_all(struct fuse_server *s)
{
	for (uint32_t i = 0; i < s->n_files; i++)
		if (s->files[i].h)
			s->fs->ops->close(s->fs, s->files[i].h);
	free(s->files);
	s->files = NULL;
	s->n_files = s->cap = s->free = 0;
}
