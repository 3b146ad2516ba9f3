/* SPDX-License-Identifier: MIT */
#include "cli/progress.h"

#include <stdbool.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "lib/base/attr.h"
#include "lib/base/loop.h"
#include "lib/json/json.h"

enum { REDRAW_MS = 100, BAR_MAX = 40, TEXT = 48 /* what stands beside the bar, at most */ };

static unsigned bar_width(void)
{
	struct winsize ws;

	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &ws) < 0 || ws.ws_col == 0)
		return BAR_MAX / 2;
	return ws.ws_col > (unsigned)TEXT ? MIN(ws.ws_col - (unsigned)TEXT, (unsigned)BAR_MAX) : 0;
}

struct progress progress_begin(const char *what)
{
	return (struct progress){.what = what, .show = isatty(STDERR_FILENO)};
}

void progress_end(struct progress *p, bool good)
{
	if (p->shown)
		fprintf(stderr, good ? "\r%s: done\033[K\n" : "\n", p->what);
	p->shown = false;
}

static void on_event(void *ctx, struct json_object *event)
{
	progress_show(ctx, js_u64(event, "bytes", 0), js_u64(event, "total", 0),
		js_u64(event, "files", 0));
}

void progress_show(struct progress *p, uint64_t done, uint64_t total, uint64_t files)
{
	uint64_t now = p->show ? loop_now() : 0;
	unsigned width, full;

	if (!p->show || now < p->next_ns)
		return;
	width = bar_width();
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
	struct progress p = progress_begin(what);
	struct ctl_req req = {.method = method,
		.params = params,
		.fds = &fd,
		.nfds = fd >= 0,
		.on_event = on_event,
		.ctx = &p};
	int r = ctl_call(c, &req, ret, e);

	progress_end(&p, r == 0);
	return r;
}
