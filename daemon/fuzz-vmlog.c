/* SPDX-License-Identifier: MIT */
/* Whatever a guest's console says: what is told of it is one line of printable characters. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "daemon/vmlog.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char buf[100];

	if (!vmlog_panic((const char *)data, size, buf, sizeof(buf)))
		return 0;
	if (strlen(buf) >= sizeof(buf) || strncmp(buf, "kernel panic: ", 14) != 0)
		abort();
	for (const char *p = buf; *p; p++)
		if (*p < ' ' || *p > '~')
			abort();
	return 0;
}
