/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "mount/mount.h"

char *rq_str(const char *s)
{
	char *copy = strdup(s);

	if (!copy)
		abort();
	return copy;
}

struct rq *rq_new(fuse_req_t req, struct node *n, void (*go)(struct rq *rq))
{
	struct rq *rq = calloc(1, sizeof(*rq));

	if (!rq)
		abort();
	*rq = (struct rq){.req = req,
		.m = MNT(req),
		.node = n,
		.go = go,
		.d = n ? n->d : NULL,
		.fid = P9_NO_FID,
		.fid2 = P9_NO_FID};
	return rq;
}

void rq_free(struct rq *rq)
{
	loop_src_free(rq->again);
	free(rq->name);
	free(rq->name2);
	free(rq->buf);
	free(rq);
}

void rq_error(struct rq *rq, int error)
{
	/* A fid that could not be walked to is not the caller's descriptor. */
	if (error == -EBADF)
		error = -ESTALE;
	if (!rq->answered)
		fuse_reply_err(rq->req, -error);
	rq_free(rq);
}

static void unqueue(struct rq **p, struct rq *rq)
{
	while (*p && *p != rq)
		p = &(*p)->next;
	if (*p)
		*p = rq->next;
}

/* Whoever waits for a start may give up. libfuse holds the request's lock meanwhile: but for answers it is left alone. */
static void interrupted(fuse_req_t req, void *ctx)
{
	struct rq *rq = ctx;

	unqueue(&rq->d->queue, rq);
	rq_error(rq, -EINTR);
}

static void resume(struct rq *rq)
{
	rq->go = rq->then;
	rq_run(rq);
}

void rq_run(struct rq *rq)
{
	struct dist *d = rq->d;
	struct rq **tail;

	/* A disk is read for as long as its distribution is stopped. */
	if (d->state == DIST_UP && d->offline && list_is_old(rq->m)) {
		rq->then = rq->go;
		rq->go = resume;
		list_run(rq);
		return;
	}
	if (d->state == DIST_UP) {
		dist_used(d);
		if (node_gone(rq->node) || (rq->node2 && node_gone(rq->node2)))
			rq_error(rq, -ESTALE);
		else if (!node_wait(rq->node, rq) && !(rq->node2 && node_wait(rq->node2, rq)))
			rq->go(rq);
		return;
	}
	for (tail = &d->queue; *tail;)
		tail = &(*tail)->next;
	*tail = rq;
	rq->next = NULL;
	if (d->state == DIST_DOWN)
		dist_connect(d);
	if (fuse_req_interrupted(rq->req))
		interrupted(rq->req, rq);
	else
		fuse_req_interrupt_func(rq->req, interrupted, rq);
}
