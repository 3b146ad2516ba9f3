/* SPDX-License-Identifier: MIT */
/* The virtio-fs device (virtio 1.2 §5.11) of one virtual machine, served over vhost-user (lib/vhost/backend.h). */
#ifndef WSLX_FSD_DEVICE_H
#define WSLX_FSD_DEVICE_H

#include "lib/base/err.h"
#include "lib/base/loop.h"

struct fs_device;
struct fs;
struct fuse_server;

/* For the front end at fd, taken over; server and fs, which it serves, are borrowed. */
int fs_device_new(struct fs_device **ret, struct loop *l, int fd, struct fuse_server *server,
	struct fs *fs, struct err *e);
/*
 * Runs the loop until the connection ends, and returns what loop_run() does: after a request that took long the loop goes on on another
 * thread.
 */
int fs_device_run(struct fs_device *d);
void fs_device_free(struct fs_device *d);

#endif
