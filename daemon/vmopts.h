/* SPDX-License-Identifier: MIT */
/* From settings to the guest kernel's command line; what init reads of it is in guest/vmconf.h. */
#ifndef WSLX_DAEMON_VMOPTS_H
#define WSLX_DAEMON_VMOPTS_H

#include <stddef.h>
#include "lib/base/err.h"
#include "daemon/settings.h"

enum { VMOPTS_MODULES_LUN = 0 }; /* where settings' modules disk is, if there is one */

/* -E2BIG: longer than the kernel takes. */
int vmopts_cmdline(const struct settings *set, char *buf, size_t cap, struct err *e);

#endif
