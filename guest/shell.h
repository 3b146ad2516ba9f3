/* SPDX-License-Identifier: MIT */
/*
 * A shell in the VM itself (SHELL). The VM has no programs but init: a running distribution lends its /usr, /etc and what
 * else programs need, read only, in a mount namespace that is otherwise a copy of the VM's. Process, network, host name and
 * all other namespaces are the VM's own.
 */
#ifndef WSLX_GUEST_SHELL_H
#define WSLX_GUEST_SHELL_H

#include <sys/types.h>
#include "lib/base/err.h"
#include "lib/wire/msg.h"

/*
 * In a worker (guest/worker.h): starts a process that serves sessions as root, until the last one ends, on the port that is
 * put into w. supervisor: of the distribution.
 */
int shell_start(pid_t supervisor, struct wire_w *w, struct err *e);

/* The distribution's pid 1, its supervisor's child. */
int distro_init_pid(pid_t supervisor, pid_t *ret);

#endif
