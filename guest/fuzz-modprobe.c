/* SPDX-License-Identifier: MIT */
/* The first line of the input is a module's name, the rest a modules.dep: no path leads out of its folder. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "guest/modprobe.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int one(void *ctx, const char *path, size_t len)
{
	unsigned *left = ctx;

	if (len == 0 || path[0] == '/' || memchr(path, 0, len) || memmem(path, len, "..", 2))
		abort();
	return --*left ? 0 : -1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *nl = size ? memchr(data, '\n', size) : NULL;
	unsigned left = 1000;
	char name[64] = "";
	size_t n;

	if (!nl)
		return 0;
	n = (size_t)(nl - data);
	if (n >= sizeof(name))
		return 0;
	memcpy(name, data, n);
	modprobe_plan((const char *)nl + 1, size - n - 1, name, one, &left);
	return 0;
}
