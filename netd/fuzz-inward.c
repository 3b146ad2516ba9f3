/* SPDX-License-Identifier: MIT */
/* IPv4 packets of any shape, one after another: the datagrams in them are all there. */
#include <stdlib.h>
#include <string.h>
#include "lib/base/attr.h"
#include "netd/inward.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct inward_net *net = calloc(1, sizeof(*net));
	unsigned sum = 0;

	if (!net)
		abort();
	for (size_t at = 0; at + 2 <= size;) {
		size_t len = MIN((size_t)data[at] | (size_t)data[at + 1] << 8, size - at - 2),
		       n = 0;
		uint8_t *packet = malloc(len ? len : 1);
		const uint8_t *datagram = NULL;

		if (!packet)
			abort();
		memcpy(packet, data + at + 2, len);
		if (inward_udp_take(net, packet, len, &datagram, &n))
			for (size_t i = 0; i < n; i++)
				sum += datagram[i];
		free(packet);
		at += 2 + len;
	}
	free(net);
	return sum == UINT32_MAX; /* so that the bytes are read */
}
