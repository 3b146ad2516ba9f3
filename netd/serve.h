/* SPDX-License-Identifier: MIT */
/* netd's own work: device, redirection, stack and resolver joined, and what wslxd can ask of it. */
#ifndef WSLX_NETD_SERVE_H
#define WSLX_NETD_SERVE_H

#include "lib/base/err.h"
#include "lib/base/loop.h"
#include "netd/device.h"
#include "netd/stack.h"

struct serve;

/*
 * control: a listening socket where wslxd connects (taken over, also on failure):
 *
 *	device       with a connection to the monitor, for vhost-user: {} -> {}
 *	nameservers  {"servers":["ADDRESS", ...]} -> {}
 *	inward-add, inward-remove, inward-list: see link.h
 *	status       {} -> what went through
 *
 * The loop ends when neither wslxd nor a monitor is connected, after both, or wslxd alone, once were.
 */
int serve_new(struct serve **ret, struct loop *l, int control, const struct stack_config *net,
	const struct device_config *dev, struct err *e);
void serve_free(struct serve *s);

#endif
