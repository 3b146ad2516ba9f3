/* SPDX-License-Identifier: MIT */
#include "daemon/vmlog.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "lib/base/cleanup.h"
#include "lib/base/io.h"

static void log_path(const char *data_dir, const char *name, char *buf, size_t cap)
{
	snprintf(buf, cap, "%s/log%s%s", data_dir, *name ? "/" : "", name);
}

static void rotate(const char *path)
{
	char old[PATH_MAX];

	if (snprintf(old, sizeof(old), "%s.old", path) < (int)sizeof(old))
		rename(path, old);
}

int vmlog_open(const char *data_dir, char *serial, size_t cap, struct err *e)
{
	char path[PATH_MAX];
	int fd, r;

	log_path(data_dir, "", path, sizeof(path));
	r = io_mkdir_p(path, 0700);
	if (r < 0)
		return err_sys(e, r, "make %s", path);
	log_path(data_dir, "console.log", path, sizeof(path));
	rotate(path);
	if (snprintf(serial, cap, "file:%s", path) >= (int)cap)
		return err_set(e, -ENAMETOOLONG, "path too long");
	log_path(data_dir, "wslx-vmm.log", path, sizeof(path));
	rotate(path);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
	return fd < 0 ? err_sys(e, -errno, "open %s", path) : fd;
}

/* The last line, if it is more than mere information; "wslx-vmm: " is dropped from it. failed: it
 * ended with an error of its own, which then is that line. */
static bool last_line(const char *path, bool failed, char *buf, size_t cap)
{
	static const char prefix[] = "wslx-vmm: ";
	char tail[4097], *line, *end;
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
	off_t size = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);
	ssize_t n;

	if (size <= 0)
		return false;
	n = pread(fd, tail, sizeof(tail) - 1, size > 4096 ? size - 4096 : 0);
	if (n <= 0)
		return false;
	tail[n] = '\0';
	end = tail + n;
	while (end > tail && end[-1] == '\n')
		*--end = '\0';
	line = strrchr(tail, '\n');
	line = line ? line + 1 : tail;
	if (strncmp(line, prefix, strlen(prefix)) == 0)
		line += strlen(prefix);
	/* What it says at its start, on its way to success. */
	if (!*line || (strncmp(line, "engine ", 7) == 0 && !failed))
		return false;
	snprintf(buf, cap, "%s", line);
	return true;
}

void vmlog_reason(const char *data_dir, bool known, int wait_status, char *buf, size_t cap)
{
	char path[PATH_MAX], line[400];
	bool said, failed;

	log_path(data_dir, "wslx-vmm.log", path, sizeof(path));
	failed = known && WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == 1;
	said = last_line(path, failed, line, sizeof(line));
	if (known && WIFSIGNALED(wait_status))
		snprintf(buf, cap, "wslx-vmm was killed by signal %d (%s)", WTERMSIG(wait_status),
			strsignal(WTERMSIG(wait_status)));
	else if (known && WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == 0)
		snprintf(buf, cap, "the guest powered off");
	else if (said)
		snprintf(buf, cap, "wslx-vmm: %s", line);
	else if (known && WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == 3)
		snprintf(buf, cap, "the guest's kernel stopped; see %s/log/console.log", data_dir);
	else if (known && WIFEXITED(wait_status))
		snprintf(buf, cap, "wslx-vmm exited with status %d; see %s",
			WEXITSTATUS(wait_status), path);
	else
		snprintf(buf, cap, "wslx-vmm ended; see %s", path);
}
