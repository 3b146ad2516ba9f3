/* SPDX-License-Identifier: MIT */
/*
 * The session server: takes EXEC and ATTACH connections, from a listening socket or one by one, and runs programs for
 * them. It knows nothing of virtual machines; its tests run it on a unix socket.
 */
#ifndef WSLX_SESSION_SESSION_H
#define WSLX_SESSION_SESSION_H

#include <stdbool.h>
#include <sys/types.h>
#include "lib/base/loop.h"
#include "lib/session/exec.h"

struct session_server;

struct session_config {
	struct loop *loop;
	int listen_fd;		 /* taken over; negative: session_server_add() brings connections */
	const char *distro_name; /* borrowed; WSL_DISTRO_NAME of the programs */
	uid_t default_uid;	 /* where EXEC names no user ... */
	const char *default_user;   /* ... and this is NULL or no such user */
	bool as_self;		    /* programs run as who we are, with our environment */
	void (*started)(void *ctx); /* a program was started; may be NULL */
	/* A connection, from here on for files as u sees them; taken over. NULL: there are none. */
	void (*files)(void *ctx, const struct user *u, int fd);
	exec_env_fn env;		/* changes a program's environment; may be NULL */
	const struct exec_place *place; /* borrowed; may be NULL */
	void *ctx;
};

int session_server_new(struct session_server **ret, const struct session_config *cfg);
/* A connection of which nothing has been read; taken over. */
void session_server_add(struct session_server *s, int fd);
/* Hangs every session up. */
void session_server_free(struct session_server *s);
/* Sessions that have not come to their end: to the last byte of output. */
unsigned session_server_count(const struct session_server *s);
/* Tells the server that a child it may have started has ended. The caller reaps: pid 1 has other children too. */
void session_child_ended(struct session_server *s, pid_t pid, int wait_status);

#endif
