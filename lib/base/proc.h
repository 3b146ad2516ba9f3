/* SPDX-License-Identifier: MIT */
/* Other programs: finding those that belong to us, starting them, telling one process from another.
 */
#ifndef WSLX_BASE_PROC_H
#define WSLX_BASE_PROC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "lib/base/err.h"

/*
 * One of our programs: $env if set; else beside the running program, in ../folder/ of it (the build
 * tree), or in the installed libexec folder. -ENOENT.
 */
int proc_find(const char *name, const char *folder, const char *env, char *buf, size_t cap,
	struct err *e);

/* Another one: in the folders of PATH, of which only absolute ones count. -ENOENT. */
int proc_find_in_path(const char *name, char *buf, size_t cap, struct err *e);

struct proc_spawn {
	const char *const *argv; /* argv[0]: the program's path */
	int std[3];		 /* what becomes descriptors 0, 1, 2; negative: /dev/null */
	int keep;		 /* one more descriptor, inherited as number 3; negative: none */
	bool detach;		 /* in a session of its own */
	bool bound;		 /* killed when the calling thread ends */
	bool gated;		 /* the program starts only when one byte is written to *ret_gate */
	int *ret_gate;		 /* ... and never when that is closed before */
};

/*
 * Starts a program with an empty signal mask and default handlers; its pid, or a negative errno. A
 * gated one has its pid, and can be written down, before it does anything; failing to execute it
 * then shows as exit status 127.
 */
pid_t proc_start(const struct proc_spawn *s, struct err *e);

/* When the process was started, in clock ticks since boot: with its pid, its identity. 0: no such
 * process (or a zombie). */
uint64_t proc_start_time(pid_t pid);

int proc_pidfd(pid_t pid); /* CLOEXEC; negative errno */

#endif
