/* SPDX-License-Identifier: MIT */
/* From an EXEC request to a running program: what to run, as whom, where, with which environment and descriptors. */
#ifndef WSLX_SESSION_EXEC_H
#define WSLX_SESSION_EXEC_H

#include <stdbool.h>
#include "lib/base/err.h"
#include "lib/session/user.h"
#include "lib/wire/msg.h"

/*
 * May change a program's environment, a NULL-ended list in malloc'ed memory of malloc'ed strings. 0, or a negative errno,
 * which fails the EXEC.
 */
typedef int (*exec_env_fn)(void *ctx, char ***env);

/* On whose behalf programs run. */
struct exec_policy {
	const char *distro;	  /* WSL_DISTRO_NAME; NULL: none */
	const char *default_user; /* where EXEC names no user ... */
	uid_t default_uid;	  /* ... and that is NULL or no such user */
	bool as_self; /* as who we are, our own environment under what EXEC says; users are refused */
	exec_env_fn env; /* may be NULL */
	void *ctx;
};

struct exec_plan {
	struct user user;
	char *file, **argv, **envp; /* owned */
	char cwd[4096];
	char warning[256]; /* "" or what to tell the user although the program starts */
	unsigned kind[3];  /* enum wslx_fd_kind */
	unsigned rows, cols;
	bool as_self;
	/* WSLX_EXEC_OOBE: first-run set-up comes first. What to plan again with: the policy, and a copy of the request's
	 * attributes, owned. */
	bool oobe;
	struct exec_policy policy;
	uint8_t *request;
	size_t request_len;
};

/* Where programs start, and what happens in their process before. */
struct exec_place {
	int cgroup; /* an open folder of cgroup v2; negative: ours */
	mode_t umask;
	/*
	 * In the program's process, its descriptors in place, before it becomes the user; may change the plan. NULL, or
	 * the step that failed, with errno. May be NULL. A plan with oobe counts as started when this is called.
	 */
	const char *(*prepare)(void *ctx, struct exec_plan *p);
	void *ctx;
};

/* Whom a request is for: its USER, or its UID, or the policy's default user. */
int exec_user(const struct wire_msg *m, const struct exec_policy *policy, struct user *ret,
	struct err *e);

/* A negative errno with the reason in e; *ret is to be released with exec_plan_done() either way. */
int exec_plan(const struct wire_msg *m, const struct exec_policy *policy, struct exec_plan *ret,
	struct err *e);
void exec_plan_done(struct exec_plan *p);

/* Sets a variable of the program's environment if it is not there yet. 0 or -ENOMEM. */
int exec_env_default(struct exec_plan *p, const char *name, const char *value);

/* fork(2) into a cgroup (an open folder; negative: ours). Moving there later would cost a grace period of the kernel's. */
pid_t exec_fork(int cgroup);

/*
 * Starts the program in a session of its own with these descriptors as its first three; tty: one of them, which becomes
 * the controlling terminal, or -1. place may be NULL. Returns its pid and a descriptor that becomes readable when it runs
 * or does not: then exec_started() says which.
 */
pid_t exec_start(struct exec_plan *p, const int fds[3], int tty, const struct exec_place *place,
	int *ret_wait, struct err *e);
/* Closes wait. 0: it runs. A negative errno: it could not be executed, and its process ends. */
int exec_started(int wait, const struct exec_plan *p, struct err *e);

#endif
