/* SPDX-License-Identifier: MIT */
/*
 * Ports of this host that lead to listeners of the guest, over its network device: a stack of its own (stack.h) for TCP, frames made
 * here for UDP. To the guest, all of it comes from one address, "inward", at which nothing else is, so that what the guest answers
 * can be told from the rest of what it sends. Listeners at addresses of its network device are reached, and no others: those at its
 * localhost alone are for wslx-forward.
 */
#ifndef WSLX_NETD_INWARD_H
#define WSLX_NETD_INWARD_H

#include "lib/json/json.h"
#include "netd/endpoint.h"
#include "netd/stack.h"

struct inward;

/* mac: the guest's; copied. output: frames for the guest. */
int inward_new(struct inward **ret, struct loop *l, const struct stack_config *net,
	const uint8_t mac[6], stack_output_fn output, void *ctx);
void inward_free(struct inward *w);

/* A frame from the guest; false: it is for somebody else. After the last one of a batch: inward_settle(). */
bool inward_input(struct inward *w, const uint8_t *frame, size_t len);
void inward_settle(struct inward *w);
/* While paused, nothing is taken from this host's clients. */
void inward_pause(struct inward *w, bool paused);

/*
 * Begins to listen, or leads one that does elsewhere: listen "tcp 127.0.0.1 8080", port: the guest's. -EADDRINUSE, -EACCES, -EINVAL:
 * not one that is led this way, ...
 */
int inward_add(struct inward *w, const char *listen, uint16_t port, struct err *e);
/* Connections through it stay. -ENOENT. */
int inward_remove(struct inward *w, const char *listen);

/* [{"listen","port"}, ...] */
struct json_object *inward_list(const struct inward *w);

/* --- inward-udp.c --- */

/* Datagrams between a port of this host and the guest, as frames. */
struct inward_net {
	struct loop *loop;
	struct in_addr inward, guest;
	uint8_t mac[6];
	unsigned mtu;
	stack_output_fn output;
	void *ctx;
	uint16_t id; /* of the last datagram */
	bool paused;
	/* What the guest sends in parts, of which one at a time is put together. */
	struct {
		uint16_t id;
		size_t len; /* so far; 0: none is there */
		uint8_t data[65536];
	} part;
};

struct inward_udp;

int inward_udp_new(struct inward_udp **ret, struct inward_net *net, const struct sockaddr_in *at,
	uint16_t port);
struct inward_udp *inward_udp_free(struct inward_udp *u);
void inward_udp_pause(struct inward_udp *u, bool paused);
void inward_udp_lead(struct inward_udp *u, uint16_t port);
/* The UDP datagram in an IPv4 packet that is all in the frame; false: it is none, or not all of it is there yet. */
bool inward_udp_take(struct inward_net *net, const uint8_t *packet, size_t len,
	const uint8_t **ret_datagram, size_t *ret_len);
/* From the guest; false: none of this port's clients has it. */
bool inward_udp_input(struct inward_udp *u, const uint8_t *datagram, size_t len);

#endif
