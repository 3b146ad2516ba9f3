/* SPDX-License-Identifier: MIT */
/*
 * The program bench/soft runs natively and as the first process of a guest. Each workload runs a count of iterations several
 * times; printed is the median of those times by the monotonic clock, and the checksum, which is the same every time.
 *
 *     bench-soft --list | --calibrate [NAME]... | --run NAME:COUNT... | --job COMMAND...
 *
 * As process 1 it takes the same arguments from "bench.args=A,B,..." on the kernel's command line and powers off at the end.
 * With "bench.root=DEV" it loads the modules, mounts that disk and runs "--job" in it: COMMAND is a file in /bench to
 * be run by /bin/sh, whose last line of output is its checksum. With "bench.init=PROGRAM" it gives the machine to that
 * program of the disk instead, as an initramfs does.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "bench/guest/bench.h"
#include "guest/guest.h"

enum { REPEATS = 5, TARGET_US = 4000 };

static const struct workload *const families[] = {
	work_int, work_data, work_coding, work_float, work_memory, work_kernel, work_process};

void die(const char *what)
{
	printf("BENCH-ERROR %s: %s\n", what, strerror(errno));
	fflush(stdout);
	if (getpid() == 1)
		reboot(RB_POWER_OFF);
	_exit(1);
}

static uint64_t now(void)
{
	struct timespec t;

	must(clock_gettime(CLOCK_MONOTONIC, &t));
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static uint64_t timed(const struct workload *w, uint64_t n, uint64_t *sum)
{
	uint64_t start = now();

	*sum = w->run(n);
	return now() - start;
}

static int by_size(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static const struct workload *find(const char *name, size_t len)
{
	for (size_t f = 0; f < sizeof(families) / sizeof(*families); f++)
		for (const struct workload *w = families[f]; w->name; w++)
			if (strlen(w->name) == len && memcmp(w->name, name, len) == 0)
				return w;
	errno = EINVAL;
	die(name);
}

/* The first time sets up what a workload keeps and warms caches, on every engine alike; it does not count. */
static void measure(const char *what)
{
	size_t len = strcspn(what, ":");
	const struct workload *w = find(what, len);
	uint64_t n = what[len] ? strtoull(what + len + 1, NULL, 10) : 0, t[REPEATS], first, sum;

	printf("BENCH-START %s\n", w->name);
	fflush(stdout);
	timed(w, n, &first);
	for (int i = 0; i < REPEATS; i++) {
		t[i] = timed(w, n, &sum);
		if (sum != first)
			die("checksums of one workload differ");
	}
	qsort(t, REPEATS, sizeof(*t), by_size);
	printf("BENCH-RESULT %s %llu %llu %016llx\n", w->name, (unsigned long long)n,
		(unsigned long long)t[REPEATS / 2], (unsigned long long)sum);
}

static void calibrate(const struct workload *w)
{
	uint64_t target = (w->target_us ? w->target_us : TARGET_US) * 1000ULL, n = 1, best = 0, sum;

	timed(w, 1, &sum);
	for (;;) {
		best = timed(w, n, &sum);
		if (best >= target / 2)
			break;
		n = best < target / 32 ? n * 8 : n * 2;
	}
	/* The quickest of a few: whatever else the machine did would make the count too small. */
	for (int i = 0; i < 3; i++) {
		uint64_t t = timed(w, n, &sum);

		best = t < best ? t : best;
	}
	n = n * target / (best ? best : 1);
	printf("BENCH-COUNT %s %llu\n", w->name, (unsigned long long)(n ? n : 1));
}

static void job(const char *name, const char *root)
{
	char script[128], line[256] = "", last[256] = "";
	int out[2], status;
	uint64_t start;
	pid_t pid;
	FILE *f;

	printf("BENCH-START %s\n", name);
	fflush(stdout);
	snprintf(script, sizeof(script), "/bench/%s", name);
	must(pipe(out));
	start = now();
	pid = fork();
	must(pid);
	if (pid == 0) {
		if (dup2(out[1], 1) < 0 || dup2(out[1], 2) < 0 || chroot(root) < 0 ||
			chdir("/") < 0)
			_exit(126);
		close(out[0]);
		close(out[1]);
		execl("/bin/sh", "sh", script, NULL);
		_exit(127);
	}
	close(out[1]);
	f = fdopen(out[0], "r");
	while (f && fgets(line, sizeof(line), f))
		memcpy(last, line, sizeof(last));
	must(waitpid(pid, &status, 0));
	start = now() - start;
	last[strcspn(last, "\n")] = '\0';
	if (f)
		fclose(f);
	if (status != 0) {
		printf("BENCH-ERROR %s: status %#x: %s\n", name, (unsigned)status, last);
		return;
	}
	for (char *p = last; *p; p++)
		if (*p == ' ')
			*p = '_';
	printf("BENCH-RESULT %s 1 %llu %s\n", name, (unsigned long long)start, last);
}

static void list(bool measured)
{
	for (size_t f = 0; f < sizeof(families) / sizeof(*families); f++)
		for (const struct workload *w = families[f]; w->name; w++) {
			if (measured)
				calibrate(w);
			else
				printf("%s\n", w->name);
		}
}

static void command(int argc, char **argv, const char *root)
{
	const char *verb = argc > 0 ? argv[0] : "";

	if (strcmp(verb, "--list") == 0)
		list(false);
	else if (strcmp(verb, "--calibrate") == 0 && argc == 1)
		list(true);
	else if (strcmp(verb, "--calibrate") == 0)
		for (int i = 1; i < argc; i++)
			calibrate(find(argv[i], strlen(argv[i])));
	else if (strcmp(verb, "--run") == 0)
		for (int i = 1; i < argc; i++)
			measure(argv[i]);
	else if (strcmp(verb, "--job") == 0)
		for (int i = 1; i < argc; i++)
			job(argv[i], root);
	else if (strcmp(verb, "--idle") == 0)
		printf("BENCH-IDLE\n");
	else
		printf("BENCH-ERROR usage: --list | --calibrate | --run | --job | --idle\n");
}

static char *option(char *cmdline, const char *name)
{
	char *p = strstr(cmdline, name);

	return p ? strndup(p + strlen(name), strcspn(p + strlen(name), " \n")) : NULL;
}

static void mount_disk(const char *dev)
{
	modules_load("/modules");
	for (int i = 0; access(dev, F_OK) < 0 && i < 30000; i++)
		usleep(1000);
	mkdir("/root", 0755);
	must(mount(dev, "/root", "ext4", MS_NOATIME, ""));
}

static void mount_around_jobs(void)
{
	must(mount("proc", "/root/proc", "proc", 0, NULL));
	must(mount("dev", "/root/dev", "devtmpfs", 0, NULL));
	must(mount("tmp", "/root/tmp", "tmpfs", 0, NULL));
}

static _Noreturn void become(const char *init)
{
	must(mount("/dev", "/root/dev", NULL, MS_MOVE, NULL));
	must(mount("/proc", "/root/proc", NULL, MS_MOVE, NULL));
	must(mount("/sys", "/root/sys", NULL, MS_MOVE, NULL));
	must(chdir("/root"));
	must(mount(".", "/", NULL, MS_MOVE, NULL));
	must(chroot("."));
	must(chdir("/"));
	execl(init, init, NULL);
	die(init);
}

static void as_init(void)
{
	static char cmdline[4096];
	char *argv[128] = {NULL}, *save, *words, *root, *init;
	int argc = 0, fd;

	printf("BENCH-INIT\n");
	fflush(stdout);
	mkdir("/dev", 0755);
	mkdir("/proc", 0755);
	mkdir("/sys", 0755);
	mount("dev", "/dev", "devtmpfs", 0, NULL);
	must(mount("proc", "/proc", "proc", 0, NULL));
	mount("sys", "/sys", "sysfs", 0, NULL);
	fd = open("/proc/cmdline", O_RDONLY);
	must(fd);
	must(read(fd, cmdline, sizeof(cmdline) - 1));
	words = option(cmdline, "bench.args=");
	root = option(cmdline, "bench.root=");
	init = option(cmdline, "bench.init=");
	if (root)
		mount_disk(root);
	if (root && init)
		become(init);
	if (root)
		mount_around_jobs();
	for (char *w = words ? strtok_r(words, ",", &save) : NULL; w && argc < 127;
		w = strtok_r(NULL, ",", &save))
		argv[argc++] = w;
	command(argc, argv, "/root");
	printf("BENCH-DONE\n");
	fflush(stdout);
	if (argc > 0 && strcmp(argv[0], "--idle") == 0)
		for (;;)
			pause();
	sync();
	reboot(RB_POWER_OFF);
}

int main(int argc, char **argv)
{
	const char *root = getenv("BENCH_ROOT");

	if (argc == 3 && strcmp(argv[1], "--exit") == 0)
		return atoi(argv[2]);
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (getpid() == 1)
		as_init();
	else
		command(argc - 1, argv + 1, root ? root : "/");
	return 0;
}
