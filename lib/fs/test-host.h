/* SPDX-License-Identifier: MIT */
/* A share with a canary beside it, for the host back end's tests. A test program includes it once. */
#ifndef WSLX_FS_TEST_HOST_H
#define WSLX_FS_TEST_HOST_H

#include <fcntl.h>
#include <sys/stat.h>
#include "lib/base/test.h"
#include "lib/fs/host-internal.h"

static char top[64];
static int out = -1, in = -1; /* the canary's folder, and the share in it */
static struct fs *fs;
static const struct fs_cred cred;

static inline void put(int dir, const char *name, const char *text)
{
	int fd = openat(dir, name, O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0600);

	CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close(fd);
}

static inline void set_up(const struct fs_share_opts *opts)
{
	strcpy(top, "/tmp/wslx-fs.XXXXXX");
	if (!mkdtemp(top))
		abort();
	out = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	put(out, "canary", "secret");
	mkdirat(out, "share", 0755);
	in = openat(out, "share", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (in < 0 || fs_host_new(&fs, in, opts, NULL) < 0)
		abort();
}

static inline void tear_down(void)
{
	char cmd[96];

	fs->ops->free(fs);
	close(in);
	close(out);
	snprintf(cmd, sizeof(cmd), "rm -rf %s", top);
	CHECK_EQ(system(cmd), 0);
}

static inline int lookup(struct fs_node *dir, const char *name, struct fs_entry *e)
{
	return fs->ops->lookup(fs, &cred, dir, name, e);
}

/* 0 and the file's text, or an error. */
static inline int text_of(struct fs_node *n, char *buf, size_t cap)
{
	struct fs_handle *h;
	int r = fs->ops->open(fs, &cred, n, O_RDONLY, &h);
	struct iovec iov = {buf, cap - 1};
	ssize_t len;

	if (r < 0)
		return r;
	len = fs->ops->read(fs, h, &iov, 1, 0, 0);
	fs->ops->close(fs, h);
	buf[MAX(len, 0)] = '\0';
	return len < 0 ? (int)len : 0;
}

#endif
