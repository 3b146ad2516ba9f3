/* SPDX-License-Identifier: MIT */
/* A tap device of this user's (Linux, tuntap.rst); each frame is behind a struct virtio_net_hdr. */
#ifndef WSLX_NETD_TAP_H
#define WSLX_NETD_TAP_H

#include "lib/base/err.h"
#include "netd/device.h"
#include "netd/dhcp.h"

/* One that an administrator made: the descriptor, not blocking; negative errno. */
int tap_open(const char *name, struct err *e);
/*
 * The same, made by wslx-tap (PROGRAM), which is started and waited for: with its own network behind this host's addresses. *ret: what
 * is the guest's there.
 */
int tap_new(const char *program, struct lease *ret, struct err *e);
/* What may come out of it. */
int tap_offloads(int fd, const struct device_offloads *o);

#endif
