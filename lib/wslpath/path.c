/* SPDX-License-Identifier: MIT */
#include "lib/wslpath/path.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static bool is_sep(char c)
{
	return c == '/' || c == '\\';
}

/* Does following path from a folder, "..", ever lead out of it? */
static bool climbs(const char *path)
{
	int depth = 0;

	while (*path) {
		size_t n = strcspn(path, "/");

		if (n == 2 && !strncmp(path, "..", 2)) {
			if (--depth < 0)
				return true;
		} else if (n && !(n == 1 && *path == '.')) {
			depth++;
		}
		path += n + (path[n] == '/');
	}
	return false;
}

/* What of path comes below the folder dir ("" or "/..."); NULL when it is not in there. */
static const char *below(const char *path, const char *dir)
{
	while (*dir) {
		size_t d, p;

		while (*dir == '/')
			dir++;
		if (!*dir)
			break;
		if (*path != '/')
			return NULL;
		while (*path == '/')
			path++;
		d = strcspn(dir, "/");
		p = strcspn(path, "/");
		if (d != p || strncmp(dir, path, d) != 0)
			return NULL;
		dir += d;
		path += p;
	}
	return climbs(path) ? NULL : path;
}

static int fits(int n, size_t cap)
{
	return n >= 0 && (size_t)n < cap ? 0 : -ENAMETOOLONG;
}

/* dir and what is below it, with one slash between; dir alone for "". */
static int join(const char *dir, const char *rest, char *buf, size_t cap)
{
	size_t n = strlen(dir);

	while (n && dir[n - 1] == '/')
		n--;
	return fits(
		snprintf(buf, cap, "%.*s%s%s", (int)n, dir, *rest && *rest != '/' ? "/" : "", rest),
		cap);
}

/* What follows \\wsl.localhost or \\wsl$; NULL when it begins otherwise. */
static const char *unc(const char *path)
{
	static const char *const hosts[] = {"wsl.localhost", "wsl$"};

	if (!is_sep(path[0]) || !is_sep(path[1]))
		return NULL;
	path += 2;
	for (size_t i = 0; i < ARRAY_LEN(hosts); i++) {
		size_t n = strlen(hosts[i]);

		if (!strncasecmp(path, hosts[i], n) && is_sep(path[n]))
			return path + n + 1;
	}
	return NULL;
}

static bool drive(const char *path)
{
	char c = (char)(path[0] | 0x20);

	return c >= 'a' && c <= 'z' && path[1] == ':' && (!path[2] || is_sep(path[2]));
}

bool wslpath_foreign(const char *path)
{
	return unc(path) || drive(path) || path[0] == '\\';
}

/* NAME\a\b, as the file's path in the distribution. */
static int from_unc(const struct wslpath_map *m, const char *path, char *buf, size_t cap)
{
	size_t n = strcspn(path, "/\\");

	if (n != strlen(m->distro) || strncasecmp(path, m->distro, n) != 0)
		return -EINVAL;
	path += n;
	if (fits(snprintf(buf, cap, "%s", *path ? path : "/"), cap) < 0)
		return -ENAMETOOLONG;
	for (char *p = buf; *p; p++)
		if (*p == '\\')
			*p = '/';
	return 0;
}

int wslpath_to_guest(const struct wslpath_map *m, const char *path, char *buf, size_t cap)
{
	const char *rest = unc(path);

	if (rest)
		return from_unc(m, rest, buf, cap);
	if (path[0] != '/')
		return -EINVAL;
	rest = *m->host_root ? below(path, m->host_root) : NULL;
	if (rest)
		return fits(snprintf(buf, cap, "%s%s", *rest == '/' ? "" : "/", rest), cap);
	return join(m->automount, path, buf, cap);
}

/* Takes "." and ".." out, as if no folder were a symbolic link; "/.." is "/". */
static void flatten(char *path)
{
	char *out = path, *in = path;

	while (*in) {
		size_t n;

		while (*in == '/')
			in++;
		n = strcspn(in, "/");
		if (n == 2 && !strncmp(in, "..", 2)) {
			while (out > path && *--out != '/')
				;
		} else if (n && !(n == 1 && *in == '.')) {
			*out++ = '/';
			memmove(out, in, n);
			out += n;
		} else if (!n && out > path) {
			*out++ = '/'; /* the slash at the end stays */
		}
		in += n;
	}
	if (out == path)
		*out++ = '/';
	*out = '\0';
}

int wslpath_to_host(const struct wslpath_map *m, const char *path, char *buf, size_t cap)
{
	const char *rest;
	char flat[4096];

	if (path[0] != '/')
		return -EINVAL;
	if (climbs(path)) {
		if (fits(snprintf(flat, sizeof(flat), "%s", path), sizeof(flat)) < 0)
			return -ENAMETOOLONG;
		flatten(flat);
		path = flat;
	}
	rest = below(path, m->automount);
	if (rest)
		return fits(snprintf(buf, cap, "%s%s", *rest == '/' ? "" : "/", rest), cap);
	return *m->host_root ? join(m->host_root, path, buf, cap) : -ENOENT;
}
