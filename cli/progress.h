/* SPDX-License-Identifier: MIT */
/* How far a long piece of work has come, on stderr if that is a terminal; silent otherwise. */
#ifndef WSLX_CLI_PROGRESS_H
#define WSLX_CLI_PROGRESS_H

#include "lib/ctl/client.h"

/*
 * Calls a method whose events tell "bytes", "total" (0: not known) and "files" (0: nothing is said of them). fd: to
 * be passed along, borrowed; negative: none. params is taken over; otherwise as ctl_call().
 */
int progress_call(struct ctl_client *c, const char *what, const char *method,
	struct json_object *params, int fd, struct json_object **ret, struct err *e);

#endif
