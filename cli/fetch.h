/* SPDX-License-Identifier: MIT */
/* Root file systems from elsewhere: downloaded by curl(1), or made by mmdebstrap(1). */
#ifndef WSLX_CLI_FETCH_H
#define WSLX_CLI_FETCH_H

#include <stddef.h>
#include "cli/catalogue.h"

/* What is at a URL (http, https, file), malloc'ed, with a NUL behind it. */
int fetch_text(const char *url, size_t max, char **ret, size_t *ret_len, struct err *e);

/* The archive of an entry as a file that has no name any more, at its start: a descriptor. */
int fetch_archive(const struct catalogue_entry *entry, struct err *e);

#endif
