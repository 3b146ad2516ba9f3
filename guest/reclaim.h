/* SPDX-License-Identifier: MIT */
/*
 * When an idle VM gives its page cache back to the host: the decision alone, without clock or files.
 *
 * Idle is a VM whose processors were busy for at most 0.5 % of the last two minutes. Then, a step a sample, the cache
 * shrinks to what a few programs need ("gradual"), or all of it goes at once, once for each time of idleness ("drop").
 * The first busy sample ends it: a guest at work keeps its cache.
 */
#ifndef WSLX_GUEST_RECLAIM_H
#define WSLX_GUEST_RECLAIM_H

#include <stdbool.h>
#include <stdint.h>
#include "guest/vmconf.h"

enum {
	RECLAIM_SAMPLE_S = 10,
	RECLAIM_WINDOW = 12, /* samples: two minutes */
};
#define RECLAIM_KEEP ((uint64_t)128 << 20) /* bytes of cache that stay */

struct reclaim {
	enum vm_reclaim how;
	uint64_t ram; /* bytes */
	/* private */
	uint64_t busy[RECLAIM_WINDOW], total[RECLAIM_WINDOW]; /* the last samples, a ring */
	unsigned n, at;
	bool worked; /* something was given back since the last compaction */
	bool stop;   /* no more in this time of idleness */
};

enum reclaim_act {
	RECLAIM_NOTHING,
	RECLAIM_STEP,	 /* give back *ret_bytes of cache */
	RECLAIM_ALL,	 /* drop the caches */
	RECLAIM_COMPACT, /* make large free pages of the small ones: only those go back to the host */
};

/* A sample: time that processors were busy, and all their time, since boot and in any unit; bytes of cache. */
enum reclaim_act reclaim_sample(
	struct reclaim *r, uint64_t busy, uint64_t total, uint64_t cache, uint64_t *ret_bytes);
/* What was to be given back could not be: no use in trying again for now. */
void reclaim_failed(struct reclaim *r);

#endif
