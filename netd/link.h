/* SPDX-License-Identifier: MIT */
/* Who a network's server works for: the service, on its socket, and the monitor that the service connects to it. */
#ifndef WSLX_NETD_LINK_H
#define WSLX_NETD_LINK_H

#include "lib/base/err.h"
#include "lib/base/loop.h"
#include "lib/ctl/server.h"
#include "netd/device.h"

/* Begins a server's own struct, which is the ctx of its methods and of ops. */
struct link {
	struct loop *loop;
	struct device_config cfg;
	const struct device_ops *ops;
	struct ctl_server *ctl;
	struct device *device; /* NULL: no monitor is connected */
	struct loop_src *idle;
};

/*
 * control: a socket that listens, taken over, also on failure. ops->closed is link_closed(). After a failure as well link_end() is what is
 * left to do. The loop ends when nobody has been connected for a while.
 */
int link_begin(struct link *k, struct loop *l, int control, const struct ctl_method *methods,
	unsigned nmethods);
void link_end(struct link *k);
/* The monitor is gone. */
void link_closed(void *ctx, int error);

/* The methods "device", with a descriptor, and "status". */
void link_device(void *ctx, struct ctl_call *call, struct json_object *params);
void link_status(void *ctx, struct ctl_call *call, struct json_object *params);

#endif
