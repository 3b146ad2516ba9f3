/* SPDX-License-Identifier: MIT */
/* Frames that may be a DHCP server's answers. */
#include <stdlib.h>
#include <string.h>
#include "netd/dhcp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t mac[6] = {0x52, 0x57, 0x53, 1, 2, 3};
	uint8_t *copy = malloc(size ? size : 1);
	struct lease l;
	int type;

	if (!copy)
		return 0;
	if (size)
		memcpy(copy, data, size);
	type = dhcp_parse(copy, size, 0x01020304, mac, &l);
	free(copy);
	if (type && type != DHCP_NAK &&
		(!l.addr.s_addr || !l.prefix || l.prefix > 32 || !l.seconds ||
			l.n_dns > DHCP_SERVERS || strlen(l.domain) >= sizeof(l.domain)))
		abort();
	return 0;
}
