/* SPDX-License-Identifier: MIT */
/*
 * Reaching wslxd. It may be starting, ending for want of work, or not there at all; each of these is
 * a matter of trying again, for a while.
 */
#include "lib/ctl/service.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "lib/base/cleanup.h"
#include "lib/base/loop.h"
#include "lib/base/proc.h"
#include "lib/base/xdg.h"

enum { PATIENCE_MS = 15000, PAUSE_MS = 20 };

static int try_connect(const char *path, struct ctl_client **ret, struct err *e)
{
	cleanup(ctl_client_freep) struct ctl_client *c = NULL;
	struct ctl_req req = {.method = "hello"};
	int r = ctl_connect(path, &c, e);

	if (r < 0)
		return r;
	/* A connection to one that is about to end is accepted, but never answered. */
	req.params = js_set_str(js_object(), "version", WSLX_VERSION);
	r = ctl_call(c, &req, NULL, e);
	if (r == 0)
		*ret = take_ptr(c);
	return r;
}

/* Starts wslxd and waits for what it says: 0, -EBUSY (another one was there before: e says which), or its error. */
static int start_service(struct err *e)
{
	char prog[PATH_MAX], log[PATH_MAX], data[PATH_MAX - 16], line[1100] = "";
	cleanup_close int log_fd = -EBADF, ready = -EBADF;
	int p[2], r = proc_find("wslxd", "daemon", "WSLX_WSLXD", prog, sizeof(prog), e);
	size_t len = 0;
	ssize_t n;

	if (r == 0)
		r = xdg_data(data, sizeof(data), e);
	if (r < 0)
		return r;
	snprintf(log, sizeof(log), "%s/wslxd.log", data);
	log_fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (log_fd < 0)
		return err_sys(e, -errno, "open %s", log);
	if (lseek(log_fd, 0, SEEK_END) > 1 << 20 && ftruncate(log_fd, 0) < 0)
		return err_sys(e, -errno, "shorten %s", log);
	if (pipe2(p, O_CLOEXEC) < 0)
		return err_sys(e, -errno, "start wslxd");
	ready = p[0];

	const char *argv[] = {
		prog, "--ready-fd", "3", getenv("WSLX_DEBUG") ? "--verbose" : NULL, NULL};
	struct proc_spawn s = {
		.argv = argv, .std = {-1, log_fd, log_fd}, .keep = p[1], .detach = true};

	r = proc_start(&s, e);
	close(p[1]);
	if (r < 0)
		return r;
	while (len < sizeof(line) - 1 && !strchr(line, '\n')) {
		n = read(ready, line + len, sizeof(line) - 1 - len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_set(e, -EIO, "wslxd ended at once; see %s", log);
		len += (size_t)n;
	}
	*strchrnul(line, '\n') = '\0';
	if (strcmp(line, "ok") == 0)
		return 0;
	if (strncmp(line, "busy: ", 6) == 0)
		return err_set(e, -EBUSY, "%s", line + 6);
	return err_set(e, -EIO, "wslxd: %s", line);
}

int service_connect(struct ctl_client **ret, struct err *e)
{
	uint64_t deadline = loop_now() + PATIENCE_MS * 1000000ull;
	const struct timespec pause = {.tv_nsec = PAUSE_MS * 1000000};
	char dir[PATH_MAX - 16], path[PATH_MAX];
	struct err busy = {0};
	int r = xdg_runtime(dir, sizeof(dir), e);

	if (r < 0)
		return r;
	snprintf(path, sizeof(path), "%s/%s", dir, XDG_SOCKET_NAME);
	for (;;) {
		r = try_connect(path, ret, e);
		if (r == 0 ||
			(r != -ENOENT && r != -ECONNREFUSED && r != -EPIPE && r != -ECONNRESET))
			return r;
		if (loop_now() > deadline && busy.code)
			return err_set(e, r,
				"%s, but nobody listens on %s: give this command the XDG_RUNTIME_DIR which that "
				"one was started with, or end it with 'kill' and its process number",
				busy.text, path);
		if (loop_now() > deadline)
			return err_wrap(e, r, "wslxd does not answer");
		r = start_service(e);
		if (r < 0 && r != -EBUSY)
			return err_wrap(e, r, "start the service");
		busy = r == -EBUSY ? *e : (struct err){0};
		if (r == -EBUSY)
			nanosleep(&pause, NULL);
	}
}

int service_open(struct ctl_client *c, const char *name, int *ret_fd, struct json_object **ret,
	struct err *e)
{
	struct ctl_fds fds = {0};
	struct ctl_req req = {.method = "open",
		.params = js_set_u64(js_object(), "connections", 1),
		.ret_fds = &fds};
	struct json_object *reply = NULL;
	int r;

	if (name)
		js_set_str(req.params, "distribution", name);
	r = ctl_call(c, &req, &reply, e);
	if (r < 0)
		return r;
	if (fds.n != 1) {
		ctl_fds_close(&fds);
		js_free(reply);
		return err_set(e, -EPROTO, "wslxd sent %u connections instead of one", fds.n);
	}
	*ret_fd = fds.fd[0];
	*ret = reply;
	return 0;
}
