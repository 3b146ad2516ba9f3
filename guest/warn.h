/* SPDX-License-Identifier: MIT */
/*
 * What the user should know of a distribution's start although it starts: collected here, sent with START's reply. The
 * number and the size of them are bounded, and a distribution that has more to say is told so.
 */
#ifndef WSLX_GUEST_WARN_H
#define WSLX_GUEST_WARN_H

#include "lib/base/attr.h"

enum { WARN_MAX = 32, WARN_LEN = 300 };

struct warnings {
	unsigned n, dropped;
	char text[WARN_MAX][WARN_LEN];
};

/* What cannot be printed in it becomes '?'. */
void warn_add(struct warnings *w, const char *fmt, ...) PRINTF_LIKE(2, 3);

#endif
