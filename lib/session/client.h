/* SPDX-License-Identifier: MIT */
/*
 * A session's client: one program run on the other side with our standard descriptors, from EXEC to its end
 * (docs/protocol.md). Where the connections come from is the caller's matter: the command gets them from wslxd, a
 * distribution's program from its init. One a process, whose signals and terminal it takes; errors are said once.
 */
#ifndef WSLX_SESSION_CLIENT_H
#define WSLX_SESSION_CLIENT_H

#include <stdbool.h>
#include "lib/base/attr.h"
#include "lib/wire/msg.h"

/* Exit statuses when it is not the program's own, as env(1)'s. */
enum { CLIENT_FAILED = 125, CLIENT_NOT_EXECUTABLE = 126, CLIENT_NOT_FOUND = 127 };

/* What our standard descriptors ask for: a terminal, where both input and output are one, or pipes. */
struct client_streams {
	unsigned n, stream[3]; /* in the order of their connections */
	bool tty, err_pipe;
};

void client_streams(struct client_streams *ret);

struct client {
	const char *intent; /* of messages: "run a command in debian" */
	/* Says one line to the user; fail returns CLIENT_FAILED. */
	int (*fail)(const char *fmt, ...) PRINTF_LIKE(1, 2);
	void (*warning)(const char *fmt, ...) PRINTF_LIKE(1, 2);
	/* Adds to EXEC what to run: ARG, ENV, USER, CWD, FLAGS. */
	void (*request)(void *ctx, struct wire_w *w);
	/* The connection broke off: says why; the exit status. */
	int (*lost)(void *ctx);
	void *ctx;
};

/* fds: the session's connection, then one for each stream. The program's exit status, or one of ours. */
int client_run(const struct client *c, const struct client_streams *st, const int *fds);

#endif
