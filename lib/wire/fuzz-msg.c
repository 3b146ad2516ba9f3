/* SPDX-License-Identifier: MIT */
/* Whatever bytes arrive, parsing stays inside them and every accessor agrees with the iterator. */
#include <stdlib.h>
#include "lib/wire/msg.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct wire_msg m;
	struct wire_attr a, b;
	char s[64];

	if (size < 4 || wire_parse(data, size, &m) < 0)
		return 0;
	for (size_t pos = 0; wire_next(&m, &pos, &a);) {
		if (a.data < data || a.data + a.len > data + size)
			abort();
		if (!wire_find(&m, a.tag, &b))
			abort();
		wire_get_u32(&m, a.tag, 0);
		wire_get_u64(&m, a.tag, 0);
		wire_get_str(&m, a.tag, s, sizeof(s));
	}
	return 0;
}
