/* SPDX-License-Identifier: MIT */
#include "guest/vm.h"
#include "guest/cgroup.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "guest/guest.h"
#include "guest/modprobe.h"
#include "lib/base/cleanup.h"
#include "lib/base/io.h"
#include "lib/base/log.h"

enum { MAX_HELPERS = 16, KEPT_MIB = 32, CPU_PERIOD_US = 100000 };

static struct helper {
	pid_t pid; /* 0: free */
	uint32_t type, id;
} helpers[MAX_HELPERS];

int helper_start(uint32_t type, uint32_t id, int (*fn)(const void *arg), const void *arg)
{
	struct helper *h = helpers;
	pid_t pid;

	while (h < helpers + MAX_HELPERS && h->pid)
		h++;
	if (h == helpers + MAX_HELPERS)
		return -EAGAIN;
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0)
		_exit(-fn(arg) & 0xff);
	*h = (struct helper){pid, type, id};
	return 0;
}

bool helper_ended(pid_t pid, int status, uint32_t *ret_type, uint32_t *ret_id, int *ret_error)
{
	for (struct helper *h = helpers; h < helpers + MAX_HELPERS; h++) {
		if (h->pid != pid)
			continue;
		*ret_type = h->type;
		*ret_id = h->id;
		*ret_error = WIFEXITED(status) ? -WEXITSTATUS(status) : -EIO;
		h->pid = 0;
		return true;
	}
	return false;
}

uint64_t memory_info(const char *name)
{
	cleanup_free char *text = NULL;
	unsigned long long kib = 0;
	const char *p;

	if (io_read_file("/proc/meminfo", 1 << 16, &text, NULL) < 0)
		return 0;
	/* At a line's start: "Cached:" is the end of another name, too. */
	for (p = text; (p = strstr(p, name)) && p != text && p[-1] != '\n'; p++)
		;
	if (p)
		sscanf(p + strlen(name), " %llu", &kib);
	return (uint64_t)kib << 10;
}

static void set(const char *file, const char *text)
{
	char path[128];
	int r;

	snprintf(path, sizeof(path), DISTRO_CGROUPS "/%s", file);
	r = write_text(path, text);
	if (r < 0)
		log_warn("init", "%s: %s", path, strerror(-r));
}

/*
 * Distributions together leave a little to the VM itself, so that one that takes all there is meets its own limit and not
 * the machine's end.
 */
static void make_cgroup(bool isolate)
{
	/* What the kernel itself needs by now is not counted among it. */
	uint64_t available = memory_info("MemAvailable:"), kept = (uint64_t)KEPT_MIB << 20;
	char text[64];

	if (mkdir(DISTRO_CGROUPS, 0755) < 0 && errno != EEXIST)
		log_warn("init", "make " DISTRO_CGROUPS ": %s", strerror(errno));
	cgroup_delegate(DISTRO_CGROUPS);
	if (!isolate)
		return;
	if (available > 2 * kept) {
		snprintf(text, sizeof(text), "%llu", (unsigned long long)(available - kept));
		set("memory.max", text);
	}
	snprintf(text, sizeof(text), "%d %d", get_nprocs() * CPU_PERIOD_US / 100 * 99,
		CPU_PERIOD_US);
	set("cpu.max", text);
}

/* WSL's: the kernel's own are too little for servers of thousands, and for whatever watches a project's files. */
static void raise_limits(void)
{
	const struct rlimit files = {10240, 1048576}, locked = {64 << 20, 64 << 20};

	setrlimit(RLIMIT_NOFILE, &files);
	setrlimit(RLIMIT_MEMLOCK, &locked);
	write_text("/proc/sys/fs/inotify/max_user_watches", "524288");
	/* Who uses the machine owns it. */
	write_text("/proc/sys/kernel/dmesg_restrict", "0");
}

void vm_set_up(void)
{
	cleanup_free char *cmdline = NULL;
	struct vmconf c;
	int r = io_read_file("/proc/cmdline", 1 << 16, &cmdline, NULL);

	vmconf_parse(r < 0 ? "" : cmdline, &c);
	raise_limits();
	make_cgroup(c.isolate);
	if (c.modules_lun != VMCONF_NO_LUN)
		modprobe_disk(c.modules_lun, c.load);
	if (c.crash && (r = crash_install()) < 0)
		log_warn("init", "core dumps stay in the guest: %s", strerror(-r));
	if (c.reclaim != VM_RECLAIM_OFF)
		reclaim_start(c.reclaim);
}

int clock_move(int64_t ns)
{
	enum { SLOWLY_NS = 100000000 };
	struct timespec now;

	if (ns > -SLOWLY_NS && ns < SLOWLY_NS) {
		struct timeval tv = {.tv_sec = 0, .tv_usec = ns / 1000};

		if (tv.tv_usec < 0) {
			tv.tv_sec = -1;
			tv.tv_usec += 1000000;
		}
		return adjtime(&tv, NULL) < 0 ? -errno : 0;
	}
	if (clock_gettime(CLOCK_REALTIME, &now) < 0)
		return -errno;
	if (__builtin_add_overflow(ns, (int64_t)now.tv_sec * 1000000000 + now.tv_nsec, &ns) ||
		ns < 0)
		return -EINVAL;
	now = (struct timespec){.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
	return clock_settime(CLOCK_REALTIME, &now) < 0 ? -errno : 0;
}
