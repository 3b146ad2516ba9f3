/* SPDX-License-Identifier: MIT */
#include "guest/reclaim.h"

#include "lib/base/attr.h"

#define MIN_STEP ((uint64_t)32 << 20)
#define MAX_STEP ((uint64_t)1 << 30)

/* Compares with the oldest sample of the window, which the new one replaces. */
static bool is_idle(struct reclaim *r, uint64_t busy, uint64_t total)
{
	uint64_t busy0 = r->busy[r->at], total0 = r->total[r->at];
	bool full = r->n == RECLAIM_WINDOW;

	r->busy[r->at] = busy;
	r->total[r->at] = total;
	r->at = (r->at + 1) % RECLAIM_WINDOW;
	r->n += !full;
	return full && total > total0 && busy >= busy0 && (busy - busy0) * 200 <= total - total0;
}

enum reclaim_act reclaim_sample(
	struct reclaim *r, uint64_t busy, uint64_t total, uint64_t cache, uint64_t *ret_bytes)
{
	if (!is_idle(r, busy, total)) {
		r->stop = r->worked = false;
		return RECLAIM_NOTHING;
	}
	if (!r->stop && r->how == VM_RECLAIM_DROP) {
		r->stop = r->worked = true;
		return RECLAIM_ALL;
	}
	if (!r->stop && r->how == VM_RECLAIM_GRADUAL && cache > RECLAIM_KEEP) {
		uint64_t step = MAX(MIN(r->ram / 32, MAX_STEP), MIN_STEP);

		*ret_bytes = MIN(step, cache - RECLAIM_KEEP);
		r->worked = true;
		return RECLAIM_STEP;
	}
	if (!r->worked)
		return RECLAIM_NOTHING;
	r->worked = false;
	return RECLAIM_COMPACT;
}

void reclaim_failed(struct reclaim *r)
{
	r->stop = true;
}
