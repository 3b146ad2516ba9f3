/* SPDX-License-Identifier: MIT */
/* The first bytes of a disk; the very first input byte says how long the file is. */
#include <stdlib.h>
#include <string.h>
#include "lib/image/probe-internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct image_info i;

	if (!size)
		return 0;
	image_probe_bytes(data + 1, size - 1, 1ull << (data[0] & 63), &i);
	if (!i.what || (image_fs(i.kind) && !i.size))
		abort();
	return 0;
}
