/* SPDX-License-Identifier: MIT */
/* Listing folders. */
#include "lib/fuse/internal.h"

#include <string.h>

ssize_t fuse_opendir(struct req *r)
{
	struct fs *fs = r->s->fs;
	struct fs_handle *h;
	int err;

	if (!args(r, sizeof(struct fuse_open_in)))
		return -EINVAL;
	err = fs->ops->opendir(fs, &r->cred, r->node, &h);
	return err < 0 ? err : reply_open(r, h, true, 0);
}

ssize_t fuse_releasedir(struct req *r)
{
	const struct fuse_release_in *in = args(r, sizeof(*in));

	if (!in)
		return -EINVAL;
	return files_close(r->s, in->fh, true) ? done(r, 0) : -EBADF;
}

struct listing {
	struct req *r;
	size_t at, end; /* of the reply */
	bool plus;
};

static bool add(void *ctx, const struct fs_dirent *d)
{
	struct listing *l = ctx;
	struct {
		struct fuse_entry_out entry;
		struct fuse_dirent d;
	} head;
	static const char zeros[8];
	const size_t namelen = strlen(d->name), skip = l->plus ? 0 : sizeof(head.entry);
	const size_t len = sizeof(head) - skip + namelen, whole = FUSE_REC_ALIGN(len);

	if (whole > l->end - l->at)
		return false;
	head.entry = (struct fuse_entry_out){0};
	if (d->entry.node)
		fill_entry(l->r, &d->entry, &head.entry);
	head.d.ino = d->ino;
	head.d.off = d->next;
	head.d.namelen = (uint32_t)namelen;
	head.d.type = d->type;
	iov_from_buf(
		l->r->out, l->r->n_out, l->at, (const char *)&head + skip, sizeof(head) - skip);
	iov_from_buf(l->r->out, l->r->n_out, l->at + sizeof(head) - skip, d->name, namelen);
	iov_from_buf(l->r->out, l->r->n_out, l->at + len, zeros, whole - len);
	l->at += whole;
	return true;
}

static ssize_t list(struct req *r, bool plus)
{
	struct fuse_server *s = r->s;
	const struct fuse_read_in *in = args(r, sizeof(*in));
	struct listing l = {.r = r, .at = sizeof(struct fuse_out_header), .plus = plus};
	struct fs_handle *h;
	int err;

	if (!in || r->out_size < l.at)
		return -EINVAL;
	l.end = l.at + MIN((size_t)in->size, r->out_size - l.at);
	h = files_get(s, in->fh, true);
	if (!h)
		return -EBADF;
	err = s->fs->ops->readdir(s->fs, &r->cred, h, in->offset, plus, add, &l);
	files_put(s, in->fh);
	/* what was listed has been looked up, too: it is said even if the rest cannot be */
	if (err < 0 && l.at == sizeof(struct fuse_out_header))
		return err;
	return reply_header(r, 0, l.at - sizeof(struct fuse_out_header));
}

ssize_t fuse_readdir(struct req *r)
{
	return list(r, false);
}

ssize_t fuse_readdirplus(struct req *r)
{
	return list(r, true);
}
