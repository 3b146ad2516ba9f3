/* SPDX-License-Identifier: MIT */
/*
 * The tree that distributions see at /mnt/wsl: a tmpfs of the VM's whose mounts propagate (mount_namespaces(7)). Each
 * distribution has a slave of it: what the VM mounts there appears in all of them, those that run included, and what one
 * of them mounts there its neighbours do not see.
 */
#ifndef WSLX_GUEST_SHARED_H
#define WSLX_GUEST_SHARED_H

#include "lib/base/err.h"

#define SHARED_TREE "/run/shared"
/* Nodes of the disks that distributions are to see in their /dev. */
#define SHARED_DEVICES "/run/devices"

/* Once, in the VM's own namespaces. */
int shared_set_up(struct err *e);
/* In a new mount namespace: cuts it off from the others, but for what the VM mounts in the tree. */
int shared_slave(struct err *e);
/* Before the root is changed: a copy of the tree to be attached after that. A descriptor. */
int shared_open(void);
/* After it: attaches the copy at /mnt/wsl and closes tree. A distribution whose disk is read-only may lack the folder. */
int shared_attach(int tree);
/* Makes the nodes in SHARED_DEVICES in this /dev, an open folder. */
void shared_devices(int dev);

#endif
