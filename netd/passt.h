/* SPDX-License-Identifier: MIT */
/* passt(1), which makes the guest's connections in a process of its own. */
#ifndef WSLX_NETD_PASST_H
#define WSLX_NETD_PASST_H

#include "lib/base/err.h"
#include "netd/stack.h"

/*
 * Starts this program; the socket that frames go through (stream.h), or a negative errno. It ends when that is closed, and
 * the socket when it ends.
 */
int passt_start(const char *program, const struct stack_config *net, struct err *e);

#endif
