/* SPDX-License-Identifier: MIT */
/* The program passt, which makes the guest's connections if the settings say so. */
#ifndef WSLX_DAEMON_PASST_H
#define WSLX_DAEMON_PASST_H

#include <stddef.h>
#include "lib/base/err.h"

/* Its path: $WSLX_PASST, or what PATH has. -ENOENT: it is not installed. */
int passt_find(char *buf, size_t cap, struct err *e);

#endif
