/* SPDX-License-Identifier: MIT */
/* NETWORK, START's addresses and FORWARD of any shape: what is taken from them is as it should be. */
#include <stdlib.h>
#include <string.h>
#include "guest/files.h"
#include "guest/guest.h"
#include "guest/ports.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char text[LISTENER_TEXT], again[LISTENER_TEXT], servers[64] = "", search[64] = "";
	struct listener li, same;
	struct net_plan plan;
	struct wire_msg m;

	if (size < sizeof(text)) {
		memcpy(text, data, size);
		text[size] = '\0';
		if (listener_parse(text, &li)) {
			listener_text(&li, again, sizeof(again));
			if (!listener_parse(again, &same) || memcmp(&li, &same, sizeof(li)) != 0)
				abort();
		}
	}
	if (wire_parse(data, size, &m) < 0)
		return 0;
	if (net_plan_parse(&m, &plan, NULL) == 0) {
		if (plan.n_addr > NET_ADDRESSES || plan.n_gateway > NET_ADDRESSES)
			abort();
		for (unsigned i = 0; i < plan.n_addr; i++)
			if (!plan.addr[i].prefix || plan.addr[i].prefix > 128)
				abort();
	}
	distro_dns_parse(&m, servers, sizeof(servers), search, sizeof(search));
	if (strlen(servers) >= sizeof(servers) || strlen(search) >= sizeof(search))
		abort();
	return 0;
}
