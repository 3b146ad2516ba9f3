/* SPDX-License-Identifier: MIT */
/*
 * An OCI image layout that is a folder becomes an archive, for the importer, which has no folders: its JSON files and
 * blobs, as they are. Nothing of them is understood here; links are not followed.
 */
#include "lib/image/image.h"

#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "lib/base/attr.h"
#include "lib/base/cleanup.h"
#include "lib/image/job.h"

struct pack {
	int dir, out;
	struct archive *a;
	struct archive_entry *entry;
	const struct job_report *to;
	struct image_progress progress;
	char buf[1 << 18];
};

static int failed(struct pack *p, const char *name, struct err *e)
{
	int code = archive_errno(p->a);

	return err_sys(e, code > 0 ? -code : -EIO, "pack %s", name);
}

static int pack_data(struct pack *p, int fd, const char *name, uint64_t left, struct err *e)
{
	while (left) {
		ssize_t n = read(fd, p->buf, MIN(left, sizeof(p->buf)));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_sys(e, n < 0 ? -errno : -EIO, "read %s", name);
		if (archive_write_data(p->a, p->buf, (size_t)n) != n)
			return failed(p, name, e);
		left -= (uint64_t)n;
		p->progress.read += (uint64_t)n;
		if (p->to->progress)
			p->to->progress(p->to->ctx, &p->progress);
	}
	return 0;
}

/* -ENOENT, -ELOOP and the like when there is no such file. */
static int pack_file(struct pack *p, const char *name, struct err *e)
{
	cleanup_close int fd = openat(p->dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_sys(e, -errno, "open %s", name);
	if (!S_ISREG(st.st_mode))
		return err_set(e, -EINVAL, "%s is not a file", name);
	archive_entry_clear(p->entry);
	archive_entry_set_pathname(p->entry, name);
	archive_entry_set_mode(p->entry, S_IFREG | 0644);
	archive_entry_set_size(p->entry, st.st_size);
	if (archive_write_header(p->a, p->entry) != ARCHIVE_OK)
		return failed(p, name, e);
	return pack_data(p, fd, name, (uint64_t)st.st_size, e);
}

static int pack_blobs(struct pack *p, struct err *e)
{
	static const char blobs[] = "blobs/sha256";
	int fd = openat(p->dir, blobs, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), r = 0;
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	char name[300];

	if (!d)
		return err_sys(e, -errno, "open %s", blobs);
	for (struct dirent *de; r == 0 && (de = readdir(d));) {
		snprintf(name, sizeof(name), "%s/%s", blobs, de->d_name);
		if (strspn(de->d_name, "0123456789abcdef") == 64 && !de->d_name[64])
			r = pack_file(p, name, e);
	}
	closedir(d);
	return r;
}

static int pack_all(struct pack *p, struct err *e)
{
	int r;

	if (!p->a || !p->entry)
		return err_sys(e, -ENOMEM, "pack the image");
	if (archive_write_set_format_pax_restricted(p->a) != ARCHIVE_OK ||
		archive_write_open_fd(p->a, p->out) != ARCHIVE_OK)
		return failed(p, "the image", e);
	r = pack_file(p, "oci-layout", e);
	if (r < 0)
		return err_wrap(e, -EINVAL, "not an OCI image layout");
	r = pack_file(p, "index.json", e);
	if (r == 0)
		r = pack_blobs(p, e);
	if (r == 0 && archive_write_close(p->a) != ARCHIVE_OK)
		r = failed(p, "the image", e);
	if (r == 0 && lseek(p->out, 0, SEEK_SET) < 0)
		r = err_sys(e, -errno, "pack the image");
	return r;
}

static int pack_fn(const void *opts, const struct job_report *to, struct err *e)
{
	const int *fds = opts;
	struct pack *p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return err_sys(e, -ENOMEM, "pack the image");
	p->dir = fds[0];
	p->out = fds[1];
	p->to = to;
	p->a = archive_write_new();
	p->entry = archive_entry_new();
	r = pack_all(p, e);
	if (r < 0 && p->a)
		archive_write_fail(p->a);
	archive_write_free(p->a);
	archive_entry_free(p->entry);
	free(p);
	return r;
}

int image_pack_start(struct image_job **ret, int dir_fd, int out_fd, struct err *e)
{
	const int fds[2] = {dir_fd, out_fd};
	const struct job_work w = {
		.who = "packer", .fds = {dir_fd, out_fd, -1}, .fn = pack_fn, .opts = fds};

	return job_start(ret, &w, e);
}
