/* SPDX-License-Identifier: MIT */
/*
 * The user-mode network: libslirp on our event loop. It ends the guest's connections here and makes them again with
 * sockets of this process, so it needs no privileges. Frames go in and out whole, with Ethernet header.
 */
#ifndef WSLX_NETD_STACK_H
#define WSLX_NETD_STACK_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "lib/base/err.h"
#include "lib/base/loop.h"

struct stack;

enum {
	STACK_MTU_MIN = 1280,
	STACK_MTU_MAX = 65520, /* libslirp counts in 16 bits, its own headers included */
	STACK_FRAME_MAX = 14 + STACK_MTU_MAX,
};

/* The network that the guest sees. Of each family: the prefix, this host, the guest, the name server. */
struct stack_config {
	struct in_addr network, mask, host, guest, dns;
	bool ipv6;
	struct in6_addr network6, host6, guest6, dns6;
	unsigned prefix6;
	unsigned mtu;
	bool loopback; /* "host" is this host's loopback interface; otherwise nothing */
	bool inward;   /* the guest begins nothing: only what stack_listen() lets in */
};

/* Fills it in from the first address of each family's network ("10.0.2.0/24", "fd00::/64"; net6 "": none). */
int stack_config_parse(const char *net4, const char *net6, struct stack_config *ret, struct err *e);

/* A frame for the guest, borrowed. */
typedef void (*stack_output_fn)(void *ctx, const uint8_t *frame, size_t len);

int stack_new(struct stack **ret, struct loop *l, const struct stack_config *cfg,
	stack_output_fn output, void *ctx);
void stack_free(struct stack *s);
DEFINE_CLEANUP(struct stack, stack_free)

/* A frame from the guest. After the last one of a batch: stack_settle(). */
void stack_input(struct stack *s, const uint8_t *frame, size_t len);
void stack_settle(struct stack *s);
/*
 * Connections to this host's port (IPv4, an address of the loopback interface or any) go on to the guest's. To the guest they come
 * from "host" if from this host. -EADDRINUSE, -EACCES, ...
 */
int stack_listen(struct stack *s, const struct sockaddr_in *at, const struct sockaddr_in *to);
/* Connections through it stay. */
void stack_unlisten(struct stack *s, const struct sockaddr_in *at);
/* While paused, nothing is read from this host's sockets: the guest takes no frames. */
void stack_pause(struct stack *s, bool paused);

#endif
