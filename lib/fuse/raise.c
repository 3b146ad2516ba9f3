/* SPDX-License-Identifier: MIT */
/*
 * Changes that others made, told to the peer's watchers by its own kernel (<wslx/abi/watch.h>). Who has such a change in hand asks
 * for operations that are that change: they succeed, and nothing is done. What is there and what is not is answered so that its
 * kernel believes in them: a name that is to be made is not there yet, one that is to go still is. Nodes that are nowhere ("ghosts")
 * have numbers no other node has.
 *
 * It is one process of the peer's, known by its number. Another that took it for itself would have its own operations fail.
 */
#include "lib/fuse/internal.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <wslx/abi/watch.h>

_Static_assert((int)FS_CHANGE_LOST == (int)WSLX_CHANGE_LOST &&
		       (int)FS_CHANGE_CLOSE_WRITE == (int)WSLX_CHANGE_CLOSE_WRITE,
	"the kinds are the same");

/* fs_ops.id() has this bit clear. Beside it are the file's type and role, above it what number the change has. */
#define GHOST	    (UINT64_C(1) << 31)
#define GHOST_TYPE  (24 - 12) /* S_IFMT begins at bit 12 */
#define GHOST_VALID 60	      /* seconds: nobody else changes it */

enum ghost_role { GHOST_FILE = 1, GHOST_DIR = 2 };

/* The same for as long as a change is in hand. */
static uint64_t ghost(const struct raise *x, uint32_t type, enum ghost_role role)
{
	return x->n << 32 | GHOST | (uint64_t)(type & S_IFMT) << GHOST_TYPE | role;
}

static void ghost_attr(uint64_t id, struct fuse_attr *ret)
{
	*ret = (struct fuse_attr){
		.ino = id, .mode = (id >> GHOST_TYPE & S_IFMT) | 0700, .nlink = 1, .blksize = 4096};
}

static ssize_t reply_ghost(struct req *r, uint32_t type, enum ghost_role role)
{
	struct fuse_entry_out out = {
		.nodeid = ghost(&r->s->raise, type, role), .attr_valid = GHOST_VALID};

	ghost_attr(out.nodeid, &out.attr);
	return reply(r, &out, sizeof(out));
}

/* An entry that only who asks is to believe in. */
static ssize_t reply_old(struct req *r, const struct fs_entry *e)
{
	struct fuse_entry_out out;
	ssize_t n;

	fill_entry(r, e, &out);
	out.entry_valid = out.attr_valid = 0;
	out.entry_valid_nsec = out.attr_valid_nsec = 0;
	n = reply(r, &out, sizeof(out));
	if (n < 0)
		r->s->fs->ops->forget(r->s->fs, e->node, 1);
	return n;
}

/* What name in the node is now. */
static int real(struct req *r, uint64_t id, const char *name, struct fs_entry *ret)
{
	struct fs *fs = r->s->fs;
	struct fs_node *dir = fs->ops->get(fs, id);
	int err = -ESTALE;

	if (dir) {
		err = fs->ops->lookup(fs, &r->cred, dir, name, ret);
		fs->ops->put(fs, dir);
	}
	return err;
}

static int departed(struct req *r, uint64_t id, const char *name, struct fs_entry *ret)
{
	struct fs *fs = r->s->fs;
	struct fs_node *n = fs->ops->get(fs, id);
	int err = -ESTALE;

	if (n) {
		err = fs->ops->departed(fs, n, name, ret);
		fs->ops->put(fs, n);
	}
	return err;
}

/* The file that the change is about, as it was. */
static ssize_t reply_subject(struct req *r)
{
	const struct fs_change *c = &r->s->raise.c;
	struct fs_entry e;
	int err;

	switch (c->kind) {
	case FS_CHANGE_MOVE: err = real(r, c->to, c->to_name, &e); break;
	case FS_CHANGE_MOVED_TO: err = real(r, c->node, c->name, &e); break;
	case FS_CHANGE_DELETE:
	case FS_CHANGE_MOVED_FROM: err = departed(r, c->node, c->name, &e); break;
	default: err = departed(r, c->node, NULL, &e); break;
	}
	/* what took its place is not it */
	if (err == 0 && S_ISDIR(e.attr.mode) != c->dir &&
		(c->kind == FS_CHANGE_MOVE || c->kind == FS_CHANGE_MOVED_TO ||
			c->kind == FS_CHANGE_DELETE || c->kind == FS_CHANGE_MOVED_FROM)) {
		r->s->fs->ops->forget(r->s->fs, e.node, 1);
		err = -ENOENT;
	}
	if (err < 0)
		return reply_ghost(r, c->dir ? S_IFDIR : S_IFREG, GHOST_FILE);
	return reply_old(r, &e);
}

static bool is(const char *name, uint64_t id, const char *its, uint64_t its_id)
{
	return id == its_id && strcmp(name, its) == 0;
}

static bool in_raise_dir(const struct req *r)
{
	return r->h.nodeid == ghost(&r->s->raise, S_IFDIR, GHOST_DIR);
}

static bool lookup(struct req *r, ssize_t *ret)
{
	const struct fs_change *c = &r->s->raise.c;
	size_t off = 0;
	const char *name = string_at(r, &off);

	if (!name)
		return false;
	if (in_raise_dir(r))
		*ret = strcmp(name, WSLX_RAISE_FROM) == 0 ? reply_subject(r) : -ENOENT;
	else if (strcmp(name, WSLX_RAISE_DIR) == 0)
		*ret = reply_ghost(r, S_IFDIR, GHOST_DIR);
	else if (is(name, r->h.nodeid, c->name, c->node) &&
		 (c->kind == FS_CHANGE_CREATE || c->kind == FS_CHANGE_MOVED_TO))
		*ret = -ENOENT;
	else if (is(name, r->h.nodeid, c->name, c->node) &&
		 (c->kind == FS_CHANGE_DELETE || c->kind == FS_CHANGE_MOVED_FROM ||
			 c->kind == FS_CHANGE_MOVE))
		*ret = reply_subject(r);
	else if (c->kind == FS_CHANGE_MOVE && is(name, r->h.nodeid, c->to_name, c->to))
		*ret = -ENOENT;
	else
		return false;
	return true;
}

/* The new name is there already. Of another type, or gone again: the kernel learns of that when it looks again. */
static ssize_t make(struct req *r, size_t off, uint32_t type)
{
	const struct fs_change *c = &r->s->raise.c;
	const char *name = string_at(r, &off);
	struct fs_entry e;
	int err;

	if (c->kind != FS_CHANGE_CREATE || !name || !is(name, r->h.nodeid, c->name, c->node))
		return -EEXIST;
	err = real(r, c->node, c->name, &e);
	if (err == 0 && (e.attr.mode & S_IFMT) == type)
		return reply_entry(r, 0, &e);
	if (err == 0)
		r->s->fs->ops->forget(r->s->fs, e.node, 1);
	return reply_ghost(r, type, GHOST_FILE);
}

static ssize_t removal(struct req *r)
{
	const struct fs_change *c = &r->s->raise.c;
	size_t off = 0;
	const char *name = string_at(r, &off);

	if (!name)
		return -EINVAL;
	if ((c->kind == FS_CHANGE_DELETE && is(name, r->h.nodeid, c->name, c->node)) ||
		(c->kind == FS_CHANGE_DELETE_SELF && in_raise_dir(r)))
		return reply_header(r, 0, 0);
	return -EPERM;
}

static ssize_t rename_(struct req *r)
{
	switch (r->s->raise.c.kind) {
	case FS_CHANGE_MOVE:
	case FS_CHANGE_MOVED_FROM:
	case FS_CHANGE_MOVED_TO:
	case FS_CHANGE_MOVE_SELF: return reply_header(r, 0, 0);
	default: return -EPERM;
	}
}

static ssize_t setattr(struct req *r)
{
	const struct fuse_setattr_in *in = args(r, sizeof(*in));
	struct fs *fs = r->s->fs;
	struct fs_node *n;
	struct fs_attr a;
	int err;

	if (!in || !(in->valid & FATTR_MTIME) || in->mtime != (uint64_t)WSLX_RAISE_SEC ||
		in->mtimensec != WSLX_RAISE_NSEC)
		return -EPERM;
	n = fs->ops->get(fs, r->h.nodeid);
	if (!n)
		return -ESTALE;
	err = fs->ops->getattr(fs, &r->cred, n, NULL, &a);
	fs->ops->put(fs, n);
	return reply_attr(r, err, &a);
}

/* To close it is the event. */
static ssize_t open_nothing(struct req *r)
{
	const struct fuse_open_out out = {.open_flags = FOPEN_NOFLUSH};

	return r->s->raise.c.kind == FS_CHANGE_CLOSE_WRITE ? reply(r, &out, sizeof(out)) : -EPERM;
}

static ssize_t getattr(struct req *r)
{
	struct fuse_attr_out out = {.attr_valid = GHOST_VALID};

	ghost_attr(r->h.nodeid, &out.attr);
	return reply(r, &out, sizeof(out));
}

static bool answer(struct req *r, ssize_t *ret)
{
	switch (r->h.opcode) {
	case FUSE_LOOKUP: return lookup(r, ret);
	case FUSE_GETATTR:
		if (!(r->h.nodeid & GHOST))
			return false;
		*ret = getattr(r);
		return true;
	case FUSE_MKDIR: *ret = make(r, sizeof(struct fuse_mkdir_in), S_IFDIR); return true;
	case FUSE_SYMLINK: *ret = make(r, 0, S_IFLNK); return true;
	case FUSE_MKNOD: {
		const struct fuse_mknod_in *in = args(r, sizeof(*in));

		*ret = in ? make(r, sizeof(*in), in->mode & S_IFMT) : -EINVAL;
		return true;
	}
	case FUSE_UNLINK:
	case FUSE_RMDIR: *ret = removal(r); return true;
	case FUSE_RENAME:
	case FUSE_RENAME2: *ret = rename_(r); return true;
	case FUSE_SETATTR: *ret = setattr(r); return true;
	case FUSE_OPEN: *ret = open_nothing(r); return true;
	case FUSE_CREATE:
	case FUSE_TMPFILE:
	case FUSE_LINK:
	case FUSE_WRITE:
	case FUSE_FALLOCATE:
	case FUSE_COPY_FILE_RANGE:
	case FUSE_REMOVEXATTR: *ret = -EPERM; return true;
	default: return false;
	}
}

bool raise_request(struct req *r, ssize_t *ret)
{
	struct raise *x = &r->s->raise;
	bool answered = false;

	if (r->h.pid != x->pid)
		return false;
	pthread_mutex_lock(&x->lock);
	if (x->pid == r->h.pid)
		answered = answer(r, ret);
	pthread_mutex_unlock(&x->lock);
	return answered;
}

/* --- attributes of the root --- */

bool raise_is_xattr(const char *name)
{
	return strncmp(name, "trusted.wslx.", 13) == 0;
}

static bool may(const struct req *r)
{
	return r->h.nodeid == FUSE_ROOT_ID && r->h.uid == 0 && r->s->fs->ops->watch;
}

ssize_t raise_set_xattr(struct req *r, const char *name, const uint8_t *val, size_t len)
{
	struct fs *fs = r->s->fs;
	int err = 0;

	if (!may(r) || strcmp(name, WSLX_WATCH_XATTR) != 0)
		return -EPERM;
	if (len == 0) {
		err = fs->ops->watch(fs, NULL, 0, 0);
		r->s->raise.watching = false;
	}
	for (size_t at = 0; len - at >= sizeof(struct wslx_watch);
		at += sizeof(struct wslx_watch)) {
		struct wslx_watch w;
		struct fs_node *n;
		int one = -ESTALE;

		memcpy(&w, val + at, sizeof(w));
		n = fs->ops->get(fs, w.node);
		if (n) {
			r->s->raise.watching = true;
			one = fs->ops->watch(fs, n, w.events, w.peers);
			fs->ops->put(fs, n);
		}
		/* the others are watched all the same */
		if (one < 0 && w.events)
			err = one;
	}
	return done(r, err);
}

/* Its type is asked for by who has to make one like it. */
static uint32_t mode_of(struct req *r, const struct fs_change *c)
{
	struct fs_entry e;

	if (!c->name[0] || (c->kind != FS_CHANGE_CREATE && c->kind != FS_CHANGE_CLOSE_WRITE) ||
		real(r, c->node, c->name, &e) < 0)
		return 0;
	r->s->fs->ops->forget(r->s->fs, e.node, 1);
	return e.attr.mode;
}

static ssize_t next_change(struct req *r, size_t cap)
{
	struct raise *x = &r->s->raise;
	struct {
		struct wslx_change c;
		char names[WSLX_CHANGE_MAX - sizeof(struct wslx_change)];
	} out = {0};
	struct fs_change *c = &x->c;
	struct fs *fs = r->s->fs;

	if (cap < WSLX_CHANGE_MAX)
		return -ERANGE;
	pthread_mutex_lock(&x->lock);
	if (!fs->ops->next_change(fs, c)) {
		x->pid = 0;
		pthread_mutex_unlock(&x->lock);
		return -ENODATA;
	}
	x->pid = r->h.pid;
	x->n++;
	out.c = (struct wslx_change){.node = c->node,
		.to = c->to,
		.kind = c->kind,
		.mode = mode_of(r, c),
		.name_len = (uint16_t)strlen(c->name),
		.to_len = (uint16_t)strlen(c->to_name)};
	if (!out.c.mode && c->dir)
		out.c.mode = S_IFDIR;
	memcpy(out.names, c->name, out.c.name_len);
	memcpy(out.names + out.c.name_len, c->to_name, out.c.to_len);
	pthread_mutex_unlock(&x->lock);
	return reply(r, &out, sizeof(out.c) + out.c.name_len + out.c.to_len);
}

ssize_t raise_get_xattr(struct req *r, const char *name, size_t cap)
{
	struct fs *fs = r->s->fs;

	if (!may(r))
		return -ENODATA;
	if (strcmp(name, WSLX_CHANGE_XATTR) == 0)
		return next_change(r, cap);
	if (strcmp(name, WSLX_WAIT_XATTR) != 0 || !cap)
		return -ENODATA;
	if (!fs->ops->has_change(fs) && !r->no_park)
		return LATER;
	return reply_header(r, 0, 0);
}

void raise_reset(struct fuse_server *s)
{
	s->raise.pid = 0;
	s->raise.watching = false;
}
