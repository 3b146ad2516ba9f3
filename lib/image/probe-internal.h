/* SPDX-License-Identifier: MIT */
#ifndef WSLX_IMAGE_PROBE_INTERNAL_H
#define WSLX_IMAGE_PROBE_INTERNAL_H

#include <stddef.h>
#include "lib/image/image.h"

enum { PROBE_BYTES = 1 << 17 };

/* What the file's first bytes say; size: of the whole file. For image_probe() and its fuzz target. */
void image_probe_bytes(const uint8_t *p, size_t len, uint64_t size, struct image_info *ret);

/* The rest of image_check(). */
int image_check_info(const struct image_info *i, const char *name, struct err *e);

#endif
