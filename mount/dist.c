/* SPDX-License-Identifier: MIT */
/* Connections to distributions: made when somebody asks for a file, ended when nobody has for a while. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "lib/base/cleanup.h"
#include "lib/base/log.h"
#include "lib/ctl/service.h"
#include "lib/session/files.h"
#include "mount/mount.h"
#include "mount/offline.h"

enum { IDLE_MS = 10000, TRIES = 5, PAUSE_MS = 200 };

struct dist *dist_find(struct mnt *m, const char *name)
{
	struct dist *d = m->dists;

	/* Names of distributions do not mind case elsewhere; file names do. */
	while (d && strcmp(d->name, name) != 0)
		d = d->next;
	return d;
}

/* --- the end of a connection --- */

void dist_down(struct dist *d, int error)
{
	struct p9_client *c = d->client;
	struct rq *queue = d->queue;

	d->state = DIST_DOWN;
	d->gen++;
	d->client = NULL;
	d->offline = false;
	d->queue = NULL;
	d->lru_head = d->lru_tail = NULL;
	d->n_fids = 0;
	if (d->idle)
		loop_timer_arm(d->idle, 0);
	p9_client_free(c);
	ctl_client_free(d->hold);
	d->hold = NULL;
	while (queue) {
		struct rq *rq = queue;

		queue = rq->next;
		fuse_req_interrupt_func(rq->req, NULL, NULL);
		rq_error(rq, error);
	}
}

static void lost(void *ctx)
{
	struct dist *d = ctx;

	log_info(d->name, "the connection to its files has ended");
	dist_down(d, -EIO);
}

static void on_idle(void *ctx)
{
	struct dist *d = ctx;
	uint64_t end = d->last_use + IDLE_MS * 1000000ull;

	if (d->state != DIST_UP)
		return;
	if (d->files || p9_client_pending(d->client))
		end = loop_now() + IDLE_MS * 1000000ull;
	if (loop_now() >= end)
		dist_down(d, -EIO);
	else
		loop_timer_arm(d->idle, end);
}

void dist_used(struct dist *d)
{
	d->last_use = loop_now();
}

void dist_call(struct rq *rq, struct p9_msg *m, p9_done done)
{
	rq->gen = rq->d->gen;
	p9_client_call(rq->d->client, m, done, rq);
}

void dist_clunk(struct dist *d, uint64_t gen, uint32_t fid)
{
	if (fid != P9_NO_FID && gen == d->gen && d->client)
		p9_client_clunk(d->client, fid);
}

bool rq_fid(struct rq *rq, uint32_t *ret)
{
	*ret = p9_client_fid(rq->d->client);
	if (*ret != P9_NO_FID)
		return true;
	rq_error(rq, -ENFILE);
	return false;
}

/* --- its beginning --- */

struct opening {
	struct dist *d;
	struct mnt *m;
	char name[65];
	const char *user;
	bool offline; /* from its disk, if it does not run */
	struct ctl_client *hold;
	int fd;
	struct files_user who;
	int r;
	struct err e;
};

static int open_running(struct opening *o)
{
	struct json_object *reply = NULL;
	int r = service_open(o->hold, o->name, &o->fd, &reply, &o->e);

	if (r < 0)
		return r;
	r = files_ask(o->fd, o->user, (uid_t)js_u64(reply, "uid", 0), &o->who, &o->e);
	js_free(reply);
	if (r < 0)
		close(take_fd(o->fd));
	return r;
}

static void open_work(void *ctx)
{
	const struct timespec pause = {.tv_nsec = PAUSE_MS * 1000000};
	struct opening *o = ctx;

	o->r = service_connect(&o->hold, &o->e);
	if (o->r == 0 && o->offline)
		o->r = offline_open(o->hold, o->name, &o->fd, &o->who.uid, &o->e);
	/* It runs: its files are what its programs see. */
	if (o->r == 0 && o->offline && o->fd < 0)
		o->offline = false;
	if (o->r < 0 || o->offline) {
		/* A user's own group has the user's number, as a rule. */
		o->who.gid = o->who.uid;
		return;
	}
	/* wslxd may not have noticed yet that a virtual machine has just ended. */
	for (unsigned i = 0; i < TRIES; i++) {
		o->r = open_running(o);
		if (o->r != -ECONNREFUSED && o->r != -EPIPE && o->r != -ECONNRESET)
			break;
		nanosleep(&pause, NULL);
	}
}

static void open_done(void *ctx)
{
	struct opening *o = ctx;
	struct dist *d = o->d;
	struct rq *queue;
	int r = o->r;

	if (r == 0)
		r = p9_client_new(&d->client, o->m->loop, take_fd(o->fd), lost, d);
	if (r == 0 && !d->idle)
		r = loop_timer(o->m->loop, on_idle, d, &d->idle);
	if (r < 0) {
		log_warn(d->name, "open its files: %s", o->e.code ? o->e.text : strerror(-r));
		if (o->fd >= 0)
			close(o->fd);
		ctl_client_free(o->hold);
		dist_down(d, r == -ENOENT ? -ENOENT : -EIO);
		free(o);
		return;
	}
	d->hold = o->hold;
	d->uid = o->who.uid;
	d->gid = o->who.gid;
	d->offline = o->offline;
	d->state = DIST_UP;
	dist_used(d);
	loop_timer_arm(d->idle, loop_now() + IDLE_MS * 1000000ull);
	free(o);
	queue = d->queue;
	d->queue = NULL;
	while (queue) {
		struct rq *rq = queue;

		queue = rq->next;
		fuse_req_interrupt_func(rq->req, NULL, NULL);
		rq_run(rq);
	}
}

void dist_connect(struct dist *d)
{
	struct opening *o = calloc(1, sizeof(*o));

	if (!o)
		abort();
	*o = (struct opening){
		.d = d, .m = d->m, .user = d->m->user, .fd = -EBADF, .offline = d->m->no_start};
	strcpy(o->name, d->name);
	d->state = DIST_CONNECTING;
	job_start(d->m->loop, open_work, open_done, o);
}
