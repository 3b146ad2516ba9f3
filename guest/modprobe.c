/* SPDX-License-Identifier: MIT */
#include "guest/modprobe.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include "lib/base/attr.h"

/* The module's name of a path "kernel/x/foo-bar.ko.xz", compared with name. */
static bool is_module(const char *path, size_t len, const char *name)
{
	const char *base = memrchr(path, '/', len), *end = path + len;

	base = base ? base + 1 : path;
	for (; base < end && *name; base++, name++) {
		char a = *base == '-' ? '_' : *base, b = *name == '-' ? '_' : *name;

		if (a != b)
			return false;
	}
	return !*name && end - base >= 3 && !memcmp(base, ".ko", 3);
}

/* A path that leads out of the folder is none. */
static bool path_ok(const char *path, size_t len)
{
	return path && len > 0 && len < 512 && path[0] != '/' && !memmem(path, len, "..", 2) &&
	       !memchr(path, 0, len);
}

static int plan_line(const char *file, size_t file_len, const char *deps, const char *end,
	modprobe_fn fn, void *ctx)
{
	/* Backwards: the last one depends on nothing that stands before it. */
	while (end > deps) {
		const char *word;

		while (end > deps && (end[-1] == ' ' || end[-1] == '\r'))
			end--;
		for (word = end; word > deps && word[-1] != ' ';)
			word--;
		if (word < end) {
			int r = path_ok(word, (size_t)(end - word))
					? fn(ctx, word, (size_t)(end - word))
					: -EBADMSG;

			if (r < 0)
				return r;
		}
		end = word;
	}
	return path_ok(file, file_len) ? fn(ctx, file, file_len) : -EBADMSG;
}

int modprobe_plan(const char *dep, size_t len, const char *name, modprobe_fn fn, void *ctx)
{
	for (const char *p = dep, *stop = dep + len; p < stop;) {
		const char *eol = memchr(p, '\n', (size_t)(stop - p)), *colon;

		if (!eol)
			eol = stop;
		colon = memchr(p, ':', (size_t)(eol - p));
		if (colon && is_module(p, (size_t)(colon - p), name))
			return plan_line(p, (size_t)(colon - p), colon + 1, eol, fn, ctx);
		p = eol + (eol < stop);
	}
	return -ENOENT;
}
