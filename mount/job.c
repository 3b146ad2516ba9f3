/* SPDX-License-Identifier: MIT */
#include <pthread.h>
#include <stdlib.h>
#include "mount/mount.h"

struct job {
	struct loop *loop;
	void (*work)(void *ctx), (*done)(void *ctx);
	void *ctx;
};

static void end(void *ctx)
{
	struct job *j = ctx;

	j->done(j->ctx);
	free(j);
}

static void *run(void *ctx)
{
	struct job *j = ctx;

	j->work(j->ctx);
	loop_defer(j->loop, end, j);
	return NULL;
}

void job_start(struct loop *l, void (*work)(void *ctx), void (*done)(void *ctx), void *ctx)
{
	struct job *j = malloc(sizeof(*j));
	pthread_attr_t attr;
	pthread_t t;

	if (!j)
		abort();
	*j = (struct job){l, work, done, ctx};
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	/* Without a thread it has to be done here. */
	if (pthread_create(&t, &attr, run, j) != 0)
		run(j);
	pthread_attr_destroy(&attr);
}
