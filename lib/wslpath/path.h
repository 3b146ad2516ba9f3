/* SPDX-License-Identifier: MIT */
/*
 * The same file's names on the host and in a distribution: what wslpath(1) prints and what WSLENV's /p translates. Pure
 * text; no file is looked at. libc only; used by host and guest.
 *
 *	the host's /home/me/x   is the distribution's /mnt/host/home/me/x   (automount)
 *	its own /etc/fstab      is the host's $XDG_RUNTIME_DIR/wslx/mnt/NAME/etc/fstab   (host_root)
 */
#ifndef WSLX_WSLPATH_PATH_H
#define WSLX_WSLPATH_PATH_H

#include <stdbool.h>
#include <stddef.h>
#include "lib/base/attr.h"

#define WSLPATH_AUTOMOUNT "/mnt/host" /* the default of automount.root */

struct wslpath_map {
	const char *distro;    /* its name, as in \\wsl.localhost\NAME; case does not matter */
	const char *automount; /* absolute: where it has the host's files */
	const char *host_root; /* absolute: where the host has its files; "": nowhere */
};

/*
 * The distribution's name of what the host calls path: an absolute path, or \\wsl.localhost\NAME\... or \\wsl$\NAME\...,
 * with slashes of either kind. -EINVAL: a relative or empty path, another distribution's, a drive's. -ENAMETOOLONG.
 */
int wslpath_to_guest(
	const struct wslpath_map *m, const char *path, char *buf, size_t cap) MUST_CHECK;
/* The host's name of what the distribution calls path, which is absolute. -EINVAL, -ENAMETOOLONG, -ENOENT: it has none. */
int wslpath_to_host(
	const struct wslpath_map *m, const char *path, char *buf, size_t cap) MUST_CHECK;

/* Is it a name of the host's that looks relative here: \\wsl.localhost\..., C:\...? */
bool wslpath_foreign(const char *path);

#endif
