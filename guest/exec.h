/* SPDX-License-Identifier: MIT */
/* From an EXEC request to a running program: what to run, as whom, where, with which environment and descriptors. */
#ifndef WSLX_GUEST_EXEC_H
#define WSLX_GUEST_EXEC_H

#include "guest/user.h"
#include "lib/base/err.h"
#include "lib/wire/msg.h"

struct exec_plan {
	struct user user;
	char *file, **argv, **envp; /* owned */
	char cwd[4096];
	char warning[256]; /* "" or what to tell the user although the program starts */
	unsigned kind[3];  /* enum wslx_fd_kind */
	unsigned rows, cols;
};

/* A negative errno with the reason in e; *ret is to be released with exec_plan_done() either way. */
int exec_plan(const struct wire_msg *m, const char *distro, const char *def_user, uid_t def_uid,
	struct exec_plan *ret, struct err *e);
void exec_plan_done(struct exec_plan *p);

/*
 * Starts the program in a session of its own with these descriptors as its first three; tty: one of them, which becomes
 * the controlling terminal, or -1. Returns its pid, or a negative errno when it cannot be executed.
 */
pid_t exec_start(const struct exec_plan *p, const int fds[3], int tty, struct err *e);

#endif
