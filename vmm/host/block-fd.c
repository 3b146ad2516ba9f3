/* SPDX-License-Identifier: MIT */
#include "vmm/host/block-fd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include "lib/base/attr.h"

enum { PIECES = 64, ZERO_CHUNK = 65536 };

int block_fd_error(int errnum)
{
	switch (errnum) {
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

const char *block_fd_name(const struct blk_file_config *cfg)
{
	return cfg->path ? cfg->path : "(passed disk)";
}

/* The pieces of [skip, end) of the request's vector, as many as fit in dst. */
static unsigned pieces(const struct blk_req *r, uint64_t skip, uint64_t end, struct iovec *dst)
{
	uint64_t left = end - skip;
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

int block_fd_transfer(
	struct block_fd *f, const struct blk_req *r, uint64_t skip, uint64_t len, uint64_t off)
{
	struct iovec iov[PIECES];
	uint64_t done = 0;

	while (done < len) {
		unsigned n = pieces(r, skip + done, skip + len, iov);
		ssize_t k;

		if (!n)
			return -EINVAL; /* the vector is shorter than the request */
		k = r->op == BLK_READ ? preadv(f->fd, iov, n, off + done)
				      : pwritev(f->fd, iov, n, off + done);
		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0) /* 0: the file has been cut under us */
			return k ? block_fd_error(errno) : -EIO;
		done += k;
	}
	return 0;
}

void block_fd_clear(const struct blk_req *r, uint64_t skip, uint64_t len)
{
	struct iovec iov[PIECES];
	uint64_t end = skip + len;
	unsigned n;

	while (skip < end && (n = pieces(r, skip, end, iov)) > 0)
		for (unsigned i = 0; i < n; i++) {
			memset(iov[i].iov_base, 0, iov[i].iov_len);
			skip += iov[i].iov_len;
		}
}

static int write_zeroes(struct block_fd *f, uint64_t off, uint64_t len)
{
	static const uint8_t zeroes[ZERO_CHUNK];

	while (len) {
		ssize_t k = pwrite(f->fd, zeroes, MIN(len, sizeof(zeroes)), off);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return block_fd_error(errno);
		off += k;
		len -= k;
	}
	return 0;
}

int block_fd_zero(struct block_fd *f, uint64_t off, uint64_t len, bool may_unmap)
{
	if (may_unmap && f->can_punch) {
		if (fallocate(f->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, len) == 0)
			return 0;
		if (errno != EOPNOTSUPP)
			return block_fd_error(errno);
		f->can_punch = false;
	}
	if (f->can_zero_range) {
		if (fallocate(f->fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, off, len) == 0)
			return 0;
		if (errno != EOPNOTSUPP)
			return block_fd_error(errno);
		f->can_zero_range = false;
	}
	return write_zeroes(f, off, len);
}

int block_fd_flush(struct block_fd *f)
{
	return f->readonly || fdatasync(f->fd) == 0 ? 0 : block_fd_error(errno);
}

int block_fd_size(const struct block_fd *f, uint64_t *ret)
{
	struct stat st;

	if (fstat(f->fd, &st) < 0)
		return -errno;
	*ret = st.st_size;
	if (S_ISBLK(st.st_mode) && ioctl(f->fd, BLKGETSIZE64, ret) < 0)
		return -errno;
	return 0;
}

int block_fd_open(
	struct block_fd *f, const struct blk_file_config *cfg, uint64_t *ret_size, struct err *e)
{
	const char *name = block_fd_name(cfg);
	struct stat st;
	int r;

	f->fd = cfg->fd;
	f->readonly = cfg->readonly;
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
	r = block_fd_size(f, ret_size);
	if (r < 0)
		return err_sys(e, r, "size of disk %s", name);
	if (*ret_size > INT64_MAX - (1 << 20))
		return err_set(e, -EINVAL, "disk %s is too large", name);
	/* Behind the end there is nothing to lose: this only asks whether the file system knows
	 * how. */
	f->can_punch = !cfg->readonly && S_ISREG(st.st_mode) &&
		       fallocate(f->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			       ALIGN_UP(*ret_size, 65536ull), 65536) == 0;
	f->can_zero_range = !cfg->readonly;
	return 0;
}

void block_fd_close(struct block_fd *f)
{
	if (f->fd >= 0)
		close(f->fd);
	f->fd = -1;
}
