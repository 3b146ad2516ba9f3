/* SPDX-License-Identifier: MIT */
/* First-run set-up ("out-of-box experience"): [oobe] of /etc/wsl-distribution.conf. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "guest/login.h"
#include "lib/base/cleanup.h"

#define STATE "/run/wslx/oobe" /* locked while it runs; what came of it when it has */

enum { EX_OURS = 125 };

static void NORETURN give_up(const char *distro, const char *why)
{
	fprintf(stderr, "wslx: set %s up: %s\n", distro, why);
	_exit(EX_OURS);
}

/* The command owns the terminal while it runs, as a job of a shell does. Its wait status. */
static int run_command(const struct exec_plan *p, const char *command)
{
	int status;
	pid_t pid;

	signal(SIGTTOU, SIG_IGN);
	pid = fork();
	if (pid == 0) {
		setpgid(0, 0);
		tcsetpgrp(STDIN_FILENO, getpid());
		signal(SIGTTOU, SIG_DFL);
		environ = p->envp;
		setenv("HOME", "/root", 1);
		setenv("USER", "root", 1);
		setenv("LOGNAME", "root", 1);
		setenv("SHELL", "/bin/sh", 1);
		if (chdir("/root") < 0 && chdir("/") < 0)
			_exit(127);
		umask(022);
		execl("/bin/sh", "sh", "-c", command, NULL);
		_exit(127);
	}
	if (pid < 0)
		return -errno;
	setpgid(pid, pid);
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	tcsetpgrp(STDIN_FILENO, getpgrp());
	signal(SIGTTOU, SIG_DFL);
	return status;
}

static struct oobe_result set_up(const struct exec_plan *p, const char *distro)
{
	cleanup_close int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct oobe_result res = {0};
	struct warnings w = {0};
	struct oobe_conf conf;
	char why[96];
	int status;

	oobe_conf_read(root, &conf, &w);
	for (unsigned i = 0; i < w.n; i++)
		fprintf(stderr, "wslx: warning: %s\n", w.text[i]);
	status = conf.command ? run_command(p, conf.command) : 0;
	if (status < 0)
		give_up(distro, strerror(-status));
	if (status != 0) {
		snprintf(why, sizeof(why),
			"oobe.command ended with %s %d; it runs again the next time",
			WIFSIGNALED(status) ? "signal" : "status",
			WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
		give_up(distro, why);
	}
	if (conf.uid >= 0 && getpwuid((uid_t)conf.uid)) {
		res.has_uid = true;
		res.uid = (uint32_t)conf.uid;
	} else if (conf.uid >= 0) {
		fprintf(stderr,
			"wslx: warning: /etc/wsl-distribution.conf: oobe.defaultUid: no user has number %" PRId64
			"\n",
			conf.uid);
	}
	return res;
}

struct oobe_result oobe_run(const struct exec_plan *p, const char *distro, int result)
{
	cleanup_close int fd = open(STATE, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	struct oobe_result res;

	if (fd < 0)
		give_up(distro, strerror(errno));
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		give_up(distro, "that is under way in another terminal");
	if (pread(fd, &res, sizeof(res), 0) != sizeof(res)) {
		res = set_up(p, distro);
		if (pwrite(fd, &res, sizeof(res), 0) != sizeof(res))
			give_up(distro, "what came of it could not be written down");
	}
	/* Told again if told before: the host may have missed it. */
	if (send(result, &res, sizeof(res), MSG_NOSIGNAL) != sizeof(res))
		give_up(distro, "init is gone");
	return res;
}
