/* SPDX-License-Identifier: MIT */
/* Who a network's server works for: the service, on its socket, and the monitor that the service connects to it. */
#ifndef WSLX_NETD_LINK_H
#define WSLX_NETD_LINK_H

#include "lib/base/err.h"
#include "lib/base/loop.h"
#include "lib/ctl/server.h"
#include "netd/device.h"
#include "netd/inward.h"

/* Begins a server's own struct, which is the ctx of its methods and of ops. */
struct link {
	struct loop *loop;
	struct device_config cfg;
	const struct device_ops *ops;
	struct ctl_server *ctl;
	struct device *device; /* NULL: no monitor is connected */
	struct loop_src *idle;
	struct inward *inward; /* NULL: no port of this host leads to the guest by the device */
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

/* Ports of this host lead to the guest from now on, by the methods that follow; link_end() ends it. */
int link_inward_begin(struct link *k, const struct stack_config *net);

/*
 * The methods:
 *
 *	inward-add     {"listen":"tcp 127.0.0.1 8080","port":8080} -> {}
 *	inward-remove  {"listen":...} -> {}
 *	inward-list    {} -> {"ports":[{"listen","port"}, ...]}
 */
void link_inward_add(void *ctx, struct ctl_call *call, struct json_object *params);
void link_inward_remove(void *ctx, struct ctl_call *call, struct json_object *params);
void link_inward_list(void *ctx, struct ctl_call *call, struct json_object *params);
extern const struct js_field link_add_fields[2], link_remove_fields[1];

#endif
