/* SPDX-License-Identifier: MIT */
#include "tap/conf.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "lib/base/attr.h"
#include "lib/base/cleanup.h"

struct asker {
	uid_t uid;
	const gid_t *groups;
	unsigned n_groups;
};

/* NAME, @GROUP or *. */
static bool is_asker(const char *who, const struct asker *a)
{
	const struct passwd *pw;
	const struct group *gr;

	if (!strcmp(who, "*"))
		return true;
	if (*who == '@') {
		gr = getgrnam(who + 1);
		for (unsigned i = 0; gr && i < a->n_groups; i++)
			if (a->groups[i] == gr->gr_gid)
				return true;
		return false;
	}
	pw = getpwnam(who);
	return pw && pw->pw_uid == a->uid;
}

static bool network16(const char *text, struct in_addr *ret)
{
	unsigned bits;
	char addr[32];
	int n = 0;

	return sscanf(text, "%31[0-9.]/%u%n", addr, &bits, &n) == 2 && !text[n] && bits == 16 &&
	       inet_pton(AF_INET, addr, ret) == 1 && !(ntohl(ret->s_addr) & 0xffff);
}

static int read_line(char *line, const struct asker *a, struct tap_conf *ret)
{
	char *rest, *key, *value;

	line[strcspn(line, "#\n")] = '\0';
	key = strtok_r(line, " \t\r", &rest);
	if (!key)
		return 0;
	value = strtok_r(NULL, " \t\r", &rest);
	if (!value || strtok_r(NULL, " \t\r", &rest))
		return -EINVAL;
	if (!strcmp(key, "allow")) {
		ret->allowed = ret->allowed || is_asker(value, a);
		return 0;
	}
	return !strcmp(key, "network") && network16(value, &ret->network) ? 0 : -EINVAL;
}

static int open_conf(const char *path, bool trusted, FILE **ret, struct err *e)
{
	struct stat st;
	FILE *f = fopen(path, "re");

	*ret = f;
	if (!f)
		return errno == ENOENT ? 0 : err_sys(e, -errno, "%s", path);
	if (fstat(fileno(f), &st) < 0)
		return err_sys(e, -errno, "%s", path);
	if (trusted && (st.st_uid != 0 || (st.st_mode & (S_IWGRP | S_IWOTH))))
		return err_set(e, -EPERM, "%s: others than root can change it", path);
	return 0;
}

int tap_conf_read(const char *path, bool trusted, uid_t uid, const gid_t *groups, unsigned n_groups,
	struct tap_conf *ret, struct err *e)
{
	const struct asker a = {uid, groups, n_groups};
	char *line = NULL;
	FILE *f = NULL;
	size_t cap = 0;
	int r;

	*ret = (struct tap_conf){.allowed = uid == 0};
	inet_pton(AF_INET, TAP_CONF_NETWORK, &ret->network);
	r = open_conf(path, trusted, &f, e);
	for (unsigned n = 1; r == 0 && f && getline(&line, &cap, f) >= 0; n++)
		if (read_line(line, &a, ret) < 0)
			r = err_set(e, -EINVAL,
				"%s, line %u: 'allow NAME', 'allow @GROUP', 'allow *' or 'network A.B.0.0/16' is wanted",
				path, n);
	free(line);
	if (f)
		fclose(f);
	return r;
}
