/* SPDX-License-Identifier: MIT */
/* virtio entropy device, virtio 1.2 §5.4. */
#include "vmm/virtio/rng.h"

#include <errno.h>
#include <stdlib.h>
#include "lib/os/thread.h"

enum { QUEUE_SIZE = 64, ROUND = 64 };

struct rng {
	struct virtio_dev v;
	struct vring_chain c;
};

static uint32_t fill(const struct vring_chain *c)
{
	const struct iovec *iov = vring_wr(c);
	uint32_t left = MIN(c->wr_len, (uint32_t)RNG_MAX_BYTES), done = 0;

	for (unsigned i = 0; i < c->n_wr && left; i++) {
		uint32_t n = (uint32_t)MIN(iov[i].iov_len, (size_t)left);

		os_random(iov[i].iov_base, n);
		done += n;
		left -= n;
	}
	return done;
}

static void notify(struct virtio_dev *v, unsigned q)
{
	struct rng *r = container_of(v, struct rng, v);
	unsigned left = ROUND;

	while (vq_pop(&v->q[q], &r->c) > 0) {
		vq_push(&v->q[q], &r->c, fill(&r->c));
		if (--left == 0) {
			virtio_again(v, q);
			break;
		}
	}
	vq_flush(&v->q[q]);
}

static void rng_free(struct virtio_dev *v)
{
	virtio_dev_done(v);
	free(container_of(v, struct rng, v));
}

static const struct virtio_dev_ops rng_ops = {
	.name = "virtio-rng", .id = VIRTIO_ID_RNG, .notify = notify, .free = rng_free};

int virtio_rng_new(struct virtio_dev **ret, struct gmem *gm, const char *name)
{
	struct rng *r = calloc(1, sizeof(*r));
	int e;

	if (!r)
		return -ENOMEM;
	e = virtio_dev_init(&r->v, &rng_ops, name, gm, 1, QUEUE_SIZE);
	if (e < 0) {
		free(r);
		return e;
	}
	*ret = &r->v;
	return 0;
}
