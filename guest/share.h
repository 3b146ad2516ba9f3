/* SPDX-License-Identifier: MIT */
/*
 * Files of the host: one virtio-fs device, whose root holds a folder for each share, and for each view of one that is asked for by
 * name, "host:OPTIONS" (lib/fs/host.h).
 */
#ifndef WSLX_GUEST_SHARE_H
#define WSLX_GUEST_SHARE_H

#include "guest/conf.h"
#include "lib/base/err.h"

#define SHARE_DEFAULT "host" /* the share that is mounted by itself */

/*
 * The device is mounted once, in the VM: a second mount(2) of it can get one of its shares for its root. Each
 * distribution has a copy of that mount.
 */
int share_set_up(struct err *e);
/* Before the root is changed: a descriptor of a copy to be attached after that; negative: there is none. */
int share_open(void);
/* After it. Closes the copy. */
void share_attach(int tree);

/* path: below the share's root, "" for all of it; options: of drvfs, may be "". The target is a folder that exists. */
int share_mount(const char *share, const char *path, const char *options, const char *target,
	struct err *e);

/* In the VM itself, after share_set_up(). flags: of mount(2). */
int share_mount_in_vm(const char *path, const char *options, unsigned long flags,
	const char *target, struct err *e);

/* Makes /sbin/mount.drvfs, in a distribution that has none. */
void share_link_helper(void);
/* In a distribution's namespaces, by its wsl.conf: at ROOT/host. uid: the default user, if that names none. */
void share_automount(const struct wsl_conf *conf, uint32_t uid, struct warnings *w);

#endif
