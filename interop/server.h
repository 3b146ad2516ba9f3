/* SPDX-License-Identifier: MIT */
/*
 * Who may run programs: connections of a guest, any process of which can connect, are handed to the session server once
 * their first message holds the secret of one distribution, and while that distribution's init keeps its own connection.
 */
#ifndef WSLX_INTEROP_SERVER_H
#define WSLX_INTEROP_SERVER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <wslx/abi/guest.h>
#include "lib/base/loop.h"

struct interop_server;

struct interop_server_config {
	struct loop *loop;
	int listen_fd;		 /* taken over */
	const uint8_t *secret;	 /* WSLX_SECRET_SIZE bytes, copied */
	void (*gone)(void *ctx); /* the distribution's init is: nothing more will be run */
	void *ctx;
};

int interop_server_new(struct interop_server **ret, const struct interop_server_config *cfg);
/* Hangs all programs up. */
void interop_server_free(struct interop_server *s);
/* A child of ours has ended. */
void interop_server_child_ended(struct interop_server *s, pid_t pid, int wait_status);
/* Has the distribution's init connected? */
bool interop_server_joined(const struct interop_server *s);

#endif
