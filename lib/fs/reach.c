/* SPDX-License-Identifier: MIT */
/* From a node to the file: by its descriptor, by its place, or by a handle that has it open. */
#include "lib/fs/host-internal.h"

#include <stdio.h>
#include <string.h>

enum { MAX_DEPTH = 2048 };

const char *fd_path(char buf[FD_PATH], int fd)
{
	snprintf(buf, FD_PATH, "/proc/self/fd/%d", fd);
	return buf;
}

static void lru_out(struct fs_node *n)
{
	n->lru_prev->lru_next = n->lru_next;
	n->lru_next->lru_prev = n->lru_prev;
	n->lru_next = n->lru_prev = NULL;
}

static void lru_take(struct host *h, struct fs_node *n)
{
	if (n->lru_next)
		lru_out(n);
	n->fd_users++;
}

/* The descriptor of one that is not in use, for the caller to close. */
static int lru_evict(struct host *h, struct fs_node *n)
{
	lru_out(n);
	h->n_fds--;
	if (!n->name && !n->handles)
		ident_remove(h, n);
	return take_fd(n->fd);
}

/* Where a node is: its pinned folder and its name there. */
struct place {
	struct fs_node *dir;
	char name[NAME_MAX + 1];
};

/* With the lock held. A descriptor of the node's, or 0 and its place, or -ESTALE. */
static int find(struct host *h, struct fs_node *n, struct place *p)
{
	if (n->fd >= 0) {
		lru_take(h, n);
		return n->fd;
	}
	if (!n->name)
		return -ESTALE;
	p->dir = n->parent;
	p->dir->pins++;
	memcpy(p->name, n->name, strlen(n->name) + 1);
	return 0;
}

/* The node at a place is what it was. */
static int check(const struct fs_node *n, int fd, struct statx *ret)
{
	int r = sys_statx(fd, "", ret);

	return r < 0 ? r : node_is(n, ret) ? 0 : -ESTALE;
}

static int from_handle(struct host *h, struct fs_node *n)
{
	char path[FD_PATH];
	int fd = -ESTALE;

	pthread_mutex_lock(&h->lock);
	if (n->handles)
		fd = fcntl(n->handles->fd, F_DUPFD_CLOEXEC, 3);
	pthread_mutex_unlock(&h->lock);
	if (fd >= 0) {
		cleanup_close int old = fd;

		fd = open(fd_path(path, old), O_PATH | O_CLOEXEC);
		if (fd < 0)
			fd = -errno;
	}
	return fd;
}

static int reach(struct host *h, struct fs_node *n, unsigned depth);

static int by_place(struct host *h, struct fs_node *n, const struct place *p, unsigned depth)
{
	int dir = reach(h, p->dir, depth + 1), fd = dir, r;
	struct statx stx;

	if (dir >= 0) {
		fd = entry_open(h, dir, p->name, O_PATH);
		node_fd_put(h, p->dir);
	}
	node_put(&h->fs, p->dir);
	if (fd < 0)
		return fd == -ENOENT || fd == -ENOTDIR ? -ESTALE : fd;
	r = check(n, fd, &stx);
	if (r < 0)
		close(fd);
	return r < 0 ? r : fd;
}

/* The descriptor becomes the node's, unless another thread was faster. */
static int keep(struct host *h, struct fs_node *n, int fd)
{
	int spare = -1;

	pthread_mutex_lock(&h->lock);
	if (n->fd < 0) {
		n->fd = fd;
		n->keep_fd = !n->name && h->n_kept < h->max_fds;
		h->n_kept += n->keep_fd;
		h->n_fds++;
	} else {
		spare = fd;
	}
	lru_take(h, n);
	fd = n->fd;
	pthread_mutex_unlock(&h->lock);
	if (spare >= 0)
		close(spare);
	return fd;
}

static int reach(struct host *h, struct fs_node *n, unsigned depth)
{
	struct place p;
	int fd;

	if (depth > MAX_DEPTH)
		return -ESTALE;
	pthread_mutex_lock(&h->lock);
	p.dir = NULL;
	fd = find(h, n, &p);
	pthread_mutex_unlock(&h->lock);
	if (fd > 0)
		return fd;
	if (fd == 0)
		fd = by_place(h, n, &p, depth);
	if (fd == -ESTALE)
		fd = from_handle(h, n);
	return fd < 0 ? fd : keep(h, n, fd);
}

int node_fd(struct host *h, struct fs_node *n)
{
	if (n->closed)
		return -EACCES;
	return n->share ? reach(h, n, 0) : -EROFS;
}

void node_fd_put(struct host *h, struct fs_node *n)
{
	int old = -1;

	pthread_mutex_lock(&h->lock);
	if (--n->fd_users == 0 && !n->keep_fd) {
		n->lru_next = &h->lru;
		n->lru_prev = h->lru.lru_prev;
		n->lru_prev->lru_next = h->lru.lru_prev = n;
		if (h->n_fds > h->max_fds)
			old = lru_evict(h, h->lru.lru_next);
	}
	pthread_mutex_unlock(&h->lock);
	if (old >= 0)
		close(old);
}

void node_let_go(struct host *h, struct fs_node *n)
{
	int old = -1;

	pthread_mutex_lock(&h->lock);
	if (n->lru_next)
		old = lru_evict(h, n);
	pthread_mutex_unlock(&h->lock);
	if (old >= 0)
		close(old);
}

/* Folders not in use are found again by their place. */
void fs_host_let_go(struct fs *fs)
{
	struct host *h = to_host(fs);
	int fds[256];
	unsigned n_fds;

	do {
		n_fds = 0;
		pthread_mutex_lock(&h->lock);
		for (struct fs_node *n = h->lru.lru_next, *next; n != &h->lru; n = next) {
			next = n->lru_next;
			if ((n->watch || n->ident.mnt != n->share->root->ident.mnt) &&
				n_fds < ARRAY_LEN(fds))
				fds[n_fds++] = lru_evict(h, n);
		}
		pthread_mutex_unlock(&h->lock);
		for (unsigned i = 0; i < n_fds; i++)
			close(fds[i]);
	} while (n_fds == ARRAY_LEN(fds));
}

int node_stat(struct host *h, struct fs_node *n, struct statx *ret)
{
	struct mounted m;
	struct place p;
	int fd, r;

	pthread_mutex_lock(&h->lock);
	fd = find(h, n, &p);
	pthread_mutex_unlock(&h->lock);
	if (fd > 0) {
		r = sys_statx(fd, "", ret);
		node_fd_put(h, n);
		return r;
	}
	r = fd;
	if (fd == 0) {
		r = fd = node_fd(h, p.dir);
		if (fd >= 0) {
			r = entry_stat(h, p.dir, fd, p.name, ret, &m);
			node_fd_put(h, p.dir);
		}
		node_put(&h->fs, p.dir);
		if (r == -ENOENT || r == -ENOTDIR || (r == 0 && !node_is(n, ret)))
			r = -ESTALE;
	}
	if (r == -ESTALE && !n->closed) {
		r = node_fd(h, n);
		if (r >= 0) {
			r = sys_statx(r, "", ret);
			node_fd_put(h, n);
		}
	}
	return r;
}

static int reopen(struct host *h, struct fs_node *n, uint32_t flags, struct statx *ret)
{
	char path[FD_PATH];
	int fd = node_fd(h, n), r;

	if (fd < 0)
		return fd;
	flags &= ~(uint32_t)O_NOFOLLOW;
	/* some of the kernel's own files have nothing to read for a while: nobody is to wait for that */
	r = open(fd_path(path, fd), (int)flags | O_NONBLOCK | O_CLOEXEC);
	/* but for who has a lease on it, and was told just now to give it back */
	if (r < 0 && errno == EAGAIN && !(flags & O_NONBLOCK))
		r = open(fd_path(path, fd), (int)flags | O_CLOEXEC);
	if (r < 0)
		r = -errno;
	node_fd_put(h, n);
	if (r >= 0 && sys_statx(r, "", ret) < 0) {
		close(r);
		r = -EIO;
	}
	return r;
}

/*
 * What is opened is a file or folder, never a device or a FIFO, whose opening has effects. A peer that may make those
 * (the server has the privilege) could put one at the place just now: then the way is through a descriptor that was
 * checked.
 */
int node_open(struct host *h, struct fs_node *n, uint32_t flags, struct statx *ret)
{
	struct place p;
	int fd, r;

	if (!S_ISREG(n->mode) && !S_ISDIR(n->mode))
		return -EACCES;
	if (!n->share)
		return -EROFS;
	if (n->closed)
		return -EACCES;
	pthread_mutex_lock(&h->lock);
	/* folders have a descriptor, or will need one */
	if (h->privileged || n->fd >= 0 || !n->name || S_ISDIR(n->mode) || (flags & O_TRUNC)) {
		pthread_mutex_unlock(&h->lock);
		return reopen(h, n, flags, ret);
	}
	find(h, n, &p);
	pthread_mutex_unlock(&h->lock);
	r = fd = node_fd(h, p.dir);
	if (fd >= 0) {
		r = entry_open(h, fd, p.name, flags | O_NONBLOCK);
		node_fd_put(h, p.dir);
	}
	node_put(&h->fs, p.dir);
	if (r >= 0) {
		fd = r;
		r = check(n, fd, ret);
		if (r == 0)
			return fd;
		close(fd);
	}
	/* It is a FIFO or a link by now (ENXIO, ELOOP), or it was renamed: the file itself may be held by a handle. */
	if (r == -ENOENT || r == -ENOTDIR || r == -ELOOP || r == -ENXIO || r == -ESTALE ||
		r == -EAGAIN)
		return reopen(h, n, flags, ret);
	return r;
}
