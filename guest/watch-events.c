/* SPDX-License-Identifier: MIT */
/*
 * Who begins and ceases to watch, by probes of the kernel's functions. What is watched, an event does not say; the process's
 * descriptor does.
 */
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>
#include "guest/trace.h"
#include "guest/watch.h"
#include "lib/base/log.h"

#define BUFFER "wslx-watch"

static const struct {
	const char *event, *probe;
} probes[] = {
	/* its argument is the registers of the system call; the first has the descriptor */
	{"wslx/watch_add", "p:wslx/watch_add __x64_sys_inotify_add_watch fd=+112(%di):s32\n"},
	{"wslx/watch_added", "r:wslx/watch_added __x64_sys_inotify_add_watch ret=$retval:s32\n"},
	{"wslx/watch_removed", "r:wslx/watch_removed __x64_sys_inotify_rm_watch\n"},
	{"wslx/watch_closed", "r:wslx/watch_closed inotify_release\n"},
};

static struct {
	const struct watch_event_fns *fns;
	struct loop_src *pipe;
	/* who is about to watch something */
	struct {
		pid_t pid;
		int fd;
	} begun[64];
	unsigned at;
	char text[8192];
	size_t len;
} ev;

static void begun(pid_t pid, int fd)
{
	ev.begun[ev.at % ARRAY_LEN(ev.begun)].pid = pid;
	ev.begun[ev.at++ % ARRAY_LEN(ev.begun)].fd = fd;
}

static int descriptor_of(pid_t pid)
{
	for (unsigned i = 1; i <= ARRAY_LEN(ev.begun); i++)
		if (ev.begun[(ev.at - i) % ARRAY_LEN(ev.begun)].pid == pid)
			return ev.begun[(ev.at - i) % ARRAY_LEN(ev.begun)].fd;
	return -1;
}

static void one_line(const char *line)
{
	pid_t pid;
	int fd;

	switch (watch_trace_parse(line, &pid, &fd)) {
	case WATCH_BEGINS: begun(pid, fd); break;
	case WATCH_BEGAN: ev.fns->added(pid, descriptor_of(pid)); break;
	case WATCH_FAILED: break;
	case WATCH_ENDED: ev.fns->removed(); break;
	case WATCH_OTHER: ev.fns->lost(); break;
	}
}

static void on_event(void *ctx, int fd, uint32_t revents)
{
	ssize_t n;

	while ((n = read(fd, ev.text + ev.len, sizeof(ev.text) - 1 - ev.len)) > 0) {
		char *line = ev.text, *end;

		ev.len += (size_t)n;
		ev.text[ev.len] = '\0';
		for (; (end = strchr(line, '\n')); line = end + 1) {
			*end = '\0';
			one_line(line);
		}
		ev.len -= (size_t)(line - ev.text);
		memmove(ev.text, line, ev.len);
		if (ev.len == sizeof(ev.text) - 1)
			ev.len = 0;
	}
}

static int open_events(void)
{
	int r = trace_buffer(BUFFER, 64);

	for (size_t i = 0; r == 0 && i < ARRAY_LEN(probes); i++) {
		r = trace_probe(probes[i].probe);
		if (r == 0)
			r = trace_event(BUFFER, probes[i].event, NULL);
		if (r < 0)
			log_warn("files", "probe %s: %s", probes[i].event, strerror(-r));
	}
	return r < 0 ? r : trace_read(BUFFER);
}

int watch_events_new(struct loop *l, const struct watch_event_fns *fns)
{
	int fd = open_events();

	ev.fns = fns;
	return fd < 0 ? fd : loop_io(l, fd, EPOLLIN, on_event, NULL, &ev.pipe);
}
