/* SPDX-License-Identifier: MIT */
#include "lib/base/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "lib/base/cleanup.h"
#include "lib/base/io.h"

static bool try_path(char *buf, size_t cap, const char *dir, const char *sub, const char *name)
{
	int n = snprintf(buf, cap, "%s/%s%s", dir, sub, name);

	return n > 0 && (size_t)n < cap && access(buf, X_OK) == 0;
}

int proc_find(
	const char *name, const char *folder, const char *env, char *buf, size_t cap, struct err *e)
{
	const char *chosen = env ? getenv(env) : NULL;
	char dir[PATH_MAX], sub[64], *slash;
	ssize_t n;

	if (chosen && *chosen) {
		if (snprintf(buf, cap, "%s", chosen) >= (int)cap || access(buf, X_OK) < 0)
			return err_set(e, -ENOENT, "%s names no program: %s", env, chosen);
		return 0;
	}
	n = readlink("/proc/self/exe", dir, sizeof(dir) - 1);
	if (n > 0) {
		dir[n] = '\0';
		slash = strrchr(dir, '/');
		if (slash)
			*slash = '\0';
		snprintf(sub, sizeof(sub), "../%s/", folder);
		if (try_path(buf, cap, dir, "", name) || try_path(buf, cap, dir, sub, name) ||
			try_path(buf, cap, dir, "../libexec/wslx/", name))
			return 0;
	}
	if (try_path(buf, cap, "/usr/libexec/wslx", "", name))
		return 0;
	return err_set(e, -ENOENT, "%s is not installed beside this program", name);
}

int proc_find_in_path(const char *name, char *buf, size_t cap, struct err *e)
{
	const char *path = getenv("PATH");
	size_t len;

	for (const char *p = path ? path : "/usr/bin:/bin"; *p; p += len + (p[len] == ':')) {
		len = strcspn(p, ":");
		if (*p == '/' && (size_t)snprintf(buf, cap, "%.*s/%s", (int)len, p, name) < cap &&
			access(buf, X_OK) == 0)
			return 0;
	}
	return err_set(e, -ENOENT, "%s is needed; install it", name);
}

static void NORETURN child(const struct proc_spawn *s, int failed, int gate, pid_t parent)
{
	sigset_t none;
	int fds[3], r;
	char go;

	for (int sig = 1; sig < NSIG; sig++)
		signal(sig, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (s->detach)
		setsid();
	if (s->bound && (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent))
		_exit(127);
	if (gate >= 0) {
		do
			r = (int)read(gate, &go, 1);
		while (r < 0 && errno == EINTR);
		if (r != 1)
			_exit(127);
	}
	/* Copies above the numbers that are about to be given out. */
	for (int i = 0; i < 3; i++)
		fds[i] = s->std[i] < 0 ? open("/dev/null", i ? O_WRONLY : O_RDONLY)
				       : fcntl(s->std[i], F_DUPFD_CLOEXEC, 10);
	int keep = s->keep < 0 ? -1 : fcntl(s->keep, F_DUPFD_CLOEXEC, 10);
	failed = fcntl(failed, F_DUPFD_CLOEXEC, 10);
	for (int i = 0; i < 3; i++)
		if (fds[i] == i) /* /dev/null landed on its own number */
			fcntl(i, F_SETFD, 0);
		else
			dup2(fds[i], i);
	if (keep >= 0)
		dup2(keep, 3);
	else
		close(3);
	execv(s->argv[0], (char *const *)(uintptr_t)s->argv);
	r = errno;
	if (write(failed, &r, sizeof(r)) < 0)
		_exit(126);
	_exit(127);
}

pid_t proc_start(const struct proc_spawn *s, struct err *e)
{
	cleanup_close int failed_rd = -EBADF, gate_rd = -EBADF, gate_wr = -EBADF;
	sigset_t all, old;
	pid_t pid, self = getpid();
	int p[2], r = 0;
	ssize_t n;

	if (pipe2(p, O_CLOEXEC) < 0)
		return err_sys(e, -errno, "start %s", s->argv[0]);
	failed_rd = p[0];
	if (s->gated) {
		int g[2];

		if (pipe2(g, O_CLOEXEC) < 0) {
			r = -errno;
			close(p[1]);
			return err_sys(e, r, "start %s", s->argv[0]);
		}
		gate_rd = g[0];
		gate_wr = g[1];
	}
	/* No handler of ours may run in the child. */
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, &old);
	pid = fork();
	if (pid == 0) {
		if (gate_wr >= 0)
			close(gate_wr); /* else nobody's end would ever be seen */
		child(s, p[1], gate_rd, self);
	}
	if (pid < 0)
		r = -errno;
	sigprocmask(SIG_SETMASK, &old, NULL);
	close(p[1]);
	if (pid < 0)
		return err_sys(e, r, "start %s", s->argv[0]);
	if (s->gated) {
		*s->ret_gate = take_fd(gate_wr);
		return pid;
	}
	do
		n = read(failed_rd, &r, sizeof(r));
	while (n < 0 && errno == EINTR);
	if (n == sizeof(r)) {
		waitpid(pid, NULL, 0);
		return err_sys(e, -r, "start %s", s->argv[0]);
	}
	return pid;
}

uint64_t proc_start_time(pid_t pid)
{
	cleanup_free char *text = NULL;
	unsigned long long start = 0;
	char path[64], state, *p;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	if (pid <= 0 || io_read_file(path, 8192, &text, NULL) < 0)
		return 0;
	/* The name may hold anything; the last ')' ends it. State is field 3, the start field 22. */
	p = strrchr(text, ')');
	if (!p || sscanf(p,
			  ") %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d "
			  "%*d %*d %llu",
			  &state, &start) != 2)
		return 0;
	return state == 'Z' || state == 'X' ? 0 : start;
}

int proc_pidfd(pid_t pid)
{
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);

	if (fd < 0)
		return -errno;
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	return fd;
}
