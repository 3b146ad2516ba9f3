/* SPDX-License-Identifier: MIT */
#include "daemon/swap.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include "lib/base/cleanup.h"

enum { PAGE = 4096, MIN_SIZE = 1 << 20 };

/* What is in it will be overwritten: it must not be anything but swap. */
static int check_existing(int fd, const char *path, struct err *e)
{
	static const char signature[] = "SWAPSPACE2";
	char page[PAGE] = {0};
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_sys(e, -errno, "%s", path);
	if (!S_ISREG(st.st_mode))
		return err_set(e, -EINVAL, "%s is not a regular file", path);
	if (pread(fd, page, sizeof(page), 0) < 0)
		return err_sys(e, -errno, "read %s", path);
	if (memcmp(page + PAGE - strlen(signature), signature, strlen(signature)) != 0 &&
		(page[0] || memcmp(page, page + 1, PAGE - 1) != 0))
		return err_set(e, -EINVAL, "%s exists and holds something other than swap", path);
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return err_set(e, -EBUSY, "%s is in use", path);
	return 0;
}

static int make_nameless(const char *dir, struct err *e)
{
	char path[PATH_MAX];
	int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd >= 0)
		return fd;
	/* Not every file system can do that. */
	if (snprintf(path, sizeof(path), "%s/.swap-XXXXXX", dir) >= (int)sizeof(path))
		return err_set(e, -ENAMETOOLONG, "%s: path too long", dir);
	fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0)
		return err_sys(e, -errno, "make a file in %s", dir);
	unlink(path);
	return fd;
}

int swap_file_open(const char *path, const char *data_dir, uint64_t size, struct err *e)
{
	cleanup_close int fd =
		path ? open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK) : make_nameless(data_dir, e);
	struct stat st;
	int r;

	if (fd < 0 && !path)
		return fd;
	if (fd >= 0 && path) {
		r = check_existing(fd, path, e);
		if (r < 0)
			return r;
	} else if (fd < 0) {
		if (errno != ENOENT)
			return err_sys(e, -errno, "open %s", path);
		fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		if (fd < 0)
			return err_sys(e, -errno, "make %s", path);
		unlink(path);
	}
	if (fstat(fd, &st) < 0)
		return err_sys(e, -errno, "the swap file");
	if (st.st_size < MIN_SIZE &&
		ftruncate(fd, (off_t)ALIGN_UP(MAX(size, (uint64_t)MIN_SIZE), PAGE)) < 0)
		return err_sys(e, -errno, "make the swap file %llu MiB large",
			(unsigned long long)size >> 20);
	return take_fd(fd);
}
