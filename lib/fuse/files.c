/* SPDX-License-Identifier: MIT */
/* Open files. */
#include "lib/fuse/internal.h"

#include <fcntl.h>
#include <unistd.h>

enum { MAX_SEGMENTS = MAX_PAGES + 16, SMALL_COPY = 128 << 10 };

/* What the kernel may do with its cache of this file. */
static uint32_t cache_flags(struct req *r, struct fs_handle *h)
{
	bool keep = r->s->o.exclusive || r->s->fs->ops->unchanged(r->s->fs, h);

	return keep ? FOPEN_KEEP_CACHE : 0;
}

/* FUSE_FLUSH at each close(2) is for those who have something to say then. */
static uint32_t flush_flags(struct req *r, struct fs_handle *h, uint32_t flags)
{
	bool flush = (flags & O_ACCMODE) != O_RDONLY && r->s->fs->ops->fails_late(r->s->fs, h);

	return flush ? 0 : FOPEN_NOFLUSH;
}

/* With a cache that writes later, what is only partly written is read first. */
static uint32_t open_flags(const struct req *r, uint32_t flags)
{
	if (r->s->flags & FUSE_WRITEBACK_CACHE && (flags & O_ACCMODE) == O_WRONLY)
		flags = (flags & ~(uint32_t)O_ACCMODE) | O_RDWR;
	return flags;
}

ssize_t reply_open(struct req *r, struct fs_handle *h, bool dir, uint32_t flags)
{
	struct fuse_open_out out = {.open_flags = flags};
	ssize_t n = files_add(r->s, h, dir, &out.fh);

	if (n < 0) {
		r->s->fs->ops->close(r->s->fs, h);
		return n;
	}
	n = reply(r, &out, sizeof(out));
	if (n < 0)
		files_close(r->s, out.fh, dir);
	return n;
}

ssize_t fuse_open(struct req *r)
{
	struct fs *fs = r->s->fs;
	const struct fuse_open_in *in = args(r, sizeof(*in));
	struct fs_handle *h;
	uint32_t flags;
	bool kill;
	int err;

	if (!in)
		return -EINVAL;
	/* who has a lease on the file is not waited for here */
	flags = (in->flags & ~(uint32_t)(O_CREAT | O_EXCL | O_NONBLOCK)) |
		(r->no_wait ? O_NONBLOCK : 0);
	kill = in->open_flags & FUSE_OPEN_KILL_SUIDGID && flags & O_TRUNC;
	err = fs->ops->open(fs, &r->cred, r->node,
		open_flags(r, kill ? flags & ~(uint32_t)O_TRUNC : flags), &h);
	if (err == -EACCES && open_flags(r, flags) != flags && !kill)
		err = fs->ops->open(fs, &r->cred, r->node, flags, &h);
	if (err == 0 && kill) {
		const struct fs_attr empty = {0};

		err = fs->ops->setattr(
			fs, &r->cred, r->node, h, FS_SET_SIZE | FS_SET_KILL_SUIDGID, &empty, NULL);
		if (err < 0)
			fs->ops->close(fs, h);
	}
	if (err == -EAGAIN && r->no_wait)
		return AGAIN;
	return err < 0 ? err
		       : reply_open(r, h, false, cache_flags(r, h) | flush_flags(r, h, flags));
}

static ssize_t reply_create(
	struct req *r, int error, uint32_t flags, const struct fs_entry *e, struct fs_handle *h)
{
	struct fs *fs = r->s->fs;
	struct {
		struct fuse_entry_out entry;
		struct fuse_open_out open;
	} out = {0};
	ssize_t n;

	if (error < 0)
		return error;
	fill_entry(r, e, &out.entry);
	out.open.open_flags = (r->s->o.exclusive ? FOPEN_KEEP_CACHE : 0) | flush_flags(r, h, flags);
	n = files_add(r->s, h, false, &out.open.fh);
	if (n < 0)
		fs->ops->close(fs, h);
	else if ((n = reply(r, &out, sizeof(out))) < 0)
		files_close(r->s, out.open.fh, false);
	if (n < 0)
		fs->ops->forget(fs, e->node, 1);
	return n;
}

ssize_t fuse_create(struct req *r)
{
	const struct fuse_create_in *in = args(r, sizeof(*in));
	size_t off = sizeof(*in);
	const char *name = in ? string_at(r, &off) : NULL;
	struct fs_handle *h = NULL;
	struct fs_entry e;
	int err;

	if (!name)
		return -EINVAL;
	r->cred.umask = in->umask & 0777;
	err = r->s->fs->ops->create(r->s->fs, &r->cred, r->node, name, in->mode,
		open_flags(r, in->flags) | O_EXCL, &e, &h);
	/*
	 * The peer knew of no such file and has not looked at who may open it: it looks the name up again, and asks to open what
	 * it finds.
	 */
	if (err == -EEXIST && !(in->flags & O_EXCL))
		err = -ESTALE;
	return reply_create(r, err, in->flags, &e, h);
}

ssize_t fuse_tmpfile(struct req *r)
{
	const struct fuse_create_in *in = args(r, sizeof(*in));
	struct fs_handle *h = NULL;
	struct fs_entry e;
	int err;

	if (!in)
		return -EINVAL;
	r->cred.umask = in->umask & 0777;
	err = r->s->fs->ops->tmpfile(
		r->s->fs, &r->cred, r->node, in->mode, open_flags(r, in->flags), &e, &h);
	return reply_create(r, err, in->flags, &e, h);
}

/* The part [off, off + len) of a vector; how many segments, 0 when it does not fit into the array or is not all there. */
static unsigned cut(
	struct iovec *part, const struct iovec *iov, unsigned cnt, size_t off, size_t len)
{
	unsigned n = 0;

	for (unsigned i = 0; i < cnt && len; i++) {
		size_t take;

		if (off >= iov[i].iov_len) {
			off -= iov[i].iov_len;
			continue;
		}
		if (n == MAX_SEGMENTS)
			return 0;
		take = MIN(len, iov[i].iov_len - off);
		part[n++] = (struct iovec){(char *)iov[i].iov_base + off, take};
		len -= take;
		off = 0;
	}
	return len ? 0 : n;
}

ssize_t fuse_read(struct req *r)
{
	struct fuse_server *s = r->s;
	const struct fuse_read_in *in = args(r, sizeof(*in));
	const size_t head = sizeof(struct fuse_out_header);
	struct iovec part[MAX_SEGMENTS];
	struct fs_handle *h;
	unsigned cnt;
	ssize_t n;

	if (!in || r->out_size < head + in->size || in->size > MAX_PAGES * 4096)
		return -EINVAL;
	cnt = cut(part, r->out, r->n_out, head, in->size);
	if (in->size && !cnt)
		return -EINVAL;
	h = files_get(s, in->fh, false);
	if (!h)
		return -EBADF;
	n = s->fs->ops->read(s->fs, h, part, cnt, in->offset, r->no_wait ? FS_NO_WAIT : 0);
	files_put(s, in->fh);
	if (n == -EAGAIN && r->no_wait)
		return AGAIN;
	return n < 0 ? n : reply_header(r, 0, (size_t)n);
}

/*
 * What comes out of the cache is written whole, or not: of less the kernel takes no notice, and whoever wrote it would not hear that there
 * is no more room.
 */
static ssize_t write_rest(
	struct req *r, const struct fuse_write_in *in, struct fs_handle *h, size_t done)
{
	const size_t head = sizeof(struct fuse_in_header) + sizeof(*in);
	struct iovec part[MAX_SEGMENTS];

	while (done < in->size) {
		unsigned cnt = cut(part, r->in, r->n_in, head + done, in->size - done);
		ssize_t n = r->s->fs->ops->write(r->s->fs, h, part, cnt, in->offset + done, 0);

		if (n <= 0)
			return n < 0 ? n : -EIO;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

ssize_t fuse_write(struct req *r)
{
	struct fuse_server *s = r->s;
	const struct fuse_write_in *in = args(r, sizeof(*in));
	const size_t head = sizeof(struct fuse_in_header) + sizeof(*in);
	struct iovec part[MAX_SEGMENTS];
	struct fs_handle *h;
	uint32_t how = 0;
	unsigned cnt;
	ssize_t n;

	if (!in || in->size > r->in_size - head)
		return -EINVAL;
	cnt = cut(part, r->in, r->n_in, head, in->size);
	if (in->size && !cnt)
		return -EINVAL;
	if (in->write_flags & FUSE_WRITE_KILL_SUIDGID)
		how |= FS_KILL_SUIDGID;
	/* what comes out of the cache has its place */
	if (in->flags & O_APPEND && !(in->write_flags & FUSE_WRITE_CACHE) &&
		!(s->flags & FUSE_WRITEBACK_CACHE))
		how |= FS_APPEND;
	h = files_get(s, in->fh, false);
	if (!h)
		return -EBADF;
	n = s->fs->ops->write(s->fs, h, part, cnt, in->offset, how);
	if (n >= 0 && in->write_flags & FUSE_WRITE_CACHE)
		n = write_rest(r, in, h, (size_t)n);
	files_put(s, in->fh);
	if (n < 0)
		return n;
	const struct fuse_write_out out = {.size = (uint32_t)n};
	return reply(r, &out, sizeof(out));
}

ssize_t fuse_release(struct req *r)
{
	const struct fuse_release_in *in = args(r, sizeof(*in));

	if (!in)
		return -EINVAL;
	return files_close(r->s, in->fh, false) ? done(r, 0) : -EBADF;
}

ssize_t fuse_flush(struct req *r)
{
	struct fuse_server *s = r->s;
	const struct fuse_flush_in *in = args(r, sizeof(*in));
	struct fs_handle *h;
	int err = 0;

	/* a kernel that writes later would ask at each close(2) of any file */
	if (s->flags & FUSE_WRITEBACK_CACHE)
		return -ENOSYS;
	h = in ? files_get(s, in->fh, false) : NULL;
	if (!h)
		return in ? -EBADF : -EINVAL;
	if (s->fs->ops->fails_late(s->fs, h))
		err = r->no_wait ? AGAIN : s->fs->ops->flush(s->fs, h, in->lock_owner);
	files_put(s, in->fh);
	return done(r, err);
}

static ssize_t sync_handle(struct req *r, bool dir)
{
	struct fuse_server *s = r->s;
	const struct fuse_fsync_in *in = args(r, sizeof(*in));
	struct fs_handle *h = in ? files_get(s, in->fh, dir) : NULL;
	int err;

	if (!h)
		return in ? -EBADF : -EINVAL;
	err = s->fs->ops->fsync(s->fs, h, in->fsync_flags & FUSE_FSYNC_FDATASYNC);
	files_put(s, in->fh);
	return done(r, err);
}

ssize_t fuse_fsync(struct req *r)
{
	return sync_handle(r, false);
}

ssize_t fuse_fsyncdir(struct req *r)
{
	return sync_handle(r, true);
}

ssize_t fuse_fallocate(struct req *r)
{
	struct fuse_server *s = r->s;
	const struct fuse_fallocate_in *in = args(r, sizeof(*in));
	struct fs_handle *h = in ? files_get(s, in->fh, false) : NULL;
	int err;

	if (!h)
		return in ? -EBADF : -EINVAL;
	err = s->fs->ops->fallocate(s->fs, h, (int)in->mode, in->offset, in->length);
	files_put(s, in->fh);
	return done(r, err);
}

ssize_t fuse_lseek(struct req *r)
{
	struct fuse_server *s = r->s;
	const struct fuse_lseek_in *in = args(r, sizeof(*in));
	struct fs_handle *h;
	int64_t at;

	if (!in || (in->whence != SEEK_DATA && in->whence != SEEK_HOLE))
		return -EINVAL;
	h = files_get(s, in->fh, false);
	if (!h)
		return -EBADF;
	at = s->fs->ops->lseek(s->fs, h, in->offset, (int)in->whence);
	files_put(s, in->fh);
	if (at < 0)
		return at;
	const struct fuse_lseek_out out = {.offset = (uint64_t)at};
	return reply(r, &out, sizeof(out));
}

/* Programs ask for as much as there can be; a small file is copied in less time than it takes to wake a thread. */
static bool is_small(struct req *r, struct fs_handle *h, uint64_t off, uint64_t len)
{
	struct fs_attr a;

	return len <= SMALL_COPY || (r->s->fs->ops->getattr(r->s->fs, &r->cred, NULL, h, &a) == 0 &&
					    (a.size <= off || a.size - off <= SMALL_COPY));
}

ssize_t fuse_copy_range(struct req *r)
{
	struct fuse_server *s = r->s;
	const struct fuse_copy_file_range_in *in = args(r, sizeof(*in));
	struct fs_handle *from, *to;
	ssize_t n = -EBADF;

	if (!in)
		return -EINVAL;
	from = files_get(s, in->fh_in, false);
	to = files_get(s, in->fh_out, false);
	if (from && to && r->no_wait && !is_small(r, from, in->off_in, in->len))
		n = AGAIN;
	else if (from && to)
		n = s->fs->ops->copy_range(s->fs, from, in->off_in, to, in->off_out, in->len);
	if (from)
		files_put(s, in->fh_in);
	if (to)
		files_put(s, in->fh_out);
	if (n < 0)
		return n;
	const struct fuse_write_out out = {.size = (uint32_t)n};
	return reply(r, &out, sizeof(out));
}
