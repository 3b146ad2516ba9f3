/* SPDX-License-Identifier: MIT */
/* How far a long piece of work has come, on stderr if that is a terminal; silent otherwise. */
#ifndef WSLX_CLI_PROGRESS_H
#define WSLX_CLI_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>
#include "lib/ctl/client.h"

struct progress {
	const char *what;
	bool show, shown;
	uint64_t next_ns;
};

struct progress progress_begin(const char *what);
/* total 0: not known; files 0: nothing is said of them. Costs nothing most of the time. */
void progress_show(struct progress *p, uint64_t done, uint64_t total, uint64_t files);
/* The line is left complete, so that something else can be printed. */
void progress_end(struct progress *p, bool good);

/*
 * Calls a method whose events tell "bytes", "total" (0: not known) and "files" (0: nothing is said of them). fd: to
 * be passed along, borrowed; negative: none. params is taken over; otherwise as ctl_call().
 */
int progress_call(struct ctl_client *c, const char *what, const char *method,
	struct json_object *params, int fd, struct json_object **ret, struct err *e);

#endif
