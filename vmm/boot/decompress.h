/* SPDX-License-Identifier: MIT */
/* Whole-buffer decompression of what kernels are packed with: gzip, xz, lzma, lz4 (legacy frames), zstd. */
#ifndef WSLX_VMM_BOOT_DECOMPRESS_H
#define WSLX_VMM_BOOT_DECOMPRESS_H

#include <stddef.h>
#include <stdint.h>
#include "lib/base/err.h"

/* The format's name by its first bytes; NULL: none we know. */
const char *decompress_format(const void *src, size_t len);

/*
 * Unpacks the stream that src starts with; bytes after its end are ignored. The result is the caller's to free(). hint:
 * the expected size, 0 when unknown. -EBADMSG: damaged; -EFBIG: larger than max; -EOPNOTSUPP: no format we know.
 */
int decompress(const void *src, size_t len, size_t hint, size_t max, void **ret, size_t *ret_len,
	struct err *e);

#endif
