/* SPDX-License-Identifier: MIT */
/*
 * A distribution's side of running programs of the host (docs/protocol.md, "Interop"): the socket where its programs ask
 * for connections to the host, and what they see of it: our programs in /run/wslx/bin, stubs with the host's programs'
 * names, /run/wslx/info.
 */
#ifndef WSLX_GUEST_INTEROP_H
#define WSLX_GUEST_INTEROP_H

#include <stdbool.h>
#include "guest/guest.h"
#include "guest/info.h"
#include "lib/base/loop.h"

#define BINFMT_DIR	 "/proc/sys/fs/binfmt_misc"
#define WSLX_STUB_MAGIC	 "\177WSLX-HOST"
#define INTEROP_PROGRAMS "/run/wslx/host" /* the default of interop.pathPrefix */

/* What /etc/wsl.conf says; strings borrowed, NULL: the default. */
struct interop_conf {
	bool enabled, append_path, protect_binfmt;
	const char *automount, *programs;
};

struct interop;

/* In the distribution's root. What does not work is logged, and the distribution works without it. */
struct interop *interop_new(
	struct loop *l, const struct distro_spec *spec, const struct interop_conf *conf);
/* A child of ours that may be one of its own has ended. */
void interop_child_ended(struct interop *i, pid_t pid);
/* Adds to a session's environment, and translates what WSLENV says; an exec_env_fn. */
int interop_env(void *interop, char ***env);

/* The machine's init: once, when the first distribution that may run programs of the host starts. */
void binfmt_register(void);

/* interop-view.c */
void interop_view(const struct distro_spec *spec, const struct info *info);
/* Keeps the distribution's programs from flushing what binfmt_register() registered. */
void interop_protect_binfmt(void);
/* Makes the stubs in dir, one for each NAME of m; blocks. */
int interop_stubs(const char *dir, const struct wire_msg *m);

#endif
