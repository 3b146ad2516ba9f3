/* SPDX-License-Identifier: MIT */
/* Who a program runs as: looked up in the distribution's own /etc/passwd and /etc/group. */
#ifndef WSLX_SESSION_USER_H
#define WSLX_SESSION_USER_H

#include <sys/types.h>

enum { USER_MAX_GROUPS = 256 };

struct user {
	uid_t uid;
	gid_t gid;
	char name[64], home[256], shell[256];
	gid_t groups[USER_MAX_GROUPS];
	int ngroups;
};

/* name: a user name or a number. -ENOENT: no such user (a bare number without an entry is a user without groups). */
int user_by_name(const char *name, struct user *ret);
int user_by_uid(uid_t uid, struct user *ret);

#endif
