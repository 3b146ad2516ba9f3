/* SPDX-License-Identifier: MIT */
/* A tap device (tuntap(4)) that an administrator made for this user; each frame is behind a struct virtio_net_hdr. */
#ifndef WSLX_NETD_TAP_H
#define WSLX_NETD_TAP_H

#include "lib/base/err.h"
#include "netd/device.h"

/* The descriptor, not blocking; negative errno. */
int tap_open(const char *name, struct err *e);
/* What may come out of it. */
int tap_offloads(int fd, const struct device_offloads *o);

#endif
