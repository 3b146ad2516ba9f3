/* SPDX-License-Identifier: MIT */
/*
 * A distribution's files for its host, over 9P: a process for each connection that asks, with the rights of one user, in
 * the distribution's namespaces. What that user may not do, the kernel says.
 */
#ifndef WSLX_GUEST_P9_H
#define WSLX_GUEST_P9_H

#include "lib/session/user.h"

/* Under this name our program serves its standard input. */
#define P9_PROGRAM "wslx-files"

/* Serves fd, taken over, in a process of its own; cgroup: an open folder. It ends with the connection. */
void p9_start(const struct user *u, int fd, int cgroup);

int p9_main(int argc, char **argv);

#endif
