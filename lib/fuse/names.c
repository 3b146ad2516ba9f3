/* SPDX-License-Identifier: MIT */
/* Names, and what files are. */
#include "lib/fuse/internal.h"

#include <string.h>

ssize_t reply_entry(struct req *r, int error, const struct fs_entry *e)
{
	struct fuse_entry_out out;
	ssize_t n;

	if (error < 0)
		return error;
	fill_entry(r, e, &out);
	n = reply(r, &out, sizeof(out));
	if (n < 0) /* it will never know */
		r->s->fs->ops->forget(r->s->fs, e->node, 1);
	return n;
}

ssize_t fuse_lookup(struct req *r)
{
	struct fuse_server *s = r->s;
	struct fs_entry e;
	size_t off = 0;
	const char *name = string_at(r, &off);
	int err;

	if (!name)
		return -EINVAL;
	/* what the peer holds by a handle and has no name for any more (FUSE_EXPORT_SUPPORT) */
	if (strcmp(name, ".") == 0 && s->fs->ops->departed)
		return reply_entry(r, s->fs->ops->departed(s->fs, r->node, NULL, &e), &e);
	if (strcmp(name, "..") == 0 && s->fs->ops->parent)
		return reply_entry(r, s->fs->ops->parent(s->fs, r->node, &e), &e);
	err = s->fs->ops->lookup(s->fs, &r->cred, r->node, name, &e);
	if (err == -ENOENT && s->o.negative_ms) {
		struct fuse_entry_out out = {0};

		fill_time(s->o.negative_ms, &out.entry_valid, &out.entry_valid_nsec);
		return reply(r, &out, sizeof(out));
	}
	return reply_entry(r, err, &e);
}

static void forget(struct fuse_server *s, uint64_t id, uint64_t count)
{
	struct fs_node *n = s->fs->ops->get(s->fs, id);

	if (!n)
		return;
	if (n != s->fs->ops->root(s->fs))
		s->fs->ops->forget(s->fs, n, count);
	s->fs->ops->put(s->fs, n);
}

ssize_t fuse_forget(struct req *r)
{
	const struct fuse_forget_in *in = args(r, sizeof(*in));

	if (in)
		forget(r->s, r->h.nodeid, in->nlookup);
	return NO_REPLY;
}

ssize_t fuse_batch_forget(struct req *r)
{
	const struct fuse_batch_forget_in *in = args(r, sizeof(*in));
	const struct fuse_forget_one *one;

	if (!in)
		return NO_REPLY;
	one = (const void *)(in + 1);
	for (uint32_t i = 0; i < in->count && (i + 1) * sizeof(*one) <= r->len - sizeof(*in); i++)
		forget(r->s, one[i].nodeid, one[i].nlookup);
	return NO_REPLY;
}

ssize_t reply_attr(struct req *r, int error, const struct fs_attr *a)
{
	struct fuse_attr_out out = {0};

	if (error < 0)
		return error;
	fill_time(r->s->o.attr_ms, &out.attr_valid, &out.attr_valid_nsec);
	fill_attr(r, a, &out.attr);
	return reply(r, &out, sizeof(out));
}

ssize_t fuse_getattr(struct req *r)
{
	struct fuse_server *s = r->s;
	const struct fuse_getattr_in *in = args(r, sizeof(*in));
	struct fs_handle *h = NULL;
	struct fs_attr a;
	int err;

	if (!in)
		return -EINVAL;
	if (in->getattr_flags & FUSE_GETATTR_FH)
		h = files_get(s, in->fh, false);
	err = s->fs->ops->getattr(s->fs, &r->cred, r->node, h, &a);
	if (h)
		files_put(s, in->fh);
	return reply_attr(r, err, &a);
}

ssize_t fuse_setattr(struct req *r)
{
	static const struct {
		uint32_t from, to;
	} map[] = {
		{FATTR_MODE, FS_SET_MODE},
		{FATTR_UID, FS_SET_UID},
		{FATTR_GID, FS_SET_GID},
		{FATTR_SIZE, FS_SET_SIZE},
		{FATTR_ATIME, FS_SET_ATIME},
		{FATTR_MTIME, FS_SET_MTIME},
		{FATTR_ATIME_NOW, FS_SET_ATIME_NOW},
		{FATTR_MTIME_NOW, FS_SET_MTIME_NOW},
		{FATTR_KILL_SUIDGID, FS_SET_KILL_SUIDGID},
	};
	struct fuse_server *s = r->s;
	const struct fuse_setattr_in *in = args(r, sizeof(*in));
	struct fs_handle *h = NULL;
	struct fs_attr a, now;
	uint32_t set = 0;
	int err;

	if (!in)
		return -EINVAL;
	for (unsigned i = 0; i < ARRAY_LEN(map); i++)
		if (in->valid & map[i].from)
			set |= map[i].to;
	a = (struct fs_attr){
		.mode = in->mode,
		.uid = in->uid,
		.gid = in->gid,
		.size = in->size,
		.atime = {.tv_sec = (time_t)in->atime, .tv_nsec = in->atimensec},
		.mtime = {.tv_sec = (time_t)in->mtime, .tv_nsec = in->mtimensec},
	};
	if (in->atimensec > 999999999 || in->mtimensec > 999999999)
		return -EINVAL;
	if (in->valid & FATTR_FH)
		h = files_get(s, in->fh, false);
	err = s->fs->ops->setattr(s->fs, &r->cred, r->node, h, set, &a, &now);
	if (h)
		files_put(s, in->fh);
	return reply_attr(r, err, &now);
}

ssize_t fuse_readlink(struct req *r)
{
	char target[4096];
	ssize_t n = r->s->fs->ops->readlink(r->s->fs, r->node, target, sizeof(target));

	return n < 0 ? n : reply(r, target, (size_t)n);
}

ssize_t fuse_symlink(struct req *r)
{
	struct fs_entry e;
	size_t off = 0;
	const char *name = string_at(r, &off), *target = name ? string_at(r, &off) : NULL;

	if (!target)
		return -EINVAL;
	return reply_entry(
		r, r->s->fs->ops->symlink(r->s->fs, &r->cred, r->node, name, target, &e), &e);
}

static uint64_t decode_dev(uint32_t dev)
{
	uint64_t maj = dev >> 8 & 0xfff, min = (dev & 0xff) | (dev >> 12 & 0xfff00);

	return (min & 0xff) | maj << 8 | (min & ~0xffull) << 12;
}

ssize_t fuse_mknod(struct req *r)
{
	const struct fuse_mknod_in *in = args(r, sizeof(*in));
	size_t off = sizeof(*in);
	const char *name = in ? string_at(r, &off) : NULL;
	struct fs_entry e;

	if (!name)
		return -EINVAL;
	r->cred.umask = in->umask & 0777;
	return reply_entry(r,
		r->s->fs->ops->mknod(
			r->s->fs, &r->cred, r->node, name, in->mode, decode_dev(in->rdev), &e),
		&e);
}

ssize_t fuse_mkdir(struct req *r)
{
	const struct fuse_mkdir_in *in = args(r, sizeof(*in));
	size_t off = sizeof(*in);
	const char *name = in ? string_at(r, &off) : NULL;
	struct fs_entry e;

	if (!name)
		return -EINVAL;
	r->cred.umask = in->umask & 0777;
	return reply_entry(
		r, r->s->fs->ops->mkdir(r->s->fs, &r->cred, r->node, name, in->mode, &e), &e);
}

ssize_t fuse_unlink(struct req *r)
{
	size_t off = 0;
	const char *name = string_at(r, &off);

	return name ? done(r, r->s->fs->ops->unlink(r->s->fs, &r->cred, r->node, name)) : -EINVAL;
}

ssize_t fuse_rmdir(struct req *r)
{
	size_t off = 0;
	const char *name = string_at(r, &off);

	return name ? done(r, r->s->fs->ops->rmdir(r->s->fs, &r->cred, r->node, name)) : -EINVAL;
}

static ssize_t move(struct req *r, uint64_t to, uint32_t flags, size_t off)
{
	struct fs *fs = r->s->fs;
	const char *name = string_at(r, &off), *new_name = name ? string_at(r, &off) : NULL;
	struct fs_node *dir;
	int err;

	if (!new_name)
		return -EINVAL;
	dir = fs->ops->get(fs, to);
	if (!dir)
		return -ESTALE;
	err = fs->ops->rename(fs, &r->cred, r->node, name, dir, new_name, flags);
	fs->ops->put(fs, dir);
	return done(r, err);
}

ssize_t fuse_rename(struct req *r)
{
	const struct fuse_rename_in *in = args(r, sizeof(*in));

	return in ? move(r, in->newdir, 0, sizeof(*in)) : -EINVAL;
}

ssize_t fuse_rename2(struct req *r)
{
	const struct fuse_rename2_in *in = args(r, sizeof(*in));

	return in ? move(r, in->newdir, in->flags, sizeof(*in)) : -EINVAL;
}

ssize_t fuse_link(struct req *r)
{
	struct fs *fs = r->s->fs;
	const struct fuse_link_in *in = args(r, sizeof(*in));
	size_t off = sizeof(*in);
	const char *name = in ? string_at(r, &off) : NULL;
	struct fs_node *n;
	struct fs_entry e;
	int err;

	if (!name)
		return -EINVAL;
	n = fs->ops->get(fs, in->oldnodeid);
	if (!n)
		return -ESTALE;
	err = fs->ops->link(fs, &r->cred, n, r->node, name, &e);
	fs->ops->put(fs, n);
	return reply_entry(r, err, &e);
}

ssize_t fuse_access(struct req *r)
{
	const struct fuse_access_in *in = args(r, sizeof(*in));

	return in ? done(r, r->s->fs->ops->access(r->s->fs, &r->cred, r->node, (int)in->mask))
		  : -EINVAL;
}
