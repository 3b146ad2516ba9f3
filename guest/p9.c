/* SPDX-License-Identifier: MIT */
#include "guest/p9.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>
#include "lib/base/cleanup.h"
#include "lib/base/log.h"
#include "lib/fs/host.h"
#include "lib/p9/server.h"
#include "lib/session/exec.h"

/* A descriptor for each file that the host knows or has open. */
enum { MAX_FILES = 1 << 17 };

static const char *become(const struct user *u, int fd)
{
	const struct rlimit files = {MAX_FILES, MAX_FILES};
	const struct timeval forever = {0};
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	for (int s = 1; s < NSIG; s++)
		signal(s, SIG_DFL);
	if (setsid() < 0)
		return "leave the session";
	/* A host that is slow to read is waited for. */
	if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &forever, sizeof(forever)) < 0 || null < 0 ||
		dup2(fd, 0) < 0 || dup2(null, 1) < 0 || dup2(null, 2) < 0)
		return "prepare descriptors";
	if (setrlimit(RLIMIT_NOFILE, &files) < 0)
		return "raise the limit of open files";
	if (setgroups((size_t)u->ngroups, u->groups) < 0 || setgid(u->gid) < 0 ||
		setuid(u->uid) < 0)
		return "become the user";
	return NULL;
}

void p9_start(const struct user *u, int fd, int cgroup)
{
	pid_t pid = exec_fork(cgroup);

	if (pid < 0)
		log_warn("files", "start a server: %s", strerror(errno));
	if (pid == 0) {
		/* Executed anew: it has nothing of init's memory, nor of its descriptors. */
		if (!become(u, fd) && chdir("/") == 0)
			execle("/proc/self/exe", P9_PROGRAM, (char *)NULL, (char *[]){NULL});
		_exit(127);
	}
	close(fd);
}

int p9_main(int argc, char **argv)
{
	cleanup_close int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	cleanup(p9_server_freep) struct p9_server *s = NULL;
	const struct fs_cred cred = {.uid = geteuid(), .gid = getegid()};
	struct err e = {0};
	struct fs *fs;
	int r;

	signal(SIGPIPE, SIG_IGN);
	umask(0);
	if (root < 0 || fs_host_new(&fs, root, NULL, &e) < 0)
		return 1;
	fs_host_close_machine(fs);
	r = p9_server_new(&s, fs, &cred, fs_host_fd);
	if (r == 0)
		r = p9_serve(s, STDIN_FILENO);
	return r < 0;
}
