/* SPDX-License-Identifier: MIT */
/* A process that works on an image (lib/image), watched by the service's loop. It dies with the service. */
#ifndef WSLX_DAEMON_WORK_H
#define WSLX_DAEMON_WORK_H

#include "lib/base/loop.h"
#include "lib/image/image.h"

struct work;

struct work_ops {
	void (*progress)(void *ctx, const struct image_progress *p);
	/* The last call; free the work. f: what it found out; e: NULL when all went well. */
	void (*end)(void *ctx, const struct image_facts *f, const struct err *e);
};

/* Takes job over, also when it fails. */
int work_watch(struct loop *l, struct image_job *job, const struct work_ops *ops, void *ctx,
	struct work **ret, struct err *e);
/* Kills the process if it still runs. */
struct work *work_free(struct work *w);

#endif
