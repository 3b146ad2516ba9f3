/* SPDX-License-Identifier: MIT */
/* Whole reads and writes, descriptor passing, small file helpers. */
#ifndef WSLX_BASE_IO_H
#define WSLX_BASE_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "lib/base/attr.h"
#include "lib/base/iov.h"

/* Reads or writes all of len on a blocking descriptor. 0, or a negative errno; end of file early is
 * -EPIPE. */
int io_read_full(int fd, void *buf, size_t len) MUST_CHECK;
int io_write_full(int fd, const void *buf, size_t len) MUST_CHECK;
/* Reads at off as much of len as there is before the end of the file. How much, or a negative errno. */
ssize_t io_pread(int fd, void *buf, size_t len, off_t off) MUST_CHECK;

/* Whole file into malloc'ed memory, with a NUL behind it; -EFBIG beyond max. */
int io_read_file(const char *path, size_t max, char **ret, size_t *ret_len);
/* Replaces the file so that it holds old or new content whatever happens: temporary file, fsync,
 * rename, fsync of the folder. */
int io_replace_file(const char *path, const void *data, size_t len, mode_t mode);
/* mkdir -p with this mode for new folders. */
int io_mkdir_p(const char *path, mode_t mode);

int io_set_nonblock(int fd, bool on);

/* Unix sockets. Paths longer than sun_path are reached through /proc/self/fd of their folder. */
int io_unix_connect(const char *path);
int io_unix_listen(const char *path, int backlog); /* replaces a stale socket file; mode 0600 */

enum { IO_MAX_FDS = 8 };
/* One message with descriptors (SCM_RIGHTS); returns bytes sent/received or a negative errno.
 * Received ones are CLOEXEC. */
ssize_t io_send_fds(int sock, const void *buf, size_t len, const int *fds, unsigned nfds);
ssize_t io_recv_fds(int sock, void *buf, size_t len, int *fds, unsigned *nfds);

#endif
