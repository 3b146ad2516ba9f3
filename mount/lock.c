/* SPDX-License-Identifier: MIT */
/*
 * Locks are the distribution's: programs there and here exclude one another. A lock that somebody else has is asked for
 * again, after a while that grows, until it is had or the program gives up.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include "mount/mount.h"

enum { FIRST_MS = 5, LAST_MS = 250 };

static struct file *file_of(const struct fuse_file_info *fi)
{
	return (struct file *)(uintptr_t)fi->fh;
}

static struct rq *rq_lock(fuse_req_t req, struct fuse_file_info *fi)
{
	struct file *f = file_of(fi);
	char owner[24];
	struct rq *rq;

	if (f->d->state != DIST_UP || f->gen != f->d->gen) {
		fuse_reply_err(req, EIO);
		return NULL;
	}
	rq = rq_new(req, f->node, NULL);
	rq->file = f;
	snprintf(owner, sizeof(owner), "%016llx", (unsigned long long)fi->lock_owner);
	rq->name = rq_str(owner);
	f->locked = true;
	return rq;
}

static void interrupted(fuse_req_t req, void *ctx)
{
	struct rq *rq = ctx;

	/* Between two tries it is over at once; else with the answer. */
	if (rq->again)
		rq_error(rq, -EINTR);
	else
		rq->cut = true;
}

static void ask(struct rq *rq);

static void ask_again(void *ctx)
{
	struct rq *rq = ctx;
	struct file *f = rq->file;

	rq->again = loop_src_free(rq->again);
	if (f->d->state == DIST_UP && f->gen == f->d->gen) {
		ask(rq);
		return;
	}
	fuse_req_interrupt_func(rq->req, NULL, NULL);
	rq_error(rq, -EIO);
}

static void locked(void *ctx, const struct p9_msg *r, int error)
{
	struct rq *rq = ctx;
	unsigned ms = MIN(FIRST_MS << MIN(rq->tries, 8u), LAST_MS);

	if (!error && r->status == P9_LOCK_BLOCKED && rq->flags & P9_LOCK_WAIT && !rq->cut &&
		loop_timer(rq->m->loop, ask_again, rq, &rq->again) == 0) {
		rq->tries++;
		loop_timer_arm(rq->again, loop_now() + ms * 1000000ull);
		return;
	}
	if (!error && r->status != P9_LOCK_SUCCESS)
		error = rq->cut ? -EINTR : r->status == P9_LOCK_BLOCKED ? -EAGAIN : -ENOLCK;
	fuse_req_interrupt_func(rq->req, NULL, NULL);
	rq_error(rq, error);
}

static void ask(struct rq *rq)
{
	struct p9_msg m = {.type = P9_TLOCK,
		.fid = rq->file->fid,
		.lock_type = (uint8_t)rq->mode,
		.flags = rq->flags,
		.offset = rq->off,
		.length = rq->size,
		.name = p9_str(rq->name)};

	dist_used(rq->d);
	dist_call(rq, &m, locked);
}

static void wait_for(struct rq *rq)
{
	rq->cut = fuse_req_interrupted(rq->req);
	if (!rq->cut)
		fuse_req_interrupt_func(rq->req, interrupted, rq);
	ask(rq);
}

static uint32_t type_of(short type)
{
	return type == F_RDLCK ? P9_LOCK_RDLCK : type == F_WRLCK ? P9_LOCK_WRLCK : P9_LOCK_UNLCK;
}

static void op_setlk(
	fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct flock *l, int sleep)
{
	struct rq *rq = rq_lock(req, fi);

	if (!rq)
		return;
	rq->mode = type_of(l->l_type);
	rq->off = (uint64_t)l->l_start;
	rq->size = (uint64_t)l->l_len;
	rq->flags = sleep ? P9_LOCK_WAIT : 0;
	wait_for(rq);
}

static void op_flock(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, int op)
{
	struct rq *rq = rq_lock(req, fi);

	if (!rq)
		return;
	rq->mode = op & LOCK_SH ? P9_LOCK_RDLCK : op & LOCK_EX ? P9_LOCK_WRLCK : P9_LOCK_UNLCK;
	rq->flags = P9_LOCK_FLOCK | (op & LOCK_NB ? 0 : P9_LOCK_WAIT);
	wait_for(rq);
}

static void got(void *ctx, const struct p9_msg *r, int error)
{
	static const short types[] = {F_RDLCK, F_WRLCK, F_UNLCK};
	struct rq *rq = ctx;
	struct flock l = {.l_whence = SEEK_SET};

	if (error) {
		rq_error(rq, error);
		return;
	}
	l.l_type = types[r->lock_type < ARRAY_LEN(types) ? r->lock_type : P9_LOCK_UNLCK];
	l.l_start = (off_t)r->offset;
	l.l_len = (off_t)r->length;
	/* Whose it is, is the number of a process over there. */
	l.l_pid = 0;
	if (!rq->answered)
		fuse_reply_lock(rq->req, &l);
	rq_free(rq);
}

static void op_getlk(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct flock *l)
{
	struct rq *rq = rq_lock(req, fi);
	struct p9_msg m = {.type = P9_TGETLOCK, .lock_type = (uint8_t)type_of(l->l_type)};

	if (!rq)
		return;
	m.fid = rq->file->fid;
	m.offset = (uint64_t)l->l_start;
	m.length = (uint64_t)l->l_len;
	m.name = p9_str(rq->name);
	dist_call(rq, &m, got);
}

void ops_lock(struct fuse_lowlevel_ops *ops)
{
	ops->getlk = op_getlk;
	ops->setlk = op_setlk;
	ops->flock = op_flock;
}
