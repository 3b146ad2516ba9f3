/* SPDX-License-Identifier: MIT */
/* The virtio-9p device (virtio 1.3 §5.9 names it; 9P2000.L over one queue) of one virtual machine, served over vhost-user. */
#ifndef WSLX_FSD_P9_DEVICE_H
#define WSLX_FSD_P9_DEVICE_H

#include "lib/base/err.h"
#include "lib/base/loop.h"

struct p9_device;
struct p9_server;
struct fs;

/* As fs_device_new(). */
int p9_device_new(struct p9_device **ret, struct loop *l, int fd, struct p9_server *server,
	struct fs *fs, struct err *e);
void p9_device_free(struct p9_device *d);

#endif
