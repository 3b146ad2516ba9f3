/* SPDX-License-Identifier: MIT */
/* Any bytes, in every mode: decoding stays inside them, and every result can be bound to a handler. */
#include <stdlib.h>
#include "lib/base/attr.h"
#include "vmm/cpu/soft/bind.h"
#include "vmm/cpu/soft/decode.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool ok)
{
	if (!ok)
		abort();
}

static void one(const uint8_t *data, size_t size, enum soft_mode mode)
{
	struct dec d;
	struct insn i;
	int len = soft_decode(&d, data, size, mode);

	require(len <= DEC_MAX_LEN && len <= (int)size && len != 0 && len >= DEC_LONG);
	if (len == DEC_MORE) {
		require(size < DEC_MAX_LEN);
		return;
	}
	require(d.len <= MIN(size, DEC_MAX_LEN));
	if (len > 0) {
		struct dec again;

		/* Exactly these bytes are needed. */
		require(soft_decode(&again, data, (size_t)len, mode) == len);
		require(soft_decode(&again, data, (size_t)len - 1, mode) == DEC_MORE);
	}
	soft_bind(&i, &d, len, 0xff0);
	require(i.fn != NULL && i.len == d.len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	for (size_t at = 0; at < size; at++)
		for (int mode = MODE_16; mode <= MODE_64; mode++)
			one(data + at, MIN(size - at, 64), mode);
	return 0;
}
