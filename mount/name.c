/* SPDX-License-Identifier: MIT */
/* Making, removing and renaming. What was made is looked up in the same breath: the server works in order. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include "mount/mount.h"

/* False: this is no name for a new file, and the request was answered. */
static bool good_name(fuse_req_t req, const char *name)
{
	if (p9_name_ok(p9_str(name)))
		return true;
	fuse_reply_err(req, strlen(name) > P9_NAME_MAX ? ENAMETOOLONG : EINVAL);
	return false;
}

static void made(void *ctx, const struct p9_msg *r, int error)
{
	struct rq *rq = ctx;

	if (error)
		rq->error = error;
}

static void found(void *ctx, const struct p9_msg *r, int error)
{
	struct rq *rq = ctx;

	if (!rq->error && !error) {
		attr_reply_entry(rq, rq->name, &r->attr, rq->fid);
		return;
	}
	/* It was not made, but something has that name. */
	if (!error)
		dist_clunk(rq->d, rq->gen, rq->fid);
	else if (rq->gen == rq->d->gen && rq->d->client)
		p9_client_fid_unused(rq->d->client, rq->fid);
	rq_error(rq, rq->error ? rq->error : error);
}

/* m makes rq->name in its folder. */
static void make_and_find(struct rq *rq, struct p9_msg *m)
{
	struct p9_msg look = {.type = P9_TLOOKUP, .nnames = 1};

	if (!rq_fid(rq, &rq->fid))
		return;
	node_changes(rq->node);
	dist_call(rq, m, made);
	look.fid = node_fid(rq->node);
	look.fid2 = rq->fid;
	look.names[0] = p9_str(rq->name);
	dist_call(rq, &look, found);
}

static struct rq *rq_named(
	fuse_req_t req, fuse_ino_t parent, const char *name, void (*go)(struct rq *))
{
	struct rq *rq;

	if (ops_refuse(req, parent) || !good_name(req, name))
		return NULL;
	rq = rq_new(req, node_of(MNT(req), parent), go);
	rq->name = rq_str(name);
	return rq;
}

static void mknod_go(struct rq *rq)
{
	struct p9_msg m = {.type = P9_TMKNOD,
		.fid = node_fid(rq->node),
		.name = p9_str(rq->name),
		.mode = rq->mode,
		.major = major(rq->rdev),
		.minor = minor(rq->rdev),
		.gid = P9_NO_UID};

	make_and_find(rq, &m);
}

static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	struct rq *rq = rq_named(req, parent, name, mknod_go);

	if (!rq)
		return;
	rq->mode = mode;
	rq->rdev = rdev;
	rq_run(rq);
}

static void mkdir_go(struct rq *rq)
{
	struct p9_msg m = {.type = P9_TMKDIR,
		.fid = node_fid(rq->node),
		.name = p9_str(rq->name),
		.mode = rq->mode,
		.gid = P9_NO_UID};

	make_and_find(rq, &m);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct rq *rq = rq_named(req, parent, name, mkdir_go);

	if (!rq)
		return;
	rq->mode = mode & 07777;
	rq_run(rq);
}

static void symlink_go(struct rq *rq)
{
	struct p9_msg m = {.type = P9_TSYMLINK,
		.fid = node_fid(rq->node),
		.name = p9_str(rq->name),
		.name2 = p9_str(rq->name2),
		.gid = P9_NO_UID};

	make_and_find(rq, &m);
}

static void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	struct rq *rq;

	if (strlen(target) > P9_TARGET_MAX) {
		fuse_reply_err(req, ENAMETOOLONG);
		return;
	}
	rq = rq_named(req, parent, name, symlink_go);
	if (!rq)
		return;
	rq->name2 = rq_str(target);
	rq_run(rq);
}

static void link_go(struct rq *rq)
{
	struct p9_msg m = {.type = P9_TLINK, .name = p9_str(rq->name)};

	if (rq->node->d != rq->node2->d) {
		rq_error(rq, -EXDEV);
		return;
	}
	m.fid2 = node_fid(rq->node2);
	m.fid = node_fid(rq->node);
	node_changes(rq->node2);
	make_and_find(rq, &m);
}

static void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
	struct rq *rq = rq_named(req, parent, name, link_go);

	if (!rq)
		return;
	rq->node2 = node_of(MNT(req), ino);
	rq_run(rq);
}

static void removed(void *ctx, const struct p9_msg *r, int error)
{
	struct rq *rq = ctx;

	if (!error)
		node_unlinked(rq->node, rq->name);
	rq_error(rq, error);
}

static void unlink_go(struct rq *rq)
{
	struct p9_msg m = {.type = P9_TUNLINKAT,
		.fid = node_fid(rq->node),
		.name = p9_str(rq->name),
		.flags = rq->flags};

	node_changes(rq->node);
	dist_call(rq, &m, removed);
}

static void remove_name(fuse_req_t req, fuse_ino_t parent, const char *name, uint32_t flags)
{
	struct rq *rq = rq_named(req, parent, name, unlink_go);

	if (!rq)
		return;
	rq->flags = flags;
	rq_run(rq);
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	remove_name(req, parent, name, 0);
}

static void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	remove_name(req, parent, name, P9_AT_REMOVEDIR);
}

static void renamed(void *ctx, const struct p9_msg *r, int error)
{
	enum { EXCHANGE = 2 };
	static const char aside[] = "/"; /* no file's name */
	struct rq *rq = ctx;

	if (!error && rq->flags & EXCHANGE) {
		node_renamed(rq->node, rq->name, rq->node, aside);
		node_renamed(rq->node2, rq->name2, rq->node, rq->name);
		node_renamed(rq->node, aside, rq->node2, rq->name2);
	} else if (!error) {
		node_unlinked(rq->node2, rq->name2);
		node_renamed(rq->node, rq->name, rq->node2, rq->name2);
	}
	rq_error(rq, error);
}

static void rename_go(struct rq *rq)
{
	struct p9_msg m = {.type = P9_TRENAMEAT2,
		.name = p9_str(rq->name),
		.name2 = p9_str(rq->name2),
		.flags = rq->flags};

	if (rq->node->d != rq->node2->d) {
		rq_error(rq, -EXDEV);
		return;
	}
	m.fid = node_fid(rq->node);
	m.fid2 = node_fid(rq->node2);
	node_changes(rq->node);
	node_changes(rq->node2);
	dist_call(rq, &m, renamed);
}

static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
	const char *new_name, unsigned flags)
{
	struct rq *rq;

	if (ops_refuse(req, new_parent) || !good_name(req, new_name))
		return;
	rq = rq_named(req, parent, name, rename_go);
	if (!rq)
		return;
	rq->node2 = node_of(MNT(req), new_parent);
	rq->name2 = rq_str(new_name);
	rq->flags = flags;
	rq_run(rq);
}

void ops_name(struct fuse_lowlevel_ops *ops)
{
	ops->mknod = op_mknod;
	ops->mkdir = op_mkdir;
	ops->symlink = op_symlink;
	ops->link = op_link;
	ops->unlink = op_unlink;
	ops->rmdir = op_rmdir;
	ops->rename = op_rename;
}
