/* SPDX-License-Identifier: MIT */
/*
 * The error that travels to a process's edge: a code and a message chain, outermost intent first
 * ("start distribution debian: attach disk /x/y.ext4: No space left on device").
 *
 * Inside, functions return 0 or a negative errno. A function that can say more than its errno takes
 * a "struct err *" as its last argument (NULL: the caller does not care), sets it where the failure
 * is seen, and callers prepend their intent with err_wrap(). Nothing here allocates or logs.
 */
#ifndef WSLX_BASE_ERR_H
#define WSLX_BASE_ERR_H

#include "lib/base/attr.h"

struct err {
	int code;	 /* negative errno; 0: no error */
	char text[1024]; /* truncated at the end when longer */
};

/* Sets *e and returns code, so that "return err_set(e, -EINVAL, ...)" reads well. The text is used
 * as it is. */
int err_set(struct err *e, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* As err_set(), followed by ": " and strerror(-code). */
int err_sys(struct err *e, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* Prepends "text: " to what *e holds (or to strerror(-code) when it holds nothing); returns code.
 */
int err_wrap(struct err *e, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);

#endif
