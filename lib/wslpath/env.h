/* SPDX-License-Identifier: MIT */
/*
 * WSLENV: which variables pass between host and distribution, and how: NAME[/FLAGS] separated by ':', with the flags
 *
 *	p  a path, translated	l  a list of paths separated by ':', each translated
 *	u  only from the host to the distribution	w  only from the distribution to the host
 *
 * An entry with another flag, or without a name, is skipped. WSLENV itself always passes. libc only.
 */
#ifndef WSLX_WSLPATH_ENV_H
#define WSLX_WSLPATH_ENV_H

#include <stdbool.h>
#include <stddef.h>

enum wslenv_dir { WSLENV_TO_GUEST, WSLENV_TO_HOST };

struct wslenv_entry {
	const char *name; /* in the list, not terminated */
	size_t len;
	bool path, list;
	bool pass[2]; /* by enum wslenv_dir */
};

/* Iterates: start with *pos = list; false at the end. */
bool wslenv_next(const char **pos, struct wslenv_entry *ret);

/* Does list (may be NULL) have "NAME=value" pass in this direction? True for WSLENV itself. */
bool wslenv_names(const char *list, const char *var, enum wslenv_dir dir);

/* Translates one path into buf; negative: it has no counterpart. */
typedef int (*wslenv_path_fn)(void *ctx, const char *path, char *buf, size_t cap);

/*
 * The value of a variable of this entry on the other side, in malloc'ed memory; NULL: it does not pass, since its path has
 * no counterpart. Relative paths stay as they are; of a list, what has no counterpart is left out.
 */
char *wslenv_value(const struct wslenv_entry *e, const char *value, wslenv_path_fn fn, void *ctx);

#endif
