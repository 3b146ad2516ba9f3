/* SPDX-License-Identifier: MIT */
#include "guest/boot.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "guest/files.h"
#include "lib/base/cleanup.h"
#include "lib/base/loop.h"
#include "lib/session/exec.h"

static const char *const environment[] = {
	"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root",
	"USER=root", "LOGNAME=root", "SHELL=/bin/sh", "TERM=dumb", NULL};

static void NORETURN run(const char *const *argv, int out)
{
	union {
		const char *const *in;
		char *const *out;
	} args = {argv}, env = {environment};
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	setsid();
	dup2(null, 0);
	dup2(out, 1);
	dup2(out, 2);
	if (chdir("/") == 0)
		execve(argv[0], args.out, env.out);
	_exit(127);
}

/* The first line of what comes until the program has ended or the time is over; true: it has ended. */
static bool read_line(int fd, unsigned timeout_ms, char *out, size_t cap)
{
	uint64_t end = loop_now() + timeout_ms * 1000000ull;
	size_t n = 0;

	for (;;) {
		uint64_t now = loop_now();
		struct pollfd p = {.fd = fd, .events = POLLIN};
		char buf[512];
		ssize_t got;

		if (now >= end || poll(&p, 1, (int)((end - now) / 1000000 + 1)) == 0)
			return false;
		got = read(fd, buf, sizeof(buf));
		if (got <= 0) {
			out[n] = '\0';
			out[strcspn(out, "\n")] = '\0';
			return true;
		}
		got = (ssize_t)MIN((size_t)got, cap - 1 - n);
		memcpy(out + n, buf, (size_t)got);
		n += (size_t)got;
		out[n] = '\0';
	}
}

int boot_run(const char *const *argv, unsigned timeout_ms, char *out, size_t cap)
{
	cleanup_close int from = -EBADF;
	bool in_time;
	int p[2], status;
	pid_t pid;

	out[0] = '\0';
	if (pipe2(p, O_CLOEXEC) < 0)
		return -errno;
	from = p[0];
	pid = fork();
	if (pid == 0)
		run(argv, p[1]);
	close(p[1]);
	if (pid < 0)
		return -errno;
	/* What it leaves behind in the background may keep its output open: that is waited for no longer than for itself. */
	in_time = read_line(from, timeout_ms, out, cap);
	if (!in_time && waitpid(pid, &status, WNOHANG) == 0) {
		kill(-pid, SIGKILL);
		kill(pid, SIGKILL);
		waitpid(pid, &status, 0);
		return -ETIMEDOUT;
	}
	if (in_time && waitpid(pid, &status, 0) < 0)
		return -errno;
	return status;
}

void boot_mount_fstab(unsigned timeout_ms, struct warnings *w)
{
	static const char *const paths[] = {"/bin/mount", "/usr/bin/mount", "/sbin/mount"};
	cleanup_close int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	const char *argv[] = {NULL, "-a", NULL};
	char line[160];
	int r;

	if (!files_fstab(root))
		return;
	for (size_t i = 0; i < ARRAY_LEN(paths) && !argv[0]; i++)
		if (access(paths[i], X_OK) == 0)
			argv[0] = paths[i];
	if (!argv[0])
		return;
	r = boot_run(argv, timeout_ms, line, sizeof(line));
	if (r == -ETIMEDOUT)
		warn_add(w, "/etc/fstab: mount -a took longer than %u s and was ended",
			timeout_ms / 1000);
	else if (r != 0)
		warn_add(w, "/etc/fstab: mount -a failed%s%s", line[0] ? ": " : "", line);
}

pid_t boot_start_to(const char *const *argv, int cgroup, int out)
{
	pid_t pid = exec_fork(cgroup);

	if (pid == 0)
		run(argv, out);
	return pid;
}

pid_t boot_start(const char *const *argv, int cgroup)
{
	return boot_start_to(argv, cgroup, STDERR_FILENO); /* init's is the kernel's log */
}
