/* SPDX-License-Identifier: MIT */
#include "lib/session/user.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int from_passwd(const struct passwd *pw, struct user *ret)
{
	const char *shell = pw->pw_shell && pw->pw_shell[0] ? pw->pw_shell : "/bin/sh";

	if (strlen(pw->pw_name) >= sizeof(ret->name) || strlen(pw->pw_dir) >= sizeof(ret->home) ||
		strlen(shell) >= sizeof(ret->shell))
		return -ENAMETOOLONG;
	*ret = (struct user){.uid = pw->pw_uid, .gid = pw->pw_gid, .ngroups = USER_MAX_GROUPS};
	strcpy(ret->name, pw->pw_name);
	strcpy(ret->home, pw->pw_dir);
	strcpy(ret->shell, shell);
	if (getgrouplist(ret->name, ret->gid, ret->groups, &ret->ngroups) < 0)
		ret->ngroups = USER_MAX_GROUPS; /* in more groups than that: the first ones */
	return 0;
}

int user_by_uid(uid_t uid, struct user *ret)
{
	struct passwd *pw = getpwuid(uid);

	if (pw)
		return from_passwd(pw, ret);
	*ret = (struct user){
		.uid = uid, .gid = (gid_t)uid, .ngroups = 1, .home = "/", .shell = "/bin/sh"};
	ret->groups[0] = ret->gid;
	snprintf(ret->name, sizeof(ret->name), "%u", (unsigned)uid);
	if (uid == 0) {
		strcpy(ret->name, "root");
		strcpy(ret->home, access("/root", F_OK) == 0 ? "/root" : "/");
	}
	return 0;
}

int user_by_name(const char *name, struct user *ret)
{
	struct passwd *pw = getpwnam(name);
	unsigned long uid;
	char *end;

	if (pw)
		return from_passwd(pw, ret);
	errno = 0;
	uid = strtoul(name, &end, 10);
	if (!name[0] || name[0] == '-' || *end || errno || uid >= UINT32_MAX)
		return -ENOENT;
	return user_by_uid((uid_t)uid, ret);
}
