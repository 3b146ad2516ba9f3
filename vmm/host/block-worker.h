/* SPDX-License-Identifier: MIT */
/*
 * The thread that does what can take milliseconds for a block back end (flushes, discards,
 * zeroing): one a disk, in order. Requests complete on the loop's thread.
 */
#ifndef WSLX_VMM_HOST_BLOCK_WORKER_H
#define WSLX_VMM_HOST_BLOCK_WORKER_H

#include "lib/base/loop.h"
#include "lib/os/notifier.h"
#include "lib/os/thread.h"
#include "vmm/scsi/blk.h"

/* Embedded in a back end. lock guards the two lists and the flags; it is held over work() only where there is no thread. */
struct block_worker {
	/* Does what a request asks for, one at a time, on the worker's thread, or on the one that submits while that cannot
	 * be started; its result. */
	int (*work)(void *ctx, const struct blk_req *r);
	void *ctx;

	/* Started by the first request for it: no thread may be there before the sandbox. */
	struct os_thread *thread;
	struct os_event wake; /* there is something to do */
	struct os_event idle; /* there is nothing to do */
	struct os_notifier *finished;
	struct os_mutex lock;
	struct blk_req *todo, **todo_tail;
	struct blk_req *done, **done_tail;
	bool working, quit;
};

/* Before everything else; then block_worker_done() may be called. */
void block_worker_init(
	struct block_worker *w, int (*work)(void *ctx, const struct blk_req *r), void *ctx);
int block_worker_watch(struct block_worker *w, struct loop *l);
/* Ends the thread; nothing is pending any more. */
void block_worker_done(struct block_worker *w);

/* Any thread. BLK_PENDING, or the result. */
int block_worker_submit(struct block_worker *w, struct blk_req *r);
/* Loop's thread: waits until nothing is pending, running done() callbacks inside. */
void block_worker_drain(struct block_worker *w);

#endif
