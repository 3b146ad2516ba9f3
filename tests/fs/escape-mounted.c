/* SPDX-License-Identifier: MIT */
/*
 * The guest's root on the mounted share. Paths are of several components and their links are followed by the guest's own
 * kernel: one that leads outside leads to the guest's files there. Here that kernel is the host's, so every walk is
 * confined to the mount (openat2), and what is made or changed is by a descriptor of its folder; what leaves the share does so by
 * the server's fault.
 */
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <dirent.h>
#include <unistd.h>
#include "lib/base/cleanup.h"
#include "tests/fs/escape.h"

struct guest {
	int root;
	struct rng r;
	const char *outside;
	uint64_t *done;
};

static int beneath(int dir, const char *path, uint64_t flags, uint64_t mode)
{
	const struct open_how how = {
		.flags = flags | O_CLOEXEC | O_NONBLOCK, .mode = mode, .resolve = RESOLVE_IN_ROOT};

	return (int)syscall(SYS_openat2, dir, path, &how, sizeof(how));
}

static int some_dir(struct guest *g)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", plain_name(&g->r), plain_name(&g->r));
	if (rnd(&g->r, 2))
		*strchr(path, '/') = '\0';
	fd = rnd(&g->r, 3) ? beneath(g->root, path, O_RDONLY | O_DIRECTORY, 0) : -1;
	return fd >= 0 ? fd : fcntl(g->root, F_DUPFD_CLOEXEC, 3);
}

/* False: it is the canary's. */
static bool use_file(struct guest *g, int fd)
{
	char buf[256] = "";

	g->done[DID_OPEN]++;
	if (pread(fd, buf, sizeof(buf) - 1, 0) >= 0)
		g->done[DID_READ]++;
	if (strstr(buf, SONG))
		return false;
	g->done[DID_WRITE] += pwrite(fd, "overwritten by the guest", 24, 0) == 24;
	g->done[DID_SETATTR] += fchmod(fd, 0600 | rnd(&g->r, 0200)) == 0;
	g->done[DID_SETATTR] += ftruncate(fd, rnd(&g->r, 100)) == 0;
	g->done[DID_XATTR] += fsetxattr(fd, "user.x", "y", 1, 0) == 0;
	if (fgetxattr(fd, "user.song", buf, sizeof(buf)) > 0)
		return false;
	return true;
}

static bool list(struct guest *g, int dir)
{
	DIR *d = fdopendir(fcntl(dir, F_DUPFD_CLOEXEC, 3));
	bool well = true;

	g->done[DID_LIST] += d != NULL;
	for (struct dirent *de; d && (de = readdir(d));)
		well &= strcmp(de->d_name, "nest") != 0 && strcmp(de->d_name, "egg") != 0;
	if (d)
		closedir(d);
	return well;
}

static bool step(struct guest *g)
{
	cleanup_close int one = some_dir(g), two = some_dir(g);
	const char *name = plain_name(&g->r), *other = plain_name(&g->r);
	static const uint64_t modes[] = {
		O_RDONLY, O_RDWR, O_RDWR | O_CREAT, O_RDWR | O_TRUNC, O_RDWR | O_CREAT | O_EXCL};
	uint64_t flags = modes[rnd(&g->r, 5)];
	char to[4096];

	switch (rnd(&g->r, 10)) {
	case 0:
	case 1:
	case 2: {
		cleanup_close int fd =
			beneath(one, name, flags | O_NOFOLLOW, flags & O_CREAT ? 0666 : 0);

		return fd < 0 || use_file(g, fd);
	}
	case 3:
		target(&g->r, g->outside, to, sizeof(to));
		g->done[DID_MAKE] += symlinkat(to, one, name) == 0;
		return true;
	case 4: g->done[DID_MAKE] += mkdirat(one, name, 0777) == 0; return true;
	case 5:
		g->done[DID_REMOVE] += unlinkat(one, name, rnd(&g->r, 2) ? AT_REMOVEDIR : 0) == 0;
		return true;
	case 6: g->done[DID_LINK] += linkat(one, name, two, other, 0) == 0; return true;
	case 7: g->done[DID_RENAME] += renameat(one, name, two, other) == 0; return true;
	case 8:
		g->done[DID_RENAME] +=
			syscall(SYS_renameat2, one, name, two, other, RENAME_EXCHANGE) == 0;
		return true;
	default: return list(g, one);
	}
}

bool attack_mounted(const char *mnt, const char *outside, uint64_t seed, const struct timespec *end,
	uint64_t done[DIDS])
{
	struct guest g = {.root = open(mnt, O_RDONLY | O_DIRECTORY | O_CLOEXEC),
		.r = {seed},
		.outside = outside,
		.done = done};
	bool well = true;

	if (g.root < 0)
		exit(2);
	while (well && !time_is_up(end))
		for (unsigned i = 0; i < 32 && well; i++)
			well = step(&g);
	close(g.root);
	return well;
}
