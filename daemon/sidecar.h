/* SPDX-License-Identifier: MIT */
/*
 * A process that serves one virtual machine beside wslx-vmm, for as long as the machine lives, whatever becomes of this
 * service: it listens for us on a socket in the machine's folder, which is its descriptor 3. A service that comes later
 * finds it there. When it dies, another one is started.
 */
#ifndef WSLX_DAEMON_SIDECAR_H
#define WSLX_DAEMON_SIDECAR_H

#include "lib/base/err.h"
#include "lib/base/loop.h"
#include "lib/ctl/client.h"

struct sidecar;

enum { SIDECAR_ARGS = 16 };

struct sidecar_config {
	struct loop *loop;
	const char *program, *folder, *env; /* as for proc_find(); static */
	const char *path;		    /* of its socket; copied */
	const char *args[SIDECAR_ARGS];	    /* up to NULL; copied */
	/* Connected: found: it did its work before we came; otherwise it has just been started. */
	void (*up)(void *ctx, bool found);
	/* It has died; another one comes soon. May be NULL. */
	void (*down)(void *ctx);
	void *ctx;
};

/* Finds it or starts it, now; up is called from here or later. Failures are logged, and tried again. */
int sidecar_new(struct sidecar **ret, const struct sidecar_config *cfg);
/* Lets go of it: it ends by itself when the machine has ended. NULL is fine; returns NULL. */
struct sidecar *sidecar_free(struct sidecar *s);

/* NULL: it is not there. */
struct ctl_async *sidecar_ctl(struct sidecar *s);

#endif
