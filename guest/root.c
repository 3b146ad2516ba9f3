/* SPDX-License-Identifier: MIT */
#include "guest/root.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "lib/base/cleanup.h"
#include "lib/base/io.h"

int root_open(int root, const char *path, int flags)
{
	struct open_how how = {.flags = (uint64_t)flags | O_CLOEXEC,
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
	long fd = syscall(SYS_openat2, root, path, &how, sizeof(how));

	return fd < 0 ? -errno : (int)fd;
}

bool root_exists(int root, const char *path)
{
	cleanup_close int fd = root_open(root, path, O_PATH);

	return fd >= 0;
}

/* What is left to read of a regular file. */
static int slurp(int fd, size_t max, char **ret, size_t *ret_len)
{
	cleanup_free char *text = NULL;
	struct stat st;
	int r;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	if ((uint64_t)st.st_size > max)
		return -EFBIG;
	text = malloc((size_t)st.st_size + 1);
	if (!text)
		return -ENOMEM;
	r = io_read_full(fd, text, (size_t)st.st_size);
	if (r < 0)
		return r;
	text[st.st_size] = '\0';
	*ret = take_ptr(text);
	*ret_len = (size_t)st.st_size;
	return 0;
}

int root_read(int root, const char *path, size_t max, char **ret, size_t *ret_len)
{
	/* A FIFO does not hold us up. */
	cleanup_close int fd = root_open(root, path, O_RDONLY | O_NONBLOCK | O_NOCTTY);

	return fd < 0 ? fd : slurp(fd, max, ret, ret_len);
}

static int open_dir(int root, const char *dir)
{
	int fd = root_open(root, dir, O_RDONLY | O_DIRECTORY);

	if (fd != -ENOENT)
		return fd;
	if (mkdirat(root, dir, 0755) < 0)
		return -errno;
	fchmodat(root, dir, 0755, 0);
	return root_open(root, dir, O_RDONLY | O_DIRECTORY);
}

static bool holds(int dir, const char *name, const void *data, size_t len)
{
	cleanup_close int fd =
		openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	cleanup_free char *text = NULL;
	size_t have;

	return fd >= 0 && slurp(fd, len, &text, &have) == 0 && have == len &&
	       !memcmp(text, data, len);
}

/* Puts what is in tmp in the place of name. */
static int settle(int dir, const char *tmp, const char *name)
{
	int r = renameat(dir, tmp, dir, name) < 0 ? -errno : 0;

	if (r < 0)
		unlinkat(dir, tmp, 0);
	return r;
}

int root_replace(
	int root, const char *dir, const char *name, const void *data, size_t len, mode_t mode)
{
	cleanup_close int d = open_dir(root, dir), fd = -EBADF;
	char tmp[NAME_MAX + 1];
	int r;

	if (d < 0)
		return d;
	if (holds(d, name, data, len))
		return 1;
	snprintf(tmp, sizeof(tmp), ".%s.wslx", name);
	if (unlinkat(d, tmp, 0) < 0 && errno != ENOENT)
		return -errno;
	fd = openat(d, tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	r = io_write_full(fd, data, len);
	if (r == 0 && fchmod(fd, mode) < 0)
		r = -errno;
	if (r < 0) {
		unlinkat(d, tmp, 0);
		return r;
	}
	return settle(d, tmp, name);
}

int root_replace_link(int root, const char *dir, const char *name, const char *target)
{
	cleanup_close int d = open_dir(root, dir);
	char tmp[NAME_MAX + 1], old[PATH_MAX];
	ssize_t n;

	if (d < 0)
		return d;
	n = readlinkat(d, name, old, sizeof(old));
	if (n >= 0 && (size_t)n == strlen(target) && !memcmp(old, target, (size_t)n))
		return 1;
	snprintf(tmp, sizeof(tmp), ".%s.wslx", name);
	if (unlinkat(d, tmp, 0) < 0 && errno != ENOENT)
		return -errno;
	if (symlinkat(target, d, tmp) < 0)
		return -errno;
	return settle(d, tmp, name);
}
