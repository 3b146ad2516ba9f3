/* SPDX-License-Identifier: MIT */
/* Whose a port of this host is: the socket's inode from /proc/net (proc(5)), then the process that has it open. */
#include <arpa/inet.h>
#include <ctype.h>
#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "daemon/ports.h"
#include "lib/base/io.h"
#include "lib/base/proc.h"

/* 0: not found. */
static unsigned long inode_of(const char *table, unsigned port, bool tcp)
{
	cleanup_fclose FILE *f = fopen(table, "re");
	char line[400];

	while (f && fgets(line, sizeof(line), f)) {
		unsigned long inode;
		unsigned p, state;

		if (sscanf(line,
			    " %*d: %*[0-9A-Fa-f]:%x %*[0-9A-Fa-f]:%*x %x %*x:%*x %*x:%*x %*x %*u %*u %lu",
			    &p, &state, &inode) == 3 &&
			p == port && (!tcp || state == 10))
			return inode;
	}
	return 0;
}

static bool has_socket(const char *pid, unsigned long inode)
{
	char path[300], want[64], link[64];
	struct dirent *de;
	bool found = false;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%s/fd", pid);
	snprintf(want, sizeof(want), "socket:[%lu]", inode);
	d = opendir(path);
	while (d && !found && (de = readdir(d))) {
		ssize_t n = readlinkat(dirfd(d), de->d_name, link, sizeof(link) - 1);

		found = n > 0 && (size_t)n == strlen(want) && !memcmp(link, want, (size_t)n);
	}
	if (d)
		closedir(d);
	return found;
}

bool port_owner(const char *listen_at, char *buf, size_t cap)
{
	static const char *const suffix[] = {"", "6"};
	unsigned long inode = 0;
	char proto[4], table[32], path[300];
	uint64_t oldest = 0;
	struct dirent *de;
	unsigned port;
	DIR *d;

	if (sscanf(listen_at, "%3s %*s %u", proto, &port) != 2)
		return false;
	for (unsigned i = 0; i < ARRAY_LEN(suffix) && !inode; i++) {
		snprintf(table, sizeof(table), "/proc/net/%s%s", proto, suffix[i]);
		inode = inode_of(table, port, !strcmp(proto, "tcp"));
	}
	/* The oldest that has it: others are children of its, workers or such as are about to execute another program. */
	d = inode ? opendir("/proc") : NULL;
	while (d && (de = readdir(d))) {
		cleanup_free char *name = NULL;
		uint64_t started;

		if (!isdigit((unsigned char)de->d_name[0]) || !has_socket(de->d_name, inode))
			continue;
		started = proc_start_time(atoi(de->d_name));
		if (!started || (oldest && started >= oldest))
			continue;
		snprintf(path, sizeof(path), "/proc/%s/comm", de->d_name);
		if (io_read_file(path, 64, &name, NULL) < 0)
			continue;
		name[strcspn(name, "\n")] = '\0';
		/* A program gives itself any name, and this one goes into JSON. */
		for (char *c = name; *c; c++)
			*c = *c >= ' ' && *c <= '~' ? *c : '?';
		snprintf(buf, cap, "%s (process %s)", name, de->d_name);
		oldest = started;
	}
	if (d)
		closedir(d);
	return oldest != 0;
}
