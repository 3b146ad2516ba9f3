/* SPDX-License-Identifier: MIT */
/* A device that another process serves: from the guest's rings to the shadows and back. See vhost.h. */
#include "vmm/virtio/vhost.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "lib/base/log.h"
#include "lib/base/loop.h"
#include "lib/os/mem.h"
#include "lib/os/notifier.h"
#include "lib/os/window.h"
#include "vmm/core/state.h"
#include "vmm/virtio/bounce.h"
#include "vmm/virtio/shadow.h"
#include "vmm/virtio/vhost-kinds.h"

/* The shadows stand far above all RAM. */
#define SHARED_GPA (1ull << 44)

/* What the shadows need of a server. */
#define RING_FEATURES (VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX)
#define NEEDED	      (VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC)

enum run { IDLE, RUNNING, STOPPING };

struct queue {
	struct vhost *vh;
	struct shadow *shadow;
	struct os_notifier *kick, *call;
	uint16_t *again; /* heads of requests that were in flight when the machine was saved */
	unsigned n_again;
};

struct vhost {
	struct virtio_dev v;
	const struct vhost_kind_ops *kind;
	struct vhost_config conf;
	char tag[VHOST_TAG_MAX + 1];
	struct vhost_shared shared;
	struct bounce bounce; /* in the shared memory, behind the shadows */
	struct queue q[VHOST_DEV_QUEUES];
	struct vhost_link *link; /* owned; NULL: no server */
	enum run run;
	bool direct;		  /* the server works on the guest's rings */
	struct loop_src *restart; /* after the machine was saved */

	struct os_window *window; /* NULL: none */
	uint64_t window_gpa;
	struct os_notifier *met_end; /* of a file in the window */
	struct loop_src *mend;
};

static struct vhost *to_vhost(struct virtio_dev *v)
{
	return container_of(v, struct vhost, v);
}

struct virtio_dev *vhost_dev(struct vhost *vh)
{
	return &vh->v;
}

const char *vhost_name(const struct vhost *vh)
{
	return vh->v.name;
}

const struct vhost_shared *vhost_shared(const struct vhost *vh)
{
	return &vh->shared;
}

bool vhost_connected(struct vhost *vh)
{
	VIRTIO_GUARD(&vh->v);

	return vh->link != NULL;
}

/* --- the window --- */

/* How often it is looked whether a file that was met at its end has become longer. */
#define MEND_NS (100ull * 1000000)

struct os_window *vhost_window(struct vhost *vh)
{
	return vh->window;
}

/* What is decoded of the pages is not what is there now. */
static void window_changed(struct vhost *vh, uint64_t off, uint64_t len)
{
	gmem_wrote(vh->v.gm, vh->window_gpa + off, len);
}

int vhost_map(struct vhost *vh, uint64_t off, uint64_t len, int fd, uint64_t at, bool writable)
{
	int r = vh->window ? os_window_map(vh->window, off, len, fd, at, writable) : -EINVAL;

	if (r == 0)
		window_changed(vh, off, len);
	return r;
}

int vhost_unmap(struct vhost *vh, uint64_t off, uint64_t len)
{
	int r = vh->window ? os_window_unmap(vh->window, off, len) : -EINVAL;

	if (r == 0)
		window_changed(vh, off, len);
	return r;
}

static void clear_window(struct vhost *vh)
{
	if (!vh->window || !os_window_mapped(vh->window))
		return;
	os_window_clear(vh->window);
	window_changed(vh, 0, os_window_len(vh->window));
}

static void on_met_end(void *ctx)
{
	struct vhost *vh = ctx;

	loop_timer_arm(vh->mend, loop_now() + MEND_NS);
}

static void on_mend(void *ctx)
{
	struct vhost *vh = ctx;

	if (os_window_mend(vh->window))
		loop_timer_arm(vh->mend, loop_now() + MEND_NS);
}

int vhost_place_window(struct vhost *vh, uint64_t gpa)
{
	vh->window_gpa = gpa;
	return gmem_add_window(vh->v.gm, gpa, vh->window);
}

static int window_new(struct vhost *vh, struct loop *loop)
{
	int r;

	if (!vh->conf.window)
		return 0;
	r = os_window_new(&vh->window, vh->conf.window);
	if (r < 0)
		return r;
	vh->v.shm_len = vh->conf.window;
	r = os_notifier_new(&vh->met_end);
	if (r == 0 && loop)
		r = loop_timer(loop, on_mend, vh, &vh->mend);
	if (r == 0 && loop)
		r = os_notifier_watch(vh->met_end, loop, on_met_end, vh);
	if (r == 0)
		os_window_notify(vh->window, vh->met_end);
	return r;
}

static void window_free(struct vhost *vh)
{
	if (vh->window)
		os_window_notify(vh->window, NULL);
	os_window_free(vh->window);
	loop_src_free(vh->mend);
	if (vh->met_end)
		os_notifier_free(vh->met_end);
}

/* --- requests --- */

/* All of the writable part: a server that forgets to say what it wrote is not to leave stale code behind. */
static void mark_written(struct vhost *vh, const struct vring_chain *c)
{
	for (unsigned i = c->n_rd; i < (unsigned)c->n_rd + c->n_wr; i++)
		gmem_wrote(vh->v.gm, c->addr[i], c->iov[i].iov_len);
}

static bool orphan(struct vhost *vh, unsigned q, const struct vring_chain *c)
{
	uint32_t written;

	if (!vh->kind->orphan(&vh->conf, q, c, &written))
		return false;
	vq_push(&vh->v.q[q], c, written);
	return true;
}

/* From the guest to the server; without one, to their end. */
static void pump(struct vhost *vh, unsigned i)
{
	struct vq *vq = &vh->v.q[i];
	struct queue *q = &vh->q[i];
	struct vring_chain *c;
	bool posted = false;

	if (vh->run == STOPPING || (vh->run == IDLE && vh->link))
		return; /* when it starts again, all queues are looked at */
	if (vh->run == RUNNING && vh->direct) {
		os_notifier_signal(q->kick);
		return;
	}
	while ((c = shadow_slot(q->shadow)) && vq_pop(vq, c) > 0) {
		if (vh->run == RUNNING) {
			int r = bounce_begin(&vh->bounce, vh->v.gm, c);

			if (r == -EAGAIN) {
				vq_unpop(vq, c);
				break;
			}
			if (r < 0) { /* what no driver asks for */
				vq_push(vq, c, 0);
				continue;
			}
			shadow_post(q->shadow, c);
			posted = true;
		} else if (!orphan(vh, i, c)) {
			vq_unpop(vq, c);
			break;
		}
	}
	if (posted && shadow_wants_kick(q->shadow))
		os_notifier_signal(q->kick);
	vq_flush(vq);
}

/* From the server to the guest. */
static int reap(struct vhost *vh, unsigned i)
{
	struct vring_chain *c;
	bool wanted = false;
	uint32_t written;
	int r;

	while ((r = shadow_take(vh->q[i].shadow, &c, &written)) > 0) {
		wanted |= bounce_end(&vh->bounce, c, written);
		mark_written(vh, c);
		vq_push(&vh->v.q[i], c, written);
	}
	vq_flush(&vh->v.q[i]);
	for (unsigned k = 0; wanted && r == 0 && k < vh->v.n_queues; k++)
		if (k != i)
			pump(vh, k);
	return r;
}

static void on_call(void *ctx)
{
	struct queue *q = ctx;
	struct vhost *vh = q->vh;
	unsigned i = (unsigned)(q - vh->q);
	VIRTIO_GUARD(&vh->v);

	/* On the guest's own rings the call is for its driver, whatever has become of the server since. */
	if (vh->direct)
		vh->v.transport->queue_irq(&vh->v, i);
	else if (vh->run == IDLE)
		return;
	else if (reap(vh, i) < 0)
		vhost_link_down(vh, "it returned a request that it did not have");
	else
		pump(vh, i);
}

/* --- starting and stopping --- */

/* What was in flight goes to the server again. */
static void repost(struct queue *q)
{
	struct vring_chain *c;

	shadow_restart(q->shadow);
	for (unsigned i = 0; (c = shadow_in_flight(q->shadow, &i));)
		shadow_post(q->shadow, c);
}

/* The server left the guest's ring at last_avail, and may not have come to say what it had finished. */
static void take_over(struct vhost *vh, unsigned i, uint16_t last_avail)
{
	struct vring *r = &vh->v.q[i].ring;

	if (!r->enabled)
		return;
	r->last_avail = last_avail;
	r->used_idx = r->signalled = vring_used_index(r->used);
	vh->v.transport->queue_irq(&vh->v, i);
}

static struct vhost_ring ring_for(struct vhost *vh, unsigned i)
{
	const struct vring *r = &vh->v.q[i].ring;
	struct queue *q = &vh->q[i];
	struct shadow_parts p = shadow_parts(q->shadow);

	if (!r->enabled)
		return (struct vhost_ring){0};
	if (vh->direct)
		return (struct vhost_ring){.size = r->size,
			.base = r->last_avail,
			.desc = r->desc,
			.avail = r->avail,
			.used = r->used,
			.kick = q->kick,
			.call = q->call};
	return (struct vhost_ring){.size = vh->kind->queue_size,
		.desc = p.desc,
		.avail = p.avail,
		.used = p.used,
		.kick = q->kick,
		.call = q->call};
}

static void start(struct vhost *vh)
{
	struct virtio_dev *v = &vh->v;
	struct vhost_ring rings[VHOST_DEV_QUEUES] = {0};
	uint64_t features = v->features & vh->link->features;

	if (!vh->direct)
		features = (features & ~VIRTIO_F_EVENT_IDX) | NEEDED;
	for (unsigned i = 0; i < v->n_queues; i++) {
		repost(&vh->q[i]);
		rings[i] = ring_for(vh, i);
	}
	vh->link->ops->start(vh->link, features, rings, v->n_queues);
	vh->run = RUNNING;
	for (unsigned i = 0; i < v->n_queues; i++) {
		if (!rings[i].size)
			continue;
		if (shadow_count(vh->q[i].shadow))
			os_notifier_signal(vh->q[i].kick);
		pump(vh, i);
	}
}

static void start_if_wanted(struct vhost *vh)
{
	if (vh->link && vh->run == IDLE && virtio_live(&vh->v))
		start(vh);
}

/* The guest's driver forgot them. */
static void forget_requests(struct vhost *vh)
{
	for (unsigned k = 0; k < vh->v.n_queues; k++) {
		struct vring_chain *c;

		shadow_restart(vh->q[k].shadow);
		for (unsigned i = 0; (c = shadow_in_flight(vh->q[k].shadow, &i));) {
			bounce_end(&vh->bounce, c, 0);
			shadow_drop(vh->q[k].shadow, c);
		}
		vh->q[k].n_again = 0;
	}
}

/* Nobody works on the shadows any more. */
static void stopped(struct vhost *vh)
{
	vh->run = IDLE;
	if (vh->v.resetting) {
		clear_window(vh);
		forget_requests(vh);
		virtio_reset_done(&vh->v);
	}
}

void vhost_link_stopped(struct vhost *vh)
{
	if (vh->run == STOPPING)
		stopped(vh);
}

static void orphan_all(struct vhost *vh)
{
	for (unsigned k = 0; k < vh->v.n_queues; k++) {
		struct shadow *s = vh->q[k].shadow;
		struct vring_chain *c;

		shadow_restart(s);
		for (unsigned i = 0; (c = shadow_in_flight(s, &i));)
			if (orphan(vh, k, c)) {
				bounce_end(&vh->bounce, c, 0);
				shadow_drop(s, c);
			}
		pump(vh, k);
	}
}

void vhost_link_down(struct vhost *vh, const char *why)
{
	struct vhost_link *l = take_ptr(vh->link);

	if (!l)
		return;
	log_limited(vh->v.name, "the server is gone: %s", why);
	/* What it finished is still worth having. */
	for (unsigned i = 0; vh->run == RUNNING && i < vh->v.n_queues; i++) {
		struct vring *r = &vh->v.q[i].ring;

		if (vh->direct && r->enabled)
			take_over(vh, i, vring_used_index(r->used));
		else if (!vh->direct)
			(void)reap(vh, i);
	}
	l->ops->free(l);
	stopped(vh);
	if (!virtio_live(&vh->v))
		return;
	orphan_all(vh);
	virtio_config_changed(&vh->v);
}

static int check(struct vhost *vh, const struct vhost_link *l, struct err *e)
{
	struct virtio_dev *v = &vh->v;
	uint64_t needed = vh->direct ? v->features & RING_FEATURES : NEEDED,
		 missing = (needed | (v->features & vh->kind->server)) & ~l->features;

	if (l->queues < v->n_queues)
		return err_set(e, -ENOTSUP, "the server has %u queues, %u are needed", l->queues,
			v->n_queues);
	if (missing)
		return err_set(e, -ENOTSUP, "the server lacks virtio features %#llx",
			(unsigned long long)missing);
	return 0;
}

/* The ring's own features are the monitor's, unless the server works on the guest's rings. */
static void offer(struct vhost *vh, uint64_t server)
{
	uint64_t theirs = vh->kind->server | (vh->direct ? RING_FEATURES : 0);

	vh->v.offered = (vh->v.offered & ~theirs) | (server & theirs);
}

int vhost_attach(struct vhost *vh, struct vhost_link *l, struct err *e)
{
	struct virtio_dev *v = &vh->v;
	VIRTIO_GUARD(v);
	int r = check(vh, l, e);

	l->vh = vh;
	if (r < 0) {
		l->ops->free(l);
		return r;
	}
	vhost_link_down(vh, "another takes its place");
	vh->link = l;
	if (!(v->status & VIRTIO_ST_FEATURES_OK))
		offer(vh, l->features);
	start_if_wanted(vh);
	virtio_config_changed(v);
	return 0;
}

int vhost_can_save(struct vhost *vh, struct err *e)
{
	VIRTIO_GUARD(&vh->v);

	if (!vh->kind->keeps_state || !(vh->v.status & VIRTIO_ST_DRIVER_OK))
		return 0;
	return err_set(e, -EBUSY,
		"%s is in use, and what its server knows of the guest cannot be saved", vh->v.name);
}

/* --- what the guest's driver does --- */

static void dev_config_read(struct virtio_dev *v, uint32_t off, void *buf, uint32_t len)
{
	struct vhost *vh = to_vhost(v);
	uint8_t space[VHOST_CONFIG_SPACE];
	size_t n = vh->kind->config(&vh->conf, vh->link != NULL, space);

	memset(buf, 0, len);
	if (off < n)
		memcpy(buf, space + off, MIN((size_t)len, n - off));
}

/* Takes back what was in flight when the machine was saved. */
static void take_again(struct vhost *vh)
{
	for (unsigned i = 0; i < vh->v.n_queues; i++) {
		struct queue *q = &vh->q[i];
		struct vring_chain *c;

		for (unsigned k = 0; k < q->n_again; k++) {
			c = shadow_slot(q->shadow);
			if (!c || vring_pop_again(&vh->v.q[i].ring, c, q->again[k]) < 0)
				break;
			if (vh->direct)
				vq_push(&vh->v.q[i], c, 0); /* there is no way to hand it on */
			else if (vh->link || !orphan(vh, i, c))
				shadow_post(q->shadow, c);
		}
		q->n_again = 0;
		vq_flush(&vh->v.q[i]);
	}
}

static void dev_ready(struct virtio_dev *v)
{
	struct vhost *vh = to_vhost(v);

	take_again(vh);
	start_if_wanted(vh);
}

static void dev_notify(struct virtio_dev *v, unsigned q)
{
	pump(to_vhost(v), q);
}

static struct os_notifier *dev_kick_notifier(struct virtio_dev *v, unsigned q)
{
	struct vhost *vh = to_vhost(v);

	return vh->direct ? vh->q[q].kick : NULL;
}

static bool dev_reset(struct virtio_dev *v)
{
	struct vhost *vh = to_vhost(v);

	if (vh->run == RUNNING) {
		vh->run = STOPPING;
		vh->link->ops->stop(vh->link);
		return false;
	}
	clear_window(vh);
	forget_requests(vh);
	return true;
}

/* --- saved state --- */

static void on_restart(void *ctx)
{
	struct vhost *vh = ctx;
	VIRTIO_GUARD(&vh->v);

	start_if_wanted(vh);
}

/*
 * The server stops, and what it did not finish is part of the saved state. It goes on when the loop does: then the machine's
 * memory is saved as well.
 */
static void dev_drain(struct virtio_dev *v)
{
	struct vhost *vh = to_vhost(v);
	VIRTIO_GUARD(v);
	int r;

	if (vh->run == IDLE)
		return;
	r = vh->link->ops->stop_now(vh->link);
	if (r < 0) {
		vhost_link_down(vh, strerror(-r));
		return;
	}
	/* A reset that waited for this. */
	if (vh->run == STOPPING) {
		stopped(vh);
		return;
	}
	for (unsigned i = 0; i < v->n_queues && r == 0; i++) {
		if (vh->direct)
			take_over(vh, i, vh->link->base[i]);
		else
			r = reap(vh, i);
	}
	vh->run = IDLE;
	if (r < 0)
		vhost_link_down(vh, "it returned a request that it did not have");
	else if (vh->restart)
		loop_timer_arm(vh->restart, 1);
}

static void dev_save(struct virtio_dev *v, struct state_w *w)
{
	struct vhost *vh = to_vhost(v);

	for (unsigned k = 0; k < v->n_queues; k++) {
		const struct vring_chain *c;

		state_put_u32(w, shadow_count(vh->q[k].shadow));
		for (unsigned i = 0; (c = shadow_in_flight(vh->q[k].shadow, &i));)
			state_put_u16(w, c->head);
	}
}

static int dev_load(struct virtio_dev *v, struct state_r *r)
{
	struct vhost *vh = to_vhost(v);

	for (unsigned k = 0; k < v->n_queues; k++) {
		uint32_t n = state_get_u32(r);

		if (n > vh->kind->queue_size) {
			state_fail(r, "more requests in flight than a queue holds");
			return -EBADMSG;
		}
		for (unsigned i = 0; i < n; i++)
			vh->q[k].again[i] = state_get_u16(r);
		vh->q[k].n_again = n;
	}
	return 0;
}

/* --- life --- */

static void dev_free(struct virtio_dev *v)
{
	struct vhost *vh = to_vhost(v);

	if (vh->link)
		vh->link->ops->free(vh->link);
	window_free(vh);
	loop_src_free(vh->restart);
	for (unsigned i = 0; i < VHOST_DEV_QUEUES; i++) {
		struct queue *q = &vh->q[i];

		if (q->kick)
			os_notifier_free(q->kick);
		if (q->call)
			os_notifier_free(q->call);
		shadow_free(q->shadow);
		free(q->again);
	}
	if (vh->shared.map)
		os_mem_unmap(vh->shared.map, vh->shared.len);
	if (vh->shared.obj)
		os_memobj_free(vh->shared.obj);
	virtio_dev_done(v);
	free(vh);
}

#define OPS(name_, id_)                                                                            \
	{                                                                                          \
		.name = name_, .id = id_, .config_read = dev_config_read, .ready = dev_ready,      \
		.notify = dev_notify, .kick_notifier = dev_kick_notifier, .reset = dev_reset,      \
		.drain = dev_drain, .save = dev_save, .load = dev_load, .free = dev_free           \
	}

static const struct {
	struct virtio_dev_ops ops;
	const struct vhost_kind_ops *kind;
} kinds[] = {
	[VHOST_FS] = {OPS("virtio-fs", VIRTIO_ID_FS), &vhost_fs_kind},
	[VHOST_NET] = {OPS("virtio-net", VIRTIO_ID_NET), &vhost_net_kind},
	[VHOST_9P] = {OPS("virtio-9p", VIRTIO_ID_9P), &vhost_p9_kind},
};

static int queue_new(struct vhost *vh, unsigned i, struct loop *loop)
{
	struct queue *q = &vh->q[i];
	unsigned size = vh->kind->queue_size;
	size_t len = shadow_len(size), off = i * len;
	int r;

	q->vh = vh;
	r = shadow_new(&q->shadow, (uint8_t *)vh->shared.map + off, vh->shared.gpa + off, size);
	q->again = calloc(size, sizeof(*q->again));
	if (r == 0 && !q->again)
		r = -ENOMEM;
	if (r == 0)
		r = os_notifier_new(&q->kick);
	if (r == 0)
		r = os_notifier_new(&q->call);
	if (r == 0 && loop)
		r = os_notifier_watch(q->call, loop, on_call, q);
	return r;
}

static int set_up(struct vhost *vh, struct loop *loop)
{
	struct virtio_dev *v = &vh->v;
	struct vhost_shared *s = &vh->shared;
	int r;

	v->offered |= vh->kind->own;
	if (!vh->conf.mtu)
		v->offered &= ~vh->kind->mtu;
	s->gpa = SHARED_GPA;
	s->len = v->n_queues * shadow_len(vh->kind->queue_size) + BOUNCE_LEN;
	r = os_memobj_new(&s->obj, v->name, s->len);
	if (r == 0)
		r = os_memobj_map(s->obj, 0, s->len, OS_PROT_R | OS_PROT_W, &s->map);
	if (r == 0)
		vh->bounce = (struct bounce){.mem = (uint8_t *)s->map + s->len - BOUNCE_LEN,
			.gpa = s->gpa + s->len - BOUNCE_LEN};
	for (unsigned i = 0; r == 0 && i < v->n_queues; i++)
		r = queue_new(vh, i, loop);
	if (r == 0 && loop)
		r = loop_timer(loop, on_restart, vh, &vh->restart);
	return r < 0 ? r : window_new(vh, loop);
}

int vhost_new(struct vhost **ret, struct gmem *gm, struct loop *loop, const struct vhost_config *c)
{
	struct vhost *vh = calloc(1, sizeof(*vh));
	unsigned n = c->kind == VHOST_FS ? 1 + c->requests : c->kind == VHOST_NET ? 2 : 1;
	int r;

	if (!vh)
		return -ENOMEM;
	if (n > VHOST_DEV_QUEUES || (c->kind == VHOST_FS && !c->requests)) {
		free(vh);
		return -EINVAL;
	}
	vh->kind = kinds[c->kind].kind;
	vh->conf = *c;
	vh->direct = c->direct && vh->kind->direct;
	snprintf(vh->tag, sizeof(vh->tag), "%s", c->tag ? c->tag : "");
	vh->conf.tag = vh->tag;
	r = virtio_dev_init(&vh->v, &kinds[c->kind].ops, c->name, gm, n, vh->kind->queue_size);
	if (r < 0) {
		free(vh);
		return r;
	}
	vh->conf.name = vh->v.name;
	r = set_up(vh, loop);
	if (r < 0) {
		dev_free(&vh->v);
		return r;
	}
	*ret = vh;
	return 0;
}
