/* SPDX-License-Identifier: MIT */
/* What a distribution is told of this host when it starts: time zone, known hosts. */
#ifndef WSLX_DAEMON_HOST_FACTS_H
#define WSLX_DAEMON_HOST_FACTS_H

#include "lib/wire/msg.h"

/* Adds them to a START. */
void host_facts_add(struct wire_w *w);

/* The zone's name in a path to tzdata ("/usr/share/zoneinfo/Europe/Paris"), or NULL. */
const char *host_facts_zone(const char *path);

/*
 * Calls fn for each line of an /etc/hosts that means something in a distribution: without comments, blanks at its ends,
 * and addresses that name this host. text is changed.
 */
void host_facts_hosts(char *text, void (*fn)(void *ctx, const char *line), void *ctx);

#endif
