/* SPDX-License-Identifier: MIT */
/* Copies of disk files. */
#ifndef WSLX_IMAGE_COPY_H
#define WSLX_IMAGE_COPY_H

#include <stdint.h>
#include "lib/base/err.h"

/* done and total: bytes of data, holes not counted. */
typedef void (*image_copy_progress)(void *ctx, uint64_t done, uint64_t total);

/*
 * Makes out, an empty regular file, a copy of in that is on stable storage: sharing its blocks where
 * the file system can (ioctl_ficlone(2)), else with the same holes. progress may be NULL.
 */
int image_copy(int in, int out, image_copy_progress progress, void *ctx, struct err *e);

#endif
