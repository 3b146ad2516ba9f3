/* SPDX-License-Identifier: MIT */
#include "lib/image/source.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "lib/base/attr.h"
#include "lib/base/io.h"

enum { CHUNK = 1 << 18, HEAD = 4 * CHUNK };

int source_init(struct source *s, int fd, int spool, struct err *e)
{
	struct stat st;

	*s = (struct source){.fd = fd, .spool = spool};
	if (fstat(fd, &st) < 0)
		return err_sys(e, -errno, "read the archive");
	s->start = lseek(fd, 0, SEEK_CUR);
	s->is_file = S_ISREG(st.st_mode) && s->start >= 0;
	if (s->is_file)
		s->size = (uint64_t)MAX(st.st_size - s->start, 0);
	else if (!(s->head = malloc(HEAD)) || !(s->chunk = malloc(CHUNK)))
		return err_sys(e, -ENOMEM, "read the archive");
	return 0;
}

void source_done(struct source *s)
{
	free(s->head);
	free(s->chunk);
}

static ssize_t read_some(int fd, void *buf, size_t len)
{
	ssize_t n;

	do
		n = read(fd, buf, len);
	while (n < 0 && errno == EINTR);
	return n;
}

static la_ssize_t on_read(struct archive *a, void *ctx, const void **buf)
{
	struct source *s = ctx;
	ssize_t n = read_some(s->fd, s->chunk, CHUNK);

	if (n < 0)
		archive_set_error(a, errno, "read");
	if (n > 0 && s->head && s->len + (size_t)n <= HEAD) {
		memcpy(s->head + s->len, s->chunk, (size_t)n);
		s->len += (size_t)n;
	} else if (n > 0) {
		free(s->head);
		s->head = NULL;
	}
	*buf = s->chunk;
	return n;
}

int source_open(struct source *s, struct archive *a)
{
	if (s->is_file)
		return archive_read_open_fd(a, s->fd, CHUNK);
	return archive_read_open(a, s, NULL, on_read, NULL);
}

int source_rewind(struct source *s, struct err *e)
{
	int r;

	if (s->is_file)
		return lseek(s->fd, s->start, SEEK_SET) < 0
			       ? err_sys(e, -errno, "read the archive again")
			       : 0;
	if (s->spool < 0 || !s->head)
		return err_set(e, -ESPIPE,
			"an archive of container image layers cannot be read from a pipe here; save it to a file first");
	r = io_write_full(s->spool, s->head, s->len);
	for (ssize_t n; r == 0 && (n = read_some(s->fd, s->chunk, CHUNK)) != 0;)
		r = n < 0 ? -errno : io_write_full(s->spool, s->chunk, (size_t)n);
	if (r < 0)
		return err_sys(e, r, "keep the archive for a while");
	s->fd = s->spool;
	s->start = 0;
	s->is_file = true;
	s->size = (uint64_t)lseek(s->fd, 0, SEEK_END);
	return source_rewind(s, e);
}

void source_formats(struct archive *a)
{
	archive_read_support_filter_gzip(a);
	archive_read_support_filter_bzip2(a);
	archive_read_support_filter_xz(a);
	archive_read_support_filter_lzma(a);
	archive_read_support_filter_lzip(a);
	archive_read_support_filter_zstd(a);
	archive_read_support_filter_lz4(a);
	archive_read_support_filter_compress(a);
	archive_read_support_format_tar(a);
}
