/* SPDX-License-Identifier: MIT */
/*
 * Work on a disk that takes its time: a function in a child process of the service, which tells how
 * far it is and how it ended. The child dies with the service.
 */
#ifndef WSLX_DAEMON_WORK_H
#define WSLX_DAEMON_WORK_H

#include <stdint.h>
#include "lib/base/err.h"
#include "lib/base/loop.h"

struct work;
struct work_out;

/* In the child: 0, or a negative errno with the reason in e. */
typedef int (*work_fn)(void *arg, struct work_out *out, struct err *e);
/* Tells how far it is, now and then. Bytes. */
void work_progress(void *out, uint64_t done, uint64_t total);

struct work_ops {
	void (*progress)(void *ctx, uint64_t done, uint64_t total);
	/* The last call; free the work. e: NULL when all went well. */
	void (*end)(void *ctx, const struct err *e);
};

/* keep: descriptors the function uses; all others are closed in the child. */
int work_start(struct loop *l, work_fn fn, void *arg, const int *keep, unsigned nkeep,
	const struct work_ops *ops, void *ctx, struct work **ret, struct err *e);
/* Kills the child if it still runs. */
struct work *work_free(struct work *w);

#endif
