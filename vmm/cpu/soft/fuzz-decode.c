/* SPDX-License-Identifier: MIT */
/*
 * Any bytes, in every mode: decoding stays inside them, and every result can be bound to a handler. As a page of code they are the same
 * in a copy, but where something tells of the host.
 */
#include <stdlib.h>
#include <string.h>
#include "lib/base/attr.h"
#include "vmm/cpu/soft/bind.h"
#include "vmm/cpu/soft/decode.h"
#include "vmm/cpu/soft/direct/taint.h"

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

/* The bytes lie across the beginning of the second of two pages. */
static void as_page(const uint8_t *data, size_t size)
{
	enum { PAGE = 4096 };
	static uint8_t before_it[2 * PAGE], patched[PAGE];
	uint8_t *const page = before_it + PAGE;
	size_t first = MIN(size / 2, (size_t)PAGE);

	memset(before_it, 0x90, sizeof(before_it));
	memcpy(page - first, data, MIN(size, first + PAGE));
	for (int known = 0; known < 2; known++) {
		const uint8_t *before = known ? before_it : NULL;
		enum taint t = soft_taint(page, before, true, patched);

		require(t == soft_taint(page, before, true, NULL));
		for (size_t n = 0; t == TAINT_COPY && n < PAGE; n++)
			require(patched[n] == page[n] ||
				(patched[n] == 0x0b && n > 0 && page[n - 1] == 0x0f));
		/* No copy is needed of a copy. */
		if (t == TAINT_COPY)
			require(soft_taint(patched, before, true, NULL) == TAINT_NONE);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	as_page(data, size);
	for (size_t at = 0; at < size; at++)
		for (int mode = MODE_16; mode <= MODE_64; mode++)
			one(data + at, MIN(size - at, 64), mode);
	return 0;
}
