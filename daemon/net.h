/* SPDX-License-Identifier: MIT */
/*
 * The network of one virtual machine: wslx-netd behind its device, this host's name servers, and what the guest has to be
 * told of it all.
 */
#ifndef WSLX_DAEMON_NET_H
#define WSLX_DAEMON_NET_H

#include "daemon/vm.h"

struct net;

#define NET_HOST_NAME "host.wslx.internal"

/*
 * vm is borrowed and outlives it, dir: its folder in the runtime folder; fresh: wslx-vmm is yet to start. NULL: it has no
 * network, by its settings.
 */
struct net *net_new(
	struct loop *l, struct vm *vm, const struct settings *set, const char *dir, bool fresh);
/* NULL is fine; returns NULL. */
struct net *net_free(struct net *n);

/* wslx-vmm's option --vhost-user for it. */
void net_option(const struct net *n, char *buf, size_t cap);

/* Init is there, for the first time or again: the guest gets its addresses, before any START. */
void net_up(struct net *n);
/* What a distribution's files are generated from, for START, and the addresses it has if it is to have a network of its
 * own: those of this number. n may be NULL. */
void net_add_start(const struct net *n, unsigned number, struct wire_w *w);
/* A LISTENERS of the guest's. */
void net_listeners(struct net *n, const struct wire_msg *m);

/* NULL: none are forwarded. n may be NULL. */
struct ports *net_ports(const struct net *n);
/* For "wslx network", as JSON. n may be NULL. */
struct json_object *net_describe(const struct net *n);

#endif
