/* SPDX-License-Identifier: MIT */
/* Any bytes as a kernel file: parsed and, if that works, loaded. */
#include <stdlib.h>
#include "vmm/boot/kernel.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct gmem *gm;
	struct err e;
	struct kernel k;

	if (!gm && gmem_new(&gm, 32 << 20) < 0)
		abort();
	if (kernel_parse(&k, data, size, "input", &e) < 0)
		return 0;
	/* The memory may hold an earlier input: what matters is that nothing else is written. */
	(void)!kernel_load(&k, gm, "input", &e);
	kernel_done(&k);
	return 0;
}
