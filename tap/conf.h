/* SPDX-License-Identifier: MIT */
/* Whom wslx-tap serves, and in which network: /etc/wslx/tap.conf, wslx-tap(8). */
#ifndef WSLX_TAP_CONF_H
#define WSLX_TAP_CONF_H

#include <netinet/in.h>
#include <stdbool.h>
#include <sys/types.h>
#include "lib/base/err.h"

#define TAP_CONF	 "/etc/wslx/tap.conf"
#define TAP_CONF_NETWORK "10.254.0.0"

struct tap_conf {
	bool allowed;
	struct in_addr network; /* of 16 bits */
};

/*
 * For this user, who may be in those groups; root is always allowed. No file: nobody else is. trusted: only a file that root alone can
 * change counts. Errors name the line.
 */
int tap_conf_read(const char *path, bool trusted, uid_t uid, const gid_t *groups, unsigned n_groups,
	struct tap_conf *ret, struct err *e);

#endif
