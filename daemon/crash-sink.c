/* SPDX-License-Identifier: MIT */
/* The connections that bring dumps; see crash.h. */
#include "daemon/crash.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include "lib/base/io.h"
#include "lib/base/log.h"

enum {
	PARALLEL = 4,	 /* dumps at a time */
	PER_MINUTE = 30, /* and in a minute */
	SILENT_MS = 30000,
	HEADER_MAX = 4096,
	CHUNK = 64 << 10,
	READS = 8, /* before others have their turn */
};
#define MAX_SIZE    ((uint64_t)4 << 30) /* of one dump */
#define KEEP_FREE   ((uint64_t)1 << 30) /* of the folder's file system */
#define SPACE_EVERY ((uint64_t)64 << 20)
#define MINUTE_NS   60000000000ull

struct dump {
	struct crash_sink *sink;
	int conn, file; /* file < 0: the header is still to come */
	struct loop_src *src, *timer;
	struct crash_info info;
	uint64_t pos, checked;
	uint8_t header[HEADER_MAX];
	size_t len;
	char part[PATH_MAX];
};

struct crash_sink {
	struct loop *loop;
	struct crash_config cfg;
	int fd;
	struct loop_src *src;
	struct dump *dumps[PARALLEL];
	uint64_t minute; /* when it began */
	unsigned in_minute;
	uint8_t buf[CHUNK];
};

/* finish: what has come is the dump; else it goes. */
static void dump_end(struct dump *d, bool finish)
{
	struct crash_sink *s = d->sink;
	char name[160], path[PATH_MAX];
	int r;

	loop_src_free(d->src);
	loop_src_free(d->timer);
	close(d->conn);
	if (d->file >= 0) {
		crash_file_name(&d->info, name, sizeof(name));
		snprintf(path, sizeof(path), "%s/%s", s->cfg.folder, name);
		r = finish && d->pos && ftruncate(d->file, (off_t)d->pos) == 0 &&
				    renameat2(AT_FDCWD, d->part, AT_FDCWD, path,
					    RENAME_NOREPLACE) == 0
			    ? 0
			    : -1;
		if (r < 0)
			unlink(d->part);
		else
			log_info("crash", "%s of the guest was ended by signal %u; its dump is %s",
				d->info.program, d->info.signal, path);
		close(d->file);
		crash_rotate(s->cfg.folder, s->cfg.keep);
	}
	for (unsigned i = 0; i < PARALLEL; i++)
		if (s->dumps[i] == d)
			s->dumps[i] = NULL;
	free(d);
}

static void silent(void *ctx)
{
	dump_end(ctx, false);
}

static bool space_left(const char *folder)
{
	struct statvfs v;

	return statvfs(folder, &v) == 0 && (uint64_t)v.f_bavail * v.f_frsize > KEEP_FREE;
}

static int open_file(struct dump *d)
{
	const char *folder = d->sink->cfg.folder;
	char name[160];
	int r = io_mkdir_p(folder, 0700);

	if (r < 0)
		return r;
	if (!space_left(folder))
		return -ENOSPC;
	crash_file_name(&d->info, name, sizeof(name));
	if (snprintf(d->part, sizeof(d->part), "%s/%s.part", folder, name) >= (int)sizeof(d->part))
		return -ENAMETOOLONG;
	d->file = open(d->part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	return d->file < 0 ? -errno : 0;
}

/* More of the dump. Zeroes become holes. */
static int store(struct dump *d, const uint8_t *p, size_t n)
{
	if (d->pos + n > MAX_SIZE)
		return -EFBIG;
	if (d->pos - d->checked > SPACE_EVERY) {
		d->checked = d->pos;
		if (!space_left(d->sink->cfg.folder))
			return -ENOSPC;
	}
	if (n && (p[0] || memcmp(p, p + 1, n - 1) != 0))
		for (size_t done = 0; done < n;) {
			ssize_t w = pwrite(d->file, p + done, n - done, (off_t)(d->pos + done));

			if (w <= 0)
				return w < 0 ? -errno : -EIO;
			done += (size_t)w;
		}
	d->pos += n;
	return 0;
}

/* 1: the header is complete, and what came behind it stored. */
static int take_header(struct dump *d)
{
	struct wire_msg m;
	int size, r;

	if (d->len < 4)
		return 0;
	size = wire_size(d->header);
	if (size < 0 || size > HEADER_MAX)
		return -EBADMSG;
	if (d->len < (size_t)size)
		return 0;
	r = wire_parse(d->header, (size_t)size, &m);
	if (r == 0)
		r = crash_parse(&m, &d->info);
	if (r == 0)
		r = open_file(d);
	if (r == 0)
		r = store(d, d->header + size, d->len - (size_t)size);
	return r < 0 ? r : 1;
}

static void ready(void *ctx, int fd, uint32_t revents)
{
	struct dump *d = ctx;
	struct crash_sink *s = d->sink;
	int r = 0;

	loop_timer_arm(d->timer, loop_now() + SILENT_MS * 1000000ull);
	for (unsigned i = 0; r >= 0 && i < READS; i++) {
		bool head = d->file < 0;
		ssize_t n = head ? recv(fd, d->header + d->len, HEADER_MAX - d->len, MSG_DONTWAIT)
				 : recv(fd, s->buf, CHUNK, MSG_DONTWAIT);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n <= 0) {
			dump_end(d, n == 0);
			return;
		}
		if (head) {
			d->len += (size_t)n;
			r = take_header(d);
		} else {
			r = store(d, s->buf, (size_t)n);
		}
	}
	if (r >= 0)
		return;
	log_limited("crash", "a dump of the guest is %s: %s", d->pos ? "cut off" : "refused",
		strerror(-r));
	dump_end(d, r == -EFBIG || r == -ENOSPC);
}

static bool too_many(struct crash_sink *s)
{
	uint64_t now = loop_now();

	if (now - s->minute >= MINUTE_NS) {
		s->minute = now;
		s->in_minute = 0;
	}
	return s->in_minute++ >= PER_MINUTE;
}

static void incoming(void *ctx, int fd, uint32_t revents)
{
	struct crash_sink *s = ctx;
	cleanup_close int conn = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	unsigned i = 0;
	struct dump *d;

	if (conn < 0)
		return;
	while (i < PARALLEL && s->dumps[i])
		i++;
	if (i == PARALLEL || too_many(s)) {
		log_limited("crash", "the guest sends more dumps than are taken");
		return;
	}
	d = calloc(1, sizeof(*d));
	if (!d)
		abort();
	*d = (struct dump){.sink = s, .file = -1};
	if (loop_timer(s->loop, silent, d, &d->timer) < 0 ||
		loop_io(s->loop, conn, EPOLLIN, ready, d, &d->src) < 0) {
		loop_src_free(d->timer);
		free(d);
		return;
	}
	d->conn = take_fd(conn);
	s->dumps[i] = d;
	loop_timer_arm(d->timer, loop_now() + SILENT_MS * 1000000ull);
}

int crash_sink_new(
	struct loop *l, const char *path, const struct crash_config *cfg, struct crash_sink **ret)
{
	struct crash_sink *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->loop = l;
	s->cfg = *cfg;
	s->fd = io_unix_listen(path, PARALLEL);
	r = s->fd < 0 ? s->fd : io_set_nonblock(s->fd, true);
	if (r == 0)
		r = loop_io(l, s->fd, EPOLLIN, incoming, s, &s->src);
	if (r < 0) {
		if (s->fd >= 0)
			close(s->fd);
		free(s);
		return r;
	}
	*ret = s;
	return 0;
}

struct crash_sink *crash_sink_free(struct crash_sink *s)
{
	if (!s)
		return NULL;
	for (unsigned i = 0; i < PARALLEL; i++)
		if (s->dumps[i])
			dump_end(s->dumps[i], false);
	loop_src_free(s->src);
	close(s->fd);
	free(s);
	return NULL;
}
