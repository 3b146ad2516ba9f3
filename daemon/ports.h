/* SPDX-License-Identifier: MIT */
/*
 * Ports of this host that lead to listeners of a guest: those that its programs listen on at localhost, as they come and
 * go, and those that the user adds.
 */
#ifndef WSLX_DAEMON_PORTS_H
#define WSLX_DAEMON_PORTS_H

#include "daemon/vm.h"

struct ports;

enum { FORWARD_TEXT = 120 };

struct sidecar;

/*
 * Borrowed, as for net_new(). netd: where wslx-netd is whenever it is there, if it has a way into the guest; otherwise NULL, and
 * wslx-forward has all of them.
 */
struct ports *ports_new(
	struct loop *l, const struct settings *set, const char *dir, struct sidecar *const *netd);
struct ports *ports_free(struct ports *p);

/* wslx-netd is there; found: from before. p may be NULL. */
void ports_netd_up(struct ports *p, bool found);

/* The guest takes FORWARDs at this vsock port; a LISTENERS follows. */
void ports_up(struct ports *p, uint32_t vsock_port);
void ports_listeners(struct ports *p, const struct wire_msg *m);

typedef void (*ports_done)(void *ctx, const struct err *e); /* e NULL: done */
/* By the user: listen and to as wslx-forward has them ("tcp 127.0.0.1 8080"). */
void ports_add(struct ports *p, const char *listen, const char *to, ports_done done, void *ctx);
void ports_remove(struct ports *p, const char *listen, ports_done done, void *ctx);

/* [{"listen","to","added","error"}, ...]; p may be NULL. */
struct json_object *ports_describe(struct ports *p);

/* port-owner.c: who of this user's processes holds the port, "python3 (process 123)"; false: not to be found. */
bool port_owner(const char *listen, char *buf, size_t cap);

#endif
