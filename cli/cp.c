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

/* A file that has other names, and the one that was made of it. */
struct linked {
	struct linked *next;
	uint64_t dev, ino;
	struct cp_node node;
};
static struct linked *linked[1024];

struct copy {
	const struct cp_opts *o;
	struct cp_side *from, *to;
	unsigned depth;
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

static int copy_data(
	struct copy *c, struct cp_node *from, uint64_t size, struct cp_node *to, struct err *e)
{
	cleanup_free char *buf = malloc(PIECE);
	uint64_t at = 0, start = 0, end = size;
	int r = buf ? 0 : -ENOMEM;

	while (r == 0 && at < size) {
		ssize_t n;

		if (*c->o->stop)
			return err_sys(e, -EINTR, "copy");
		if (at >= end || at == 0) {
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
		if (n == 0)
			break; /* it became shorter meanwhile */
		r = c->to->ops->write(c->to, to, buf, (size_t)n, at);
		if (r < 0)
			return err_sys(e, r, "write");
		at += (uint64_t)n;
		size = MAX(size, at);
		c->o->progress(c->o->ctx, (uint64_t)n, 0);
	}
	if (r == -ENXIO)
		r = 0;
	/* What ends in a hole was not written up to its end. */
	if (r == 0 && at < size)
		r = c->to->ops->truncate(c->to, to, size);
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

static struct linked *find_link(const struct cp_attr *a)
{
	struct linked *l = linked[(a->ino ^ a->dev) % ARRAY_LEN(linked)];

	while (l && (l->dev != a->dev || l->ino != a->ino))
		l = l->next;
	return l;
}

static bool keep_link(const struct cp_attr *a, struct cp_node *made)
{
	struct linked *l = malloc(sizeof(*l)), **b = &linked[(a->ino ^ a->dev) % ARRAY_LEN(linked)];

	if (!l)
		return false;
	*l = (struct linked){*b, a->dev, a->ino, *made};
	*b = l;
	return true;
}

void cp_links_clear(struct cp_side *to)
{
	for (size_t i = 0; i < ARRAY_LEN(linked); i++)
		while (linked[i]) {
			struct linked *l = linked[i];

			linked[i] = l->next;
			to->ops->put(to, &l->node);
			free(l);
		}
}

/* Anything but a folder, under its temporary name; then its own. */
static int copy_leaf(struct copy *c, struct cp_node *n, const struct cp_attr *a,
	struct cp_node *dir, const char *name, struct err *e)
{
	bool several = c->o->all && a->nlink > 1;
	struct linked *other = several ? find_link(a) : NULL;
	struct cp_node made = {-EBADF, -EBADF, UINT32_MAX, NULL};
	char temp[NAME_MAX + 1];
	int r;

	make_temp(name, temp);
	if (other)
		r = c->to->ops->link(c->to, &other->node, dir, temp);
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
	if (other || r < 0 || !several || !keep_link(a, &made))
		c->to->ops->put(c->to, &made);
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

static int copy_folder(struct copy *c, struct cp_node *n, const struct cp_attr *a,
	struct cp_node *dir, const char *name, const char *shown, struct err *e)
{
	struct cp_node made = {-EBADF, -EBADF, UINT32_MAX, NULL};
	struct names l = {0};
	struct cp_attr there;
	int r;

	if (!c->o->recursive)
		return err_set(e, -EISDIR, "it is a folder, and -r was not given");
	if (c->depth >= DEPTH_MAX)
		return err_set(e, -ELOOP, "too many folders in folders");
	r = c->to->ops->mkdir(c->to, dir, name, &made);
	if (r == -EEXIST) {
		r = c->to->ops->lookup(c->to, dir, name, &made, &there);
		if (r == 0 && !S_ISDIR(there.mode)) {
			c->to->ops->put(c->to, &made);
			return err_set(e, -ENOTDIR, "something else than a folder is in its place");
		}
	}
	if (r < 0)
		return err_sys(e, r, "create the folder");
	r = c->from->ops->list(c->from, n, add_name, &l);
	if (r < 0)
		err_sys(e, r, "read the folder");
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
	if (r == 0)
		r = copy_attrs(c, n, a, &made, e);
	c->to->ops->put(c->to, &made);
	return r;
}

static int copy_node(struct copy *c, struct cp_node *n, const struct cp_attr *a,
	struct cp_node *dir, const char *name, const char *shown)
{
	struct err e = {0};
	int r;

	if (S_ISDIR(a->mode))
		r = copy_folder(c, n, a, dir, name, shown, &e);
	else if (S_ISSOCK(a->mode))
		r = err_set(&e, -EOPNOTSUPP, "a socket is of no use elsewhere");
	else if (!S_ISREG(a->mode) && !S_ISLNK(a->mode) && !c->o->recursive)
		r = err_set(&e, -EINVAL, "it is no regular file, and -r was not given");
	else
		r = copy_leaf(c, n, a, dir, name, &e);
	if (r < 0)
		report(c, shown, &e);
	return 0;
}

int cp_copy(const struct cp_opts *o, struct cp_side *from, struct cp_node *n,
	const struct cp_attr *a, struct cp_side *to, struct cp_node *dir, const char *name,
	const char *shown)
{
	struct copy c = {.o = o, .from = from, .to = to};

	copy_node(&c, n, a, dir, name, shown);
	return c.result;
}
