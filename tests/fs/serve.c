/* SPDX-License-Identifier: MIT */
/*
 * serve FOLDER MOUNTPOINT [KEY[=VALUE]...]: mounts FOLDER through this kernel's FUSE and serves it with lib/fuse until it is
 * unmounted or terminated: real traffic without a virtual machine. Needs root. Prints "ready" when it is mounted.
 *
 * keys: as=UID (without privileges), squash=UID, metadata, ro, exclusive, threads=N, ms=N (what the kernel may believe), fds=N (limit of descriptors)
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include "lib/base/attr.h"
#include "lib/fs/host.h"
#include "lib/fuse/fuse.h"

enum { BUFFER = (1 << 20) + (64 << 10), MAX_THREADS = 16 };

static struct fuse_server *server;
static const char *mountpoint;

static void *serve(void *arg)
{
	int fd = *(int *)arg;
	char *in = malloc(BUFFER), *out = malloc(BUFFER);

	while (in && out) {
		ssize_t n = read(fd, in, BUFFER);

		if (n < 0 && (errno == EINTR || errno == ENOENT || errno == EAGAIN))
			continue;
		if (n < 0)
			break;
		const struct iovec iin = {in, (size_t)n}, iout = {out, BUFFER};

		n = fuse_server_handle(server, &iin, 1, &iout, 1, FUSE_HANDLE_NO_WAIT);
		if (n == -EAGAIN)
			n = fuse_server_handle(server, &iin, 1, &iout, 1, 0);
		if (n > 0 && write(fd, out, (size_t)n) < 0 && errno != ENOENT)
			break;
	}
	free(in);
	free(out);
	return NULL;
}

static void stop(int sig)
{
	umount2(mountpoint, MNT_DETACH);
}

static int fail(const char *what)
{
	fprintf(stderr, "serve: %s: %s\n", what, strerror(errno));
	return 1;
}

int main(int argc, char **argv)
{
	struct fs_share_opts so = {0};
	struct fuse_opts opts = {.entry_ms = 1000, .attr_ms = 1000, .posix_acl = true};
	pthread_t threads[MAX_THREADS];
	unsigned n_threads = 2, as = 0;
	struct err e = {0};
	struct fs *fs;
	char mount_opts[128];

	if (argc < 3)
		return 2;
	for (int i = 3; i < argc; i++) {
		const char *v = strchr(argv[i], '=');
		unsigned n = v ? (unsigned)atoi(v + 1) : 0;

		if (strncmp(argv[i], "squash=", 7) == 0)
			so.squash = true, so.uid = so.gid = n;
		else if (strcmp(argv[i], "metadata") == 0)
			so.metadata = true;
		else if (strcmp(argv[i], "ro") == 0)
			so.read_only = true;
		else if (strcmp(argv[i], "exclusive") == 0)
			opts.exclusive = true;
		else if (strncmp(argv[i], "threads=", 8) == 0)
			n_threads = MAX(1u, MIN(n, (unsigned)MAX_THREADS));
		else if (strncmp(argv[i], "ms=", 3) == 0)
			opts.entry_ms = opts.attr_ms = opts.negative_ms = n;
		else if (strncmp(argv[i], "as=", 3) == 0)
			as = n;
		else if (strncmp(argv[i], "fds=", 4) == 0)
			setrlimit(RLIMIT_NOFILE, &(struct rlimit){n, n});
		else
			return 2;
	}
	mountpoint = argv[2];
	int dir = open(argv[1], O_PATH | O_DIRECTORY | O_CLOEXEC);
	int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);

	if (dir < 0 || fd < 0)
		return fail(dir < 0 ? argv[1] : "/dev/fuse");
	snprintf(mount_opts, sizeof(mount_opts),
		"fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions", fd);
	if (mount("wslx-serve", mountpoint, "fuse", 0, mount_opts) < 0)
		return fail("mount");
	if (as &&
		(setgroups(0, NULL) < 0 || setresgid(as, as, as) < 0 || setresuid(as, as, as) < 0))
		return fail("become another user");
	if (fs_host_new(&fs, dir, &so, &e) < 0 || fuse_server_new(&server, fs, &opts) < 0) {
		fprintf(stderr, "serve: %s\n", e.text);
		return 1;
	}
	if (opts.exclusive)
		fs_host_keep_removed(fs);
	if (!as) {
		signal(SIGTERM, stop);
		signal(SIGINT, stop);
	}
	for (unsigned i = 0; i < n_threads; i++)
		pthread_create(&threads[i], NULL, serve, &fd);
	puts("ready");
	fflush(stdout);
	for (unsigned i = 0; i < n_threads; i++)
		pthread_join(threads[i], NULL);
	fuse_server_free(server);
	fs->ops->free(fs);
	return 0;
}
