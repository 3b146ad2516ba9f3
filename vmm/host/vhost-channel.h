/* SPDX-License-Identifier: MIT */
/* What the server of a vhost-user device asks of us: that part of a file be in the device's window (vmm/virtio/vhost.h), or no more. */
#ifndef WSLX_VMM_HOST_VHOST_CHANNEL_H
#define WSLX_VMM_HOST_VHOST_CHANNEL_H

#include "lib/vhost/message.h"
#include "vmm/virtio/vhost.h"

struct loop;
struct vhost_channel;

/* theirs: the server's end, for the caller to give away and close. Loop's thread, as all here. */
int vhost_channel_new(struct vhost_channel **ret, struct vhost *vh, struct loop *loop, int *theirs);
void vhost_channel_free(struct vhost_channel *c);
/* Does what has been asked; the loop calls it too. c may be NULL. */
void vhost_channel_serve(struct vhost_channel *c);
/* -1: the server does not ask any more. */
int vhost_channel_fd(const struct vhost_channel *c);

/* One request: 0, or what was wrong. For the fuzzer. */
int vhost_channel_do(struct vhost *vh, const struct vu_in *in);

#endif
