/* SPDX-License-Identifier: MIT */
/* Names for a guest behind NAT: the resolver, how the guest's questions come to it, and wslxd's word of the servers to ask. */
#ifndef WSLX_NETD_NAMES_H
#define WSLX_NETD_NAMES_H

#include "lib/ctl/server.h"
#include "netd/dns.h"
#include "netd/redirect.h"
#include "netd/stack.h"

struct names {
	struct dns *dns;
	struct redirect redirect;
};

int names_begin(struct names *n, struct loop *l, const struct stack_config *net);
void names_end(struct names *n);

/* The method "nameservers". */
void names_servers(struct names *n, struct ctl_call *call, struct json_object *params);
extern const struct js_field names_fields[1];

#endif
