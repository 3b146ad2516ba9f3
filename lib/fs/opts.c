/* SPDX-License-Identifier: MIT */
/* Options of shares as text: of wslx-fsd's command line, and of views that a peer asks for. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "lib/base/attr.h"
#include "lib/fs/host.h"

/* The digits up to the end of the word; false: there is something else. */
static bool number(const char *p, size_t len, unsigned base, uint32_t max, uint32_t *ret)
{
	uint64_t v = 0;

	if (len == 0 || len > 11)
		return false;
	for (size_t i = 0; i < len; i++) {
		unsigned digit = (unsigned)(p[i] - '0');

		if (digit >= base)
			return false;
		v = v * base + digit;
	}
	*ret = (uint32_t)v;
	return v <= max;
}

static bool is(const char *word, size_t len, const char *key)
{
	return strlen(key) == len && memcmp(word, key, len) == 0;
}

/* "UID:GID" */
static bool pair(const char *p, size_t len, uint32_t *uid, uint32_t *gid)
{
	const char *colon = memchr(p, ':', len);
	size_t n = colon ? (size_t)(colon - p) : 0;

	return colon && number(p, n, 10, UINT32_MAX - 1, uid) &&
	       number(colon + 1, len - n - 1, 10, UINT32_MAX - 1, gid);
}

static bool apply(struct fs_share_opts *o, const char *word, size_t len)
{
	const char *eq = memchr(word, '=', len), *v = eq ? eq + 1 : word;
	size_t key = eq ? (size_t)(eq - word) : len, n = eq ? len - key - 1 : 0;
	uint32_t mask;

	if (!eq) {
		o->read_only |= is(word, key, "ro");
		o->metadata |= is(word, key, "metadata");
		return is(word, key, "ro") || is(word, key, "rw") || is(word, key, "metadata");
	}
	if (is(word, key, "user"))
		return o->privileged || o->squash || ((o->squash = pair(v, n, &o->uid, &o->gid)));
	if (is(word, key, "uid") || is(word, key, "gid")) {
		o->squash = true;
		return number(v, n, 10, UINT32_MAX - 1, word[0] == 'u' ? &o->uid : &o->gid);
	}
	if (is(word, key, "dax")) {
		static const char *const names[] = {[FS_MAP_AUTO] = "auto",
			[FS_MAP_ALWAYS] = "always",
			[FS_MAP_NEVER] = "never"};

		for (unsigned i = 0; i < ARRAY_LEN(names); i++)
			if (is(v, n, names[i])) {
				o->map = (enum fs_map)i;
				return true;
			}
		return false;
	}
	/* what was taken away stays away */
	if (!number(v, n, 8, 07777, &mask))
		return false;
	if (is(word, key, "umask") || is(word, key, "fmask"))
		o->fmask |= mask;
	if (is(word, key, "umask") || is(word, key, "dmask"))
		o->dmask |= mask;
	return is(word, key, "umask") || is(word, key, "fmask") || is(word, key, "dmask");
}

int fs_share_opts_parse(const char *text, struct fs_share_opts *o, struct err *e)
{
	while (*text) {
		size_t n = strcspn(text, ",");

		if (n && !apply(o, text, n))
			return err_set(e, -EINVAL, "'%.*s' is no option of a share", (int)n, text);
		text += n + (text[n] == ',');
	}
	return 0;
}
