/* SPDX-License-Identifier: MIT */
/*
 * What happens in a session's process, as root, before it becomes the user: first-run set-up, the user's login with
 * systemd, the user's runtime folder, the variables a login sets.
 */
#ifndef WSLX_GUEST_LOGIN_H
#define WSLX_GUEST_LOGIN_H

#include "guest/guest.h"
#include "guest/conf.h"
#include "lib/session/exec.h"

struct login {
	const struct distro_spec *spec;
	const struct wsl_conf *conf;
	const char *hostname;
	bool systemd;
	uid_t uid;  /* the default user */
	int result; /* our end of a SEQPACKET pair: struct oobe_result goes there */
};

/* Of struct exec_place; ctx is a struct login. */
const char *login_prepare(void *ctx, struct exec_plan *p);

/* oobe.c: first-run set-up has succeeded. */
struct oobe_result {
	bool has_uid;
	uint32_t uid;
};

/*
 * Runs the distribution's set-up on this process's terminal, unless that has happened since the distribution started, and
 * writes what came of it to result. Without success the process ends with status 125, having said why.
 */
struct oobe_result oobe_run(const struct exec_plan *p, const char *distro, int result);

#endif
