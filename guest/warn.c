/* SPDX-License-Identifier: MIT */
#include "guest/warn.h"

#include <stdarg.h>
#include <stdio.h>

void warn_add(struct warnings *w, const char *fmt, ...)
{
	char *text;
	va_list ap;

	if (w->n == WARN_MAX) {
		w->dropped++;
		return;
	}
	text = w->text[w->n++];
	va_start(ap, fmt);
	vsnprintf(text, WARN_LEN, fmt, ap);
	va_end(ap);
	/* The user's terminal is nothing for a distribution's control characters. */
	for (unsigned char *p = (unsigned char *)text; *p; p++)
		if (*p < 0x20 || *p == 0x7f)
			*p = '?';
}
