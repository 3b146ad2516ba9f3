/* SPDX-License-Identifier: MIT */
/*
 * The front end's half of vhost-user (lib/vhost/proto.h): the link of a device (vmm/virtio/vhost.h) to the process that
 * serves its queues. The server gets the guest's memory and the shadows of the queues; its answers are waited for only while
 * it is connected, and when a machine is saved, and never for long.
 */
#ifndef WSLX_VMM_HOST_VHOST_USER_H
#define WSLX_VMM_HOST_VHOST_USER_H

#include "vmm/virtio/vhost.h"

/* Connects the device, which has its transport, to the server at the other end of fd, which is taken over, also on failure. */
int vhost_user_attach(struct vhost *vh, struct loop *loop, int fd, struct err *e);

#endif
