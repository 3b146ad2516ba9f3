/* SPDX-License-Identifier: MIT */
/*
 * One program run in a distribution, seen from the client: the EXEC, its streams, its end
 * (docs/protocol.md). Connections come from wslxd; what travels on them does not pass it.
 */
#ifndef WSLX_CLI_SESSION_H
#define WSLX_CLI_SESSION_H

#include "cli/cli.h"

struct session_spec {
	const char *distribution, *user, *cwd; /* NULL: the default */
	const char *id;			       /* of the distribution, instead of its name; NULL */
	bool debug;			       /* as root in its virtual machine */
	bool exec;			       /* without a shell */
	bool login;			       /* the shell is a login shell */
	char **args;			       /* NULL-ended; none: a login shell */
};

/* Runs it; its exit status, or one of ours. */
int session_run(const struct session_spec *spec);

#endif
