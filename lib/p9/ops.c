/* SPDX-License-Identifier: MIT */
/* What 9P2000.L asks of files, asked of a file server. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include "lib/p9/server-internal.h"

#define OP(name)                                                                                   \
	static int name(struct p9_server *s, struct p9_fid *f, const struct p9_msg *m,             \
		struct p9_msg *r, void *room)
#define FS(op, ...) (s->fs->ops->op(s->fs, __VA_ARGS__))

/* The names of a walk; *ret is where they lead, with a reference, and attr what is there. done: how many could be walked. */
static int walk_names(struct p9_server *s, struct p9_fid *f, const struct p9_msg *m,
	struct p9_node **ret, struct p9_qid *qids, struct p9_attr *attr, unsigned *done)
{
	struct p9_node *at = p9_node_ref(f->node);
	char name[P9_NAME_MAX + 1];
	struct fs_entry e;
	int r = 0;

	for (*done = 0; *done < m->nnames; ++*done) {
		struct p9_node *next;

		r = p9_name(m->names[*done], name);
		if (r == 0 && at->qid.type != P9_QT_DIR)
			r = -ENOTDIR;
		if (r == 0)
			r = FS(lookup, &s->cred, at->node, name, &e);
		if (r < 0)
			break;
		next = p9_node_new(s, &e);
		if (!next) {
			r = -ENOMEM;
			break;
		}
		next->path = p9_keep_path(s, at, name);
		p9_node_unref(s, at);
		at = next;
		if (qids)
			qids[*done] = at->qid;
		if (attr)
			p9_attr_of(s, &e.attr, attr);
	}
	if (r < 0)
		p9_node_unref(s, at);
	else
		*ret = at;
	return r;
}

/* The node becomes that of fid2, which may be the fid itself. */
static int land(struct p9_server *s, struct p9_fid *f, uint32_t fid2, struct p9_node *at)
{
	struct p9_fid *fresh;

	if (fid2 != f->fid)
		return p9_fid_new(s, fid2, at, &fresh);
	if (f->h) {
		p9_node_unref(s, at);
		return -EBADF;
	}
	p9_node_unref(s, f->node);
	f->node = at;
	return 0;
}

OP(op_walk)
{
	struct p9_node *at = NULL;
	unsigned done;
	int err;

	err = walk_names(s, f, m, &at, r->qids, NULL, &done);
	r->nqids = (uint16_t)done;
	/* It got somewhere: that is what is said, and there is no new fid (walk(5)). */
	if (err < 0)
		return done ? 0 : err;
	return land(s, f, m->fid2, at);
}

OP(op_lookup)
{
	struct p9_node *at = NULL;
	struct fs_attr a;
	unsigned done;
	int err = walk_names(s, f, m, &at, NULL, &r->attr, &done);

	if (err < 0)
		return err;
	if (m->nnames == 0) {
		err = FS(getattr, &s->cred, at->node, NULL, &a);
		if (err < 0) {
			p9_node_unref(s, at);
			return err;
		}
		p9_attr_of(s, &a, &r->attr);
	}
	return land(s, f, m->fid2, at);
}

OP(op_getattr)
{
	struct fs_attr a;
	int err = FS(getattr, &s->cred, f->node->node, f->h, &a);

	if (err == 0)
		p9_attr_of(s, &a, &r->attr);
	return err;
}

OP(op_setattr)
{
	struct fs_attr a;
	uint32_t set = p9_set_of(&m->set, &a);

	if (m->set.atime.nsec >= 1000000000 || m->set.mtime.nsec >= 1000000000 ||
		a.size > INT64_MAX)
		return -EINVAL;
	return FS(setattr, &s->cred, f->node->node, f->h, set, &a, NULL);
}

OP(op_readlink)
{
	ssize_t n = FS(readlink, f->node->node, room, P9_TARGET_MAX);

	if (n < 0)
		return (int)n;
	/* As long a target is possible on some file systems; half of one is worse than none. */
	if (n > P9_TARGET_MAX)
		return -ENAMETOOLONG;
	r->name = (struct p9_str){room, (uint16_t)n};
	return 0;
}

OP(op_access)
{
	return FS(access, &s->cred, f->node->node, (int)(m->mode & 7));
}

/* --- open files --- */

static uint32_t open_flags(uint32_t flags)
{
	return flags & (O_ACCMODE | O_TRUNC | O_EXCL | O_DSYNC | O_SYNC);
}

OP(op_lopen)
{
	struct fs_attr a;
	int err;

	if (f->h)
		return -EBADF;
	if (f->node->qid.type == P9_QT_SYMLINK)
		return -ELOOP;
	r->qid = f->node->qid;
	if (f->node->qid.type == P9_QT_DIR)
		return m->flags & O_ACCMODE ? -EISDIR : FS(opendir, &s->cred, f->node->node, &f->h);
	err = FS(getattr, &s->cred, f->node->node, NULL, &a);
	if (err == 0 && !S_ISREG(a.mode))
		err = -ENXIO;
	if (err < 0)
		return err;
	f->append = m->flags & O_APPEND;
	return FS(open, &s->cred, f->node->node, open_flags(m->flags) & ~(uint32_t)O_EXCL, &f->h);
}

OP(op_lcreate)
{
	uint32_t flags = open_flags(m->flags);
	char name[P9_NAME_MAX + 1];
	struct fs_handle *h = NULL;
	struct p9_node *n;
	struct fs_entry e;
	int err = p9_name(m->name, name);

	if (err < 0)
		return err;
	if (f->h)
		return -EBADF;
	/*
	 * A kernel has looked for the name, found none, and so asked nobody's rights to what is there by now. It is to look again: its open(2)
	 * does so by itself.
	 */
	if (s->trust_ids)
		flags |= O_EXCL;
	err = FS(create, &s->cred, f->node->node, name, m->mode & 07777, flags | O_CREAT, &e, &h);
	if (err == -EEXIST && !(m->flags & O_EXCL) && s->trust_ids)
		return -ESTALE;
	if (err < 0)
		return err;
	n = p9_node_new(s, &e);
	if (!n) {
		FS(close, h);
		return -ENOMEM;
	}
	p9_node_unref(s, f->node);
	f->node = n;
	f->h = h;
	f->append = m->flags & O_APPEND;
	r->qid = n->qid;
	return 0;
}

OP(op_read)
{
	struct iovec iov = {room, MIN(m->count, s->msize - P9_HEADER - 4)};
	ssize_t n;

	if (f->xattr)
		return p9_xattr_read(f, m, r);
	if (!f->h || f->node->qid.type == P9_QT_DIR)
		return -EBADF;
	if (m->offset > INT64_MAX)
		return -EINVAL;
	n = FS(read, f->h, &iov, 1, m->offset, 0);
	if (n < 0)
		return (int)n;
	r->data = room;
	r->count = (uint32_t)n;
	return 0;
}

OP(op_write)
{
	struct iovec iov = {(void *)(uintptr_t)m->data, m->count};
	uint32_t how = f->append ? FS_APPEND : 0;
	ssize_t n;

	if (f->xattr)
		return p9_xattr_write(f, m, r);
	if (!f->h || f->node->qid.type == P9_QT_DIR)
		return -EBADF;
	if (m->offset > (uint64_t)INT64_MAX - m->count)
		return -EFBIG;
	/* this server may keep set-uid bits, but who asks may not */
	if (s->trust_ids && s->cred.uid != 0)
		how |= FS_KILL_SUIDGID;
	n = FS(write, f->h, &iov, 1, m->offset, how);
	if (n < 0)
		return (int)n;
	r->count = (uint32_t)n;
	return 0;
}

OP(op_fsync)
{
	return f->h ? FS(fsync, f->h, m->flags & 1) : -EBADF;
}

static bool is_open_file(const struct p9_fid *f)
{
	return f && f->h && f->node->qid.type == P9_QT_FILE;
}

OP(op_fallocate)
{
	if (!is_open_file(f))
		return -EBADF;
	if (m->offset > INT64_MAX || m->length > INT64_MAX)
		return -EFBIG;
	return FS(fallocate, f->h, (int)m->mode, m->offset, m->length);
}

OP(op_seek)
{
	int64_t n;

	if (!is_open_file(f))
		return -EBADF;
	if (m->flags != SEEK_DATA && m->flags != SEEK_HOLE)
		return -EINVAL;
	if (m->offset > INT64_MAX)
		return -ENXIO;
	n = FS(lseek, f->h, m->offset, (int)m->flags);
	r->offset = n < 0 ? 0 : (uint64_t)n;
	return n < 0 ? (int)n : 0;
}

OP(op_copy)
{
	struct p9_fid *to = p9_fid_find(s, m->fid2);
	ssize_t n;

	if (!is_open_file(f) || !is_open_file(to))
		return -EBADF;
	if (m->offset > INT64_MAX || m->offset2 > INT64_MAX)
		return -EINVAL;
	n = FS(copy_range, f->h, m->offset, to->h, m->offset2, MIN(m->length, (uint64_t)1 << 24));
	r->length = n < 0 ? 0 : (uint64_t)n;
	return n < 0 ? (int)n : 0;
}

/* --- names --- */

/* What an operation made is named by no fid: its qid is all that is wanted. */
static int made(struct p9_server *s, int err, const struct fs_entry *e, struct p9_qid *ret)
{
	if (err < 0)
		return err;
	*ret = p9_qid_of(s, &e->attr);
	FS(forget, e->node, 1);
	return 0;
}

OP(op_symlink)
{
	char name[P9_NAME_MAX + 1], target[P9_TARGET_MAX + 1];
	struct fs_entry e;
	int err = p9_name(m->name, name);

	if (err < 0)
		return err;
	if (m->name2.len > P9_TARGET_MAX)
		return -ENAMETOOLONG;
	memcpy(target, m->name2.s, m->name2.len);
	target[m->name2.len] = '\0';
	err = FS(symlink, &s->cred, f->node->node, name, target, &e);
	return made(s, err, &e, &r->qid);
}

OP(op_mknod)
{
	char name[P9_NAME_MAX + 1];
	struct fs_entry e;
	int err = p9_name(m->name, name);

	if (err == 0)
		err = FS(mknod, &s->cred, f->node->node, name, m->mode, makedev(m->major, m->minor),
			&e);
	return made(s, err, &e, &r->qid);
}

OP(op_mkdir)
{
	char name[P9_NAME_MAX + 1];
	struct fs_entry e;
	int err = p9_name(m->name, name);

	if (err == 0)
		err = FS(mkdir, &s->cred, f->node->node, name, m->mode & 07777, &e);
	return made(s, err, &e, &r->qid);
}

OP(op_link)
{
	struct p9_fid *to = p9_fid_find(s, m->fid2);
	char name[P9_NAME_MAX + 1];
	struct p9_qid ignored;
	struct fs_entry e;
	int err = to && !to->xattr ? p9_name(m->name, name) : -EBADF;

	if (err == 0)
		err = FS(link, &s->cred, to->node->node, f->node->node, name, &e);
	return made(s, err, &e, &ignored);
}

OP(op_renameat)
{
	char name[P9_NAME_MAX + 1], name2[P9_NAME_MAX + 1];
	struct p9_fid *to = p9_fid_find(s, m->fid2);
	int err = to && !to->xattr ? p9_name(m->name, name) : -EBADF;

	if (err == 0)
		err = p9_name(m->name2, name2);
	return err < 0 ? err
		       : FS(rename, &s->cred, f->node->node, name, to->node->node, name2, m->flags);
}

OP(op_unlinkat)
{
	char name[P9_NAME_MAX + 1];
	int err = p9_name(m->name, name);

	if (err < 0)
		return err;
	return m->flags & P9_AT_REMOVEDIR ? FS(rmdir, &s->cred, f->node->node, name)
					  : FS(unlink, &s->cred, f->node->node, name);
}

OP(op_statfs)
{
	struct fs_stat st;
	int err = FS(statfs, f->node->node, &st);

	if (err < 0)
		return err;
	r->statfs = (struct p9_statfs){.type = (uint32_t)st.type,
		.bsize = st.frsize ? st.frsize : st.bsize,
		.blocks = st.blocks,
		.bfree = st.bfree,
		.bavail = st.bavail,
		.files = st.files,
		.ffree = st.ffree,
		.fsid = st.fsid,
		.namelen = st.namelen};
	return 0;
}

p9_op p9_op_of(unsigned type)
{
	static const p9_op ops[P9_TYPES] = {
		[P9_TSTATFS] = op_statfs,
		[P9_TLOPEN] = op_lopen,
		[P9_TLCREATE] = op_lcreate,
		[P9_TSYMLINK] = op_symlink,
		[P9_TMKNOD] = op_mknod,
		[P9_TREADLINK] = op_readlink,
		[P9_TGETATTR] = op_getattr,
		[P9_TSETATTR] = op_setattr,
		[P9_TXATTRWALK] = p9_op_xattrwalk,
		[P9_TXATTRCREATE] = p9_op_xattrcreate,
		[P9_TREADDIR] = p9_op_readdir,
		[P9_TREADDIRPLUS] = p9_op_readdir,
		[P9_TFSYNC] = op_fsync,
		[P9_TLOCK] = p9_op_lock,
		[P9_TGETLOCK] = p9_op_getlock,
		[P9_TLINK] = op_link,
		[P9_TMKDIR] = op_mkdir,
		[P9_TRENAMEAT] = op_renameat,
		[P9_TRENAMEAT2] = op_renameat,
		[P9_TUNLINKAT] = op_unlinkat,
		[P9_TWALK] = op_walk,
		[P9_TREAD] = op_read,
		[P9_TWRITE] = op_write,
		[P9_TLOOKUP] = op_lookup,
		[P9_TFALLOCATE] = op_fallocate,
		[P9_TSEEK] = op_seek,
		[P9_TCOPY] = op_copy,
		[P9_TACCESS] = op_access,
		[P9_TGETXATTR] = p9_op_getxattr,
		[P9_TSETXATTR] = p9_op_setxattr,
		[P9_TREMOVEXATTR] = p9_op_removexattr,
	};

	return type < P9_TYPES ? ops[type] : NULL;
}
