/* SPDX-License-Identifier: MIT */
#include "cli/progress.h"

#include <stdbool.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "lib/base/attr.h"
#include "lib/base/loop.h"
#include "lib/json/json.h"

struct progress {
	const char *what;
	bool show, shown;
	uint64_t next_ns;
};

enum { REDRAW_MS = 100, BAR_MAX = 40, TEXT = 48 /* what stands beside the bar, at most */ };

static unsigned bar_width(void)
{
	struct winsize ws;

	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &ws) < 0 || ws.ws_col == 0)
		return BAR_MAX / 2;
	return ws.ws_col > (unsigned)TEXT ? MIN(ws.ws_col - (unsigned)TEXT, (unsigned)BAR_MAX) : 0;
}

static void show(void *ctx, struct json_object *event)
{
	uint64_t done = js_u64(event, "bytes", 0), total = js_u64(event, "total", 0);
	uint64_t files = js_u64(event, "files", 0);
	struct progress *p = ctx;
	uint64_t now = loop_now();
	unsigned width = bar_width(), full;

	if (!p->show || now < p->next_ns)
		return;
	p->next_ns = now + REDRAW_MS * 1000000ull;
	p->shown = true;
	fprintf(stderr, "\r%s: ", p->what);
	if (total) {
		done = MIN(done, total);
		full = (unsigned)((double)done / (double)total * width);
		if (width)
			fprintf(stderr, "[%.*s%*s] ", (int)full,
				"########################################", (int)(width - full),
				"");
		fprintf(stderr, "%3u %%", (unsigned)((double)done * 100 / (double)total));
	} else {
		fprintf(stderr, "%llu MiB", (unsigned long long)done >> 20);
	}
	if (files)
		fprintf(stderr, ", %llu files", (unsigned long long)files);
	fputs("\033[K", stderr);
	fflush(stderr);
}

int progress_call(struct ctl_client *c, const char *what, const char *method,
	struct json_object *params, int fd, struct json_object **ret, struct err *e)
{
	struct progress p = {.what = what, .show = isatty(STDERR_FILENO)};
	struct ctl_req req = {.method = method,
		.params = params,
		.fds = &fd,
		.nfds = fd >= 0,
		.on_event = show,
		.ctx = &p};
	int r = ctl_call(c, &req, ret, e);

	/* The line is left complete, so that something else can be printed. */
	if (p.shown)
		fprintf(stderr, r == 0 ? "\r%s: done\033[K\n" : "\n", what);
	return r;
}
