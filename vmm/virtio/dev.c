/* SPDX-License-Identifier: MIT */
/* What is common to all virtio devices whatever the transport: status and feature negotiation
 * (virtio 1.2 §2.1, §2.2, §3.1), reset, failure, saved state. */
#include "vmm/virtio/dev.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "lib/base/log.h"
#include "lib/base/loop.h"
#include "vmm/core/state.h"

int virtio_dev_init(struct virtio_dev *v, const struct virtio_dev_ops *ops, const char *name,
	struct gmem *gm, unsigned n_queues, uint16_t queue_size)
{
	if (!n_queues || n_queues > VIRTIO_MAX_QUEUES || !queue_size || queue_size > VQ_MAX_SIZE ||
		(queue_size & (queue_size - 1)))
		return -EINVAL;
	*v = (struct virtio_dev){.ops = ops, .gm = gm, .n_queues = n_queues};
	snprintf(v->name, sizeof(v->name), "%s", name);
	v->offered =
		ops->features | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX | VIRTIO_F_VERSION_1;
	v->q = calloc(n_queues, sizeof(*v->q));
	if (!v->q)
		return -ENOMEM;
	for (unsigned i = 0; i < n_queues; i++)
		vq_init(&v->q[i], v, i, queue_size);
	return 0;
}

void virtio_dev_done(struct virtio_dev *v)
{
	v->again_timer = loop_src_free(v->again_timer);
	free(v->q);
	v->q = NULL;
}

static void notify_again(void *ctx)
{
	struct virtio_dev *v = ctx;
	VIRTIO_GUARD(v);
	uint64_t again = v->again;

	v->again = 0;
	for (unsigned i = 0; i < v->n_queues; i++)
		if (again & BIT(i))
			virtio_notify(v, i);
}

int virtio_attach(struct virtio_dev *v, const struct virtio_transport_ops *t, void *ctx,
	struct os_mutex *lock, struct loop *loop)
{
	v->transport = t;
	v->transport_ctx = ctx;
	v->lock = lock;
	v->loop = loop;
	return loop ? loop_timer(loop, notify_again, v, &v->again_timer) : 0;
}

bool virtio_live(const struct virtio_dev *v)
{
	return (v->status & (VIRTIO_ST_DRIVER_OK | VIRTIO_ST_NEEDS_RESET)) == VIRTIO_ST_DRIVER_OK &&
	       !v->resetting;
}

void virtio_broken(struct virtio_dev *v, const char *fmt, ...)
{
	char text[160];
	va_list ap;

	if (v->status & VIRTIO_ST_NEEDS_RESET)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	log_limited(v->name, "stopped until the guest resets it: %s", text);
	v->status |= VIRTIO_ST_NEEDS_RESET;
	v->again = 0;
	if (v->status & VIRTIO_ST_DRIVER_OK)
		v->transport->config_irq(v);
}

void virtio_config_changed(struct virtio_dev *v)
{
	v->config_generation++;
	if (virtio_live(v))
		v->transport->config_irq(v);
}

void virtio_again(struct virtio_dev *v, unsigned q)
{
	v->again |= BIT(q);
	if (v->again_timer)
		loop_timer_arm(v->again_timer, 1);
}

static void to_power_on(struct virtio_dev *v)
{
	for (unsigned i = 0; i < v->n_queues; i++)
		vq_reset(&v->q[i]);
	v->features = 0;
	v->status = 0;
	v->again = 0;
	v->resetting = false;
}

void virtio_reset(struct virtio_dev *v)
{
	if (v->resetting)
		return;
	v->resetting = true;
	if (!v->ops->reset || v->ops->reset(v))
		to_power_on(v);
}

void virtio_reset_done(struct virtio_dev *v)
{
	if (v->resetting)
		to_power_on(v);
}

void virtio_set_features(struct virtio_dev *v, uint64_t features)
{
	if (!(v->status & VIRTIO_ST_FEATURES_OK) && !v->resetting)
		v->features = features;
}

/* They are final from DRIVER_OK on, and rings are not used before. */
static void set_ring_features(struct virtio_dev *v)
{
	for (unsigned i = 0; i < v->n_queues; i++)
		v->q[i].ring.features = v->features;
}

void virtio_set_status(struct virtio_dev *v, uint8_t status)
{
	uint8_t added = status & ~v->status;

	if (!status) {
		virtio_reset(v);
		return;
	}
	if (v->resetting)
		return;
	added &= VIRTIO_ST_ACKNOWLEDGE | VIRTIO_ST_DRIVER | VIRTIO_ST_DRIVER_OK |
		 VIRTIO_ST_FEATURES_OK | VIRTIO_ST_FAILED;
	if ((added & VIRTIO_ST_FEATURES_OK) &&
		((v->features & ~v->offered) || !virtio_has(v, VIRTIO_F_VERSION_1)))
		added &= ~VIRTIO_ST_FEATURES_OK; /* the driver reads it back and gives up */
	if ((added & VIRTIO_ST_DRIVER_OK) && !((v->status | added) & VIRTIO_ST_FEATURES_OK))
		added &= ~VIRTIO_ST_DRIVER_OK;
	v->status |= added;
	if (added & VIRTIO_ST_DRIVER_OK)
		set_ring_features(v);
	if ((added & VIRTIO_ST_DRIVER_OK) && virtio_live(v) && v->ops->ready)
		v->ops->ready(v);
}

void virtio_queue_enable(struct virtio_dev *v, unsigned q)
{
	if (q >= v->n_queues || v->resetting || v->q[q].ring.enabled || v->q[q].ring.broken)
		return;
	if (vq_enable(&v->q[q]) == 0 && v->ops->queue_ready)
		v->ops->queue_ready(v, q);
}

void virtio_notify(struct virtio_dev *v, unsigned q)
{
	if (q < v->n_queues && virtio_live(v) && v->q[q].ring.enabled)
		v->ops->notify(v, q);
}

void virtio_save(struct virtio_dev *v, struct state_w *w)
{
	if (v->ops->drain)
		v->ops->drain(v);

	VIRTIO_GUARD(v);
	state_begin(w, v->name, 1);
	state_put_u8(w, v->status);
	state_put_u8(w, v->config_generation);
	state_put_u64(w, v->features);
	state_put_u64(w, v->again);
	state_put_u32(w, v->n_queues);
	for (unsigned i = 0; i < v->n_queues; i++)
		vq_save(&v->q[i], w);
	if (v->ops->save)
		v->ops->save(v, w);
	state_end(w);
}

int virtio_load(struct virtio_dev *v, struct state_r *r)
{
	VIRTIO_GUARD(v);
	uint8_t status;
	uint64_t again;
	int e;

	virtio_reset(v);
	if (v->resetting)
		return -EBUSY;
	if (!state_enter(r, v->name, 1))
		return -EBADMSG;
	status = state_get_u8(r);
	v->config_generation = state_get_u8(r);
	v->features = state_get_u64(r);
	again = state_get_u64(r);
	if (state_get_u32(r) != v->n_queues || (v->features & ~v->offered)) {
		state_fail(r, "a virtio device saved with other features or queues");
		return -EBADMSG;
	}
	for (unsigned i = 0; i < v->n_queues; i++) {
		e = vq_load(&v->q[i], r);
		if (e < 0) {
			state_fail(r, "a virtio queue outside memory");
			return e;
		}
	}
	e = v->ops->load ? v->ops->load(v, r) : 0;
	if (e < 0)
		return e;
	state_leave(r);
	v->status = status;
	set_ring_features(v);
	if (!virtio_live(v))
		return 0;
	if (v->ops->ready)
		v->ops->ready(v);
	/*
	 * What the driver asked for while we were away is found by looking. What it was told of while the state was being saved came too late
	 * for the interrupt controllers, which had been saved before: it is told again.
	 */
	for (unsigned i = 0; i < v->n_queues; i++) {
		if (v->q[i].ring.enabled)
			v->transport->queue_irq(v, i);
		if ((again & BIT(i)) || vq_has_work(&v->q[i]))
			virtio_again(v, i);
	}
	return 0;
}
