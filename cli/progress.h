/* SPDX-License-Identifier: MIT */
/* How far a long piece of work has come, on stderr if that is a terminal; silent otherwise. */
#ifndef WSLX_CLI_PROGRESS_H
#define WSLX_CLI_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
	const char *what; /* "exporting"; static */
	bool show, shown;
	uint64_t next_ns;
};

void progress_begin(struct progress *p, const char *what);
/* Bytes; total 0: not known. files 0: nothing is said of them. To be called as often as there is news. */
void progress_show(struct progress *p, uint64_t done, uint64_t total, uint64_t files);
/* Leaves the line complete (good: the work was done), so that something else can be printed. */
void progress_end(struct progress *p, bool good);

#endif
