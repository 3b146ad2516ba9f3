/* SPDX-License-Identifier: MIT */
/* Extended attributes; the file system as a whole. */
#include "lib/fuse/internal.h"

#include <string.h>

/*
 * Linux makes a request before it waits for the answer to FUSE_INIT: the first one has the short form, whatever is agreed on. Where the
 * name is tells: it and the value are all the rest. In the long form there are eight bytes more than that.
 */
static bool is_short(const struct req *r)
{
	const struct fuse_setxattr_in *in = args(r, FUSE_COMPAT_SETXATTR_IN_SIZE);
	size_t off = FUSE_COMPAT_SETXATTR_IN_SIZE;

	return in && string_at(r, &off) && r->len - off == in->size;
}

ssize_t fuse_setxattr(struct req *r)
{
	struct fs *fs = r->s->fs;
	const bool ext = r->s->flags & FUSE_SETXATTR_EXT && !is_short(r);
	size_t off = ext ? sizeof(struct fuse_setxattr_in) : FUSE_COMPAT_SETXATTR_IN_SIZE;
	const struct fuse_setxattr_in *in = args(r, off);
	const char *name = in ? string_at(r, &off) : NULL;
	int err;

	if (!name || in->size > r->len - off)
		return -EINVAL;
	if (raise_is_xattr(name))
		return raise_set_xattr(r, name, r->arg + off, in->size);
	err = fs->ops->setxattr(
		fs, &r->cred, r->node, name, r->arg + off, in->size, (int)in->flags);
	/* an ACL changed by who is not of the file's group: see FUSE_SETXATTR_ACL_KILL_SGID */
	if (err == 0 && ext && in->setxattr_flags & FUSE_SETXATTR_ACL_KILL_SGID) {
		struct fs_attr a;

		err = fs->ops->getattr(fs, &r->cred, r->node, NULL, &a);
		if (err == 0 && a.mode & 02000) {
			a.mode &= ~02000u;
			err = fs->ops->setattr(fs, &r->cred, r->node, NULL, FS_SET_MODE, &a, NULL);
		}
	}
	return done(r, err);
}

/* How long it is, or what it is, in a buffer of the size the peer has. */
static ssize_t reply_sized(struct req *r, ssize_t n, size_t size, const void *buf)
{
	if (n < 0)
		return n;
	if (size)
		return reply(r, buf, (size_t)n);
	const struct fuse_getxattr_out out = {.size = (uint32_t)n};
	return reply(r, &out, sizeof(out));
}

static _Thread_local char value[MAX_XATTR];

ssize_t fuse_getxattr(struct req *r)
{
	struct fs *fs = r->s->fs;
	const struct fuse_getxattr_in *in = args(r, sizeof(*in));
	size_t off = sizeof(*in);
	const char *name = in ? string_at(r, &off) : NULL;

	if (!name)
		return -EINVAL;
	if (raise_is_xattr(name))
		return raise_get_xattr(r, name, in->size);
	return reply_sized(r,
		fs->ops->getxattr(fs, r->node, name, value, MIN(in->size, sizeof(value))), in->size,
		value);
}

ssize_t fuse_listxattr(struct req *r)
{
	struct fs *fs = r->s->fs;
	const struct fuse_getxattr_in *in = args(r, sizeof(*in));

	if (!in)
		return -EINVAL;
	return reply_sized(r, fs->ops->listxattr(fs, r->node, value, MIN(in->size, sizeof(value))),
		in->size, value);
}

ssize_t fuse_removexattr(struct req *r)
{
	size_t off = 0;
	const char *name = string_at(r, &off);

	return name ? done(r, r->s->fs->ops->removexattr(r->s->fs, &r->cred, r->node, name))
		    : -EINVAL;
}

ssize_t fuse_statfs(struct req *r)
{
	struct fs_stat st;
	struct fuse_statfs_out out = {0};
	int err = r->s->fs->ops->statfs(r->s->fs, r->node, &st);

	if (err < 0)
		return err;
	out.st = (struct fuse_kstatfs){
		.blocks = st.blocks,
		.bfree = st.bfree,
		.bavail = st.bavail,
		.files = st.files,
		.ffree = st.ffree,
		.bsize = st.bsize,
		.namelen = st.namelen,
		.frsize = st.frsize,
	};
	return reply(r, &out, sizeof(out));
}

ssize_t fuse_syncfs(struct req *r)
{
	return done(r, r->s->fs->ops->syncfs(r->s->fs, r->node));
}
