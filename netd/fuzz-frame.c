/* SPDX-License-Identifier: MIT */
/* Frames of any shape: redirected there and back they are as long as they were, and untouched outside the headers. */
#include <stdlib.h>
#include <string.h>
#include "netd/redirect.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct redirect_ports ports = {0};
	struct redirect r = {
		.udp4 = 5301, .tcp4 = 5302, .udp6 = 5303, .tcp6 = 5304, .ports = &ports};
	uint8_t *f;

	if (size < 4)
		return 0;
	r.host.s_addr = 0x0102000a;
	r.dns.s_addr = 0xfe02000a;
	r.host6.s6_addr[0] = r.guest6.s6_addr[0] = r.dns6.s6_addr[0] = 0xfd;
	r.host6.s6_addr[15] = 1;
	r.dns6.s6_addr[15] = 0xfe;
	f = malloc(size - 4);
	if (size > 4)
		memcpy(f, data + 4, size - 4);
	if (redirect_out(&r, f, size - 4))
		redirect_in(&r, f, size - 4);
	redirect_mend(&r, f, size - 4);
	if (size > 4 + 14 + 120 && memcmp(f + 134, data + 138, size - 138) != 0)
		abort();
	redirect_checksum(
		f, size - 4, (size_t)(data[0] | data[1] << 8), (size_t)(data[2] | data[3] << 8));
	free(f);
	return 0;
}
