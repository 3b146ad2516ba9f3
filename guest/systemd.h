/* SPDX-License-Identifier: MIT */
/*
 * A distribution whose pid 1 is its own init, as boot.systemd asks for. Our init goes on as pid 1's child: it serves
 * sessions, is in no unit of systemd's, and neither a restart of its manager nor anything short of the end of the
 * namespace touches it. systemd is told that it is in a container (https://systemd.io/CONTAINER_INTERFACE).
 *
 * It is started with the distribution and not with its first session: only pid 1 can execute it, and everything else
 * is then the same with and without it.
 */
#ifndef WSLX_GUEST_SYSTEMD_H
#define WSLX_GUEST_SYSTEMD_H

#include <stdbool.h>
#include "guest/conf.h"
#include "lib/base/attr.h"
#include "lib/base/err.h"
#include "lib/base/loop.h"

/* Can it be had? False, with a warning, when there is no /sbin/init. */
bool systemd_present(struct warnings *w);
/* Is /sbin/init systemd, and not another init? */
bool systemd_is_init(void);
/* Units of ours, and those that make no sense here switched off, in /run/systemd/system; /sys read-only. */
void systemd_prepare(const struct wsl_conf *conf, struct warnings *w);
/* In pid 1. Returns only on failure, a negative errno. */
int systemd_exec(void);

struct systemd_wait;

/* Waits until it is up. fn is called once: with its state ("running", "degraded"), or NULL when the time is over. */
int systemd_wait_new(struct systemd_wait **ret, struct loop *l, unsigned timeout_ms,
	void (*fn)(void *ctx, const char *state), void *ctx);
struct systemd_wait *systemd_wait_free(struct systemd_wait *w);
/* A child has ended. */
void systemd_wait_child(struct systemd_wait *w, pid_t pid);

/* Tells pid 1 to power off. */
void systemd_power_off(void);

/* In a session's process, as root: the user is logged in, so that there is a user manager. May take a while. */
void systemd_login(uid_t uid, unsigned timeout_ms);

#endif
