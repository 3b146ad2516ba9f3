/* SPDX-License-Identifier: MIT */
#include "mount/offline.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "lib/base/cleanup.h"
#include "lib/base/log.h"
#include "lib/base/proc.h"
#include "lib/ctl/client.h"
#include "lib/p9/server.h"
#include "lib/sandbox/sandbox.h"
#include "mount/disk-fs.h"

enum { DISK_FD = 3 };

/* --- who asks --- */

static int start(int disk, int *ret_fd, struct err *e)
{
	static const char *const argv[] = {"/proc/self/exe", "--serve-disk", NULL};
	struct proc_spawn s = {.argv = argv, .keep = disk};
	int pair[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return err_sys(e, -errno, "read its disk");
	s.std[0] = pair[1];
	s.std[1] = -1;
	s.std[2] = STDERR_FILENO;
	pid = proc_start(&s, e);
	close(pair[1]);
	if (pid < 0) {
		close(pair[0]);
		return pid;
	}
	*ret_fd = pair[0];
	return 0;
}

int offline_open(
	struct ctl_client *service, const char *name, int *ret_fd, uid_t *ret_uid, struct err *e)
{
	cleanup_js struct json_object *reply = NULL;
	struct ctl_req req = {.method = "list"};
	struct json_object *all;
	int r = ctl_call(service, &req, &reply, e);

	*ret_fd = -EBADF;
	all = r == 0 ? js_get(reply, "distributions") : NULL;
	for (size_t i = 0; all && i < json_object_array_length(all); i++) {
		struct json_object *o = json_object_array_get_idx(all, i);
		const char *path = js_str(o, "disk", "");
		cleanup_close int disk = -EBADF;

		if (strcmp(js_str(o, "name", ""), name) != 0)
			continue;
		if (strcmp(js_str(o, "state", ""), "Stopped") != 0)
			return 0;
		if (strcmp(js_str(o, "fs", ""), "ext4") || strcmp(js_str(o, "format", ""), "raw"))
			return err_set(e, -EOPNOTSUPP,
				"it does not run, and only ext4 on a raw disk can be read without its kernel");
		*ret_uid = (uid_t)js_u64(o, "uid", 0);
		disk = open(path, O_RDONLY | O_CLOEXEC);
		return disk < 0 ? err_sys(e, -errno, "%s", path) : start(disk, ret_fd, e);
	}
	return r < 0 ? r : err_set(e, -ENOENT, "there is no distribution of this name");
}

/* --- who reads --- */

static int confine(struct err *e)
{
	static const int keep[] = {STDIN_FILENO, STDERR_FILENO, DISK_FD};
	const struct sandbox_opts so = {.keep_fds = keep, .n_keep = 3};

	return sandbox_enter(&sandbox_exporter, &so, e);
}

int offline_serve(void)
{
	const struct fs_cred cred = {.uid = getuid(), .gid = getgid()};
	cleanup(p9_server_freep) struct p9_server *s = NULL;
	struct disk_read disk;
	struct err e = {0};
	struct fs *fs;
	int r;

	signal(SIGPIPE, SIG_IGN);
	r = confine(&e);
	if (r == 0)
		r = disk_read_open(&disk, DISK_FD, false, &e);
	if (r == 0)
		r = disk_fs_new(&fs, &disk, &e);
	if (r < 0) {
		log_warn("disk", "read a disk: %s", e.text);
		return 1;
	}
	r = p9_server_new(&s, fs, &cred, NULL);
	if (r == 0)
		r = p9_serve(s, STDIN_FILENO);
	return r < 0;
}
