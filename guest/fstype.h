/* SPDX-License-Identifier: MIT */
/* Which file system is on a device, by its magic numbers. */
#ifndef WSLX_GUEST_FSTYPE_H
#define WSLX_GUEST_FSTYPE_H

#include <stddef.h>
#include <stdint.h>

enum { FSTYPE_BYTES = 0x11000 };

struct fstype {
	const char *type; /* for mount(2); NULL: there is nothing to mount */
	const char *what; /* "a swap area", then; NULL: nothing that is known */
};

/* p: the device's first bytes, FSTYPE_BYTES or as many as it has. */
void fstype_probe(const uint8_t *p, size_t len, struct fstype *ret);

#endif
