/* SPDX-License-Identifier: MIT */
/*
 * The files of a distribution that does not run, read from its disk (lib/image/ext4-read). The disk is hostile: what
 * reads it is a process of its own, in a sandbox, that serves 9P to us.
 */
#ifndef WSLX_MOUNT_OFFLINE_H
#define WSLX_MOUNT_OFFLINE_H

#include <sys/types.h>
#include "lib/base/err.h"

struct ctl_client;

/*
 * A stream of 9P to name's files, and its default user; *ret_fd stays negative where it is not stopped, and 0 is
 * returned.
 */
int offline_open(
	struct ctl_client *service, const char *name, int *ret_fd, uid_t *ret_uid, struct err *e);

/* That process: serves the disk that is descriptor 3 on the socket that is descriptor 0. Its exit status. */
int offline_serve(void);

#endif
