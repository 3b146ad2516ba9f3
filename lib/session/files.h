/* SPDX-License-Identifier: MIT */
/* A distribution's files: asked for on a connection to its init, which then speaks 9P. */
#ifndef WSLX_SESSION_FILES_H
#define WSLX_SESSION_FILES_H

#include <sys/types.h>
#include "lib/base/err.h"

/* user: a name or number in the distribution, NULL: uid. Says who that is there; fd is then at the first byte of 9P. */
int files_ask(int fd, const char *user, uid_t uid, uid_t *ret_uid, gid_t *ret_gid, struct err *e);

#endif
