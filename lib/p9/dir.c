/* SPDX-License-Identifier: MIT */
/* Treaddir and Treaddirplus. */
#include "lib/p9/server-internal.h"

#include <errno.h>
#include <string.h>

struct listing {
	struct p9_server *s;
	uint8_t *buf;
	size_t cap, len;
	bool plus, full;
};

static bool add(void *ctx, const struct fs_dirent *d)
{
	struct listing *l = ctx;
	struct p9_dirent out = {
		.offset = d->next, .type = (uint8_t)d->type, .name = p9_str(d->name)};
	int n;

	if (d->entry.node)
		p9_attr_of(l->s, &d->entry.attr, &out.attr);
	else
		out.attr.qid.path = d->ino;
	n = p9_dirent_encode(&out, l->plus, l->buf + l->len, l->cap - l->len);
	if (n < 0) {
		l->full = true;
		return false;
	}
	l->len += (size_t)n;
	/* Entries come without fids: who wants one looks it up. */
	if (d->entry.node)
		l->s->fs->ops->forget(l->s->fs, d->entry.node, 1);
	return true;
}

int p9_op_readdir(
	struct p9_server *s, struct p9_fid *f, const struct p9_msg *m, struct p9_msg *r, void *room)
{
	struct listing l = {.s = s,
		.buf = room,
		.cap = MIN(m->count, s->msize - P9_HEADER - 4),
		.plus = m->type == P9_TREADDIRPLUS};
	int n;

	if (!f->h || f->node->qid.type != P9_QT_DIR)
		return -EBADF;
	n = s->fs->ops->readdir(s->fs, &s->cred, f->h, m->offset, l.plus, add, &l);
	/* What was listed before an error comes first; the error then comes with the next call. */
	if (n < 0 && l.len == 0)
		return n;
	if (l.len == 0 && l.full)
		return -EINVAL;
	r->data = room;
	r->count = (uint32_t)l.len;
	return 0;
}
