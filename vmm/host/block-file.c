/* SPDX-License-Identifier: MIT */
/*
 * Host file as a block back end. Reads and writes are made right where they are asked for: with the data in the page
 * cache this costs less than waking another thread. What can take milliseconds goes to the worker.
 *
 * Locks: blk_file.lock guards the two request lists and the idle flag; it is never held over a system call on the
 * file.
 */
#include "vmm/host/block-file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include "lib/base/checked.h"
#include "lib/base/cleanup.h"
#include "lib/os/notifier.h"
#include "lib/os/thread.h"

enum { PIECES = 64, ZERO_CHUNK = 65536 };

struct blk_file {
	struct blk blk;
	int fd;		       /* owned */
	_Atomic uint64_t size; /* blk.geo.size for other threads than the loop's */
	_Atomic int
		broken; /* the error of the flush after which nothing can be promised any more */
	bool can_punch, can_zero_range; /* worker only, once it runs */

	struct os_thread *worker; /* started by the first request for it */
	struct os_event wake;	  /* the worker has something to do */
	struct os_event idle;	  /* the worker has nothing to do */
	struct os_notifier *finished;
	struct os_mutex lock;
	struct blk_req *todo, **todo_tail;
	struct blk_req *done, **done_tail;
	bool working, quit;
};

static struct blk_file *to_file(struct blk *b)
{
	return container_of(b, struct blk_file, blk);
}

/* What the interface promises of errors (blk.h). */
static int error_of(int e)
{
	switch (e) {
	case EFBIG:
	case EDQUOT:
	case ENOSPC: return -ENOSPC;
	case EPERM:
	case EBADF:
	case EROFS: return -EROFS;
	case EOPNOTSUPP: return -EOPNOTSUPP;
	default: return -EIO;
	}
}

/* The pieces of [skip, len) of the request's vector, as many as fit in dst. */
static unsigned pieces(const struct blk_req *r, uint64_t skip, struct iovec *dst)
{
	uint64_t left = r->len - skip;
	unsigned n = 0;

	for (unsigned i = 0; i < r->iovcnt && n < PIECES && left; i++) {
		size_t len = r->iov[i].iov_len;

		if (skip >= len) {
			skip -= len;
			continue;
		}
		dst[n].iov_base = (uint8_t *)r->iov[i].iov_base + skip;
		dst[n].iov_len = MIN(len - skip, left);
		left -= dst[n++].iov_len;
		skip = 0;
	}
	return n;
}

static int transfer(struct blk_file *f, const struct blk_req *r)
{
	struct iovec iov[PIECES];
	uint64_t done = 0;

	while (done < r->len) {
		unsigned n = pieces(r, done, iov);
		ssize_t k;

		if (!n)
			return -EINVAL; /* the vector is shorter than the request */
		k = r->op == BLK_READ ? preadv(f->fd, iov, n, r->off + done)
				      : pwritev(f->fd, iov, n, r->off + done);
		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0) /* 0: the file has been cut under us */
			return k ? error_of(errno) : -EIO;
		done += k;
	}
	return 0;
}

static int write_zeroes(struct blk_file *f, uint64_t off, uint64_t len)
{
	static const uint8_t zeroes[ZERO_CHUNK];

	while (len) {
		ssize_t k = pwrite(f->fd, zeroes, MIN(len, sizeof(zeroes)), off);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return error_of(errno);
		off += k;
		len -= k;
	}
	return 0;
}

/* Zeroes by the cheapest means the file system has; each is tried until it says that it has none. */
static int zero(struct blk_file *f, uint64_t off, uint64_t len, bool may_unmap)
{
	if (may_unmap && f->can_punch) {
		if (fallocate(f->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, len) == 0)
			return 0;
		if (errno != EOPNOTSUPP)
			return error_of(errno);
		f->can_punch = false;
	}
	if (f->can_zero_range) {
		if (fallocate(f->fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, off, len) == 0)
			return 0;
		if (errno != EOPNOTSUPP)
			return error_of(errno);
		f->can_zero_range = false;
	}
	return write_zeroes(f, off, len);
}

/*
 * After a failed fdatasync() the kernel has dropped the pages it could not write and reports success the next time; only
 * by refusing everything from here on does the guest not build on data that is gone.
 */
static int flush(struct blk_file *f)
{
	if (f->broken)
		return f->broken;
	if (f->blk.geo.readonly || fdatasync(f->fd) == 0)
		return 0;
	f->broken = error_of(errno);
	return f->broken;
}

static int work(struct blk_file *f, const struct blk_req *r)
{
	switch (r->op) {
	case BLK_FLUSH: return flush(f);
	case BLK_DISCARD: return zero(f, r->off, r->len, /* may_unmap= */ true);
	default: return zero(f, r->off, r->len, r->may_unmap);
	}
}

/* Works off a list; flushes next to each other in it are one, since all were asked for before it starts. */
static void work_off(struct blk_file *f, struct blk_req *list)
{
	int res = 0;

	for (struct blk_req *r = list, *before = NULL; r; before = r, r = r->next) {
		if (!before || r->op != BLK_FLUSH || before->op != BLK_FLUSH)
			res = work(f, r);
		r->res = res;
	}
}

static void worker(void *ctx)
{
	struct blk_file *f = ctx;

	os_mutex_lock(&f->lock);
	for (;;) {
		struct blk_req *list = f->todo, **tail = f->todo_tail;

		if (!list) {
			f->working = false;
			os_event_set(&f->idle);
			if (f->quit)
				break;
			os_mutex_unlock(&f->lock);
			os_event_wait(&f->wake, UINT64_MAX);
			os_mutex_lock(&f->lock);
			continue;
		}
		f->todo = NULL;
		f->todo_tail = &f->todo;
		os_mutex_unlock(&f->lock);
		work_off(f, list);
		os_mutex_lock(&f->lock);
		*f->done_tail = list;
		f->done_tail = tail;
		os_notifier_signal(f->finished);
	}
	os_mutex_unlock(&f->lock);
}

/* Loop's thread: completes what the worker has finished. */
static void reap(void *ctx)
{
	struct blk_file *f = ctx;
	struct blk_req *r, *next;

	os_mutex_lock(&f->lock);
	r = f->done;
	f->done = NULL;
	f->done_tail = &f->done;
	os_mutex_unlock(&f->lock);
	for (; r; r = next) {
		next = r->next;
		r->done(r, r->res);
	}
}

static int file_submit(struct blk *b, struct blk_req *r)
{
	struct blk_file *f = to_file(b);
	bool write = r->op == BLK_WRITE || r->op == BLK_DISCARD || r->op == BLK_ZERO;

	if (r->op != BLK_FLUSH && !range_ok(r->off, r->len, f->size))
		return -EINVAL;
	if (write && b->geo.readonly)
		return -EROFS;
	if (write && f->broken)
		return f->broken;
	if (r->op == BLK_READ || r->op == BLK_WRITE)
		return transfer(f, r);
	if (r->op != BLK_FLUSH && !r->len)
		return 0;
	r->next = NULL;
	OS_GUARD(&f->lock);
	if (!f->worker && os_thread_start(&f->worker, "disk", worker, f) < 0)
		return -EIO;
	*f->todo_tail = r;
	f->todo_tail = &r->next;
	if (!f->working) {
		f->working = true;
		os_event_set(&f->wake);
	}
	return BLK_PENDING;
}

static void file_drain(struct blk *b)
{
	struct blk_file *f = to_file(b);

	for (;;) {
		bool working, done;

		os_mutex_lock(&f->lock);
		working = f->working;
		done = f->done != NULL;
		os_mutex_unlock(&f->lock);
		if (done)
			reap(f);
		else if (working)
			os_event_wait(&f->idle, UINT64_MAX);
		else
			break;
	}
}

static void file_free(struct blk *b)
{
	struct blk_file *f = to_file(b);

	if (f->worker) {
		os_mutex_lock(&f->lock);
		f->quit = true;
		os_mutex_unlock(&f->lock);
		os_event_set(&f->wake);
		os_thread_join(f->worker);
	}
	os_notifier_free(f->finished);
	os_event_done(&f->wake);
	os_event_done(&f->idle);
	os_mutex_done(&f->lock);
	if (f->fd >= 0)
		close(f->fd);
	free(f);
}

static const struct blk_ops file_ops = {
	.name = "file",
	.submit = file_submit,
	.drain = file_drain,
	.free = file_free,
};

static int size_of(int fd, const struct stat *st, uint64_t *ret)
{
	*ret = st->st_size;
	if (S_ISBLK(st->st_mode) && ioctl(fd, BLKGETSIZE64, ret) < 0)
		return -errno;
	return 0;
}

/* Opens or checks the descriptor, locks it, finds out what the file can do. */
static int set_up(struct blk_file *f, const struct blk_file_config *cfg, struct err *e)
{
	struct blk_geometry *g = &f->blk.geo;
	const char *name = cfg->path ? cfg->path : "(passed disk)";
	struct stat st;
	uint64_t size;
	int r;

	if (f->fd < 0)
		f->fd = open(cfg->path,
			(cfg->readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (f->fd < 0)
		return err_sys(e, -errno, "open disk %s", name);
	r = fcntl(f->fd, F_GETFL);
	if (r < 0 || fstat(f->fd, &st) < 0)
		return err_sys(e, -errno, "disk %s", name);
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return err_set(e, -EINVAL, "disk %s: neither a file nor a block device", name);
	if (r & (O_APPEND | O_PATH) || (r & O_ACCMODE) == O_WRONLY ||
		(!cfg->readonly && (r & O_ACCMODE) != O_RDWR))
		return err_set(e, -EINVAL, "disk %s: not open for reading and writing", name);
	if (flock(f->fd, (cfg->readonly ? LOCK_SH : LOCK_EX) | LOCK_NB) < 0)
		return errno == EWOULDBLOCK
			       ? err_set(e, -EBUSY, "disk %s is in use by another virtual machine",
					 name)
			       : err_sys(e, -errno, "lock disk %s", name);
	r = size_of(f->fd, &st, &size);
	if (r < 0)
		return err_sys(e, r, "size of disk %s", name);
	g->block_size = cfg->block_size ? cfg->block_size : 512;
	if (size < g->block_size || size > INT64_MAX)
		return err_set(e, -EINVAL, "disk %s is too small: %llu bytes", name,
			(unsigned long long)size);
	g->size = size;
	f->size = size;
	g->phys_block_size = 4096;
	g->readonly = cfg->readonly;
	g->write_cache = true;
	/* Behind the end there is nothing to lose: this only asks whether the file system knows how. */
	f->can_punch = !cfg->readonly && S_ISREG(st.st_mode) &&
		       fallocate(f->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			       ALIGN_UP(size, 65536ull), 65536) == 0;
	f->can_zero_range = !cfg->readonly;
	g->discard = g->discard_zeroes = f->can_punch;
	return 0;
}

int blk_file_open(struct blk **ret, const struct blk_file_config *cfg, struct err *e)
{
	struct blk_file *f = calloc(1, sizeof(*f));
	int r;

	if (!f) {
		if (cfg->fd >= 0)
			close(cfg->fd);
		return err_sys(e, -ENOMEM, "disk");
	}
	f->blk.ops = &file_ops;
	f->fd = cfg->fd;
	f->todo_tail = &f->todo;
	f->done_tail = &f->done;
	os_mutex_init(&f->lock);
	os_event_init(&f->wake);
	os_event_init(&f->idle);
	r = set_up(f, cfg, e);
	if (r == 0) {
		r = os_notifier_new(&f->finished);
		if (r == 0)
			r = os_notifier_watch(f->finished, cfg->loop, reap, f);
		if (r < 0)
			err_sys(e, r, "disk %s", cfg->path ? cfg->path : "(passed disk)");
	}
	if (r < 0) {
		file_free(&f->blk);
		return r;
	}
	*ret = &f->blk;
	return 0;
}

int blk_file_refresh(struct blk *b)
{
	struct blk_file *f = to_file(b);
	struct stat st;
	uint64_t size;
	int r;

	if (fstat(f->fd, &st) < 0)
		return -errno;
	r = size_of(f->fd, &st, &size);
	if (r < 0)
		return r;
	if (size < b->geo.size || size > INT64_MAX)
		return -EINVAL;
	if (size == b->geo.size)
		return 0;
	b->geo.size = size;
	f->size = size;
	return 1;
}
