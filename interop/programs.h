/* SPDX-License-Identifier: MIT */
/* The names of the programs that a search path holds. */
#ifndef WSLX_INTEROP_PROGRAMS_H
#define WSLX_INTEROP_PROGRAMS_H

#include <stddef.h>

enum { PROGRAMS_MAX = 4096 };

struct programs {
	char **name; /* owned; sorted, each once */
	size_t n;
};

/* path: folders separated by ':'. What does not fit in PROGRAMS_MAX names is left out. */
int programs_list(const char *path, struct programs *ret);
void programs_done(struct programs *p);

#endif
