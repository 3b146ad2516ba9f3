/* SPDX-License-Identifier: MIT */
/* virtio memory balloon, virtio 1.2 §5.5. */
#include "vmm/virtio/balloon.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "lib/base/le.h"
#include "vmm/core/state.h"

/*
 * Queues after the first two exist by feature, and drivers differ in whether they number them by feature or without gaps.
 * We offer one such feature only, so whichever they use is the reporting queue.
 */
enum { INFLATEQ, DEFLATEQ, FIRST_REPORTINGQ, QUEUES = 5, QUEUE_SIZE = 128, ROUND = 16 };
enum { F_DEFLATE_ON_OOM = 2, F_REPORTING = 5 };
enum { CFG_NUM_PAGES = 0, CFG_ACTUAL = 4, CFG_SIZE = 8 };
enum { MAX_PFNS = 1024 }; /* looked at in one request; Linux sends 256 */

struct balloon {
	struct virtio_dev v;
	uint32_t target, actual;
	uint64_t reported;
	struct vring_chain c;
	uint8_t pfns[MAX_PFNS * 4];
};

static struct balloon *to_balloon(struct virtio_dev *v)
{
	return container_of(v, struct balloon, v);
}

struct virtio_dev *balloon_dev(struct balloon *b)
{
	return &b->v;
}

/* Pages outside RAM, or that the host will not take, simply stay. */
static void discard(struct balloon *b, uint64_t pfn, uint64_t pages)
{
	if (gmem_discard(b->v.gm, pfn << GMEM_PAGE_SHIFT, pages << GMEM_PAGE_SHIFT) == 0)
		return;
	/* A run with some page outside: the others still go. */
	for (uint64_t i = 0; pages > 1 && i < pages; i++)
		(void)!gmem_discard(b->v.gm, (pfn + i) << GMEM_PAGE_SHIFT, GMEM_PAGE_SIZE);
}

static void inflate(struct balloon *b)
{
	size_t n = vring_read(&b->c, 0, b->pfns, sizeof(b->pfns)) / 4;
	uint64_t lo = 0,
		 hi = 0; /* the run [lo, hi) so far; Linux hands out pages in either direction */

	for (size_t i = 0; i < n; i++) {
		uint64_t pfn = le32_get(b->pfns + i * 4);

		if (hi && pfn == hi) {
			hi++;
		} else if (hi && pfn + 1 == lo) {
			lo--;
		} else {
			if (hi)
				discard(b, lo, hi - lo);
			lo = pfn;
			hi = pfn + 1;
		}
	}
	if (hi)
		discard(b, lo, hi - lo);
}

static void report(struct balloon *b)
{
	const struct vring_chain *c = &b->c;

	for (unsigned i = 0; i < (unsigned)c->n_rd + c->n_wr; i++)
		if (gmem_discard(b->v.gm, c->addr[i], c->iov[i].iov_len) == 0)
			b->reported += c->iov[i].iov_len;
}

static void notify(struct virtio_dev *v, unsigned q)
{
	struct balloon *b = to_balloon(v);
	unsigned left = ROUND;

	while (vq_pop(&v->q[q], &b->c) > 0) {
		if (q == INFLATEQ)
			inflate(b);
		else if (q >= FIRST_REPORTINGQ && virtio_has(v, BIT(F_REPORTING)))
			report(b);
		/* Deflating needs nothing: pages come back when they are touched. */
		vq_push(&v->q[q], &b->c, 0);
		if (--left == 0) {
			virtio_again(v, q);
			break;
		}
	}
	vq_flush(&v->q[q]);
}

static void config_read(struct virtio_dev *v, uint32_t off, void *buf, uint32_t len)
{
	struct balloon *b = to_balloon(v);
	uint8_t cfg[CFG_SIZE];

	le32_put(cfg + CFG_NUM_PAGES, b->target);
	le32_put(cfg + CFG_ACTUAL, b->actual);
	memset(buf, 0, len);
	if (off < CFG_SIZE)
		memcpy(buf, cfg + off, MIN(len, CFG_SIZE - off));
}

static void config_write(struct virtio_dev *v, uint32_t off, const void *buf, uint32_t len)
{
	if (off == CFG_ACTUAL && len == 4)
		to_balloon(v)->actual = le32_get(buf);
}

void balloon_set_target(struct balloon *b, uint32_t pages)
{
	VIRTIO_GUARD(&b->v);

	if (b->target == pages)
		return;
	b->target = pages;
	virtio_config_changed(&b->v);
}

uint32_t balloon_actual(struct balloon *b)
{
	VIRTIO_GUARD(&b->v);

	return b->actual;
}

uint64_t balloon_reported(struct balloon *b)
{
	VIRTIO_GUARD(&b->v);

	return b->reported;
}

static bool reset(struct virtio_dev *v)
{
	to_balloon(v)->actual = 0;
	return true;
}

static void save(struct virtio_dev *v, struct state_w *w)
{
	struct balloon *b = to_balloon(v);

	state_begin(w, "balloon", 1);
	state_put_u32(w, b->target);
	state_put_u32(w, b->actual);
	state_put_u64(w, b->reported);
	state_end(w);
}

static int load(struct virtio_dev *v, struct state_r *r)
{
	struct balloon *b = to_balloon(v);

	if (!state_enter(r, "balloon", 1))
		return -EBADMSG;
	b->target = state_get_u32(r);
	b->actual = state_get_u32(r);
	b->reported = state_get_u64(r);
	state_leave(r);
	return 0;
}

static void balloon_free(struct virtio_dev *v)
{
	virtio_dev_done(v);
	free(to_balloon(v));
}

static const struct virtio_dev_ops balloon_ops = {
	.name = "virtio-balloon",
	.id = VIRTIO_ID_BALLOON,
	.features = BIT(F_DEFLATE_ON_OOM) | BIT(F_REPORTING),
	.config_read = config_read,
	.config_write = config_write,
	.notify = notify,
	.reset = reset,
	.save = save,
	.load = load,
	.free = balloon_free,
};

int balloon_new(struct balloon **ret, struct gmem *gm, const char *name)
{
	struct balloon *b = calloc(1, sizeof(*b));
	int r;

	if (!b)
		return -ENOMEM;
	r = virtio_dev_init(&b->v, &balloon_ops, name, gm, QUEUES, QUEUE_SIZE);
	if (r < 0) {
		free(b);
		return r;
	}
	*ret = b;
	return 0;
}
