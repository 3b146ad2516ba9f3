/* SPDX-License-Identifier: MIT */
/*
 * The dialect of .wslconfig and wsl.conf: "[section]", "key = value", '#' comments (after a value,
 * too), double quotes, the escapes \\ \" \b \n \t, and a backslash at a line's end to continue it.
 * Section and key names do not mind case. A bad line is reported and skipped: nothing in a file
 * stops the rest of it from being read. libc only; used by host and guest.
 */
#ifndef WSLX_CONF_CONF_H
#define WSLX_CONF_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "lib/base/attr.h"

enum { CONF_MAX_NAME = 95, CONF_MAX_VALUE = 4095, CONF_MAX_FILE = 1024 * 1024 };

/* One setting, in the file's order; section is "" before the first header. */
typedef void (*conf_fn)(
	void *ctx, const char *section, const char *key, const char *value, unsigned line);
/* One thing wrong; text has no newline. */
typedef void (*conf_warn_fn)(void *ctx, unsigned line, const char *text);

void conf_parse(const char *text, size_t len, conf_fn fn, conf_warn_fn warn, void *ctx);

/* Values: 0, or -EINVAL and *ret untouched. */
int conf_bool(const char *s, bool *ret);     /* true, false, 1, 0 */
int conf_int(const char *s, int64_t *ret);   /* decimal, 0x..., 0..., with a sign */
int conf_octal(const char *s, int64_t *ret); /* digits 0 to 7 only */
int conf_size(const char *s, uint64_t *ret); /* bytes: 8GB, 512M, 4096, 1.5 is not a number */

enum conf_kind {
	CONF_BOOL,
	CONF_INT,
	CONF_OCTAL,
	CONF_SIZE,
	CONF_STR,
	CONF_PATH, /* absolute; "~/..." becomes that */
	CONF_CHOICE,
	CONF_IGNORED, /* has no meaning here, and never will: accepted */
	/* section is a prefix, key unused: somebody else reads what stands there */
	CONF_ELSEWHERE,
};

/* Where a setting goes. */
struct conf_key {
	const char *section, *key;
	enum conf_kind kind;
	/* in the target: bool, int64_t, int64_t (octal), uint64_t, char * (malloc'ed; also a path), int */
	size_t off;
	int64_t min, max; /* of CONF_INT, CONF_OCTAL; CONF_SIZE has its max here, 0: none */
	const char *const *choices; /* of CONF_CHOICE: names by value, NULL-ended */
};

/* Sets one of target's members; false, and nothing is changed: value is none for this key. */
bool conf_set(const struct conf_key *k, void *target, const char *value);

/*
 * Parses into target by the table. What is unknown, unsupported or out of range is reported and
 * changes nothing. target's strings are freed when replaced.
 */
void conf_apply(const char *text, size_t len, const struct conf_key *keys, unsigned nkeys,
	void *target, conf_warn_fn warn, void *ctx);

#endif
