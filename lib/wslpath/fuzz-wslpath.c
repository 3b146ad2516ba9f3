/* SPDX-License-Identifier: MIT */
/* Whatever the path: the result is absolute and lies where it should, there and back again. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "lib/wslpath/path.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int r, const char *buf)
{
	if (r == 0 ? buf[0] != '/' : r != -EINVAL && r != -ENAMETOOLONG)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct wslpath_map map = {"Deb", "/mnt/host", "/run/wslx/mnt/Deb"};
	char path[512], there[600], back[700];
	int r;

	if (size >= sizeof(path))
		return 0;
	memcpy(path, data, size);
	path[size] = '\0';
	r = wslpath_to_guest(&map, path, there, sizeof(there));
	check(r, there);
	if (r == 0)
		check(wslpath_to_host(&map, there, back, sizeof(back)), back);
	r = wslpath_to_host(&map, path, there, sizeof(there));
	check(r, there);
	if (r == 0)
		check(wslpath_to_guest(&map, there, back, sizeof(back)), back);
	wslpath_foreign(path);
	return 0;
}
