/* SPDX-License-Identifier: MIT */
/* Whatever the file: names and values stay within their limits and hold no surprises. */
#include <stdlib.h>
#include <string.h>
#include "lib/conf/conf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void setting(
	void *ctx, const char *section, const char *key, const char *value, unsigned line)
{
	bool b;
	int64_t i;
	uint64_t u;

	if (strlen(section) > CONF_MAX_NAME || strlen(key) > CONF_MAX_NAME || !*key ||
		strlen(value) > CONF_MAX_VALUE || line == 0 || line < *(unsigned *)ctx)
		abort();
	*(unsigned *)ctx = line;
	conf_bool(value, &b);
	conf_int(value, &i);
	conf_size(value, &u);
}

static void warn(void *ctx, unsigned line, const char *text)
{
	if (line == 0 || strchr(text, '\n'))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	unsigned last = 0;

	conf_parse((const char *)data, size, setting, warn, &last);
	return 0;
}
