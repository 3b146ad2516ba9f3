/* SPDX-License-Identifier: MIT */
/*
 * A program of somebody else's, e2fsck(8) or mkfs.xfs(8), that works on one file whose contents may be hostile: executed
 * with nothing of the host's but the program, its libraries, and that file.
 */
#ifndef WSLX_SANDBOX_TOOL_H
#define WSLX_SANDBOX_TOOL_H

#include <stddef.h>
#include "lib/base/err.h"

/* The file's path in argv. */
#define SANDBOX_TOOL_FILE "/proc/self/fd/3"
enum { SANDBOX_TOOL_SAID = 4000 };

struct sandbox_tool {
	const char *const
		*argv;	     /* argv[0]: its name, looked for where administrators' programs are */
	const char *package; /* which one it is in, for the message when it is missing */
	int file;	     /* borrowed; the tool may open it anew to read and write */
};

/*
 * Runs it to its end: its exit status, or a negative errno. said: the last of what it says, at least SANDBOX_TOOL_SAID
 * bytes of room. It dies with the calling thread.
 */
int sandbox_tool_run(const struct sandbox_tool *t, char *said, struct err *e);

/* The last line of it that says something; said is changed. */
const char *sandbox_tool_last_line(char *said);

#endif
