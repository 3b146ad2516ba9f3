/* SPDX-License-Identifier: MIT */
/* Looking: lookup, attributes, extended attributes. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include "mount/mount.h"

static const char caps[] = "security.capability";

bool ops_refuse(fuse_req_t req, fuse_ino_t parent)
{
	if (node_of(MNT(req), parent)->d)
		return false;
	fuse_reply_err(req, EPERM);
	return true;
}

/* Requests that only succeed or fail. */
static void plain_done(void *ctx, const struct p9_msg *r, int error)
{
	rq_error(ctx, error);
}

/* --- lookup, forget --- */

static void unused_fid(struct rq *rq, uint32_t fid)
{
	if (rq->gen == rq->d->gen && rq->d->client)
		p9_client_fid_unused(rq->d->client, fid);
}

static void lookup_done(void *ctx, const struct p9_msg *r, int error)
{
	struct rq *rq = ctx;

	if (error) {
		unused_fid(rq, rq->fid);
		rq_error(rq, error);
	} else {
		attr_reply_entry(rq, rq->name, &r->attr, rq->fid);
	}
}

static void lookup_go(struct rq *rq)
{
	struct p9_msg m = {.type = P9_TLOOKUP, .nnames = 1};

	if (!rq_fid(rq, &rq->fid))
		return;
	m.fid = node_fid(rq->node);
	m.fid2 = rq->fid;
	m.names[0] = p9_str(rq->name);
	dist_call(rq, &m, lookup_done);
}

static void lookup_dist(struct rq *rq)
{
	struct fuse_entry_param e = {.attr_timeout = TIMEOUT_S, .entry_timeout = TIMEOUT_S};
	struct dist *d = dist_find(rq->m, rq->name);
	struct node *n;

	if (!d || !d->listed) {
		rq_error(rq, -ENOENT);
		return;
	}
	n = node_dist(d);
	e.ino = node_ino(n);
	attr_synthetic(rq->m, n, &e.attr);
	if (fuse_reply_entry(rq->req, &e) != 0)
		node_forget(rq->m, n, 1);
	rq_free(rq);
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct node *n = node_of(MNT(req), parent);
	struct rq *rq;

	if (!p9_name_ok(p9_str(name))) {
		fuse_reply_err(req, strlen(name) > P9_NAME_MAX ? ENAMETOOLONG : EINVAL);
		return;
	}
	rq = rq_new(req, n, n->d ? lookup_go : lookup_dist);
	rq->name = rq_str(name);
	if (n->d)
		rq_run(rq);
	else
		list_run(rq);
}

static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t lookups)
{
	struct mnt *m = MNT(req);

	if (ino != FUSE_ROOT_ID)
		node_forget(m, node_of(m, ino), lookups);
	fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *f)
{
	struct mnt *m = MNT(req);

	for (size_t i = 0; i < count; i++)
		if (f[i].ino != FUSE_ROOT_ID)
			node_forget(m, node_of(m, f[i].ino), f[i].nlookup);
	fuse_reply_none(req);
}

/* --- attributes --- */

static void reply_attr(struct rq *rq, const struct p9_attr *a)
{
	struct stat st;

	attr_stat(rq->d, rq->node, a, &st);
	attr_remember(rq->node, a);
	if (!rq->answered)
		fuse_reply_attr(rq->req, &st, TIMEOUT_S);
	rq_free(rq);
}

static void getattr_done(void *ctx, const struct p9_msg *r, int error)
{
	struct rq *rq = ctx;

	if (error)
		rq_error(rq, error);
	else
		reply_attr(rq, &r->attr);
}

/* The fid of the file that is open, which is good without a name; else of the node. -EIO: it was of another connection. */
static int fid_for(struct rq *rq, uint32_t *ret)
{
	if (!rq->file) {
		*ret = node_fid(rq->node);
		return 0;
	}
	*ret = rq->file->fid;
	return rq->file->gen == rq->d->gen && rq->d->client ? 0 : -EIO;
}

static void getattr_go(struct rq *rq)
{
	struct p9_msg m = {.type = P9_TGETATTR, .valid = P9_GETATTR_ALL};
	int r = fid_for(rq, &m.fid);

	if (r < 0)
		rq_error(rq, r);
	else
		dist_call(rq, &m, getattr_done);
}

/* What is open needs no name, and no new connection. */
static void run_open(struct rq *rq)
{
	if (!rq->file)
		rq_run(rq);
	else if (rq->d->state != DIST_UP)
		rq_error(rq, -EIO);
	else
		dist_used(rq->d), rq->go(rq);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct node *n = node_of(MNT(req), ino);
	struct stat st;
	struct rq *rq;

	/* To see that a distribution is there is no reason to start it. */
	if (!n->d || (!n->parent && n->d->state != DIST_UP)) {
		attr_synthetic(MNT(req), n, &st);
		fuse_reply_attr(req, &st, TIMEOUT_S);
		return;
	}
	rq = rq_new(req, n, getattr_go);
	rq->file = fi ? (struct file *)(uintptr_t)fi->fh : NULL;
	run_open(rq);
}

static void set_done(void *ctx, const struct p9_msg *r, int error)
{
	struct rq *rq = ctx;

	/* What became of it is what the Tgetattr behind it says. */
	if (error && !rq->error)
		rq->error = error;
}

static void set_got(void *ctx, const struct p9_msg *r, int error)
{
	struct rq *rq = ctx;

	if (rq->error || error)
		rq_error(rq, rq->error ? rq->error : error);
	else
		reply_attr(rq, &r->attr);
}

static void setattr_go(struct rq *rq)
{
	struct p9_msg m = {.type = P9_TSETATTR, .set = rq->set};
	int r = fid_for(rq, &m.fid);

	if (r < 0) {
		rq_error(rq, r);
		return;
	}
	node_changes(rq->node);
	m.set.uid = attr_uid_there(rq->d, m.set.uid);
	m.set.gid = attr_gid_there(rq->d, m.set.gid);
	dist_call(rq, &m, set_done);
	m.type = P9_TGETATTR;
	m.valid = P9_GETATTR_ALL;
	dist_call(rq, &m, set_got);
}

static void op_setattr(
	fuse_req_t req, fuse_ino_t ino, struct stat *st, int to_set, struct fuse_file_info *fi)
{
	static const int bits[][2] = {{FUSE_SET_ATTR_MODE, P9_SET_MODE},
		{FUSE_SET_ATTR_UID, P9_SET_UID}, {FUSE_SET_ATTR_GID, P9_SET_GID},
		{FUSE_SET_ATTR_SIZE, P9_SET_SIZE},
		{FUSE_SET_ATTR_ATIME, P9_SET_ATIME | P9_SET_ATIME_GIVEN},
		{FUSE_SET_ATTR_MTIME, P9_SET_MTIME | P9_SET_MTIME_GIVEN},
		{FUSE_SET_ATTR_ATIME_NOW, P9_SET_ATIME}, {FUSE_SET_ATTR_MTIME_NOW, P9_SET_MTIME}};
	struct node *n = node_of(MNT(req), ino);
	struct rq *rq;

	if (ops_refuse(req, ino))
		return;
	rq = rq_new(req, n, setattr_go);
	rq->file = fi ? (struct file *)(uintptr_t)fi->fh : NULL;
	for (size_t i = 0; i < ARRAY_LEN(bits); i++)
		if (to_set & bits[i][0])
			rq->set.valid |= (uint32_t)bits[i][1];
	/* The kernel says the time, too, where it says "now". */
	if (to_set & FUSE_SET_ATTR_ATIME_NOW)
		rq->set.valid &= ~(uint32_t)P9_SET_ATIME_GIVEN;
	if (to_set & FUSE_SET_ATTR_MTIME_NOW)
		rq->set.valid &= ~(uint32_t)P9_SET_MTIME_GIVEN;
	rq->set.mode = st->st_mode & 07777;
	rq->set.uid = st->st_uid;
	rq->set.gid = st->st_gid;
	rq->set.size = (uint64_t)st->st_size;
	rq->set.atime =
		(struct p9_time){(uint64_t)st->st_atim.tv_sec, (uint64_t)st->st_atim.tv_nsec};
	rq->set.mtime =
		(struct p9_time){(uint64_t)st->st_mtim.tv_sec, (uint64_t)st->st_mtim.tv_nsec};
	run_open(rq);
}

static void readlink_done(void *ctx, const struct p9_msg *r, int error)
{
	char target[P9_TARGET_MAX + 1];
	struct rq *rq = ctx;

	if (error || r->name.len > P9_TARGET_MAX) {
		rq_error(rq, error ? error : -EIO);
		return;
	}
	memcpy(target, r->name.s, r->name.len);
	target[r->name.len] = '\0';
	if (!rq->answered)
		fuse_reply_readlink(rq->req, target);
	rq_free(rq);
}

static void readlink_go(struct rq *rq)
{
	struct p9_msg m = {.type = P9_TREADLINK, .fid = node_fid(rq->node)};

	dist_call(rq, &m, readlink_done);
}

static void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	rq_run(rq_new(req, node_of(MNT(req), ino), readlink_go));
}

static void access_go(struct rq *rq)
{
	struct p9_msg m = {.type = P9_TACCESS, .fid = node_fid(rq->node), .mode = rq->mode};

	dist_call(rq, &m, plain_done);
}

static void op_access(fuse_req_t req, fuse_ino_t ino, int mask)
{
	struct node *n = node_of(MNT(req), ino);
	struct rq *rq;

	if (!n->d || (!n->parent && n->d->state != DIST_UP)) {
		fuse_reply_err(req, !n->d && (mask & 2) ? EACCES : 0);
		return;
	}
	rq = rq_new(req, n, access_go);
	rq->mode = (uint32_t)mask & 7;
	rq_run(rq);
}

static void statfs_done(void *ctx, const struct p9_msg *r, int error)
{
	struct rq *rq = ctx;
	struct statvfs st;

	if (error) {
		rq_error(rq, error);
		return;
	}
	st = (struct statvfs){.f_bsize = r->statfs.bsize,
		.f_frsize = r->statfs.bsize,
		.f_blocks = r->statfs.blocks,
		.f_bfree = r->statfs.bfree,
		.f_bavail = r->statfs.bavail,
		.f_files = r->statfs.files,
		.f_ffree = r->statfs.ffree,
		.f_favail = r->statfs.ffree,
		.f_namemax = r->statfs.namelen};
	if (!rq->answered)
		fuse_reply_statfs(rq->req, &st);
	rq_free(rq);
}

static void statfs_go(struct rq *rq)
{
	struct p9_msg m = {.type = P9_TSTATFS, .fid = node_fid(rq->node)};

	dist_call(rq, &m, statfs_done);
}

static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct node *n = node_of(MNT(req), ino);
	struct statvfs st = {.f_bsize = 4096, .f_frsize = 4096, .f_namemax = P9_NAME_MAX};

	/* df(1) looks at every mount: no reason to start anything. */
	if (!n->d || (!n->parent && n->d->state != DIST_UP))
		fuse_reply_statfs(req, &st);
	else
		rq_run(rq_new(req, n, statfs_go));
}

/* --- extended attributes --- */

static void getxattr_done(void *ctx, const struct p9_msg *r, int error)
{
	struct rq *rq = ctx;

	if (error == -ENODATA && rq->name && !strcmp(rq->name, caps))
		rq->node->no_cap_until = loop_now() + TIMEOUT_S * 1000000000ull;
	if (error) {
		rq_error(rq, error);
		return;
	}
	if (rq->answered)
		;
	else if (!rq->size)
		fuse_reply_xattr(rq->req, r->length);
	else if (r->count > rq->size)
		fuse_reply_err(rq->req, ERANGE);
	else
		fuse_reply_buf(rq->req, r->data, r->count);
	rq_free(rq);
}

static void getxattr_go(struct rq *rq)
{
	struct p9_msg m = {.type = P9_TGETXATTR,
		.fid = node_fid(rq->node),
		.name = p9_str(rq->name ? rq->name : ""),
		.count = (uint32_t)MIN(rq->size, (size_t)P9_XATTR_MAX)};

	dist_call(rq, &m, getxattr_done);
}

static bool has_no_xattrs(const struct node *n)
{
	return !n->d || (!n->parent && n->d->state != DIST_UP);
}

static void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	struct node *n = node_of(MNT(req), ino);
	struct rq *rq;

	/* The kernel wants to know of capabilities before every write(2). */
	if (has_no_xattrs(n) || (!strcmp(name, caps) && loop_now() < n->no_cap_until)) {
		fuse_reply_err(req, ENODATA);
		return;
	}
	rq = rq_new(req, n, getxattr_go);
	rq->name = rq_str(name);
	rq->size = size;
	rq_run(rq);
}

static void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	struct node *n = node_of(MNT(req), ino);
	struct rq *rq;

	if (has_no_xattrs(n)) {
		if (size)
			fuse_reply_buf(req, "", 0);
		else
			fuse_reply_xattr(req, 0);
		return;
	}
	rq = rq_new(req, n, getxattr_go);
	rq->size = size;
	rq_run(rq);
}

static void setxattr_go(struct rq *rq)
{
	struct p9_msg m = {.type = P9_TSETXATTR,
		.fid = node_fid(rq->node),
		.name = p9_str(rq->name),
		.flags = rq->flags,
		.count = (uint32_t)rq->size,
		.data = rq->buf};

	rq->node->no_cap_until = 0;
	dist_call(rq, &m, plain_done);
}

static void op_setxattr(
	fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size, int flags)
{
	struct rq *rq;

	if (ops_refuse(req, ino))
		return;
	if (size > P9_XATTR_MAX) {
		fuse_reply_err(req, E2BIG);
		return;
	}
	rq = rq_new(req, node_of(MNT(req), ino), setxattr_go);
	rq->name = rq_str(name);
	rq->buf = malloc(size + 1);
	if (!rq->buf)
		abort();
	memcpy(rq->buf, value, size);
	rq->size = size;
	rq->flags = (uint32_t)flags;
	rq_run(rq);
}

static void removexattr_go(struct rq *rq)
{
	struct p9_msg m = {
		.type = P9_TREMOVEXATTR, .fid = node_fid(rq->node), .name = p9_str(rq->name)};

	dist_call(rq, &m, plain_done);
}

static void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	struct rq *rq;

	if (ops_refuse(req, ino))
		return;
	rq = rq_new(req, node_of(MNT(req), ino), removexattr_go);
	rq->name = rq_str(name);
	rq_run(rq);
}

void ops_meta(struct fuse_lowlevel_ops *ops)
{
	ops->lookup = op_lookup;
	ops->forget = op_forget;
	ops->forget_multi = op_forget_multi;
	ops->getattr = op_getattr;
	ops->setattr = op_setattr;
	ops->readlink = op_readlink;
	ops->access = op_access;
	ops->statfs = op_statfs;
	ops->getxattr = op_getxattr;
	ops->listxattr = op_listxattr;
	ops->setxattr = op_setxattr;
	ops->removexattr = op_removexattr;
}
