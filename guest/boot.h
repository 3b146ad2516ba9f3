/* SPDX-License-Identifier: MIT */
/* Programs of the distribution that its start runs: mount -a, boot.command, and others that must end soon. */
#ifndef WSLX_GUEST_BOOT_H
#define WSLX_GUEST_BOOT_H

#include <sys/types.h>
#include "guest/conf.h"

/*
 * Runs a program as root and waits for it; its output's first line goes to *out. Its wait status, -ETIMEDOUT (it was
 * killed) or another negative errno. Only where nobody else reaps children.
 */
int boot_run(const char *const *argv, unsigned timeout_ms, char *out, size_t cap);

/* What /etc/fstab says, by the distribution's own mount(8). */
void boot_mount_fstab(unsigned timeout_ms, struct warnings *w);

/* Starts a program as root, its output to the kernel's log, in this cgroup (an open folder). Its pid or a negative errno. */
pid_t boot_start(const char *const *argv, int cgroup);
/* The same with its output somewhere else; cgroup negative: in ours. */
pid_t boot_start_to(const char *const *argv, int cgroup, int out);

#endif
