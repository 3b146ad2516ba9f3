/* SPDX-License-Identifier: MIT */
/* This host's name servers and search domains, resolv.conf(5), and when they change. */
#ifndef WSLX_DAEMON_RESOLV_H
#define WSLX_DAEMON_RESOLV_H

#include <stdbool.h>
#include "lib/base/loop.h"

#define RESOLV_CONF   "/etc/resolv.conf"
#define RESOLV_UPLINK "/run/systemd/resolve/resolv.conf" /* whom systemd-resolved asks */

enum { RESOLV_SERVERS = 8, RESOLV_DOMAINS = 32 };

struct resolv {
	/* "ADDRESS" or "ADDRESS%NUMBER" (of an interface); as an extension "#PORT" behind it */
	char server[RESOLV_SERVERS][80];
	char domain[RESOLV_DOMAINS][256];
	unsigned n_servers, n_domains;
};

/* text is changed. Lines that say nothing to us are skipped. */
void resolv_parse(char *text, struct resolv *ret);
/* The file at path; without servers in it, or without a file, 127.0.0.1 serves (resolv.conf(5)). */
void resolv_read(const char *path, struct resolv *ret);

struct resolv_watch;
/* fn(ctx) soon after the file, or what it is a link to, was written or replaced. */
int resolv_watch_new(
	struct resolv_watch **ret, struct loop *l, const char *path, loop_fn fn, void *ctx);
struct resolv_watch *resolv_watch_free(struct resolv_watch *w);

#endif
