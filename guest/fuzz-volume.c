/* SPDX-License-Identifier: MIT */
/* A MOUNT of any shape, and a disk's first bytes: what comes of them can be put into paths and mount(2). */
#include <stdlib.h>
#include <string.h>
#include "guest/fstype.h"
#include "guest/volume.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct volume_spec v;
	struct fstype t;
	struct err e = {0};
	struct wire_msg m;
	unsigned long flags;
	char options[sizeof(v.options)];

	fstype_probe(data, size, &t);
	if (t.type && t.what)
		abort();
	if (wire_parse(data, size, &m) < 0 || volume_spec_parse(&m, &v, &e) < 0)
		return 0;
	if (strchr(v.name, '/') || v.name[0] == '.' || strchr(v.fstype, '/') || v.partition > 255)
		abort();
	/* What is taken out makes it no longer. */
	if (volume_options(v.options, &flags, options, sizeof(options)) < 0 ||
		strlen(options) > strlen(v.options))
		abort();
	return 0;
}
