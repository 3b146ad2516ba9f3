/* SPDX-License-Identifier: MIT */
/* An archive of arbitrary bytes goes into a small disk in memory: refused, or imported; never more than that. */
#include "lib/image/fuzz-rig.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int in = fuzz_archive();

	if (pwrite(in, data, size, 0) != (ssize_t)size)
		abort();
	fuzz_import(in);
	return 0;
}
