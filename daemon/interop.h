/* SPDX-License-Identifier: MIT */
/*
 * Programs of the host for a distribution: wslx-interop, one process for each distribution that may run them, and the
 * secret by which its init proves to that process who it is. Once that init has, the process lives as long as their
 * connection, whatever becomes of this service; before, as long as struct interop.
 */
#ifndef WSLX_DAEMON_INTEROP_H
#define WSLX_DAEMON_INTEROP_H

#include <stdint.h>
#include "lib/base/err.h"
#include "lib/base/loop.h"
#include "lib/wire/msg.h"

struct interop;

/* listen_fd: where the guest's connections to this port arrive; taken over, also on failure. name: for messages. */
int interop_new(struct loop *l, int listen_fd, uint32_t port, const char *name,
	struct interop **ret, struct err *e);
/* Adds to START what the distribution's init has to know. */
void interop_add(const struct interop *i, struct wire_w *start);
struct interop *interop_free(struct interop *i);

#endif
