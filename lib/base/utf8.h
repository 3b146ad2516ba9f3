/* SPDX-License-Identifier: MIT */
/* Text of unknown origin as UTF-8 (RFC 3629). */
#ifndef WSLX_BASE_UTF8_H
#define WSLX_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* Length of the sequence at s, at most 4 bytes; 0: it is none. s ends with a NUL, whose length is 1. */
size_t utf8_len(const char *s);
bool utf8_is_valid(const char *s);
/* Bytes that are no UTF-8 become '?', in place. */
void utf8_mend(char *s);
/* The same, and control characters, for a terminal in the end. */
void utf8_make_printable(char *s);

#endif
