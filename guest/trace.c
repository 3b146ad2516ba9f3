/* SPDX-License-Identifier: MIT */
#include "guest/trace.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>
#include "guest/guest.h"
#include "lib/base/cleanup.h"

enum { PATH_LEN = 160 };

static const char *in_buffer(char path[PATH_LEN], const char *buffer, const char *file)
{
	snprintf(path, PATH_LEN, TRACEFS "/instances/%s%s", buffer, file);
	return path;
}

int trace_buffer(const char *name, unsigned kib)
{
	char path[PATH_LEN], size[16];

	if (mount("tracefs", TRACEFS, "tracefs", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0 &&
		errno != EBUSY)
		return -errno;
	if (mkdir(in_buffer(path, name, ""), 0700) < 0 && errno != EEXIST)
		return -errno;
	snprintf(size, sizeof(size), "%u", kib);
	/* One of the kernel's own size is as good. */
	write_text(in_buffer(path, name, "/buffer_size_kb"), size);
	return 0;
}

int trace_probe(const char *definition)
{
	/* Opened for writing alone, the file would forget the others. */
	cleanup_close int fd = open(TRACEFS "/kprobe_events", O_WRONLY | O_APPEND | O_CLOEXEC);

	if (fd < 0 || write(fd, definition, strlen(definition)) < 0)
		return errno == EEXIST ? 0 : -errno;
	return 0;
}

int trace_event(const char *buffer, const char *event, const char *filter)
{
	char path[PATH_LEN], file[80];
	int r = 0;

	if (filter) {
		snprintf(file, sizeof(file), "/events/%s/filter", event);
		r = write_text(in_buffer(path, buffer, file), filter);
	}
	snprintf(file, sizeof(file), "/events/%s/enable", event);
	return r < 0 ? r : write_text(in_buffer(path, buffer, file), "1");
}

int trace_read(const char *buffer)
{
	char path[PATH_LEN];
	int fd = open(in_buffer(path, buffer, "/trace_pipe"), O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}
