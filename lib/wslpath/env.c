/* SPDX-License-Identifier: MIT */
#include "lib/wslpath/env.h"

#include <stdlib.h>
#include <string.h>
#include "lib/base/cleanup.h"

enum { MAX_PATH = 4096 };

/* False: the entry is to be skipped. */
static bool parse_flags(const char *flags, size_t n, struct wslenv_entry *e)
{
	bool u = false, w = false;

	for (size_t i = 0; i < n; i++) {
		switch (flags[i]) {
		case 'p': e->path = true; break;
		case 'l': e->list = true; break;
		case 'u': u = true; break;
		case 'w': w = true; break;
		default: return false;
		}
	}
	e->pass[WSLENV_TO_GUEST] = u || !w;
	e->pass[WSLENV_TO_HOST] = w || !u;
	return true;
}

bool wslenv_next(const char **pos, struct wslenv_entry *ret)
{
	while (**pos) {
		const char *p = *pos;
		size_t n = strcspn(p, ":"), name = strcspn(p, ":/=");
		size_t flags = name < n ? name + 1 : n;

		*pos = p + n + (p[n] == ':');
		*ret = (struct wslenv_entry){.name = p, .len = name};
		if (name && p[name] != '=' && parse_flags(p + flags, n - flags, ret))
			return true;
	}
	return false;
}

bool wslenv_names(const char *list, const char *var, enum wslenv_dir dir)
{
	struct wslenv_entry e;

	if (!strncmp(var, "WSLENV=", 7))
		return true;
	while (list && wslenv_next(&list, &e))
		if (e.pass[dir] && !strncmp(var, e.name, e.len) && var[e.len] == '=')
			return true;
	return false;
}

static bool translate(const char *path, wslenv_path_fn fn, void *ctx, char buf[MAX_PATH])
{
	if (path[0] == '/' || path[0] == '\\')
		return fn(ctx, path, buf, MAX_PATH) >= 0;
	if (strlen(path) >= MAX_PATH)
		return false;
	strcpy(buf, path);
	return true;
}

static char *translate_list(const char *value, wslenv_path_fn fn, void *ctx)
{
	char one[MAX_PATH], there[MAX_PATH];
	cleanup_free char *out = strdup("");
	size_t len = 0;
	bool first = true;

	while (out && *value) {
		size_t n = strcspn(value, ":"), m;
		char *more;

		if (n < sizeof(one)) {
			memcpy(one, value, n);
			one[n] = '\0';
			if (translate(one, fn, ctx, there)) {
				m = strlen(there);
				more = realloc(out, len + m + 2);
				if (!more)
					return NULL;
				out = more;
				if (!first)
					out[len++] = ':';
				memcpy(out + len, there, m + 1);
				len += m;
				first = false;
			}
		}
		value += n + (value[n] == ':');
	}
	return take_ptr(out);
}

char *wslenv_value(const struct wslenv_entry *e, const char *value, wslenv_path_fn fn, void *ctx)
{
	char there[MAX_PATH];

	if (e->list)
		return translate_list(value, fn, ctx);
	if (!e->path)
		return strdup(value);
	return translate(value, fn, ctx, there) ? strdup(there) : NULL;
}
