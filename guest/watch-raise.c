/* SPDX-License-Identifier: MIT */
/*
 * A change that the host made, made again here: the server knows that this one is none, and this kernel tells all who watch. Before a
 * name goes or comes, the kernel's idea of it is set right: to make a file has it ask the server, whatever it believes.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "guest/watch.h"
#include "lib/base/cleanup.h"
#include "lib/base/log.h"

enum { TRIES = 3 };

struct raising {
	const struct wslx_change *c;
	const char *name, *to_name;
	int tree; /* a mount of the file system */
};

static int open_node(int tree, const struct watched *w)
{
	/* as the kernel's fuse_encode_fh() has it */
	struct {
		struct file_handle h;
		uint32_t words[3];
	} fh = {.h = {.handle_bytes = 12, .handle_type = 0x81}};
	const uint32_t words[3] = {(uint32_t)(w->node >> 32), (uint32_t)w->node, w->gen};
	int fd = -1;

	memcpy(fh.h.f_handle, words, sizeof(words));
	/* it would have to be open for more than its path, which the host would notice */
	if (fchdir(tree) < 0)
		return -errno;
	/* a folder without a name in this kernel gets its own again, which fails if something is renamed on the way */
	for (unsigned i = 0; i < TRIES; i++) {
		fd = open_by_handle_at(AT_FDCWD, &fh.h, O_PATH | O_CLOEXEC);
		if (fd >= 0 || errno != ESTALE)
			break;
	}
	return fd < 0 ? -errno : fd;
}

static int raise_dir(int dir)
{
	return openat(dir, WSLX_RAISE_DIR, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

static void set_right(int dir, const char *name)
{
	(void)!mknodat(dir, name, S_IFREG | 0600, 0);
}

static int created(const struct raising *x, int dir)
{
	switch (x->c->mode & S_IFMT) {
	case S_IFDIR: return mkdirat(dir, x->name, 0700);
	case S_IFLNK: return symlinkat("-", dir, x->name);
	case 0: return mknodat(dir, x->name, S_IFREG | 0600, 0);
	default: return mknodat(dir, x->name, (x->c->mode & S_IFMT) | 0600, 0);
	}
}

static int deleted(const struct raising *x, int dir)
{
	set_right(dir, x->name);
	return unlinkat(dir, x->name, S_ISDIR(x->c->mode) ? AT_REMOVEDIR : 0);
}

static int move(int from, const char *name, int to, const char *to_name)
{
	return (int)syscall(SYS_renameat2, from, name, to, to_name, 0);
}

static int moved_from(int dir, const char *name)
{
	cleanup_close int away = raise_dir(dir);

	set_right(dir, name);
	return away < 0 ? -1 : move(dir, name, away, WSLX_RAISE_TO);
}

static int moved_to(int dir, const char *name)
{
	cleanup_close int away = raise_dir(dir);
	cleanup_close int file = -EBADF;

	if (away < 0)
		return -1;
	/* a folder has one place in this kernel; it goes here before the two are locked */
	file = openat(away, WSLX_RAISE_FROM, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	set_right(dir, name);
	return file < 0 ? -1 : move(away, WSLX_RAISE_FROM, dir, name);
}

static int touch(int fd, const char *name, bool attributes)
{
	const int flags = AT_SYMLINK_NOFOLLOW | (*name ? 0 : AT_EMPTY_PATH);
	const struct timespec now = {.tv_sec = WSLX_RAISE_SEC, .tv_nsec = WSLX_RAISE_NSEC};
	const struct timespec ts[2] = {
		attributes ? now : (struct timespec){.tv_nsec = UTIME_OMIT}, now};
	uint8_t buf[256];

	/* what it has in its cache of a changed file goes */
	syscall(SYS_statx, fd, name, flags | AT_NO_AUTOMOUNT | AT_STATX_FORCE_SYNC, 0x7ff, buf);
	return (int)syscall(SYS_utimensat, fd, name, ts, flags);
}

static int closed(int fd, const char *name)
{
	cleanup_close int file = -EBADF;
	cleanup_close int w = -EBADF;
	char path[64];
	struct stat st;

	if (*name)
		file = openat(fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (*name && file < 0)
		return -1;
	if (*name)
		fd = file;
	/* who executes it just now would be told that it is busy */
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_mode & 0111)
		return 0;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	w = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
	return w < 0 ? -1 : 0;
}

static int self_deleted(const struct raising *x)
{
	cleanup_close int away = raise_dir(x->tree);

	return away < 0 ? -1
			: unlinkat(away, WSLX_RAISE_FROM, S_ISDIR(x->c->mode) ? AT_REMOVEDIR : 0);
}

static int self_moved(const struct raising *x)
{
	cleanup_close int away = raise_dir(x->tree);

	return away < 0 ? -1 : move(away, WSLX_RAISE_FROM, away, WSLX_RAISE_TO);
}

static int both_moved(const struct raising *x, int from, const struct watched *w_to)
{
	cleanup_close int to = open_node(x->tree, w_to);

	if (to < 0)
		return moved_from(from, x->name);
	set_right(from, x->name);
	set_right(to, x->to_name);
	return move(from, x->name, to, x->to_name);
}

static const struct watched *in_same(
	const struct watch_list *l, uint64_t node, const struct watched *as)
{
	const struct watched *w = watch_find(l, node);

	for (; w && w < l->w + l->n && w->node == node; w++)
		if (w->dev == as->dev)
			return w;
	return NULL;
}

static int one(const struct raising *x, const struct watch_list *l, const struct watched *w)
{
	const uint32_t kind = x->c->kind;
	const bool folder = S_ISDIR(x->c->mode);
	const struct watched *to;
	cleanup_close int fd = -EBADF;

	if (kind == WSLX_CHANGE_DELETE_SELF)
		return self_deleted(x);
	/* a folder would lose its place, in which processes may be */
	if (kind == WSLX_CHANGE_MOVE_SELF && !folder)
		return self_moved(x);
	fd = open_node(x->tree, w);
	if (fd < 0) {
		errno = -fd;
		return -1;
	}
	switch (kind) {
	case WSLX_CHANGE_CREATE: return created(x, fd);
	case WSLX_CHANGE_DELETE: return deleted(x, fd);
	case WSLX_CHANGE_MOVED_FROM: return moved_from(fd, x->name);
	case WSLX_CHANGE_MOVED_TO: return moved_to(fd, x->name);
	case WSLX_CHANGE_MODIFY: return touch(fd, x->name, false);
	case WSLX_CHANGE_CLOSE_WRITE: return closed(fd, x->name);
	case WSLX_CHANGE_MOVE:
		to = in_same(l, x->c->to, w);
		return to ? both_moved(x, fd, to) : moved_from(fd, x->name);
	default: return touch(fd, x->name, true);
	}
}

static void report(const struct wslx_change *c, const char *name)
{
	log_debug("files", "event %u of %s: %s", c->kind, *name ? name : "a file", strerror(errno));
}

void watch_raise(const struct watch_list *l, watch_tree_fn tree, const struct wslx_change *c,
	const char *name, const char *to_name)
{
	const bool all = c->kind == WSLX_CHANGE_LOST;
	const struct watched *end = l->w + l->n, *w = all ? l->w : watch_find(l, c->node);
	struct raising x = {.c = c, .name = all ? "" : name, .to_name = to_name};

	for (; w && w < end && (all || w->node == c->node); w++) {
		x.tree = tree(w->dev);
		if (x.tree >= 0 && one(&x, l, w) < 0)
			report(c, name);
	}
	/* where only the folder it went to is watched */
	w = c->kind == WSLX_CHANGE_MOVE ? watch_find(l, c->to) : NULL;
	for (; w && w < end && w->node == c->to; w++) {
		cleanup_close int fd = -EBADF;

		x.tree = in_same(l, c->node, w) ? -1 : tree(w->dev);
		fd = x.tree < 0 ? -1 : open_node(x.tree, w);
		if (fd >= 0 && moved_to(fd, to_name) < 0)
			report(c, to_name);
	}
	(void)!chdir("/");
}
