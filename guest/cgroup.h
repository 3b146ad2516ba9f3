/* SPDX-License-Identifier: MIT */
/*
 * A distribution's part of the cgroup v2 tree (Documentation/admin-guide/cgroup-v2.rst of Linux):
 *
 *	/distros		all of them, limited together
 *	/distros/distro-ID	the root of its cgroup namespace, delegated to it
 *	   wslx/init		our processes
 *	   wslx/sessions	what was run from the host, and what that left behind
 *	   wslx/services	what boot.command started
 *	   ...			the distribution's own: systemd's slices, containers
 *
 * No cgroup with children has processes of its own, so that its controllers can be handed on.
 */
#ifndef WSLX_GUEST_CGROUP_H
#define WSLX_GUEST_CGROUP_H

#include <stdbool.h>
#include <sys/types.h>
#include "lib/base/err.h"

#define DISTRO_CGROUPS "/sys/fs/cgroup/distros"

/* Folders of the tree, open. */
struct cgroups {
	int root, sessions, services;
};

/* In pid 1, before its view is made: enters its group, which becomes the root of a namespace. */
int cgroup_enter(const char *id, struct err *e);
/* With the view made, in the process that serves sessions: makes what is below wslx and enters wslx/init. */
int cgroup_layout(struct cgroups *ret, struct err *e);
/* Offers every controller to the groups in dir, which has no process of its own any more. */
void cgroup_delegate(const char *dir);

/* Does a process live in it or below? */
bool cgroup_populated(int dir);
/* Does one live anywhere but in wslx and in what systemd itself consists of (wsl.conf(5))? */
bool cgroup_services(int root);
/* To every process in it and below. */
void cgroup_signal(int dir, int signo);

/* Is a unit of this name part of systemd's base, and no service that a distribution is kept for? */
bool cgroup_base_unit(const char *name);

/* Removes a tree without processes. */
void cgroup_remove(const char *path);

#endif
