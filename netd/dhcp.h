/* SPDX-License-Identifier: MIT */
/*
 * DHCP (RFC 2131) on behalf of the guest, whose network is another's: its address is there before its kernel is, and it needs
 * no client. dhcp-msg.c: messages as frames.
 */
#ifndef WSLX_NETD_DHCP_H
#define WSLX_NETD_DHCP_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "lib/base/loop.h"

enum { DHCP_SERVERS = 3, DHCP_FRAME_MAX = 600, DHCP_DOMAIN = 128 };

struct lease {
	struct in_addr addr, router, server; /* router: 0: none */
	struct in_addr dns[DHCP_SERVERS];
	unsigned n_dns, prefix;
	uint32_t seconds;
	char domain[DHCP_DOMAIN]; /* "": none */
};

enum dhcp_type {
	DHCP_DISCOVER = 1,
	DHCP_OFFER = 2,
	DHCP_REQUEST = 3,
	DHCP_ACK = 5,
	DHCP_NAK = 6,
};

struct dhcp_request {
	enum dhcp_type type;
	uint32_t xid;
	uint8_t mac[6];
	uint16_t seconds;      /* since the client began */
	struct in_addr wanted; /* an address that was offered; 0: none */
	struct in_addr server; /* whose offer is taken; 0: any server's answer will do */
	struct in_addr client; /* the address that is kept; 0: it has none */
};

/* Returns the frame's length. */
size_t dhcp_build(const struct dhcp_request *q, uint8_t frame[DHCP_FRAME_MAX]);
/* The type of a server's answer to this xid and device, or 0: the frame is something else, or makes no sense. */
int dhcp_parse(
	const uint8_t *frame, size_t len, uint32_t xid, const uint8_t mac[6], struct lease *ret);

struct dhcp;

struct dhcp_ops {
	void (*send)(void *ctx, const uint8_t *frame, size_t len);
	/* A new lease; NULL: it is over. The same one renewed is none. */
	void (*changed)(void *ctx, const struct lease *lease);
};

/* Asks from now on until it is freed. mac: copied. */
int dhcp_new(struct dhcp **ret, struct loop *l, const uint8_t mac[6], const struct dhcp_ops *ops,
	void *ctx);
struct dhcp *dhcp_free(struct dhcp *d);
/* True: the frame was for it. */
bool dhcp_input(struct dhcp *d, const uint8_t *frame, size_t len);

#endif
