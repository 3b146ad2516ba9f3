/* SPDX-License-Identifier: MIT */
/* Requests taken apart, sent to who does them, answered; FUSE_INIT. */
#include "lib/fuse/fuse.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include "lib/fuse/internal.h"

enum { MIN_MINOR = 31, BACKGROUND = 64, MAP_SHIFT = 21 };

/* What we do when the peer can. Without FUSE_POSIX_LOCKS and FUSE_FLOCK_LOCKS it keeps locks itself. */
static const uint64_t wanted = FUSE_ASYNC_READ | FUSE_ATOMIC_O_TRUNC | FUSE_BIG_WRITES |
			       FUSE_DONT_MASK | FUSE_AUTO_INVAL_DATA | FUSE_DO_READDIRPLUS |
			       FUSE_READDIRPLUS_AUTO | FUSE_ASYNC_DIO | FUSE_PARALLEL_DIROPS |
			       FUSE_HANDLE_KILLPRIV_V2 | FUSE_MAX_PAGES | FUSE_CACHE_SYMLINKS |
			       FUSE_SUBMOUNTS | FUSE_SETXATTR_EXT | FUSE_INIT_EXT;

static uint64_t agree(const struct fuse_server *s, uint64_t offered)
{
	uint64_t flags = wanted;

	/* what is watched is found again by its number */
	if (s->fs->ops->parent)
		flags |= FUSE_EXPORT_SUPPORT;
	if (s->o.posix_acl)
		flags |= FUSE_POSIX_ACL;
	/* A peer that is alone has nobody to agree with. */
	if (!s->o.exclusive)
		flags |= FUSE_MAP_ALIGNMENT | FUSE_HAS_INODE_DAX;
	if (s->o.exclusive)
		flags = (flags & ~(uint64_t)FUSE_AUTO_INVAL_DATA) | FUSE_WRITEBACK_CACHE;
	return flags & offered;
}

int fuse_server_new(struct fuse_server **ret, struct fs *fs, const struct fuse_opts *opts)
{
	struct fuse_server *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->fs = fs;
	s->o = *opts;
	pthread_mutex_init(&s->lock, NULL);
	pthread_mutex_init(&s->reset_lock, NULL);
	pthread_mutex_init(&s->raise.lock, NULL);
	/* numbers of open files differ from those of a server before us */
	while (s->first_gen == 0)
		if (getrandom(&s->first_gen, sizeof(s->first_gen), 0) < 0)
			s->first_gen = (uint32_t)time(NULL);
	s->raise.n = s->first_gen;
	if (s->o.resume) {
		s->flags = agree(s, UINT64_MAX);
		s->minor = FUSE_KERNEL_MINOR_VERSION;
	}
	*ret = s;
	return 0;
}

/*
 * The other threads' requests wait while all is forgotten. A peer does not begin anew with requests under way, but a hostile one
 * may try.
 */
enum { RESETTING = 1u << 31 };

static void enter(struct fuse_server *s)
{
	uint32_t n = s->under_way;

	for (;;) {
		if (n & RESETTING) {
			pthread_mutex_lock(&s->reset_lock);
			pthread_mutex_unlock(&s->reset_lock);
			n = s->under_way;
		} else if (atomic_compare_exchange_weak(&s->under_way, &n, n + 1)) {
			return;
		}
	}
}

/* From within a request, if it is the only one. */
static void reset_if_alone(struct fuse_server *s)
{
	uint32_t alone = 1;

	pthread_mutex_lock(&s->reset_lock);
	if (atomic_compare_exchange_strong(&s->under_way, &alone, 1 | RESETTING)) {
		fuse_server_reset(s);
		s->under_way &= ~(uint32_t)RESETTING;
	}
	pthread_mutex_unlock(&s->reset_lock);
}

void fuse_server_reset(struct fuse_server *s)
{
	files_close_all(s);
	raise_reset(s);
	s->fs->ops->forget_all(s->fs);
	s->minor = 0;
	s->flags = 0;
}

void fuse_server_set_window(struct fuse_server *s, const struct fuse_window_ops *ops, void *ctx)
{
	s->window = ops;
	s->window_ctx = ctx;
}

void fuse_server_free(struct fuse_server *s)
{
	fuse_server_reset(s);
	pthread_mutex_destroy(&s->lock);
	pthread_mutex_destroy(&s->reset_lock);
	pthread_mutex_destroy(&s->raise.lock);
	free(s);
}

/* --- replies --- */

ssize_t reply_header(struct req *r, int error, size_t body)
{
	const struct fuse_out_header h = {
		.len = (uint32_t)(sizeof(h) + body), .error = error, .unique = r->h.unique};

	if (h.len > r->out_size)
		return -EIO;
	iov_from_buf(r->out, r->n_out, 0, &h, sizeof(h));
	return (ssize_t)h.len;
}

ssize_t reply(struct req *r, const void *body, size_t len)
{
	if (sizeof(struct fuse_out_header) + len > r->out_size)
		return -EIO;
	iov_from_buf(r->out, r->n_out, sizeof(struct fuse_out_header), body, len);
	return reply_header(r, 0, len);
}

void fill_time(uint32_t ms, uint64_t *sec, uint32_t *nsec)
{
	*sec = ms / 1000;
	*nsec = ms % 1000 * 1000000;
}

/* The kernel's own 32 bits, as new_encode_dev() has them. */
static uint32_t encode_dev(uint64_t dev)
{
	uint32_t maj = (uint32_t)(dev >> 8 & 0xfff),
		 min = (uint32_t)((dev & 0xff) | (dev >> 12 & 0xfff00));

	return (min & 0xff) | maj << 8 | (min & ~0xffu) << 12;
}

bool server_maps(const struct fuse_server *s)
{
	return s->flags & FUSE_HAS_INODE_DAX && s->window && s->window->works(s->window_ctx);
}

static uint32_t attr_flags(const struct req *r, const struct fs_attr *a)
{
	uint32_t flags = 0;

	if (a->flags & FS_ATTR_SUBMOUNT && r->s->flags & FUSE_SUBMOUNTS)
		flags |= FUSE_ATTR_SUBMOUNT;
	if (a->flags & FS_ATTR_MAP && server_maps(r->s))
		flags |= FUSE_ATTR_DAX;
	return flags;
}

void fill_attr(const struct req *r, const struct fs_attr *a, struct fuse_attr *ret)
{
	*ret = (struct fuse_attr){
		.ino = a->ino,
		.size = a->size,
		.blocks = a->blocks,
		.atime = (uint64_t)a->atime.tv_sec,
		.mtime = (uint64_t)a->mtime.tv_sec,
		.ctime = (uint64_t)a->ctime.tv_sec,
		.atimensec = (uint32_t)a->atime.tv_nsec,
		.mtimensec = (uint32_t)a->mtime.tv_nsec,
		.ctimensec = (uint32_t)a->ctime.tv_nsec,
		.mode = a->mode,
		.nlink = a->nlink,
		.uid = a->uid,
		.gid = a->gid,
		.rdev = encode_dev(a->rdev),
		.blksize = a->blksize,
		.flags = attr_flags(r, a),
	};
}

void fill_entry(const struct req *r, const struct fs_entry *e, struct fuse_entry_out *ret)
{
	*ret = (struct fuse_entry_out){.nodeid = r->s->fs->ops->id(e->node)};
	fill_time(r->s->o.entry_ms, &ret->entry_valid, &ret->entry_valid_nsec);
	fill_time(r->s->o.attr_ms, &ret->attr_valid, &ret->attr_valid_nsec);
	fill_attr(r, &e->attr, &ret->attr);
}

const char *string_at(const struct req *r, size_t *off)
{
	const char *p = (const char *)r->arg + *off;
	size_t n;

	if (*off >= r->len)
		return NULL;
	n = strnlen(p, r->len - *off);
	if (n == r->len - *off)
		return NULL;
	*off += n + 1;
	return p;
}

/* --- FUSE_INIT --- */

static ssize_t init(struct req *r)
{
	struct fuse_server *s = r->s;
	struct fuse_init_in in = {0};
	struct fuse_init_out out = {
		.major = FUSE_KERNEL_VERSION,
		.minor = FUSE_KERNEL_MINOR_VERSION,
		.max_background = BACKGROUND,
		.congestion_threshold = BACKGROUND * 3 / 4,
		.max_write = MAX_PAGES * 4096,
		.time_gran = 1,
		.max_pages = MAX_PAGES,
	};
	uint64_t offered, agreed;

	if (r->len < offsetof(struct fuse_init_in, flags2))
		return -EINVAL;
	memcpy(&in, r->arg, MIN(r->len, sizeof(in)));
	if (in.major > FUSE_KERNEL_VERSION) /* it says again, in our version */
		return reply(r, &out, FUSE_COMPAT_INIT_OUT_SIZE);
	if (in.major < FUSE_KERNEL_VERSION || in.minor < MIN_MINOR)
		return -EPROTO;
	offered = in.flags;
	if (in.flags & FUSE_INIT_EXT && r->len >= sizeof(in))
		offered |= (uint64_t)in.flags2 << 32;
	/* a second one is a new mount, whose kernel knows nothing of what was before */
	reset_if_alone(s);
	agreed = agree(s, offered);
	if (!s->window || !s->window->works(s->window_ctx))
		agreed &= ~(uint64_t)(FUSE_MAP_ALIGNMENT | FUSE_HAS_INODE_DAX);
	if (agreed & FUSE_MAP_ALIGNMENT)
		out.map_alignment = MAP_SHIFT;
	out.minor = MIN(in.minor, out.minor);
	out.max_readahead = in.max_readahead;
	out.flags = (uint32_t)agreed;
	out.flags2 = (uint32_t)(agreed >> 32);
	if (!(agreed & FUSE_MAX_PAGES))
		out.max_write = 32 * 4096;
	s->flags = agreed;
	s->minor = out.minor;
	return reply(r, &out, sizeof(out));
}

/* An unmount. */
static ssize_t destroy(struct req *r)
{
	r->s->minor = 0;
	return reply_header(r, 0, 0);
}

/* --- the table --- */

static const struct {
	handler fn;
	bool node;  /* on a node that has to be there */
	bool waits; /* for a disk, likely */
} ops[] = {
	[FUSE_LOOKUP] = {fuse_lookup, true},
	[FUSE_FORGET] = {fuse_forget},
	[FUSE_BATCH_FORGET] = {fuse_batch_forget},
	[FUSE_GETATTR] = {fuse_getattr, true},
	[FUSE_SETATTR] = {fuse_setattr, true},
	[FUSE_READLINK] = {fuse_readlink, true},
	[FUSE_SYMLINK] = {fuse_symlink, true},
	[FUSE_MKNOD] = {fuse_mknod, true},
	[FUSE_MKDIR] = {fuse_mkdir, true},
	[FUSE_UNLINK] = {fuse_unlink, true},
	[FUSE_RMDIR] = {fuse_rmdir, true},
	[FUSE_RENAME] = {fuse_rename, true},
	[FUSE_RENAME2] = {fuse_rename2, true},
	[FUSE_LINK] = {fuse_link, true},
	[FUSE_ACCESS] = {fuse_access, true},
	[FUSE_OPEN] = {fuse_open, true},
	[FUSE_CREATE] = {fuse_create, true},
	[FUSE_TMPFILE] = {fuse_tmpfile, true},
	[FUSE_READ] = {fuse_read},
	[FUSE_WRITE] = {fuse_write},
	[FUSE_RELEASE] = {fuse_release},
	[FUSE_FLUSH] = {fuse_flush},
	[FUSE_FSYNC] = {fuse_fsync, .waits = true},
	[FUSE_OPENDIR] = {fuse_opendir, true},
	[FUSE_READDIR] = {fuse_readdir},
	[FUSE_READDIRPLUS] = {fuse_readdirplus},
	[FUSE_RELEASEDIR] = {fuse_releasedir},
	[FUSE_FSYNCDIR] = {fuse_fsyncdir, .waits = true},
	[FUSE_STATFS] = {fuse_statfs, true},
	[FUSE_SYNCFS] = {fuse_syncfs, true, .waits = true},
	[FUSE_SETXATTR] = {fuse_setxattr, true},
	[FUSE_GETXATTR] = {fuse_getxattr, true},
	[FUSE_LISTXATTR] = {fuse_listxattr, true},
	[FUSE_REMOVEXATTR] = {fuse_removexattr, true},
	[FUSE_FALLOCATE] = {fuse_fallocate},
	[FUSE_LSEEK] = {fuse_lseek},
	[FUSE_COPY_FILE_RANGE] = {fuse_copy_range},
	[FUSE_SETUPMAPPING] = {fuse_setupmapping, true},
	[FUSE_REMOVEMAPPING] = {fuse_removemapping},
	[FUSE_INIT] = {init},
	[FUSE_DESTROY] = {destroy},
};

static ssize_t dispatch(struct req *r)
{
	struct fuse_server *s = r->s;
	const uint32_t op = r->h.opcode;
	bool touches;
	ssize_t n;

	if (op == FUSE_INTERRUPT) /* everything ends soon by itself */
		return NO_REPLY;
	if (op >= ARRAY_LEN(ops) || !ops[op].fn)
		return -ENOSYS;
	if (!s->minor && op != FUSE_INIT)
		return op == FUSE_FORGET || op == FUSE_BATCH_FORGET ? NO_REPLY : -EIO;
	if (r->no_wait && ops[op].waits)
		return AGAIN;
	if (s->raise.pid && raise_request(r, &n))
		return n;
	if (ops[op].node) {
		r->node = s->fs->ops->get(s->fs, r->h.nodeid);
		if (!r->node)
			return -ESTALE;
	}
	touches = s->raise.watching && touch_begin(r);
	n = ops[op].fn(r);
	if (touches)
		s->fs->ops->touched(s->fs, n >= 0);
	if (r->node)
		s->fs->ops->put(s->fs, r->node);
	return n;
}

ssize_t fuse_server_handle(struct fuse_server *s, const struct iovec *in, unsigned n_in,
	const struct iovec *out, unsigned n_out, uint32_t flags)
{
	static _Thread_local uint8_t copy[MAX_ARGS] ALIGNED(8);
	struct req r = {
		.s = s,
		.in = in,
		.n_in = n_in,
		.out = out,
		.n_out = n_out,
		.in_size = iov_size(in, n_in),
		.out_size = iov_size(out, n_out),
		.no_wait = flags & FUSE_HANDLE_NO_WAIT,
		.no_park = flags & FUSE_HANDLE_NO_PARK,
		.arg = copy,
	};
	size_t want;
	ssize_t n;

	if (iov_to_buf(in, n_in, 0, &r.h, sizeof(r.h)) != sizeof(r.h))
		return 0;
	enter(s);
	/* the length in the header is what counts; the buffers may be longer */
	if (r.h.len < sizeof(r.h) || r.h.len > r.in_size) {
		n = -EINVAL;
	} else {
		r.in_size = r.h.len;
		want = r.h.len - sizeof(r.h);
		if (r.h.opcode == FUSE_WRITE)
			want = MIN(want, sizeof(struct fuse_write_in));
		r.cred.uid = r.h.uid;
		r.cred.gid = r.h.gid;
		r.len = want;
		if (want > sizeof(copy))
			n = -E2BIG;
		else if (iov_to_buf(in, n_in, sizeof(r.h), copy, want) != want)
			n = -EINVAL;
		else
			n = dispatch(&r);
	}
	s->under_way--;
	if (n == AGAIN)
		return -EAGAIN;
	if (n == LATER)
		return -EBUSY;
	if (n < 0)
		n = reply_header(&r, (int)n, 0);
	return MAX(n, 0);
}
