/* SPDX-License-Identifier: MIT */
/* Whatever a process of the guest says of a crash: the file's name is one name, of harmless characters. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "daemon/crash.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char fine[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+-";
	struct crash_info i;
	struct wire_msg m;
	char name[160];

	if (wire_parse(data, size, &m) < 0 || crash_parse(&m, &i) < 0)
		return 0;
	crash_file_name(&i, name, sizeof(name));
	if (strncmp(name, "wslx-crash-", 11) != 0 || strspn(name, fine) != strlen(name) ||
		strcmp(name + strlen(name) - 4, ".dmp") != 0)
		abort();
	return 0;
}
