/* SPDX-License-Identifier: MIT */
/* Which distributions there are: wslxd is asked when somebody looks into the root, at most once a second. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "lib/base/log.h"
#include "lib/ctl/service.h"
#include "mount/mount.h"

struct listing {
	struct mnt *m;
	struct json_object *reply;
	struct err e;
	int r;
};

static void list_work(void *ctx)
{
	cleanup(ctl_client_freep) struct ctl_client *c = NULL;
	struct ctl_req req = {.method = "list"};
	struct listing *l = ctx;

	l->r = service_connect(&c, &l->e);
	if (l->r == 0)
		l->r = ctl_call(c, &req, &l->reply, &l->e);
}

/* A folder of this name: what the registry allows as a name of a distribution is. */
static void note(struct mnt *m, struct json_object *o)
{
	const char *name = js_str(o, "name", ""), *id = js_str(o, "id", "");
	struct dist *d = dist_find(m, name);

	if (!p9_name_ok(p9_str(name)) || strlen(name) >= sizeof(d->name) ||
		strlen(id) >= sizeof(d->id))
		return;
	/* Another one under an old name: what was known of the old one is void. */
	if (d && strcmp(d->id, id) != 0 && d->state == DIST_UP)
		dist_down(d, -EIO);
	if (!d) {
		d = calloc(1, sizeof(*d));
		if (!d)
			abort();
		d->m = m;
		d->index = ++m->last_index;
		strcpy(d->name, name);
		d->next = m->dists;
		m->dists = d;
	}
	strcpy(d->id, id);
	d->listed = true;
	d->running = strcmp(js_str(o, "state", ""), "Running") == 0;
	/* Its disk is no longer for us to read. */
	if (d->offline && d->state == DIST_UP && strcmp(js_str(o, "state", ""), "Stopped") != 0)
		dist_down(d, -EIO);
}

static void list_done(void *ctx)
{
	struct listing *l = ctx;
	struct mnt *m = l->m;
	struct json_object *all = l->r == 0 ? js_get(l->reply, "distributions") : NULL;
	struct rq *queue = m->list_queue;
	int r = l->r;

	if (r < 0)
		log_warn("list", "ask which distributions there are: %s", l->e.text);
	for (struct dist *d = m->dists; d && r == 0; d = d->next)
		d->listed = false;
	for (size_t i = 0; all && i < json_object_array_length(all); i++)
		note(m, json_object_array_get_idx(all, i));
	js_free(l->reply);
	free(l);
	m->listing = false;
	m->listed_at = r == 0 ? loop_now() : 0;
	m->list_queue = NULL;
	while (queue) {
		struct rq *rq = queue;

		queue = rq->next;
		if (r < 0)
			rq_error(rq, -EIO);
		else
			rq->go(rq);
	}
}

bool list_is_old(const struct mnt *m)
{
	return !m->listed_at || loop_now() - m->listed_at >= TIMEOUT_S * 1000000000ull;
}

void list_run(struct rq *rq)
{
	struct mnt *m = rq->m;
	struct listing *l;

	if (!list_is_old(m)) {
		rq->go(rq);
		return;
	}
	rq->next = m->list_queue;
	m->list_queue = rq;
	if (m->listing)
		return;
	l = calloc(1, sizeof(*l));
	if (!l)
		abort();
	l->m = m;
	m->listing = true;
	job_start(m->loop, list_work, list_done, l);
}
