/* SPDX-License-Identifier: MIT */
#include "vmm/host/block-worker.h"

#include <errno.h>

/* Works off a list; flushes next to each other in it are one, since all were asked for before it
 * starts. */
static void work_off(struct block_worker *w, struct blk_req *list)
{
	int res = 0;

	for (struct blk_req *r = list, *before = NULL; r; before = r, r = r->next) {
		if (!before || r->op != BLK_FLUSH || before->op != BLK_FLUSH)
			res = w->work(w->ctx, r);
		r->res = res;
	}
}

static void worker(void *ctx)
{
	struct block_worker *w = ctx;

	os_mutex_lock(&w->lock);
	for (;;) {
		struct blk_req *list = w->todo, **tail = w->todo_tail;

		if (!list) {
			w->working = false;
			os_event_set(&w->idle);
			if (w->quit)
				break;
			os_mutex_unlock(&w->lock);
			os_event_wait(&w->wake, UINT64_MAX);
			os_mutex_lock(&w->lock);
			continue;
		}
		w->todo = NULL;
		w->todo_tail = &w->todo;
		os_mutex_unlock(&w->lock);
		work_off(w, list);
		os_mutex_lock(&w->lock);
		*w->done_tail = list;
		w->done_tail = tail;
		os_notifier_signal(w->finished);
	}
	os_mutex_unlock(&w->lock);
}

/* Loop's thread: completes what the worker has finished. */
static void reap(void *ctx)
{
	struct block_worker *w = ctx;
	struct blk_req *r, *next;

	os_mutex_lock(&w->lock);
	r = w->done;
	w->done = NULL;
	w->done_tail = &w->done;
	os_mutex_unlock(&w->lock);
	for (; r; r = next) {
		next = r->next;
		r->done(r, r->res);
	}
}

void block_worker_init(
	struct block_worker *w, int (*work)(void *ctx, const struct blk_req *r), void *ctx)
{
	*w = (struct block_worker){.work = work, .ctx = ctx};
	w->todo_tail = &w->todo;
	w->done_tail = &w->done;
	os_mutex_init(&w->lock);
	os_event_init(&w->wake);
	os_event_init(&w->idle);
}

int block_worker_watch(struct block_worker *w, struct loop *l)
{
	int r = os_notifier_new(&w->finished);

	return r < 0 ? r : os_notifier_watch(w->finished, l, reap, w);
}

void block_worker_done(struct block_worker *w)
{
	if (w->thread) {
		os_mutex_lock(&w->lock);
		w->quit = true;
		os_mutex_unlock(&w->lock);
		os_event_set(&w->wake);
		os_thread_join(w->thread);
	}
	os_notifier_free(w->finished);
	os_event_done(&w->wake);
	os_event_done(&w->idle);
	os_mutex_done(&w->lock);
}

int block_worker_submit(struct block_worker *w, struct blk_req *r)
{
	r->next = NULL;
	OS_GUARD(&w->lock);
	/* Where there can be no more threads now, a slow disk is better than one that fails. */
	if (!w->thread && os_thread_start(&w->thread, "disk", worker, w) < 0)
		return w->work(w->ctx, r);
	*w->todo_tail = r;
	w->todo_tail = &r->next;
	if (!w->working) {
		w->working = true;
		os_event_set(&w->wake);
	}
	return BLK_PENDING;
}

void block_worker_drain(struct block_worker *w)
{
	for (;;) {
		bool working, done;

		os_mutex_lock(&w->lock);
		working = w->working;
		done = w->done != NULL;
		os_mutex_unlock(&w->lock);
		if (done)
			reap(w);
		else if (working)
			os_event_wait(&w->idle, UINT64_MAX);
		else
			break;
	}
}
