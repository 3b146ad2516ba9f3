/* SPDX-License-Identifier: MIT */
/* Which files and names a request changes: the peer's kernel tells its watchers of that itself. */
#include "lib/fuse/internal.h"

#include <fcntl.h>
#include <string.h>

/* Where the name is in the arguments of requests that change the one in their node. */
static ssize_t name_offset(uint32_t op)
{
	switch (op) {
	case FUSE_MKNOD: return sizeof(struct fuse_mknod_in);
	case FUSE_MKDIR: return sizeof(struct fuse_mkdir_in);
	case FUSE_CREATE: return sizeof(struct fuse_create_in);
	case FUSE_LINK: return sizeof(struct fuse_link_in);
	case FUSE_RENAME: return sizeof(struct fuse_rename_in);
	case FUSE_RENAME2: return sizeof(struct fuse_rename2_in);
	case FUSE_SYMLINK:
	case FUSE_UNLINK:
	case FUSE_RMDIR: return 0;
	default: return -1;
	}
}

/* Does it change the file that is its node? Copies may take long, and are told twice. */
static bool changes_node(const struct req *r)
{
	const struct fuse_open_in *in;

	switch (r->h.opcode) {
	case FUSE_SETATTR:
	case FUSE_WRITE:
	case FUSE_FALLOCATE:
	case FUSE_SETXATTR:
	case FUSE_REMOVEXATTR: return true;
	/* of one that was open for writing; closing it is an event */
	case FUSE_RELEASE: return true;
	case FUSE_OPEN: in = args(r, sizeof(*in)); return in && in->flags & O_TRUNC;
	default: return false;
	}
}

bool touch_begin(struct req *r)
{
	const struct fs_ops *ops = r->s->fs->ops;
	struct fs *fs = r->s->fs;
	struct fs_touch t[3] = {{.node = r->node}};
	struct fs_node *other = NULL;
	ssize_t at = name_offset(r->h.opcode);
	size_t off = (size_t)at;
	unsigned n = 1;
	bool touches;

	if (at < 0 && !changes_node(r))
		return false;
	if (at >= 0) {
		t[0].name = string_at(r, &off);
		if (!t[0].name)
			return false;
		if (r->h.opcode == FUSE_RENAME || r->h.opcode == FUSE_RENAME2 ||
			r->h.opcode == FUSE_LINK) {
			/* all begin with the number of the other node */
			other = ops->get(fs, *(const uint64_t *)r->arg);
			if (other)
				t[n++].node = other;
			if (other && r->h.opcode != FUSE_LINK)
				t[1].name = string_at(r, &off);
			if (other && r->h.opcode != FUSE_LINK && !t[1].name)
				n = 1;
		}
	} else if (!r->node) {
		t[0].node = other = ops->get(fs, r->h.nodeid);
		if (!other)
			return false;
	}
	touches = ops->touch(fs, t, n);
	if (other)
		ops->put(fs, other);
	return touches;
}
