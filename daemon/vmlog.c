/* SPDX-License-Identifier: MIT */
#include "daemon/vmlog.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "lib/base/attr.h"
#include "lib/base/cleanup.h"
#include "lib/base/io.h"

static void log_path(const char *log_dir, const char *name, char *buf, size_t cap)
{
	snprintf(buf, cap, "%s%s%s", log_dir, *name ? "/" : "", name);
}

/* A terminal or /dev/null stays where it is. */
static void rotate(const char *path)
{
	char old[PATH_MAX];
	struct stat st;

	if (lstat(path, &st) == 0 && S_ISREG(st.st_mode) &&
		snprintf(old, sizeof(old), "%s.old", path) < (int)sizeof(old))
		rename(path, old);
}

int vmlog_open(const char *log_dir, const char *file, char *console, size_t cap, struct err *e)
{
	char path[PATH_MAX];
	int fd, r;

	log_path(log_dir, "", path, sizeof(path));
	r = io_mkdir_p(path, 0700);
	if (r < 0)
		return err_sys(e, r, "make %s", path);
	log_path(log_dir, "console.log", path, sizeof(path));
	if (snprintf(console, cap, "%s", file ? file : path) >= (int)cap)
		return err_set(e, -ENAMETOOLONG, "path too long");
	rotate(console);
	log_path(log_dir, "wslx-vmm.log", path, sizeof(path));
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

/* The last line of text[0..len) that holds this; its rest from there on. */
static const char *find_last(const char *text, size_t len, const char *what, size_t *ret_len)
{
	const char *found = NULL, *end = text + len;

	for (const char *p = text; (p = memmem(p, (size_t)(end - p), what, strlen(what))); p++)
		found = p;
	if (!found)
		return NULL;
	*ret_len = strcspn(found, "\r\n");
	return found;
}

static void append(char *buf, size_t cap, const char *text, size_t len)
{
	size_t n = strlen(buf);

	for (size_t i = 0; i < len && n + 1 < cap; i++)
		buf[n++] = text[i] >= ' ' && text[i] <= '~' ? text[i] : '?';
	buf[n] = '\0';
}

bool vmlog_panic(const char *text, size_t len, char *buf, size_t cap)
{
	static const char panic[] = "Kernel panic - not syncing: ";
	static const char *const causes[] = {"BUG: ", "Oops: ", "general protection fault"};
	cleanup_free char *copy = malloc(len + 1);
	const char *p, *cause;
	size_t n;

	if (!copy)
		abort();
	memcpy(copy, text, len);
	copy[len] = '\0'; /* a NUL of the guest's only shortens a line */
	p = find_last(copy, len, panic, &n);
	if (!p || n < strlen(panic))
		return false;
	buf[0] = '\0';
	append(buf, cap, "kernel panic: ", 14);
	append(buf, cap, p + strlen(panic), MIN(n - strlen(panic), (size_t)120));
	for (size_t i = 0; i < ARRAY_LEN(causes); i++) {
		cause = find_last(copy, (size_t)(p - copy), causes[i], &n);
		if (!cause)
			continue;
		append(buf, cap, " (", 2);
		append(buf, cap, cause, MIN(n, (size_t)120));
		append(buf, cap, ")", 1);
		break;
	}
	return true;
}

static bool read_panic(const char *console, char *buf, size_t cap)
{
	enum { TAIL = 64 << 10 };
	cleanup_close int fd = open(console, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	cleanup_free char *tail = malloc(TAIL);
	off_t size = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);
	ssize_t n;

	if (!tail)
		abort();
	n = size <= 0 ? 0 : pread(fd, tail, TAIL, MAX(size - TAIL, (off_t)0));
	return n > 0 && vmlog_panic(tail, (size_t)n, buf, cap);
}

void vmlog_reason(const char *log_dir, const char *console, bool known, int wait_status, char *buf,
	size_t cap)
{
	char path[PATH_MAX], line[400];
	bool said, failed;

	log_path(log_dir, "wslx-vmm.log", path, sizeof(path));
	failed = known && WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == 1;
	said = last_line(path, failed, line, sizeof(line));
	if (!(known && WIFSIGNALED(wait_status)) &&
		!(known && WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == 0) &&
		read_panic(console, line, sizeof(line)))
		snprintf(buf, cap, "%s; its last words are in %s", line, console);
	else if (known && WIFSIGNALED(wait_status))
		snprintf(buf, cap, "wslx-vmm was killed by signal %d (%s)", WTERMSIG(wait_status),
			strsignal(WTERMSIG(wait_status)));
	else if (known && WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == 0)
		snprintf(buf, cap, "the guest powered off");
	else if (said)
		snprintf(buf, cap, "wslx-vmm: %s", line);
	else if (known && WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == 3)
		snprintf(buf, cap, "the guest's kernel stopped; see %s", console);
	else if (known && WIFEXITED(wait_status))
		snprintf(buf, cap, "wslx-vmm exited with status %d; see %s",
			WEXITSTATUS(wait_status), path);
	else
		snprintf(buf, cap, "wslx-vmm ended; see %s", path);
}
