/* SPDX-License-Identifier: MIT */
#include "lib/base/xdg.h"

#include <errno.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "lib/base/io.h"

static int fits(int n, size_t cap, struct err *e)
{
	return n >= 0 && (size_t)n < cap ? 0 : err_set(e, -ENAMETOOLONG, "path too long");
}

/* A real folder of ours that nobody else may enter? */
static int check_private(const char *dir, struct err *e)
{
	struct stat st;

	if (lstat(dir, &st) < 0)
		return err_sys(e, -errno, "%s", dir);
	if (!S_ISDIR(st.st_mode))
		return err_set(e, -ENOTDIR, "%s is not a folder", dir);
	if (st.st_uid != geteuid())
		return err_set(
			e, -EPERM, "%s belongs to user %u, not to %u", dir, st.st_uid, geteuid());
	if ((st.st_mode & 077) && chmod(dir, 0700) < 0)
		return err_sys(e, -errno, "%s: keep other users out", dir);
	return 0;
}

static bool usable(const char *dir)
{
	struct stat st;

	return lstat(dir, &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid == geteuid() &&
	       access(dir, W_OK | X_OK) == 0;
}

int xdg_runtime(char *buf, size_t cap, struct err *e)
{
	const char *dir = getenv("XDG_RUNTIME_DIR");
	char user[64];
	int r;

	snprintf(user, sizeof(user), "/run/user/%u", geteuid());
	if (!(dir && dir[0] == '/') && usable(user))
		dir = user;
	if (dir && dir[0] == '/')
		r = snprintf(buf, cap, "%s/wslx", dir);
	else
		r = snprintf(buf, cap, "/tmp/wslx-%u", geteuid());
	r = fits(r, cap, e);
	if (r < 0)
		return r;
	if (mkdir(buf, 0700) < 0 && errno != EEXIST)
		return err_sys(e, -errno, "make %s (is XDG_RUNTIME_DIR right?)", buf);
	return check_private(buf, e);
}

/* $var, or the home folder and sub. */
static int base(const char *var, const char *sub, char *buf, size_t cap, struct err *e)
{
	const char *dir = getenv(var), *home = getenv("HOME");
	struct passwd *pw;

	if (dir && dir[0] == '/')
		return fits(snprintf(buf, cap, "%s", dir), cap, e);
	if (!home || home[0] != '/') {
		pw = getpwuid(geteuid());
		if (!pw)
			return err_set(e, -ENOENT, "no home folder: set HOME");
		home = pw->pw_dir;
	}
	return fits(snprintf(buf, cap, "%s/%s", home, sub), cap, e);
}

int xdg_data(char *buf, size_t cap, struct err *e)
{
	char dir[3800];
	int r = base("XDG_DATA_HOME", ".local/share", dir, sizeof(dir), e);

	if (r == 0)
		r = fits(snprintf(buf, cap, "%s/wslx", dir), cap, e);
	if (r < 0)
		return r;
	r = io_mkdir_p(buf, 0700);
	return r < 0 ? err_sys(e, r, "make %s", buf) : 0;
}

int xdg_config(char *buf, size_t cap, struct err *e)
{
	char dir[3800];
	int r = base("XDG_CONFIG_HOME", ".config", dir, sizeof(dir), e);

	return r < 0 ? r : fits(snprintf(buf, cap, "%s/wslx/wslx.conf", dir), cap, e);
}
