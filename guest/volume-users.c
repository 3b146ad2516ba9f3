/* SPDX-License-Identifier: MIT */
/* Which processes keep a file system from being unmounted, as far as /proc tells. */
#include "guest/volume.h"

#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "lib/base/attr.h"
#include "lib/base/cleanup.h"
#include "lib/base/io.h"

enum { NAMED_MAX = 3 };

static bool on(const char *path, uint64_t dev)
{
	struct stat st;

	return stat(path, &st) == 0 && st.st_dev == dev;
}

static bool any_fd(const char *pid, uint64_t dev)
{
	char path[600];
	bool found = false;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%s/fd", pid);
	d = opendir(path);
	for (struct dirent *de; !found && d && (de = readdir(d));) {
		snprintf(path, sizeof(path), "/proc/%s/fd/%s", pid, de->d_name);
		found = de->d_name[0] != '.' && on(path, dev);
	}
	if (d)
		closedir(d);
	return found;
}

static bool uses(const char *pid, uint64_t dev)
{
	static const char *const links[] = {"cwd", "root", "exe"};
	char path[300];

	for (size_t i = 0; i < ARRAY_LEN(links); i++) {
		snprintf(path, sizeof(path), "/proc/%s/%s", pid, links[i]);
		if (on(path, dev))
			return true;
	}
	return any_fd(pid, dev);
}

/* The last number of a line of /proc/PID/status: a process's id as it sees it itself. */
static unsigned inner_pid(const char *status)
{
	const char *line = strstr(status, "\nNSpid:");
	unsigned pid = 0;

	if (!line)
		return 0;
	line += strlen("\nNSpid:");
	for (const char *end = strchrnul(line, '\n'); line < end;) {
		char *stop;
		unsigned long v = strtoul(line, &stop, 10);

		if (stop == line || stop > end)
			break;
		pid = (unsigned)v;
		line = stop;
	}
	return pid;
}

static const char *owner_of(const char *pid, volume_owner_fn owner)
{
	static const char mark[] = "/distros/distro-";
	cleanup_free char *text = NULL;
	char path[300], *id;

	snprintf(path, sizeof(path), "/proc/%s/cgroup", pid);
	if (io_read_file(path, 1 << 16, &text, NULL) < 0 || !(id = strstr(text, mark)))
		return NULL;
	id += strlen(mark);
	id[strcspn(id, "/\n")] = '\0';
	return owner(id);
}

static size_t describe(const char *pid, volume_owner_fn owner, bool first, char *buf, size_t cap)
{
	cleanup_free char *comm = NULL, *status = NULL;
	const char *distro = owner_of(pid, owner);
	char path[300];
	int n;

	snprintf(path, sizeof(path), "/proc/%s/comm", pid);
	if (io_read_file(path, 64, &comm, NULL) < 0)
		return 0;
	snprintf(path, sizeof(path), "/proc/%s/status", pid);
	if (io_read_file(path, 1 << 16, &status, NULL) < 0)
		return 0;
	comm[strcspn(comm, "\n")] = '\0';
	for (char *p = comm; *p; p++)
		if (!isprint((unsigned char)*p))
			*p = '?';
	n = snprintf(buf, cap, "%s%s (process %u%s%s)", first ? "" : ", ", comm, inner_pid(status),
		distro ? " of " : "", distro ? distro : "");
	return n > 0 && (size_t)n < cap ? (size_t)n : 0;
}

void volume_users(uint64_t dev, volume_owner_fn owner, char *buf, size_t cap)
{
	unsigned named = 0, more = 0;
	DIR *d = opendir("/proc");
	size_t len = 0;

	buf[0] = '\0';
	for (struct dirent *de; d && (de = readdir(d));) {
		size_t n;

		if (!isdigit((unsigned char)de->d_name[0]) || !uses(de->d_name, dev))
			continue;
		if (named == NAMED_MAX) {
			more++;
			continue;
		}
		n = describe(de->d_name, owner, named == 0, buf + len, cap - len);
		len += n;
		named += n > 0;
		buf[len] = '\0';
	}
	if (more)
		snprintf(buf + len, cap - len, " and %u more", more);
	if (d)
		closedir(d);
}
