/* SPDX-License-Identifier: MIT */
/* Where something listens, as the service writes it. */
#ifndef WSLX_NETD_ENDPOINT_H
#define WSLX_NETD_ENDPOINT_H

#include <sys/socket.h>

enum { ENDPOINT_TEXT = 120 };

/* "tcp 127.0.0.1 8080" as an address to bind to; the socket type, or -EINVAL. */
int endpoint_parse(const char *text, struct sockaddr_storage *ret);

#endif
