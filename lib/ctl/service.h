/* SPDX-License-Identifier: MIT */
/* The service, wslxd, for the programs that need it. */
#ifndef WSLX_CTL_SERVICE_H
#define WSLX_CTL_SERVICE_H

#include "lib/ctl/client.h"

/* Connects to wslxd, starting it if it does not run. */
int service_connect(struct ctl_client **ret, struct err *e);

/*
 * Starts a distribution (NULL: the default one) if it does not run, and connects to its init; *ret_fd is the caller's, as
 * is *ret, what "open" says of it. As long as the client's connection lasts, the distribution is not idle.
 */
int service_open(struct ctl_client *c, const char *name, int *ret_fd, struct json_object **ret,
	struct err *e);

#endif
