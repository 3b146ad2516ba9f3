/* SPDX-License-Identifier: MIT */
/*
 * Open files. Large reads and writes are several requests, all under way at once. Nothing is written behind: when write(2)
 * returns, the distribution has the bytes.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "mount/mount.h"

enum { PIECE = 256 << 10 };

static struct file *file_of(const struct fuse_file_info *fi)
{
	return (struct file *)(uintptr_t)fi->fh;
}

static struct file *file_new(struct rq *rq, struct node *n, uint32_t fid)
{
	struct file *f = calloc(1, sizeof(*f));

	if (!f)
		abort();
	*f = (struct file){.node = n, .d = rq->d, .fid = fid, .gen = rq->gen};
	node_ref(n);
	f->d->files++;
	return f;
}

static void file_free(struct file *f)
{
	dist_clunk(f->d, f->gen, f->fid);
	f->d->files--;
	node_unref(f->node);
	free(f->entries);
	free(f);
}

/* A request on an open file; what it was opened on has to be there yet. NULL: it was answered. */
static struct rq *rq_on(fuse_req_t req, struct fuse_file_info *fi)
{
	struct file *f = file_of(fi);
	struct rq *rq;

	if (f->d->state != DIST_UP || f->gen != f->d->gen) {
		fuse_reply_err(req, EIO);
		return NULL;
	}
	rq = rq_new(req, f->node, NULL);
	rq->file = f;
	dist_used(f->d);
	return rq;
}

static void plain_done(void *ctx, const struct p9_msg *r, int error)
{
	rq_error(ctx, error);
}

/* --- open, create --- */

static void note_error(void *ctx, const struct p9_msg *r, int error)
{
	struct rq *rq = ctx;

	if (error && !rq->error)
		rq->error = error;
}

static void fid_made(void *ctx, const struct p9_msg *r, int error)
{
	struct rq *rq = ctx;

	rq->fid_made = !error;
	note_error(rq, r, error);
}

static void drop_fid(struct rq *rq)
{
	if (rq->fid_made)
		dist_clunk(rq->d, rq->gen, rq->fid);
	else if (rq->gen == rq->d->gen && rq->d->client)
		p9_client_fid_unused(rq->d->client, rq->fid);
}

static bool is_same_time(struct p9_time a, struct p9_time b)
{
	return a.sec == b.sec && a.nsec == b.nsec;
}

/* So recent that another change could leave the same time. A clock there that is ahead of ours makes all of them recent. */
static bool is_recent(struct p9_time t)
{
	enum { RACY_NS = 20 * 1000 * 1000 };
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	if (t.sec + 1 < (uint64_t)now.tv_sec || t.sec > (uint64_t)now.tv_sec)
		return t.sec >= (uint64_t)now.tv_sec;
	return (now.tv_sec - (time_t)t.sec) * 1000000000 + now.tv_nsec - (long)t.nsec < RACY_NS;
}

static void opened(void *ctx, const struct p9_msg *r, int error)
{
	struct rq *rq = ctx;
	struct file *f;

	note_error(rq, r, error);
	if (rq->error || rq->answered) {
		drop_fid(rq);
		rq_error(rq, rq->error);
		return;
	}
	/*
	 * What the kernel has of it in its cache is good if nobody changed it since. The time of modification may have been set back, and the
	 * kernel, who looks at no other, takes no notice.
	 */
	rq->fi.keep_cache = r->attr.size == rq->node->size &&
			    is_same_time(r->attr.mtime, rq->node->mtime) &&
			    is_same_time(r->attr.ctime, rq->node->ctime);
	rq->node->ctime = r->attr.ctime;
	if (is_recent(r->attr.ctime))
		rq->node->ctime = (struct p9_time){0};
	attr_remember(rq->node, &r->attr);
	f = file_new(rq, rq->node, rq->fid);
	rq->fi.fh = (uintptr_t)f;
	if (fuse_reply_open(rq->req, &rq->fi) != 0)
		file_free(f);
	rq_free(rq);
}

static void open_go(struct rq *rq)
{
	struct p9_msg m = {.type = P9_TWALK};

	if (!rq_fid(rq, &rq->fid))
		return;
	m.fid = node_fid(rq->node);
	m.fid2 = rq->fid;
	if (rq->flags & O_TRUNC)
		node_changes(rq->node);
	dist_call(rq, &m, fid_made);
	m = (struct p9_msg){.type = P9_TLOPEN, .fid = rq->fid, .flags = rq->flags};
	dist_call(rq, &m, note_error);
	m = (struct p9_msg){.type = P9_TGETATTR, .fid = rq->fid, .valid = P9_GETATTR_ALL};
	dist_call(rq, &m, opened);
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct rq *rq = rq_new(req, node_of(MNT(req), ino), open_go);

	rq->fi = *fi;
	rq->flags = (uint32_t)fi->flags & ~(uint32_t)(O_CREAT | O_EXCL);
	rq_run(rq);
}

static void created(void *ctx, const struct p9_msg *r, int error)
{
	struct fuse_entry_param e = {.attr_timeout = TIMEOUT_S, .entry_timeout = TIMEOUT_S};
	struct rq *rq = ctx;
	struct node *n;
	struct file *f;

	note_error(rq, r, error);
	if (rq->error || rq->answered) {
		drop_fid(rq);
		if (!error)
			dist_clunk(rq->d, rq->gen, rq->fid2);
		else if (rq->gen == rq->d->gen && rq->d->client)
			p9_client_fid_unused(rq->d->client, rq->fid2);
		rq_error(rq, rq->error);
		return;
	}
	n = node_found(rq->node, rq->name, &r->attr, rq->fid2);
	/* it may have been there, and longer */
	node_changes(n);
	e.ino = node_ino(n);
	attr_stat(n->d, n, &r->attr, &e.attr);
	attr_remember(n, &r->attr);
	f = file_new(rq, n, rq->fid);
	rq->fi.fh = (uintptr_t)f;
	if (fuse_reply_create(rq->req, &e, &rq->fi) != 0) {
		file_free(f);
		node_forget(rq->m, n, 1);
	}
	rq_free(rq);
}

static void create_go(struct rq *rq)
{
	struct p9_msg m = {.type = P9_TWALK};

	if (!rq_fid(rq, &rq->fid2))
		return;
	rq->fid = p9_client_fid(rq->d->client);
	if (rq->fid == P9_NO_FID) {
		p9_client_fid_unused(rq->d->client, rq->fid2);
		rq_error(rq, -ENFILE);
		return;
	}
	m.fid = node_fid(rq->node);
	m.fid2 = rq->fid;
	node_changes(rq->node);
	dist_call(rq, &m, fid_made);
	m = (struct p9_msg){.type = P9_TLCREATE,
		.fid = rq->fid,
		.name = p9_str(rq->name),
		.flags = rq->flags,
		.mode = rq->mode,
		.gid = P9_NO_UID};
	dist_call(rq, &m, note_error);
	m = (struct p9_msg){
		.type = P9_TLOOKUP, .fid = node_fid(rq->node), .fid2 = rq->fid2, .nnames = 1};
	m.names[0] = p9_str(rq->name);
	dist_call(rq, &m, created);
}

static void op_create(
	fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	struct rq *rq;

	if (ops_refuse(req, parent))
		return;
	if (!p9_name_ok(p9_str(name))) {
		fuse_reply_err(req, strlen(name) > P9_NAME_MAX ? ENAMETOOLONG : EINVAL);
		return;
	}
	rq = rq_new(req, node_of(MNT(req), parent), create_go);
	rq->name = rq_str(name);
	rq->mode = mode & 07777;
	rq->flags = (uint32_t)fi->flags;
	rq->fi = *fi;
	rq_run(rq);
}

static void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	file_free(file_of(fi));
	fuse_reply_err(req, 0);
}

/* --- read, write --- */

/* One of the requests that a read or write consists of. */
struct piece {
	struct rq *rq;
	size_t at, len;
};

static struct piece *piece_new(struct rq *rq, size_t at, size_t left)
{
	struct piece *p = malloc(sizeof(*p));

	if (!p)
		abort();
	*p = (struct piece){rq, at, MIN(left, (size_t)PIECE)};
	rq->pieces++;
	return p;
}

/* Replies come in order: what follows a piece that is short, or failed, does not count. */
static void piece_end(struct piece *p, size_t n, int error)
{
	struct rq *rq = p->rq;

	if (!rq->cut && !error)
		rq->done = p->at + n;
	if (!rq->cut && error)
		rq->error = error;
	rq->cut |= error || n < p->len;
	rq->pieces--;
	free(p);
}

static void read_reply(struct rq *rq)
{
	/* Half of it would be taken for the end of the file. */
	if (rq->error) {
		rq_error(rq, rq->error);
		return;
	}
	if (!rq->answered)
		fuse_reply_buf(rq->req, (char *)rq->buf, rq->done);
	rq_free(rq);
}

static void read_piece(void *ctx, const struct p9_msg *r, int error)
{
	struct piece *p = ctx;
	struct rq *rq = p->rq;
	size_t n = r ? MIN(r->count, p->len) : 0;

	if (!rq->buf && !error) {
		/* The only one: straight from where it was received. */
		if (!rq->answered)
			fuse_reply_buf(rq->req, r->data, n);
		free(p);
		rq_free(rq);
		return;
	}
	if (n)
		memcpy(rq->buf + p->at, r->data, n);
	piece_end(p, n, error);
	if (!rq->pieces)
		read_reply(rq);
}

static void op_read(
	fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct rq *rq = rq_on(req, fi);
	struct p9_msg m = {.type = P9_TREAD};

	if (!rq)
		return;
	if (size > PIECE && !(rq->buf = malloc(size)))
		abort();
	m.fid = rq->file->fid;
	for (size_t at = 0; at < size || at == 0; at += PIECE) {
		struct piece *p = piece_new(rq, at, size - at);

		m.offset = (uint64_t)off + at;
		m.count = (uint32_t)p->len;
		rq->gen = rq->d->gen;
		p9_client_call(rq->d->client, &m, read_piece, p);
	}
}

static void write_piece(void *ctx, const struct p9_msg *r, int error)
{
	struct piece *p = ctx;
	struct rq *rq = p->rq;

	piece_end(p, r ? MIN(r->count, p->len) : 0, error);
	if (rq->pieces)
		return;
	/* Of what its cache writes back the kernel looks at errors only. */
	if (rq->fi.writepage && rq->done < rq->size && !rq->error)
		rq->error = -ENOSPC;
	if (rq->error && (!rq->done || rq->fi.writepage)) {
		rq_error(rq, rq->error);
		return;
	}
	if (!rq->answered)
		fuse_reply_write(rq->req, rq->done);
	rq_free(rq);
}

static void op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
	struct fuse_file_info *fi)
{
	struct rq *rq = rq_on(req, fi);
	struct p9_msg m = {.type = P9_TWRITE};

	if (!rq)
		return;
	m.fid = rq->file->fid;
	rq->fi = *fi;
	rq->size = size;
	node_changes(rq->node);
	/* What the cache holds of the file from here on is what we wrote. */
	rq->node->size = UINT64_MAX;
	for (size_t at = 0; at < size || at == 0; at += PIECE) {
		struct piece *p = piece_new(rq, at, size - at);

		m.offset = (uint64_t)off + at;
		m.count = (uint32_t)p->len;
		m.data = buf + at;
		rq->gen = rq->d->gen;
		p9_client_call(rq->d->client, &m, write_piece, p);
	}
}

/* --- the rest --- */

static void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct file *f = file_of(fi);
	struct p9_msg m = {.type = P9_TLOCK, .lock_type = P9_LOCK_UNLCK, .fid = f->fid};
	char owner[24];
	struct rq *rq;

	if (!f->locked) {
		fuse_reply_err(req, f->gen == f->d->gen ? 0 : EIO);
		return;
	}
	/* With any of its descriptors a process closes its locks. */
	rq = rq_on(req, fi);
	if (!rq)
		return;
	snprintf(owner, sizeof(owner), "%016llx", (unsigned long long)fi->lock_owner);
	m.name = p9_str(owner);
	dist_call(rq, &m, plain_done);
}

static void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct rq *rq = rq_on(req, fi);
	struct p9_msg m = {.type = P9_TFSYNC, .flags = datasync != 0};

	if (!rq)
		return;
	m.fid = rq->file->fid;
	dist_call(rq, &m, plain_done);
}

static void op_fallocate(
	fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len, struct fuse_file_info *fi)
{
	struct rq *rq = rq_on(req, fi);
	struct p9_msg m = {.type = P9_TFALLOCATE,
		.mode = (uint32_t)mode,
		.offset = (uint64_t)off,
		.length = (uint64_t)len};

	if (!rq)
		return;
	m.fid = rq->file->fid;
	node_changes(rq->node);
	rq->node->size = UINT64_MAX;
	dist_call(rq, &m, plain_done);
}

static void seek_done(void *ctx, const struct p9_msg *r, int error)
{
	struct rq *rq = ctx;

	if (error) {
		rq_error(rq, error);
		return;
	}
	if (!rq->answered)
		fuse_reply_lseek(rq->req, (off_t)r->offset);
	rq_free(rq);
}

static void op_lseek(
	fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi)
{
	struct rq *rq = rq_on(req, fi);
	struct p9_msg m = {.type = P9_TSEEK, .offset = (uint64_t)off, .flags = (uint32_t)whence};

	if (!rq)
		return;
	m.fid = rq->file->fid;
	dist_call(rq, &m, seek_done);
}

static void copy_done(void *ctx, const struct p9_msg *r, int error)
{
	struct rq *rq = ctx;

	if (error) {
		rq_error(rq, error);
		return;
	}
	if (!rq->answered)
		fuse_reply_write(rq->req, r->length);
	rq_free(rq);
}

static void op_copy(fuse_req_t req, fuse_ino_t in, off_t in_off, struct fuse_file_info *in_fi,
	fuse_ino_t out, off_t out_off, struct fuse_file_info *out_fi, size_t len, int flags)
{
	struct file *from = file_of(in_fi), *to = file_of(out_fi);
	struct p9_msg m = {.type = P9_TCOPY,
		.fid = from->fid,
		.offset = (uint64_t)in_off,
		.fid2 = to->fid,
		.offset2 = (uint64_t)out_off,
		.length = len};
	struct rq *rq;

	if (from->d != to->d || from->gen != to->gen) {
		fuse_reply_err(req, EXDEV);
		return;
	}
	rq = rq_on(req, in_fi);
	if (!rq)
		return;
	node_changes(to->node);
	to->node->size = UINT64_MAX;
	dist_call(rq, &m, copy_done);
}

void ops_file(struct fuse_lowlevel_ops *ops)
{
	ops->open = op_open;
	ops->create = op_create;
	ops->release = op_release;
	ops->read = op_read;
	ops->write = op_write;
	ops->flush = op_flush;
	ops->fsync = op_fsync;
	ops->fallocate = op_fallocate;
	ops->lseek = op_lseek;
	ops->copy_file_range = op_copy;
}
