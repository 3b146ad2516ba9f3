/* SPDX-License-Identifier: MIT */
/* What files look like: numbers of distributions become this host's. */
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include "mount/mount.h"

/* Who we are there, and who we are here, are one; the other way round for whoever has our number there. */
static uint32_t swap(uint32_t id, uint32_t a, uint32_t b)
{
	return id == a ? b : id == b ? a : id;
}

uint32_t attr_uid_there(const struct dist *d, uint32_t uid)
{
	return swap(uid, d->m->uid, d->uid);
}

uint32_t attr_gid_there(const struct dist *d, uint32_t gid)
{
	return swap(gid, d->m->gid, d->gid);
}

static uint64_t ino_of(const struct dist *d, const struct node *n, uint64_t path)
{
	/* A distribution's folder is the same before and after its start. */
	return (n && !n->parent ? 2 : path) ^ (uint64_t)d->index << 48;
}

static struct timespec ts(struct p9_time t)
{
	return (struct timespec){(time_t)t.sec, (long)(t.nsec % 1000000000)};
}

void attr_stat(
	const struct dist *d, const struct node *n, const struct p9_attr *a, struct stat *ret)
{
	*ret = (struct stat){.st_ino = ino_of(d, n, a->qid.path),
		.st_mode = a->mode,
		.st_nlink = a->nlink,
		.st_uid = attr_uid_there(d, a->uid),
		.st_gid = attr_gid_there(d, a->gid),
		.st_rdev = a->rdev,
		.st_size = (off_t)a->size,
		.st_blksize = (blksize_t)a->blksize,
		.st_blocks = (blkcnt_t)a->blocks,
		.st_atim = ts(a->atime),
		.st_mtim = ts(a->mtime),
		.st_ctim = ts(a->ctime)};
}

void attr_synthetic(const struct mnt *m, const struct node *n, struct stat *ret)
{
	*ret = (struct stat){.st_ino = n->d ? ino_of(n->d, n, 2) : FUSE_ROOT_ID,
		.st_mode = S_IFDIR | (n->d ? 0755 : 0555),
		.st_nlink = 2,
		.st_uid = m->uid,
		.st_gid = m->gid,
		.st_blksize = 4096};
}

void attr_remember(struct node *n, const struct p9_attr *a)
{
	n->mtime = a->mtime;
	n->size = a->size;
}

void attr_reply_entry(struct rq *rq, const char *name, const struct p9_attr *a, uint32_t fid)
{
	struct fuse_entry_param e = {.attr_timeout = TIMEOUT_S, .entry_timeout = TIMEOUT_S};
	struct node *n = node_found(rq->node, name, a, fid);

	e.ino = node_ino(n);
	attr_stat(n->d, n, a, &e.attr);
	attr_remember(n, a);
	/* The kernel does not get to know it, if nobody waits any more. */
	if (rq->answered || fuse_reply_entry(rq->req, &e) != 0)
		node_forget(rq->m, n, 1);
	rq_free(rq);
}
