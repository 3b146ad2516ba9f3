/* SPDX-License-Identifier: MIT */
/* What a distribution says about itself: /etc/wsl.conf (wsl.conf(5)) and /etc/wsl-distribution.conf. */
#ifndef WSLX_GUEST_CONF_H
#define WSLX_GUEST_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "guest/warn.h"

struct wsl_conf {
	/* automount */
	bool automount, mount_fstab;
	char *automount_root, *automount_options; /* NULL: not said, as of all strings here */
	int cgroups;				  /* 0: v1, 1: v2 */
	/* filesystem */
	int64_t umask;
	/* interop */
	bool interop, append_path;
	char *programs; /* pathPrefix */
	/* network */
	bool generate_hosts, generate_resolv_conf;
	bool isolation; /* a network namespace of its own */
	char *hostname;
	/* time */
	bool host_timezone;
	/* user */
	char *user;
	/* boot */
	char *command;
	bool systemd, protect_binfmt;
	int64_t init_timeout_ms; /* 0: not said */
	/* checked, and of no effect: the rest */
	bool unused;
	char *unused_text;
	int unused_level;
};

/* Defaults, then what is said; the file below root need not exist. What is wrong becomes warnings. */
void wsl_conf_parse(const char *text, size_t len, struct wsl_conf *ret, struct warnings *w);
void wsl_conf_read(int root, struct wsl_conf *ret, struct warnings *w);
void wsl_conf_done(struct wsl_conf *c);

struct oobe_conf {
	char *command; /* NULL: none */
	int64_t uid;   /* of the default user afterwards; negative: as it was */
	char *name;
};

void oobe_conf_parse(const char *text, size_t len, struct oobe_conf *ret, struct warnings *w);
void oobe_conf_read(int root, struct oobe_conf *ret, struct warnings *w);
void oobe_conf_done(struct oobe_conf *c);

#endif
