/* SPDX-License-Identifier: MIT */
#include "guest/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "guest/guest.h"
#include "lib/base/cleanup.h"

#define TOP "/sys/fs/cgroup"

enum { MAX_DEPTH = 16 };

static int enter(const char *dir, struct err *e)
{
	char procs[256];
	int r;

	if (mkdir(dir, 0755) < 0 && errno != EEXIST)
		return err_sys(e, -errno, "create %s", dir);
	snprintf(procs, sizeof(procs), "%s/cgroup.procs", dir);
	r = write_text(procs, "0");
	return r < 0 ? err_sys(e, r, "enter %s", dir) : 0;
}

int cgroup_enter(const char *id, struct err *e)
{
	char path[160];
	int r;

	snprintf(path, sizeof(path), DISTRO_CGROUPS "/distro-%s", id);
	r = enter(path, e);
	if (r < 0)
		return r;
	return unshare(CLONE_NEWCGROUP) < 0 ? err_sys(e, -errno, "make a cgroup namespace") : 0;
}

static int open_dir(const char *path, struct err *e)
{
	int fd;

	if (mkdir(path, 0755) < 0 && errno != EEXIST)
		return err_sys(e, -errno, "create %s", path);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? err_sys(e, -errno, "open %s", path) : fd;
}

int cgroup_layout(struct cgroups *ret, struct err *e)
{
	int r = ret->root = open_dir(TOP, e);

	if (r >= 0 && mkdir(TOP "/wslx", 0755) < 0 && errno != EEXIST)
		r = err_sys(e, -errno, "create " TOP "/wslx");
	if (r >= 0)
		r = ret->sessions = open_dir(TOP "/wslx/sessions", e);
	if (r >= 0)
		r = ret->services = open_dir(TOP "/wslx/services", e);
	return r < 0 ? r : enter(TOP "/wslx/init", e);
}

void cgroup_delegate(const char *dir)
{
	static const char *const controllers[] = {"+cpuset", "+cpu", "+io", "+memory", "+pids"};

	char path[256];

	snprintf(path, sizeof(path), "%s/cgroup.subtree_control", dir);
	/* One by one: what this kernel lacks keeps none of the others back. */
	for (size_t i = 0; i < ARRAY_LEN(controllers); i++)
		write_text(path, controllers[i]);
}

/* A small file of a cgroup; its text is empty when it cannot be read. */
static void read_at(int dir, const char *name, char *buf, size_t cap)
{
	cleanup_close int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, buf, cap - 1);

	buf[n > 0 ? n : 0] = '\0';
}

bool cgroup_populated(int dir)
{
	char text[128];

	read_at(dir, "cgroup.events", text, sizeof(text));
	return strstr(text, "populated 1") != NULL;
}

/* Calls fn for each folder in dir until it returns true. */
static bool each(int dir, unsigned depth,
	bool (*fn)(int sub, const char *name, unsigned depth, void *ctx), void *ctx)
{
	int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	bool found = false;

	if (!d && fd >= 0)
		close(fd);
	for (struct dirent *de; d && depth < MAX_DEPTH && !found && (de = readdir(d));) {
		if (de->d_type != DT_DIR || de->d_name[0] == '.')
			continue;
		cleanup_close int sub = openat(fd, de->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		found = sub >= 0 && fn(sub, de->d_name, depth + 1, ctx);
	}
	if (d)
		closedir(d);
	return found;
}

static bool matches(const char *name, const char *const *patterns)
{
	for (; *patterns; patterns++)
		if (fnmatch(*patterns, name, 0) == 0)
			return true;
	return false;
}

bool cgroup_base_unit(const char *name)
{
	static const char *const base[] = {"init.scope", "systemd-*.service", "systemd-*.socket",
		"dbus.service", "dbus-broker.service", "dbus.socket", "*getty@*.service",
		"console-getty.service", "session-*.scope", "user-runtime-dir@*.service",
		"polkit.service", "rsyslog.service", "wslx-*", "*.mount", "*.swap",
		"gpg-agent.service", "dirmngr.service", NULL};

	return matches(name, base);
}

static bool is_service(int dir, const char *name, unsigned depth, void *ctx)
{
	static const char *const inner[] = {"*.slice", "user@*.service", NULL};

	if ((depth == 1 && !strcmp(name, "wslx")) || !cgroup_populated(dir))
		return false;
	/* A slice is what its units are, and a user's manager what the user's units are. */
	if (matches(name, inner))
		return each(dir, depth, is_service, NULL);
	return !cgroup_base_unit(name);
}

bool cgroup_services(int root)
{
	return each(root, 0, is_service, NULL);
}

static bool signal_one(int dir, const char *name, unsigned depth, void *ctx)
{
	int signo = *(const int *)ctx;
	int fd = openat(dir, "cgroup.procs", O_RDONLY | O_CLOEXEC);
	cleanup_fclose FILE *f = fd < 0 ? NULL : fdopen(fd, "r");
	char line[32];

	if (!f && fd >= 0)
		close(fd);
	while (f && fgets(line, sizeof(line), f)) {
		pid_t pid = (pid_t)atoi(line);

		/* 0: a process of a namespace that is none of ours. */
		if (pid > 1)
			kill(pid, signo);
	}
	each(dir, depth, signal_one, ctx);
	return false;
}

void cgroup_signal(int dir, int signo)
{
	signal_one(dir, "", 0, &signo);
}

static bool remove_one(int dir, const char *name, unsigned depth, void *ctx)
{
	int parent = *(const int *)ctx;

	each(dir, depth, remove_one, &dir);
	unlinkat(parent, name, AT_REMOVEDIR);
	return false;
}

void cgroup_remove(const char *path)
{
	cleanup_close int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (dir < 0)
		return;
	each(dir, 0, remove_one, &dir);
	/* Its last process may be on its way out yet. */
	for (int i = 0; i < 16 && rmdir(path) < 0 && errno == EBUSY; i++)
		usleep(1000);
}
