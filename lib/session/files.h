/* SPDX-License-Identifier: MIT */
/* A distribution's files: asked for on a connection to its init, which then speaks 9P. */
#ifndef WSLX_SESSION_FILES_H
#define WSLX_SESSION_FILES_H

#include <sys/types.h>
#include "lib/base/err.h"

/* Whose files they are, in the distribution. */
struct files_user {
	uid_t uid;
	gid_t gid;
	char home[256];
};

/* user: a name or number in the distribution, NULL: uid. fd is then at the first byte of 9P. */
int files_ask(int fd, const char *user, uid_t uid, struct files_user *ret, struct err *e);

#endif
