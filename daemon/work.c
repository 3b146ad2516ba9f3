/* SPDX-License-Identifier: MIT */
#include "daemon/work.h"

#include <stdlib.h>
#include <sys/epoll.h>

struct work {
	struct image_job *job;
	struct loop_src *src;
	const struct work_ops *ops;
	void *ctx;
};

static void readable(void *ctx, int fd, uint32_t revents)
{
	struct work *w = ctx;
	struct image_progress p = {0};
	struct image_facts facts;
	struct err e = {0};
	int r = image_job_read(w->job, &p, &e);

	if (r == 0) {
		w->ops->progress(w->ctx, &p);
		return;
	}
	w->src = loop_src_free(w->src);
	facts = *image_job_facts(w->job);
	w->ops->end(w->ctx, &facts, r < 0 ? &e : NULL);
}

int work_watch(struct loop *l, struct image_job *job, const struct work_ops *ops, void *ctx,
	struct work **ret, struct err *e)
{
	struct work *w = calloc(1, sizeof(*w));
	int r;

	if (!w)
		abort();
	*w = (struct work){.job = job, .ops = ops, .ctx = ctx};
	r = loop_io(l, image_job_fd(job), EPOLLIN, readable, w, &w->src);
	if (r < 0) {
		work_free(w);
		return err_sys(e, r, "watch the process that does it");
	}
	*ret = w;
	return 0;
}

struct work *work_free(struct work *w)
{
	if (!w)
		return NULL;
	loop_src_free(w->src);
	image_job_free(w->job);
	free(w);
	return NULL;
}
