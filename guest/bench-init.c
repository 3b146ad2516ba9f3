/* SPDX-License-Identifier: MIT */
/*
 * The first process of a benchmark's guest, the same under every virtual machine monitor. Says on the console when it was
 * reached; with "bench.root=DEV" on the kernel's command line it then mounts that disk, runs the words of "bench.run=A,B"
 * in it and says when that is done; then powers off. Each line: "BENCH <what> <microseconds of guest time>".
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "guest/guest.h"
#include "lib/base/loop.h"

static void say(const char *what)
{
	char line[96];
	int n = snprintf(line, sizeof(line), "\nBENCH %s %llu\n", what,
		(unsigned long long)loop_now() / 1000);

	if (write(1, line, (size_t)n) != n)
		_exit(1);
}

static char *option(char *cmdline, const char *name)
{
	char *p = strstr(cmdline, name);

	return p ? strndup(p + strlen(name), strcspn(p + strlen(name), " \n")) : NULL;
}

static int run_in(const char *dev, char *words)
{
	char *argv[16] = {NULL}, *save;
	int n = 0, status = -1;
	pid_t pid;

	for (int i = 0; access(dev, F_OK) < 0 && i < 10000; i++)
		usleep(1000);
	mkdir("/root", 0755);
	if (mount(dev, "/root", "ext4", MS_NOATIME, "") < 0) {
		fprintf(stderr, "bench: mount %s: %s\n", dev, strerror(errno));
		return 1;
	}
	say("mounted");
	for (char *w = strtok_r(words, ",", &save); w && n < 15; w = strtok_r(NULL, ",", &save))
		argv[n++] = w;
	pid = fork();
	if (pid == 0) {
		if (chroot("/root") == 0 && chdir("/") == 0)
			execv(argv[0], argv);
		_exit(127);
	}
	waitpid(pid, &status, 0);
	say("ran");
	umount("/root");
	return status;
}

int main(void)
{
	static char cmdline[4096];
	char *root, *words;
	int fd, status = 0;

	say("init");
	mkdir("/proc", 0755);
	mkdir("/sys", 0755);
	mount("dev", "/dev", "devtmpfs", 0, NULL);
	mount("proc", "/proc", "proc", 0, NULL);
	mount("sys", "/sys", "sysfs", 0, NULL);
	fd = open("/proc/cmdline", O_RDONLY);
	if (fd >= 0 && read(fd, cmdline, sizeof(cmdline) - 1) < 0)
		cmdline[0] = '\0';
	root = option(cmdline, "bench.root=");
	words = option(cmdline, "bench.run=");
	if (root && words) {
		modules_load("/modules");
		status = run_in(root, words);
	}
	say(status ? "failed" : "done");
	sync();
	reboot(RB_POWER_OFF);
	for (;;)
		pause();
}
