/* SPDX-License-Identifier: MIT */
#include "netd/endpoint.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

int endpoint_parse(const char *text, struct sockaddr_storage *ret)
{
	struct sockaddr_in *in4 = (struct sockaddr_in *)ret;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ret;
	char proto[4], addr[INET6_ADDRSTRLEN];
	unsigned port;
	int n = 0;

	*ret = (struct sockaddr_storage){0};
	if (sscanf(text, "%3s %45s %u%n", proto, addr, &port, &n) != 3 || text[n] || !port ||
		port > 65535)
		return -EINVAL;
	if (inet_pton(AF_INET, addr, &in4->sin_addr) == 1) {
		in4->sin_family = AF_INET;
		in4->sin_port = htons((uint16_t)port);
	} else if (inet_pton(AF_INET6, addr, &in6->sin6_addr) == 1) {
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons((uint16_t)port);
	} else {
		return -EINVAL;
	}
	return !strcmp(proto, "tcp") ? SOCK_STREAM : !strcmp(proto, "udp") ? SOCK_DGRAM : -EINVAL;
}
