/* SPDX-License-Identifier: MIT */
#include "lib/sandbox/tool.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include "lib/base/attr.h"
#include "lib/base/cleanup.h"
#include "lib/sandbox/sandbox.h"

enum { FILE_FD = 3, MAX_FILES = 64, NOT_STARTED = 127 };
#define MEMORY_LIMIT ((rlim_t)4 << 30)

static int find(const char *name, const char *package, char *buf, size_t cap, struct err *e)
{
	static const char *const dirs[] = {"/usr/sbin", "/sbin", "/usr/bin", "/usr/local/sbin"};

	for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
		snprintf(buf, cap, "%s/%s", dirs[i], name);
		if (access(buf, X_OK) == 0)
			return 0;
	}
	return err_set(e, -ENOENT, "%s is needed; install %s", name, package);
}

static int limit(struct err *e)
{
	static const struct {
		int what;
		rlim_t value;
	} limits[] = {{RLIMIT_AS, MEMORY_LIMIT}, {RLIMIT_CORE, 0}, {RLIMIT_NOFILE, MAX_FILES}};

	for (size_t i = 0; i < ARRAY_LEN(limits); i++) {
		const struct rlimit r = {limits[i].value, limits[i].value};

		if (limits[i].what == RLIMIT_AS && sandbox_address_space_is_huge())
			continue;
		if (setrlimit(limits[i].what, &r) < 0 && errno != EPERM)
			return err_sys(e, -errno, "limit its resources");
	}
	return 0;
}

static int confine(struct err *e)
{
	/*
	 * Programs, libraries and the loader's table of them; and that their file is not mounted, they like to see: mkfs.btrfs
	 * asks of every loop device that is mounted which file is behind it, and gives up where it is not told.
	 */
	static const char *const readable[] = {"/usr", "/lib", "/lib64", "/bin", "/sbin",
		"/etc/ld.so.cache", "/proc/self/mounts", "/proc/swaps",
		"/sys/devices/virtual/block", NULL};
	const int files[] = {FILE_FD}, keep[] = {0, 1, 2, FILE_FD};
	const struct sandbox_grants g = {readable, files, ARRAY_LEN(files)};
	const struct sandbox_opts so = {.keep_fds = keep, .n_keep = ARRAY_LEN(keep), .grants = &g};
	int r = limit(e);

	return r < 0 ? r : sandbox_enter(&sandbox_tool, &so, e);
}

static void NORETURN child(const struct sandbox_tool *t, const char *path, int out, pid_t parent)
{
	static const char *const env[] = {"PATH=/usr/sbin:/usr/bin", "LC_ALL=C.UTF-8", NULL};
	struct err e = {0};
	int null = open("/dev/null", O_RDONLY);
	/* Above the numbers that are about to be given out. */
	int file = fcntl(t->file, F_DUPFD, 10), said = fcntl(out, F_DUPFD, 10);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent || null < 0 || file < 0 || said < 0)
		_exit(NOT_STARTED);
	dup2(null, 0);
	dup2(said, 1);
	dup2(said, 2);
	dup2(file, FILE_FD);
	if (confine(&e) == 0) {
		execve(path, (char *const *)(uintptr_t)t->argv, (char *const *)(uintptr_t)env);
		err_sys(&e, -errno, "start it");
	}
	dprintf(2, "%s\n", e.text);
	_exit(NOT_STARTED);
}

/* Keeps the end of what it says. */
static void listen_to(int fd, char *said)
{
	char buf[1024];
	size_t len = 0;
	ssize_t n;

	while ((n = read(fd, buf, sizeof(buf))) > 0 || (n < 0 && errno == EINTR)) {
		size_t k = n < 0 ? 0 : (size_t)n;

		if (len + k > SANDBOX_TOOL_SAID - 1) {
			size_t drop = MIN(len, len + k - (SANDBOX_TOOL_SAID - 1));

			memmove(said, said + drop, len - drop);
			len -= drop;
		}
		memcpy(said + len, buf, k);
		len += k;
	}
	said[len] = '\0';
}

int sandbox_tool_run(const struct sandbox_tool *t, char *said, struct err *e)
{
	const char *name = t->argv[0];
	cleanup_close int rd = -EBADF, wr = -EBADF;
	pid_t pid, self = getpid();
	char path[64];
	int p[2], status, r = find(name, t->package, path, sizeof(path), e);

	if (r < 0)
		return r;
	if (pipe2(p, O_CLOEXEC) < 0)
		return err_sys(e, -errno, "run %s", path);
	rd = p[0];
	wr = p[1];
	pid = fork();
	if (pid < 0)
		return err_sys(e, -errno, "run %s", path);
	if (pid == 0)
		child(t, path, wr, self);
	close(take_fd(wr));
	listen_to(rd, said);
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return err_sys(e, -errno, "run %s", path);
	if (WIFSIGNALED(status))
		return err_set(e, -ECHILD, "%s was killed by signal %d (%s)", name,
			WTERMSIG(status), strsignal(WTERMSIG(status)));
	if (WEXITSTATUS(status) == NOT_STARTED)
		return err_set(e, -ECHILD, "%s: %s", path, sandbox_tool_last_line(said));
	return WEXITSTATUS(status);
}

const char *sandbox_tool_last_line(char *said)
{
	char *best = said, *save;

	for (char *line = strtok_r(said, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		if (strspn(line, " \t") < strlen(line))
			best = line;
	return best;
}
