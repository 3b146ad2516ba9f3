/* SPDX-License-Identifier: MIT */
/* Extended attributes, by fids of their own as in 9P2000.L and by single messages. */
#include "lib/p9/server-internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

static ssize_t get(struct p9_server *s, struct p9_node *n, const char *name, void *buf, size_t cap)
{
	return *name ? s->fs->ops->getxattr(s->fs, n->node, name, buf, cap)
		     : s->fs->ops->listxattr(s->fs, n->node, buf, cap);
}

static int attr_name(struct p9_str s, bool empty, char ret[P9_NAME_MAX + 1])
{
	if (s.len > P9_NAME_MAX || (s.len == 0 && !empty))
		return s.len ? -ERANGE : -EINVAL;
	if (s.len)
		memcpy(ret, s.s, s.len);
	ret[s.len] = '\0';
	return 0;
}

/* One with room for a value, which the peer could have as many of as of fids. */
static int xattr_new(
	struct p9_server *s, const struct p9_xattr *from, size_t len, struct p9_xattr **ret)
{
	struct p9_xattr *x;

	if (s->n_xattrs >= XATTRS_MAX)
		return -ENFILE;
	x = malloc(sizeof(*x));
	if (!x)
		return -ENOMEM;
	*x = *from;
	x->len = len;
	x->value = malloc(len + 1);
	if (!x->value) {
		free(x);
		return -ENOMEM;
	}
	s->n_xattrs++;
	*ret = x;
	return 0;
}

static void xattr_free(struct p9_server *s, struct p9_xattr *x)
{
	free(x->value);
	free(x);
	s->n_xattrs--;
}

int p9_op_xattrwalk(
	struct p9_server *s, struct p9_fid *f, const struct p9_msg *m, struct p9_msg *r, void *room)
{
	struct p9_xattr from = {0}, *x;
	struct p9_fid *fresh;
	ssize_t n;
	int err = attr_name(m->name, true, from.name);

	if (err == 0 && p9_fid_find(s, m->fid2))
		err = -EBADF;
	if (err < 0)
		return err;
	n = get(s, f->node, from.name, room, P9_XATTR_MAX);
	err = n < 0 ? (int)n : xattr_new(s, &from, (size_t)n, &x);
	if (err < 0)
		return err;
	memcpy(x->value, room, x->len);
	err = p9_fid_new(s, m->fid2, p9_node_ref(f->node), &fresh);
	if (err < 0) {
		xattr_free(s, x);
		return err;
	}
	fresh->xattr = x;
	r->length = x->len;
	return 0;
}

int p9_op_xattrcreate(
	struct p9_server *s, struct p9_fid *f, const struct p9_msg *m, struct p9_msg *r, void *room)
{
	struct p9_xattr from = {.writes = true, .flags = m->flags};
	int err;

	if (f->h || f->xattr)
		return -EBADF;
	if (m->length > P9_XATTR_MAX)
		return -E2BIG;
	err = attr_name(m->name, false, from.name);
	return err < 0 ? err : xattr_new(s, &from, m->length, &f->xattr);
}

int p9_xattr_read(struct p9_fid *f, const struct p9_msg *m, struct p9_msg *r)
{
	const struct p9_xattr *x = f->xattr;

	if (x->writes)
		return -EBADF;
	r->data = x->value + MIN(m->offset, x->len);
	r->count = (uint32_t)MIN(m->count, x->len - MIN(m->offset, x->len));
	return 0;
}

int p9_xattr_write(struct p9_fid *f, const struct p9_msg *m, struct p9_msg *r)
{
	struct p9_xattr *x = f->xattr;

	if (!x->writes)
		return -EBADF;
	if (m->offset != x->done || m->count > x->len - x->done)
		return -EINVAL;
	memcpy(x->value + x->done, m->data, m->count);
	x->done += m->count;
	r->count = m->count;
	return 0;
}

/*
 * Removing one is setting it to nothing. Linux's client tells the two apart by flags: those of removexattr(2) say that the
 * attribute has to be there. ACLs without a value are none whatever the flags.
 */
static bool removes(const struct p9_xattr *x)
{
	return x->len == 0 && (x->flags == XATTR_REPLACE || strncmp(x->name, "system.", 7) == 0);
}

int p9_xattr_end(struct p9_server *s, struct p9_fid *f)
{
	struct p9_xattr *x = f->xattr;
	int r = 0;

	if (x->writes && x->done != x->len)
		r = -EINVAL;
	else if (x->writes && removes(x))
		r = s->fs->ops->removexattr(s->fs, &s->cred, f->node->node, x->name);
	else if (x->writes)
		r = s->fs->ops->setxattr(
			s->fs, &s->cred, f->node->node, x->name, x->value, x->len, (int)x->flags);
	xattr_free(s, x);
	f->xattr = NULL;
	return r;
}

int p9_op_getxattr(
	struct p9_server *s, struct p9_fid *f, const struct p9_msg *m, struct p9_msg *r, void *room)
{
	size_t cap = MIN(MIN(m->count, (uint32_t)P9_XATTR_MAX), s->msize - P9_DATA_HEADER);
	char name[P9_NAME_MAX + 1];
	ssize_t n;
	int err = attr_name(m->name, true, name);

	if (err < 0)
		return err;
	n = get(s, f->node, name, room, cap);
	if (n < 0)
		return (int)n;
	r->length = (uint64_t)n;
	r->data = room;
	r->count = cap ? (uint32_t)n : 0;
	return 0;
}

int p9_op_setxattr(
	struct p9_server *s, struct p9_fid *f, const struct p9_msg *m, struct p9_msg *r, void *room)
{
	char name[P9_NAME_MAX + 1];
	int err = attr_name(m->name, false, name);

	return err < 0 ? err
		       : s->fs->ops->setxattr(s->fs, &s->cred, f->node->node, name, m->data,
				 m->count, (int)m->flags);
}

int p9_op_removexattr(
	struct p9_server *s, struct p9_fid *f, const struct p9_msg *m, struct p9_msg *r, void *room)
{
	char name[P9_NAME_MAX + 1];
	int err = attr_name(m->name, false, name);

	return err < 0 ? err : s->fs->ops->removexattr(s->fs, &s->cred, f->node->node, name);
}
