/* SPDX-License-Identifier: MIT */
#include "cli/progress.h"

#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "lib/base/attr.h"
#include "lib/base/loop.h"

enum { REDRAW_MS = 100, BAR_MAX = 40, TEXT = 48 /* what stands beside the bar, at most */ };

void progress_begin(struct progress *p, const char *what)
{
	*p = (struct progress){.what = what, .show = isatty(STDERR_FILENO)};
}

static unsigned bar_width(void)
{
	struct winsize ws;

	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &ws) < 0 || ws.ws_col == 0)
		return BAR_MAX / 2;
	return ws.ws_col > (unsigned)TEXT ? MIN(ws.ws_col - (unsigned)TEXT, (unsigned)BAR_MAX) : 0;
}

void progress_show(struct progress *p, uint64_t done, uint64_t total, uint64_t files)
{
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

void progress_end(struct progress *p, bool good)
{
	if (p->shown)
		fprintf(stderr, good ? "\r%s: done\033[K\n" : "\n", p->what);
	p->shown = false;
}
