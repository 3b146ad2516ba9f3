/* SPDX-License-Identifier: MIT */
/* Whatever the list and the value: names lie in the list, and a value comes of it or none. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "lib/wslpath/env.h"
#include "lib/wslpath/path.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int to_host(void *ctx, const char *path, char *buf, size_t cap)
{
	static const struct wslpath_map map = {"Deb", "/mnt/host", "/run/wslx/mnt/Deb"};

	return wslpath_to_host(&map, path, buf, cap);
}

/* The list, a NUL, a value. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1), *end;
	const char *pos = text, *value;
	struct wslenv_entry e;

	if (!text)
		return 0;
	memcpy(text, data, size);
	text[size] = '\0';
	end = text + strlen(text);
	value = end < text + size ? end + 1 : "/x:y";
	while (wslenv_next(&pos, &e)) {
		if (!e.len || e.name < text || e.name + e.len > end || pos > end)
			abort();
		free(wslenv_value(&e, value, to_host, NULL));
	}
	wslenv_names(text, value, WSLENV_TO_HOST);
	free(text);
	return 0;
}
