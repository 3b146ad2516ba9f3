/* SPDX-License-Identifier: MIT */
/* The state reader on any bytes: the first byte of each step says what to read next. */
#include <stdlib.h>
#include "vmm/core/state.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const names[] = {"vm", "vcpu", "a", ""};
	size_t nops = size < 32 ? size : 32;
	struct state_r *r = state_r_new(data + nops, size - nops);
	uint8_t buf[256];
	unsigned depth = 0;

	for (size_t i = 0; i < nops; i++) {
		switch (data[i] & 7) {
		case 0: state_get_u8(r); break;
		case 1: state_get_u16(r); break;
		case 2: state_get_u32(r); break;
		case 3: state_get_u64(r); break;
		case 4: state_get_bytes(r, buf, data[i]); break;
		case 5:
		case 6:
			if (depth < 8 && state_enter(r, names[data[i] >> 6], data[i] >> 3 & 7))
				depth++;
			break;
		case 7:
			if (depth) {
				state_leave(r);
				depth--;
			}
			break;
		}
	}
	state_check(r, NULL);
	state_r_free(r);
	return 0;
}
