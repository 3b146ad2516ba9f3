/* SPDX-License-Identifier: MIT */
/* Processes: fork and wait, vfork and exec of a small static program, a loop in a shell. */
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>
#include "bench/guest/bench.h"

static uint64_t reap(pid_t pid)
{
	int status;

	must(pid);
	must(waitpid(pid, &status, 0));
	if (!WIFEXITED(status))
		die("child");
	return (uint64_t)WEXITSTATUS(status);
}

static uint64_t fork_wait(uint64_t n)
{
	uint64_t h = 0;

	for (uint64_t i = 0; i < n; i++) {
		pid_t pid = fork();

		if (pid == 0)
			_exit((int)(i & 0x7f));
		h += reap(pid);
	}
	return h;
}

/* By itself: nothing that vfork's second return could clobber. */
static __attribute__((noinline)) pid_t spawn(char *const *argv)
{
	pid_t pid = vfork();

	if (pid == 0) {
		execv("/proc/self/exe", argv);
		_exit(127);
	}
	return pid;
}

static uint64_t vfork_exec(uint64_t n)
{
	char *const argv[] = {(char[]){"bench"}, (char[]){"--exit"}, (char[]){"3"}, NULL};
	uint64_t h = 0;

	while (n--)
		h += reap(spawn(argv));
	return h;
}

/* The same static busybox everywhere: bench/soft puts it into the guest as /busybox, and /bin/busybox is it natively. */
static uint64_t shell_loop(uint64_t n)
{
	char script[200];
	pid_t pid;

	snprintf(script, sizeof(script),
		"i=0; s=0; while [ $i -lt %llu ]; do i=$((i+1)); case $i in *7) s=$((s+i));; esac; done; exit $((s %% 100))",
		(unsigned long long)n);
	pid = fork();
	if (pid == 0) {
		execl("/busybox", "sh", "-c", script, NULL);
		execl("/bin/busybox", "sh", "-c", script, NULL);
		_exit(127);
	}
	n = reap(pid);
	if (n == 127)
		die("busybox");
	return n;
}

const struct workload work_process[] = {{"fork-wait", fork_wait, 20000},
	{"vfork-exec", vfork_exec, 20000}, {"shell-loop", shell_loop, 60000}, {NULL, NULL}};
