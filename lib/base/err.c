/* SPDX-License-Identifier: MIT */
#include "lib/base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static PRINTF_LIKE(3, 0) void set_text(
	struct err *e, int code, const char *fmt, va_list ap, const char *tail)
{
	int n = vsnprintf(e->text, sizeof(e->text), fmt, ap);

	if (tail && n >= 0 && (size_t)n < sizeof(e->text))
		snprintf(e->text + n, sizeof(e->text) - n, ": %s", tail);
	e->code = code;
}

/* musl has no words for what ext4 says of a file system that contradicts itself; glibc's are riddles. */
static const char *words(int code)
{
	return code == -EUCLEAN ? "the file system is damaged" : strerror(-code);
}

int err_set(struct err *e, int code, const char *fmt, ...)
{
	va_list ap;

	if (!e)
		return code;
	va_start(ap, fmt);
	set_text(e, code, fmt, ap, /* tail= */ NULL);
	va_end(ap);
	return code;
}

int err_sys(struct err *e, int code, const char *fmt, ...)
{
	va_list ap;

	if (!e)
		return code;
	va_start(ap, fmt);
	set_text(e, code, fmt, ap, words(code));
	va_end(ap);
	return code;
}

int err_wrap(struct err *e, int code, const char *fmt, ...)
{
	char inner[sizeof(e->text)];
	va_list ap;

	if (!e)
		return code;
	snprintf(inner, sizeof(inner), "%s", e->code ? e->text : words(code));
	va_start(ap, fmt);
	set_text(e, code, fmt, ap, inner);
	va_end(ap);
	return code;
}
