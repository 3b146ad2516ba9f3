/* SPDX-License-Identifier: MIT */
#ifndef WSLX_DAEMON_NET_METHODS_H
#define WSLX_DAEMON_NET_METHODS_H

#include "lib/ctl/server.h"

void network_method(void *service, struct ctl_call *call, struct json_object *params);
void port_list_method(void *service, struct ctl_call *call, struct json_object *params);
void port_add_method(void *service, struct ctl_call *call, struct json_object *params);
void port_remove_method(void *service, struct ctl_call *call, struct json_object *params);

#endif
