/* SPDX-License-Identifier: MIT */
/*
 * Locks. Those of POSIX belong to a process of the peer's, whichever of its descriptors it uses; here they belong to an open
 * file (F_OFD_SETLK), of which there is one for each process and file. Those of flock(2) are the fid's.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include "lib/p9/server-internal.h"

/* A process of the peer's that has, or had, a lock on a file. */
struct p9_lock_owner {
	struct p9_lock_owner *next;
	uint64_t owner;
	struct p9_node *node;
	struct fs_handle *h;
};

/* By its number and the name of its machine. */
static uint64_t owner_of(const struct p9_msg *m)
{
	uint64_t h = 0xcbf29ce484222325ull ^ m->proc_id;

	for (unsigned i = 0; i < m->name.len; i++)
		h = (h ^ (uint8_t)m->name.s[i]) * 0x100000001b3ull;
	return h;
}

static struct p9_lock_owner **find(struct p9_server *s, const struct p9_fid *f, uint64_t owner)
{
	struct p9_lock_owner **p = &s->owners[owner % OWNER_BUCKETS];

	while (*p && ((*p)->owner != owner || (*p)->node->node != f->node->node))
		p = &(*p)->next;
	return p;
}

static void end(struct p9_server *s, struct p9_lock_owner **p)
{
	struct p9_lock_owner *o = *p;

	*p = o->next;
	s->n_owners--;
	s->fs->ops->close(s->fs, o->h);
	p9_node_unref(s, o->node);
	free(o);
}

void p9_locks_end(struct p9_server *s)
{
	for (unsigned i = 0; i < OWNER_BUCKETS; i++)
		while (s->owners[i])
			end(s, &s->owners[i]);
}

static int make(struct p9_server *s, struct p9_fid *f, uint64_t owner, struct p9_lock_owner **ret)
{
	struct p9_lock_owner *o = s->n_owners < OWNERS_MAX ? calloc(1, sizeof(*o)) : NULL;
	int r;

	if (!o)
		return -ENOLCK;
	r = s->fs->ops->open(s->fs, &s->cred, f->node->node, O_RDWR, &o->h);
	if (r < 0)
		r = s->fs->ops->open(s->fs, &s->cred, f->node->node, O_RDONLY, &o->h);
	if (r < 0)
		r = s->fs->ops->open(s->fs, &s->cred, f->node->node, O_WRONLY, &o->h);
	if (r < 0) {
		free(o);
		return r;
	}
	o->owner = owner;
	o->node = p9_node_ref(f->node);
	o->next = s->owners[owner % OWNER_BUCKETS];
	s->owners[owner % OWNER_BUCKETS] = o;
	s->n_owners++;
	*ret = o;
	return 0;
}

static int lock_of(const struct p9_fid *f, const struct p9_msg *m, struct flock *ret)
{
	static const short types[] = {F_RDLCK, F_WRLCK, F_UNLCK};

	if (!f->h || f->node->qid.type != P9_QT_FILE)
		return -EBADF;
	if (m->lock_type >= ARRAY_LEN(types) || m->offset > INT64_MAX)
		return -EINVAL;
	*ret = (struct flock){.l_type = types[m->lock_type],
		.l_whence = SEEK_SET,
		.l_start = (off_t)m->offset,
		/* Up to the end, in one way or the other. */
		.l_len = m->length > INT64_MAX - m->offset ? 0 : (off_t)m->length};
	return 0;
}

static int set_posix(struct p9_server *s, struct p9_fid *f, const struct p9_msg *m, struct flock *l)
{
	struct p9_lock_owner **p = find(s, f, owner_of(m)), *o = *p;
	int r = 0;

	if (l->l_type == F_UNLCK && (!o || (l->l_start == 0 && l->l_len == 0))) {
		if (o)
			end(s, p);
		return 0;
	}
	if (!o)
		r = make(s, f, owner_of(m), &o);
	if (r == 0 && fcntl(s->handle_fd(o->h), F_OFD_SETLK, l) < 0)
		r = -errno;
	return r;
}

int p9_op_lock(
	struct p9_server *s, struct p9_fid *f, const struct p9_msg *m, struct p9_msg *r, void *room)
{
	static const int flocks[] = {LOCK_SH, LOCK_EX, LOCK_UN};
	struct flock l;
	int err = s->handle_fd ? lock_of(f, m, &l) : -EOPNOTSUPP;

	if (err < 0)
		return err;
	if (!s->wslx || !(m->flags & P9_LOCK_FLOCK))
		err = set_posix(s, f, m, &l);
	else if (flock(s->handle_fd(f->h), flocks[m->lock_type] | LOCK_NB) < 0)
		err = -errno;
	/* A lock is not waited for, which would hold up everything else: the peer asks again. */
	r->status = err == -EAGAIN || err == -EACCES ? P9_LOCK_BLOCKED : P9_LOCK_SUCCESS;
	return r->status == P9_LOCK_BLOCKED ? 0 : err;
}

int p9_op_getlock(
	struct p9_server *s, struct p9_fid *f, const struct p9_msg *m, struct p9_msg *r, void *room)
{
	struct p9_lock_owner *o;
	struct flock l;
	int err = s->handle_fd ? lock_of(f, m, &l) : -EOPNOTSUPP;

	if (err < 0)
		return err;
	o = *find(s, f, owner_of(m));
	if (l.l_type != F_UNLCK && fcntl(s->handle_fd(o ? o->h : f->h), F_OFD_GETLK, &l) < 0)
		return -errno;
	r->lock_type = l.l_type == F_RDLCK   ? P9_LOCK_RDLCK
		       : l.l_type == F_WRLCK ? P9_LOCK_WRLCK
					     : P9_LOCK_UNLCK;
	r->offset = (uint64_t)l.l_start;
	r->length = (uint64_t)l.l_len;
	r->proc_id = l.l_pid > 0 ? (uint32_t)l.l_pid : 0;
	r->name = m->name;
	return 0;
}
