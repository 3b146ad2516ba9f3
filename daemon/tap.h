/* SPDX-License-Identifier: MIT */
/* What wslxd knows of a tap device (networkingMode=bridged): wslx-netd opens it. */
#ifndef WSLX_DAEMON_TAP_H
#define WSLX_DAEMON_TAP_H

#include <stddef.h>
#include "lib/base/err.h"

/* Is there such a device, and may we have it? */
int tap_check(const char *name, struct err *e);
/* Whether wslx-tap, which makes one for networkingMode=tap, is there and will; its path, and 0, or why not. */
int tap_find(char *buf, size_t cap, struct err *e);
int tap_may(struct err *e);
/* Of its packets; 1500 when it cannot be found out. */
unsigned tap_mtu(const char *name);
/* A hardware address for the guest on it: always the same, and on no other host, as it shares its network with others. */
void tap_mac(const char *name, char *buf, size_t cap);

#endif
