/* SPDX-License-Identifier: MIT */
/* "status": the service, the engine and why it was chosen, the VM, what wslx.conf says. */
#ifndef WSLX_DAEMON_STATUS_H
#define WSLX_DAEMON_STATUS_H

#include "lib/ctl/server.h"

void status_method(void *service, struct ctl_call *call, struct json_object *params);

#endif
