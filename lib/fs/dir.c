/* SPDX-License-Identifier: MIT */
/* Listing folders. */
#include "lib/fs/host-internal.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

struct dir_state {
	uint64_t next; /* where the entry at pos was found: what a peer goes on from */
	size_t pos, len;
	char buf[32 << 10] ALIGNED(8);
};

/* struct linux_dirent64 */
struct raw_dirent {
	uint64_t ino;
	int64_t off;
	uint16_t reclen;
	uint8_t type;
	char name[];
};

void dir_free(struct dir_state *d)
{
	free(d);
}

int host_opendir(struct fs *fs, const struct fs_cred *c, struct fs_node *n, struct fs_handle **ret)
{
	struct host *h = to_host(fs);
	struct statx stx;
	int fd = -1, r;

	if (n->share) {
		fd = S_ISDIR(n->mode) ? node_open(h, n, O_RDONLY | O_DIRECTORY, &stx) : -ENOTDIR;
		if (fd < 0)
			return fd;
	}
	r = handle_new(h, n, fd, O_RDONLY, ret);
	if (r < 0 && fd >= 0)
		close(fd);
	return r;
}

/* The buffer's next entry; more is read when it is empty. 0: there is one; 1: the end. */
static int next_entry(struct fs_handle *hd, const struct raw_dirent **ret)
{
	struct dir_state *d = hd->dir;
	const struct raw_dirent *e;

	if (d->pos == d->len) {
		long n = syscall(SYS_getdents64, hd->fd, d->buf, sizeof(d->buf));

		d->pos = d->len = 0;
		if (n <= 0)
			return n < 0 ? -errno : 1;
		d->len = (size_t)n;
	}
	e = (const struct raw_dirent *)(const void *)(d->buf + d->pos);
	*ret = e;
	return 0;
}

static int go_to(struct fs_handle *hd, uint64_t off)
{
	struct dir_state *d = hd->dir;

	if (!d) {
		d = hd->dir = malloc(sizeof(*d));
		if (!d)
			return -ENOMEM;
		d->next = 0;
		d->pos = d->len = 0;
	}
	/* from the start: as the folder is now */
	if (off != d->next || (off == 0 && d->len)) {
		if (lseek(hd->fd, (off_t)off, SEEK_SET) < 0)
			return -errno;
		d->pos = d->len = 0;
		d->next = off;
	}
	return 0;
}

static bool is_dots(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* With the handle's lock held. */
static int list(struct host *h, struct fs_handle *hd, uint64_t off, bool entries, fs_dirent_fn fn,
	void *ctx)
{
	struct fs_node *dir = hd->node;
	const struct raw_dirent *e = NULL;
	int r = go_to(hd, off);

	if (r < 0)
		return r;
	while ((r = next_entry(hd, &e)) == 0) {
		struct fs_dirent d = {

			.ino = number_shown(dir->share, dir->ident.dev, e->ino),
			.next = (uint64_t)e->off,
			.type = e->type,
			.name = e->name};
		bool skip = false;

		if (entries && !is_dots(e->name)) {
			int err = entry_at(h, dir, hd->fd, e->name, &d.entry);

			/* it went meanwhile; or it cannot be looked at, and is only named */
			skip = err == -ENOENT;
			if (err < 0)
				d.entry.node = NULL;
			else
				d.ino = d.entry.attr.ino;
		}
		if (!skip && !fn(ctx, &d)) {
			if (d.entry.node)
				node_forget(&h->fs, d.entry.node, 1);
			return 0;
		}
		hd->dir->pos += e->reclen;
		hd->dir->next = d.next;
	}
	return r < 0 ? r : 0;
}

int host_readdir(struct fs *fs, const struct fs_cred *c, struct fs_handle *hd, uint64_t off,
	bool entries, fs_dirent_fn fn, void *ctx)
{
	struct host *h = to_host(fs);
	int r;

	if (!hd->node->share)
		return set_readdir(h, off, entries, fn, ctx);
	if (!S_ISDIR(hd->node->mode))
		return -ENOTDIR;
	/* a peer that lists twice at once with one handle is odd or hostile */
	pthread_mutex_lock(&hd->dir_lock);
	r = list(h, hd, off, entries, fn, ctx);
	pthread_mutex_unlock(&hd->dir_lock);
	return r;
}
