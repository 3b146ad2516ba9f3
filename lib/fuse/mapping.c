/* SPDX-License-Identifier: MIT */
/* Files in the peer's window: FUSE_SETUPMAPPING, FUSE_REMOVEMAPPING. */
#include <fcntl.h>
#include <string.h>
#include "lib/fuse/internal.h"

/* In one request: the kernel of the peer has a page for them. */
enum { MAX_REMOVED = 4096 / sizeof(struct fuse_removemapping_one) };

ssize_t fuse_setupmapping(struct req *r)
{
	struct fuse_server *s = r->s;
	const struct fuse_setupmapping_in *in = args(r, sizeof(*in));
	struct fs_handle *h;
	bool writable;
	int err;

	if (!in ||
		in->flags & ~(uint64_t)(FUSE_SETUPMAPPING_FLAG_READ | FUSE_SETUPMAPPING_FLAG_WRITE))
		return -EINVAL;
	if (!server_maps(s))
		return -ENOSYS;
	writable = in->flags & FUSE_SETUPMAPPING_FLAG_WRITE;
	/* Whoever it is for had it opened; the peer has no open file to name here. */
	err = s->fs->ops->open(s->fs, &r->cred, r->node, writable ? O_RDWR : O_RDONLY, &h);
	if (err < 0)
		return err;
	err = s->window->map(s->window_ctx, h, in->foffset, in->moffset, in->len, writable);
	s->fs->ops->close(s->fs, h);
	return done(r, err);
}

ssize_t fuse_removemapping(struct req *r)
{
	struct fuse_server *s = r->s;
	const struct fuse_removemapping_in *in = args(r, sizeof(*in));
	int err = 0;

	if (!in || in->count > MAX_REMOVED ||
		r->len < sizeof(*in) + in->count * sizeof(struct fuse_removemapping_one))
		return -EINVAL;
	if (!server_maps(s))
		return -ENOSYS;
	for (uint32_t i = 0; i < in->count; i++) {
		struct fuse_removemapping_one one;
		int e;

		memcpy(&one, r->arg + sizeof(*in) + i * sizeof(one), sizeof(one));
		e = s->window->unmap(s->window_ctx, one.moffset, one.len);
		err = err < 0 ? err : e;
	}
	return done(r, err);
}
