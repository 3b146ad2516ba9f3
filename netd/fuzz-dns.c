/* SPDX-License-Identifier: MIT */
/* Questions of any shape, and names of servers. */
#include <stdlib.h>
#include <string.h>
#include "netd/dns.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct in_addr host;
	static const struct in6_addr host6;
	struct sockaddr_storage ss;
	uint8_t *answer = malloc(DNS_ANSWER_MAX);
	char text[128];
	size_t n = dns_answer(data, size, &host, &host6, answer);

	if (n > DNS_ANSWER_MAX || (n && memcmp(answer, data, 2) != 0))
		abort();
	n = dns_failure(data, size, answer);
	if (n > DNS_ANSWER_MAX || (n && (answer[3] & 15) != 2))
		abort();
	free(answer);
	if (size < sizeof(text)) {
		memcpy(text, data, size);
		text[size] = '\0';
		if (dns_parse_server(text, &ss) && dns_addr_len(&ss) > sizeof(ss))
			abort();
	}
	return 0;
}
