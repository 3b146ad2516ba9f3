/* SPDX-License-Identifier: MIT */
/*
 * Every file gets its name when it is complete: it is written under another one beside it, then renamed. A folder is made
 * first and gets its times and its mode at the end.
 */
#include "cli/cp.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include "lib/base/cleanup.h"

enum { PIECE = 256 << 10, XATTR_MAX = 65536, DEPTH_MAX = 1000 };

struct copy {
	const struct cp_opts *o;
	struct cp_side *from, *to;
	struct cp_node *root; /* the folder that it all goes to */
	char *path;	      /* from there to what is being made */
	size_t path_len, path_max;
	unsigned depth;
	/* Both are of one side: the first folder there is on the way, by its numbers, is not to be copied into itself. */
	bool one_side;
	uint64_t top_dev, top_ino;
	int result; /* the first failure */
};

static int copy_node(struct copy *c, struct cp_node *n, const struct cp_attr *a,
	struct cp_node *dir, const char *name, const char *shown);

/* --- attributes --- */

static uint32_t mapped(uint32_t id, uint32_t a, uint32_t b)
{
	return id == a ? b : id == b ? a : id;
}

static int copy_xattrs(struct copy *c, struct cp_node *from, struct cp_node *to, struct err *e)
{
	cleanup_free char *names = malloc(XATTR_MAX), *value = malloc(XATTR_MAX);
	ssize_t n, len;
	int r;

	if (!names || !value)
		return err_sys(e, -ENOMEM, "attributes");
	n = c->from->ops->getxattr(c->from, from, "", names, XATTR_MAX);
	if (n < 0)
		return n == -EOPNOTSUPP ? 0 : err_sys(e, (int)n, "list attributes");
	for (char *p = names; p < names + n; p += strlen(p) + 1) {
		len = c->from->ops->getxattr(c->from, from, p, value, XATTR_MAX);
		if (len == -ENODATA)
			continue;
		r = len < 0 ? (int)len : c->to->ops->setxattr(c->to, to, p, value, (size_t)len);
		/* What only root may set, or this side does not have, others do without, as with cp -a. */
		if (r == -EPERM || r == -EOPNOTSUPP || r == -EACCES)
			continue;
		if (r < 0)
			return err_sys(e, r, "attribute %s", p);
	}
	return 0;
}

static int copy_attrs(struct copy *c, struct cp_node *from, const struct cp_attr *a,
	struct cp_node *to, struct err *e)
{
	struct cp_attr set = *a;
	int r = 0;

	if (!c->o->all) {
		set.mode = a->mode & 0777 & ~c->o->umask;
		r = S_ISLNK(a->mode) ? 0 : c->to->ops->setattr(c->to, to, &set, CP_MODE);
		return r < 0 ? err_sys(e, r, "set its mode") : 0;
	}
	set.uid = mapped(a->uid, c->o->from_uid, c->o->to_uid);
	set.gid = mapped(a->gid, c->o->from_gid, c->o->to_gid);
	r = c->to->ops->setattr(c->to, to, &set, CP_OWNER);
	if (r == -EPERM) {
		/* Others' files become ours, and do not do what theirs could. */
		set.mode &= ~(uint32_t)(S_ISUID | S_ISGID);
		r = 0;
	}
	if (r < 0)
		return err_sys(e, r, "set its owner");
	r = copy_xattrs(c, from, to, e);
	if (r < 0)
		return r;
	set.mode &= 07777;
	r = c->to->ops->setattr(c->to, to, &set, CP_TIMES | (S_ISLNK(a->mode) ? 0 : CP_MODE));
	return r < 0 ? err_sys(e, r, "set its attributes") : 0;
}

/* --- files --- */

/* The file has become shorter, and ends where there was only a hole before. */
static bool ends_before(struct copy *c, struct cp_node *from, uint64_t size)
{
	char last;

	return size && c->from->ops->read(c->from, from, &last, 1, size - 1) == 0;
}

/* Files that do not say how long they are, as those of /proc, say 0: they are read for as long as there is something. */
static int copy_data(
	struct copy *c, struct cp_node *from, uint64_t size, struct cp_node *to, struct err *e)
{
	cleanup_free char *buf = malloc(PIECE);
	const bool unsaid = size == 0;
	uint64_t at = 0, start = 0, end = unsaid ? UINT64_MAX : 0;
	int r = buf ? 0 : -ENOMEM;

	while (r == 0 && (unsaid || at < size)) {
		ssize_t n;

		if (*c->o->stop)
			return err_sys(e, -EINTR, "copy");
		if (at >= end) {
			r = c->from->ops->data(c->from, from, at, &start, &end);
			if (r == -ENXIO)
				break; /* a hole up to the end */
			if (r < 0)
				return err_sys(e, r, "find its data");
			at = start;
		}
		n = c->from->ops->read(
			c->from, from, buf, (size_t)MIN(end - at, (uint64_t)PIECE), at);
		if (n < 0)
			return err_sys(e, (int)n, "read");
		/* It became shorter meanwhile, or is shorter than it says: what was read is what there is. */
		if (n == 0)
			return 0;
		r = c->to->ops->write(c->to, to, buf, (size_t)n, at);
		if (r < 0)
			return err_sys(e, r, "write");
		at += (uint64_t)n;
		size = MAX(size, at);
		c->o->progress(c->o->ctx, (uint64_t)n, 0);
	}
	/* What ends in a hole was not written up to its end. */
	if (r == -ENXIO)
		r = ends_before(c, from, size) ? 0 : c->to->ops->truncate(c->to, to, size);
	return r < 0 ? err_sys(e, r, "write") : 0;
}

/* ".NAME.wslx-RANDOM", in which NAME may be cut. */
static void make_temp(const char *name, char ret[NAME_MAX + 1])
{
	uint32_t random = 0;

	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		random = (uint32_t)(uintptr_t)name;
	snprintf(ret, NAME_MAX + 1, ".%.200s.wslx-%08x", name, random);
}

static int copy_file(struct copy *c, struct cp_node *n, const struct cp_attr *a,
	struct cp_node *dir, const char *temp, struct cp_node *made, struct err *e)
{
	int r = c->from->ops->open(c->from, n);

	if (r < 0)
		return err_sys(e, r, "open");
	r = c->to->ops->create(c->to, dir, temp, made);
	if (r < 0)
		return err_sys(e, r, "create");
	r = copy_data(c, n, a->size, made, e);
	if (r == 0)
		r = copy_attrs(c, n, a, made, e);
	if (r == 0) {
		r = c->to->ops->done(c->to, made);
		if (r < 0)
			err_sys(e, r, "write");
	}
	return r;
}

static int copy_symlink(struct copy *c, struct cp_node *n, struct cp_node *dir, const char *temp,
	struct cp_node *made, struct err *e)
{
	char target[PATH_MAX];
	ssize_t len = c->from->ops->readlink(c->from, n, target, sizeof(target) - 1);
	int r;

	if (len < 0)
		return err_sys(e, (int)len, "read the link");
	target[len] = '\0';
	r = c->to->ops->symlink(c->to, dir, temp, target, made);
	return r < 0 ? err_sys(e, r, "create the link") : 0;
}

/* Anything but a folder, under its temporary name; then its own. */
static int copy_leaf(struct copy *c, struct cp_node *n, const struct cp_attr *a,
	struct cp_node *dir, const char *name, struct err *e)
{
	bool several = c->o->all && a->nlink > 1;
	struct cp_node made = {-EBADF, -EBADF, UINT32_MAX, NULL}, first = made;
	bool other = several && cp_links_find(a, c->to, c->root, &first);
	char temp[NAME_MAX + 1];
	int r;

	make_temp(name, temp);
	if (other)
		r = c->to->ops->link(c->to, &first, dir, temp);
	else if (S_ISREG(a->mode))
		r = copy_file(c, n, a, dir, temp, &made, e);
	else if (S_ISLNK(a->mode))
		r = copy_symlink(c, n, dir, temp, &made, e);
	else
		r = c->to->ops->mknod(c->to, dir, temp, a, &made);
	if (r < 0 && !e->code)
		err_sys(e, r, "create");
	if (r == 0 && !other && !S_ISREG(a->mode))
		r = copy_attrs(c, n, a, &made, e);
	if (r == 0) {
		r = c->to->ops->rename(c->to, dir, temp, name);
		if (r < 0)
			err_sys(e, r, "give it its name");
	}
	if (r < 0)
		c->to->ops->unlink(c->to, dir, temp);
	if (other)
		c->to->ops->put(c->to, &first);
	else
		c->to->ops->put(c->to, &made);
	if (r == 0 && several && !other)
		cp_links_keep(a, c->path);
	if (r == 0)
		c->o->progress(c->o->ctx, 0, 1);
	return r;
}

/* --- folders --- */

struct names {
	char **name;
	size_t n, max;
};

static int add_name(void *ctx, const char *name)
{
	struct names *l = ctx;

	if (l->n == l->max) {
		size_t max = l->max ? l->max * 2 : 64;
		char **p = reallocarray(l->name, max, sizeof(*p));

		if (!p)
			return -ENOMEM;
		l->name = p;
		l->max = max;
	}
	l->name[l->n] = strdup(name);
	return l->name[l->n++] ? 0 : -ENOMEM;
}

static void report(struct copy *c, const char *shown, const struct err *e)
{
	if (!c->result)
		c->result = e->code;
	c->o->failed(c->o->ctx, shown, e);
}

/* Where it goes: the path of the folder, and this name. *ret: what the path is cut to afterwards. */
static int push_name(struct copy *c, const char *name, size_t *ret)
{
	size_t len = strlen(name), need = c->path_len + len + 2;

	if (need > c->path_max) {
		char *p = realloc(c->path, 2 * need);

		if (!p)
			return -ENOMEM;
		c->path = p;
		c->path_max = 2 * need;
	}
	*ret = c->path_len;
	if (c->path_len)
		c->path[c->path_len++] = '/';
	memcpy(c->path + c->path_len, name, len + 1);
	c->path_len += len;
	return 0;
}

static int copy_entry(struct copy *c, struct cp_node *from, const char *name, struct cp_node *to,
	const char *shown)
{
	struct cp_node n = {-EBADF, -EBADF, UINT32_MAX, NULL};
	struct err e = {0};
	struct cp_attr a;
	char path[PATH_MAX];
	int r = c->from->ops->lookup(c->from, from, name, &n, &a);

	snprintf(path, sizeof(path), "%s%s%s", shown, shown[strlen(shown) - 1] == '/' ? "" : "/",
		name);
	if (r == -ENOENT)
		return 0; /* gone since the folder was read */
	if (r < 0) {
		err_sys(&e, r, "look at it");
		report(c, path, &e);
		return 0;
	}
	r = copy_node(c, &n, &a, to, name, path);
	c->from->ops->put(c->from, &n);
	return r;
}

static bool is_top(const struct copy *c, const struct cp_attr *a)
{
	return c->one_side && a->dev == c->top_dev && a->ino == c->top_ino;
}

/* Or finds the one that is there. */
static int make_folder(struct copy *c, struct cp_node *dir, const char *name, struct cp_node *made,
	bool *existed, struct err *e)
{
	struct cp_attr there;
	int r = c->to->ops->mkdir(c->to, dir, name, made);

	*existed = r == -EEXIST;
	if (r < 0 && !*existed)
		return err_sys(e, r, "create the folder");
	/* What was made has to be looked at only when it may be met again. */
	if (!*existed && (c->depth || !c->one_side))
		return 0;
	if (!*existed)
		c->to->ops->put(c->to, made);
	r = c->to->ops->lookup(c->to, dir, name, made, &there);
	if (r < 0)
		return err_sys(e, r, "create the folder");
	if (!S_ISDIR(there.mode)) {
		c->to->ops->put(c->to, made);
		return err_set(e, -ENOTDIR, "something else than a folder is in its place");
	}
	if (!c->depth) {
		c->top_dev = there.dev;
		c->top_ino = there.ino;
	}
	return 0;
}

static int copy_folder(struct copy *c, struct cp_node *n, const struct cp_attr *a,
	struct cp_node *dir, const char *name, const char *shown, struct err *e)
{
	struct cp_node made = {-EBADF, -EBADF, UINT32_MAX, NULL};
	struct cp_attr open = *a; /* while something is put into it */
	struct names l = {0};
	bool existed;
	int r;

	if (!c->o->recursive)
		return err_set(e, -EISDIR, "it is a folder, and -r was not given");
	if (c->depth >= DEPTH_MAX)
		return err_set(e, -ELOOP, "too many folders in folders");
	if (c->depth && is_top(c, a))
		return err_set(e, -EINVAL, "a folder cannot be copied into itself");
	r = make_folder(c, dir, name, &made, &existed, e);
	if (r < 0)
		return r;
	if (!c->depth && is_top(c, a)) {
		c->to->ops->put(c->to, &made);
		return err_set(e, -EINVAL, "it is the folder that it would be copied to");
	}
	/* One that was there keeps its mode, as with cp(1). With -a nobody else looks into it before it is complete. */
	open.mode |= S_IRWXU;
	if (!existed && !c->o->all)
		r = copy_attrs(c, n, &open, &made, e);
	if (r == 0) {
		r = c->from->ops->list(c->from, n, add_name, &l);
		if (r < 0)
			err_sys(e, r, "read the folder");
	}
	c->depth++;
	for (size_t i = 0; i < l.n; i++) {
		if (r == 0 && l.name[i] && !*c->o->stop)
			copy_entry(c, n, l.name[i], &made, shown);
		free(l.name[i]);
	}
	c->depth--;
	free(l.name);
	if (r == 0 && *c->o->stop)
		r = err_sys(e, -EINTR, "copy");
	if (r == 0 && (c->o->all || (!existed && open.mode != a->mode)))
		r = copy_attrs(c, n, a, &made, e);
	c->to->ops->put(c->to, &made);
	return r;
}

static int copy_node(struct copy *c, struct cp_node *n, const struct cp_attr *a,
	struct cp_node *dir, const char *name, const char *shown)
{
	struct err e = {0};
	size_t before;
	int r = push_name(c, name, &before);

	if (r < 0) {
		err_sys(&e, r, "copy");
		report(c, shown, &e);
		return 0;
	}
	if (S_ISDIR(a->mode))
		r = copy_folder(c, n, a, dir, name, shown, &e);
	else if (S_ISSOCK(a->mode))
		r = err_set(&e, -EOPNOTSUPP, "a socket is of no use elsewhere");
	else if (!S_ISREG(a->mode) && !S_ISLNK(a->mode) && !c->o->recursive)
		r = err_set(&e, -EINVAL, "it is no regular file, and -r was not given");
	else
		r = copy_leaf(c, n, a, dir, name, &e);
	c->path_len = before;
	if (r < 0)
		report(c, shown, &e);
	return 0;
}

int cp_copy(const struct cp_opts *o, struct cp_side *from, struct cp_node *n,
	const struct cp_attr *a, struct cp_side *to, struct cp_node *dir, const char *name,
	const char *shown)
{
	struct copy c = {.o = o,
		.from = from,
		.to = to,
		.root = dir,
		.one_side = from->remote == to->remote};

	copy_node(&c, n, a, dir, name, shown);
	free(c.path);
	return c.result;
}
