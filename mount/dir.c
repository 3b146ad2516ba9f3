/* SPDX-License-Identifier: MIT */
/*
 * Folders. Entries are read ahead, a good many with each request, with their attributes where the kernel asks for those:
 * listing a large folder costs few round trips.
 */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "mount/mount.h"

enum { AHEAD = 128 << 10 };

static struct file *file_of(const struct fuse_file_info *fi)
{
	return (struct file *)(uintptr_t)fi->fh;
}

/* --- the root: distributions --- */

static void root_opened(struct rq *rq)
{
	struct file *f = calloc(1, sizeof(*f));

	if (!f)
		abort();
	f->fid = P9_NO_FID;
	rq->fi.fh = (uintptr_t)f;
	if (fuse_reply_open(rq->req, &rq->fi) != 0)
		free(f);
	rq_free(rq);
}

static const struct dist *by_index(const struct mnt *m, uint64_t index)
{
	const struct dist *best = NULL;

	for (const struct dist *d = m->dists; d; d = d->next)
		if (d->listed && d->index >= index && (!best || d->index < best->index))
			best = d;
	return best;
}

static void root_read(fuse_req_t req, size_t size, off_t off)
{
	struct mnt *m = MNT(req);
	char *buf = malloc(size);
	size_t len = 0;

	if (!buf)
		abort();
	/* Offset 1 is behind ".", 2 behind "..", then come the distributions by their index. */
	for (uint64_t at = (uint64_t)off;; at++) {
		const struct dist *d = at < 2 ? NULL : by_index(m, at - 1);
		struct stat st = {.st_mode = S_IFDIR,
			.st_ino = d ? 2 ^ (uint64_t)d->index << 48 : FUSE_ROOT_ID};
		const char *name = at == 0 ? "." : at == 1 ? ".." : d ? d->name : NULL;
		size_t n;

		if (!name)
			break;
		if (d)
			at = d->index + 1;
		n = fuse_add_direntry(req, buf + len, size - len, name, &st, (off_t)at + 1);
		if (n > size - len)
			break;
		len += n;
	}
	fuse_reply_buf(req, buf, len);
	free(buf);
}

/* --- open, release --- */

static void note_error(void *ctx, const struct p9_msg *r, int error)
{
	struct rq *rq = ctx;

	if (error && !rq->error)
		rq->error = error;
	else
		rq->fid_made |= !error;
}

static void opened(void *ctx, const struct p9_msg *r, int error)
{
	struct rq *rq = ctx;
	struct file *f;

	if (error && !rq->error)
		rq->error = error;
	if (rq->error || rq->answered) {
		if (rq->fid_made)
			dist_clunk(rq->d, rq->gen, rq->fid);
		else if (rq->gen == rq->d->gen && rq->d->client)
			p9_client_fid_unused(rq->d->client, rq->fid);
		rq_error(rq, rq->error);
		return;
	}
	f = calloc(1, sizeof(*f));
	if (!f)
		abort();
	*f = (struct file){
		.node = rq->node, .d = rq->d, .fid = rq->fid, .gen = rq->gen, .dir = true};
	node_ref(f->node);
	f->d->files++;
	rq->fi.fh = (uintptr_t)f;
	if (fuse_reply_open(rq->req, &rq->fi) != 0) {
		dist_clunk(f->d, f->gen, f->fid);
		f->d->files--;
		node_unref(f->node);
		free(f);
	}
	rq_free(rq);
}

static void open_go(struct rq *rq)
{
	struct p9_msg m = {.type = P9_TWALK};

	if (!rq_fid(rq, &rq->fid))
		return;
	m.fid = node_fid(rq->node);
	m.fid2 = rq->fid;
	dist_call(rq, &m, note_error);
	m = (struct p9_msg){.type = P9_TLOPEN, .fid = rq->fid};
	dist_call(rq, &m, opened);
}

static void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct node *n = node_of(MNT(req), ino);
	struct rq *rq = rq_new(req, n, n->d ? open_go : root_opened);

	rq->fi = *fi;
	if (n->d)
		rq_run(rq);
	else
		list_run(rq);
}

static void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct file *f = file_of(fi);

	if (f->d) {
		dist_clunk(f->d, f->gen, f->fid);
		f->d->files--;
		node_unref(f->node);
	}
	free(f->entries);
	free(f);
	fuse_reply_err(req, 0);
}

/* --- entries --- */

static size_t add_plain(
	struct rq *rq, const struct p9_dirent *d, const char *name, char *buf, size_t cap)
{
	struct stat st = {.st_mode = (mode_t)DTTOIF(d->type),
		.st_ino = d->attr.qid.path ^ (uint64_t)rq->d->index << 48};

	return fuse_add_direntry(rq->req, buf, cap, name, &st, (off_t)d->offset);
}

static size_t add_plus(
	struct rq *rq, const struct p9_dirent *d, const char *name, char *buf, size_t cap)
{
	struct fuse_entry_param e = {.attr_timeout = TIMEOUT_S, .entry_timeout = TIMEOUT_S};
	size_t need = fuse_add_direntry_plus(rq->req, NULL, 0, name, NULL, 0);
	struct node *n;

	if (need > cap)
		return need;
	/* "." and ".." have no attributes, and are not looked up; nor is what we have changed since the server looked at it. */
	n = d->attr.valid ? node_known(rq->d, &d->attr) : NULL;
	if (!d->attr.valid || (n && node_changed_since(n, rq->file->asked_after))) {
		e.attr.st_mode = (mode_t)DTTOIF(d->type);
		e.attr.st_ino = d->attr.qid.path ^ (uint64_t)rq->d->index << 48;
	} else {
		n = node_found(rq->node, name, &d->attr, P9_NO_FID);
		e.ino = node_ino(n);
		attr_stat(rq->d, n, &d->attr, &e.attr);
		attr_remember(n, &d->attr);
	}
	return fuse_add_direntry_plus(rq->req, buf, cap, name, &e, (off_t)d->offset);
}

/* What was read ahead is what is wanted, and not older than what the kernel is told may be. */
static bool is_good(const struct rq *rq)
{
	const struct file *f = rq->file;

	return f->at < f->len && f->next == rq->off && f->plus == rq->plus &&
	       !node_changed_since(f->node, f->asked_after) &&
	       loop_now() - f->asked_at < TIMEOUT_S * 1000000000ull;
}

/* Answers from what was read ahead, as much as the kernel has room for. */
static void serve(struct rq *rq)
{
	struct file *f = rq->file;
	size_t len = 0;
	char *buf, name[P9_NAME_MAX + 1];
	int bad = 0;

	buf = malloc(rq->size);
	if (!buf)
		abort();
	while (f->at < f->len) {
		struct p9_dirent d;
		int n = p9_dirent_decode(f->entries + f->at, f->len - f->at, f->plus, &d);
		size_t took;

		if (n <= 0) {
			bad = -EIO;
			break;
		}
		memcpy(name, d.name.s, d.name.len);
		name[d.name.len] = '\0';
		took = (rq->plus ? add_plus : add_plain)(rq, &d, name, buf + len, rq->size - len);
		if (took > rq->size - len)
			break;
		len += took;
		f->at += (size_t)n;
		f->next = d.offset;
	}
	if (len == 0 && bad)
		fuse_reply_err(rq->req, -bad);
	else
		fuse_reply_buf(rq->req, buf, len);
	free(buf);
	rq_free(rq);
}

static void read_done(void *ctx, const struct p9_msg *r, int error)
{
	struct rq *rq = ctx;
	struct file *f = rq->file;

	if (error || rq->answered) {
		rq_error(rq, error);
		return;
	}
	if (!f->entries && !(f->entries = malloc(AHEAD)))
		abort();
	f->len = MIN(r->count, (uint32_t)AHEAD);
	memcpy(f->entries, r->data, f->len);
	f->at = 0;
	f->next = rq->off;
	f->plus = rq->plus;
	serve(rq);
}

static void read_entries(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
	struct fuse_file_info *fi, bool plus)
{
	struct file *f = file_of(fi);
	struct p9_msg m = {.type = plus ? P9_TREADDIRPLUS : P9_TREADDIR,
		.fid = f->fid,
		.offset = (uint64_t)off,
		.count = AHEAD};
	struct rq *rq;

	if (!f->d) {
		root_read(req, size, off);
		return;
	}
	if (f->d->state != DIST_UP || f->gen != f->d->gen) {
		fuse_reply_err(req, EIO);
		return;
	}
	dist_used(f->d);
	rq = rq_new(req, f->node, NULL);
	rq->file = f;
	rq->size = size;
	rq->off = (uint64_t)off;
	rq->plus = plus;
	if (is_good(rq)) {
		serve(rq);
		return;
	}
	f->len = f->at = 0;
	f->asked_at = loop_now();
	f->asked_after = f->d->serial;
	dist_call(rq, &m, read_done);
}

static void op_readdir(
	fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	read_entries(req, ino, size, off, fi, false);
}

static void op_readdirplus(
	fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct mnt *m = MNT(req);
	struct dist *d = node_of(m, ino)->d;

	if (d) {
		read_entries(req, ino, size, off, fi, true);
		return;
	}
	/* The root's entries say all there is with their names; the kernel takes an entry without a node for one not looked up. */
	char *buf = malloc(size);
	size_t len = 0;
	if (!buf)
		abort();
	for (uint64_t at = (uint64_t)off;; at++) {
		const struct dist *of = at < 2 ? NULL : by_index(m, at - 1);
		const char *name = at == 0 ? "." : at == 1 ? ".." : of ? of->name : NULL;
		struct fuse_entry_param e = {
			.attr = {.st_mode = S_IFDIR,
				.st_ino = of ? 2 ^ (uint64_t)of->index << 48 : FUSE_ROOT_ID}};
		size_t n;

		if (!name)
			break;
		if (of)
			at = of->index + 1;
		n = fuse_add_direntry_plus(req, buf + len, size - len, name, &e, (off_t)at + 1);
		if (n > size - len)
			break;
		len += n;
	}
	fuse_reply_buf(req, buf, len);
	free(buf);
}

static void synced(void *ctx, const struct p9_msg *r, int error)
{
	rq_error(ctx, error);
}

static void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct file *f = file_of(fi);
	struct p9_msg m = {.type = P9_TFSYNC, .fid = f->fid, .flags = datasync != 0};
	struct rq *rq;

	if (!f->d || f->d->state != DIST_UP || f->gen != f->d->gen) {
		fuse_reply_err(req, f->d ? EIO : 0);
		return;
	}
	rq = rq_new(req, f->node, NULL);
	dist_call(rq, &m, synced);
}

void ops_dir(struct fuse_lowlevel_ops *ops)
{
	ops->opendir = op_opendir;
	ops->releasedir = op_releasedir;
	ops->readdir = op_readdir;
	ops->readdirplus = op_readdirplus;
	ops->fsyncdir = op_fsyncdir;
}
