/* SPDX-License-Identifier: MIT */
/* A START of any shape: what is taken from it can be put into paths and files. */
#include <stdlib.h>
#include <string.h>
#include "guest/files.h"
#include "guest/guest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct distro_spec s;
	struct err e = {0};
	struct wire_msg m;

	if (wire_parse(data, size, &m) < 0 || distro_spec_parse(&m, &s, &e) < 0)
		return 0;
	if (!s.id[0] || s.id[0] == '.' || strchr(s.id, '/') || !s.name[0] ||
		strchr(s.hostname, '/') || (s.timezone[0] && !timezone_ok(s.timezone)) ||
		s.slow < 1)
		abort();
	if (s.hosts[0] && s.hosts[strlen(s.hosts) - 1] != '\n')
		abort();
	for (const char *p = s.nameservers; *p; p++)
		if (!strchr("0123456789abcdefABCDEF.:\n", *p))
			abort();
	return 0;
}
