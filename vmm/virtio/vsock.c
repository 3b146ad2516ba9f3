/* SPDX-License-Identifier: MIT */
/* virtio socket device, virtio 1.2 §5.10: the device and what its back end calls. */
#include "vmm/virtio/vsock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "lib/base/le.h"
#include "lib/base/loop.h"
#include "vmm/core/state.h"
#include "vmm/virtio/vsock-internal.h"

enum { QUEUE_SIZE = 256, F_STREAM = 0, EVENT_TRANSPORT_RESET = 0 };

/* A guest that is alive answers in microseconds; one whose CPUs are starved gets its time. */
static const uint64_t ask_ns = 30ull * 1000 * 1000 * 1000;
static const uint32_t first_port = 1u << 30; /* of connections that the host opens */

static struct vsock *to_vsock(struct virtio_dev *v)
{
	return container_of(v, struct vsock, v);
}

struct virtio_dev *vsock_dev(struct vsock *vs)
{
	return &vs->v;
}

/* --- the back end's calls --- */

int vsock_open(struct vsock *vs, uint32_t guest_port, void *peer, struct vsock_conn **ret)
{
	struct vsock_conn *c;

	do
		vs->next_port = vs->next_port < first_port ? first_port : vs->next_port + 1;
	while (vsock_find(vs, guest_port, vs->next_port));
	c = vsock_conn_new(vs, guest_port, vs->next_port);
	if (!c)
		return -ENOSPC;
	c->state = VSOCK_ASKING;
	c->peer = peer;
	vsock_owe(c, VSOCK_OWE_REQUEST);
	vsock_deadline(c, ask_ns);
	*ret = c;
	return 0;
}

void vsock_connected(struct vsock_conn *c)
{
	if (c->state != VSOCK_DIALING || (c->owe & VSOCK_OWE_RST))
		return;
	c->state = VSOCK_OPEN;
	vsock_deadline(c, 0);
	vsock_owe(c, VSOCK_OWE_RESPONSE);
	c->readable = true;
}

void vsock_refused(struct vsock_conn *c)
{
	c->peer = NULL;
	vsock_owe(c, VSOCK_OWE_RST);
}

void vsock_readable(struct vsock_conn *c)
{
	c->readable = true;
	if (vsock_wants_read(c))
		vsock_queue(c);
}

void vsock_writable(struct vsock_conn *c)
{
	if (c->buf_len)
		vsock_buf_flush(c);
}

bool vsock_waits_for_host(const struct vsock_conn *c)
{
	return c->buf_len;
}

void vsock_hangup(struct vsock_conn *c)
{
	switch (c->state) {
	case VSOCK_OPEN:
		if (c->guest_shut & VSOCK_SHUT_RCV)
			c->host_shut |= VSOCK_SHUT_SEND; /* what it sent interests nobody */
		/* Find the end of stream now, if nothing comes before it, and say both at once. */
		vsock_readable(c);
		vsock_host_deaf(c);
		break;
	case VSOCK_LINGERING: vsock_conn_free(c); break;
	case VSOCK_ASKING:
		if (c->owe & VSOCK_OWE_REQUEST) {
			vsock_conn_free(c);
			break;
		}
		vsock_drop_peer(c);
		vsock_owe(c, VSOCK_OWE_RST);
		break;
	default: break;
	}
}

/* --- the device --- */

static void config_read(struct virtio_dev *v, uint32_t off, void *buf, uint32_t len)
{
	uint8_t cfg[8];

	le64_put(cfg, to_vsock(v)->cid);
	memset(buf, 0, len);
	if (off < sizeof(cfg))
		memcpy(buf, cfg + off, MIN(len, (uint32_t)sizeof(cfg) - off));
}

/*
 * Tells the guest that all its connections are gone: it woke up on another machine (§5.10.6.7). All the other buffers go
 * back too, empty: only an empty queue notifies of what is added to it.
 */
static void send_event(struct vsock *vs)
{
	struct vq *q = &vs->v.q[VSOCK_EVENTQ];
	uint8_t event[4];
	uint32_t written;

	le32_put(event, EVENT_TRANSPORT_RESET);
	while (vs->event != VSOCK_EVENT_NONE && vq_pop(q, &vs->tx) > 0) {
		written = 0;
		if (vs->event == VSOCK_EVENT_OWED)
			written = (uint32_t)vring_write(&vs->tx, 0, event, sizeof(event));
		vq_push(q, &vs->tx, written);
		vs->event = VSOCK_EVENT_SENT;
	}
	vq_flush(q);
}

static void ready(struct virtio_dev *v)
{
	send_event(to_vsock(v));
	vsock_pump(to_vsock(v));
}

static void notify(struct virtio_dev *v, unsigned q)
{
	struct vsock *vs = to_vsock(v);

	if (q == VSOCK_TXQ)
		vsock_tx(vs);
	else if (q == VSOCK_EVENTQ && vs->event == VSOCK_EVENT_SENT)
		vs->event = VSOCK_EVENT_NONE;
	else if (q == VSOCK_EVENTQ)
		send_event(vs);
	vsock_pump(vs);
}

static bool reset(struct virtio_dev *v)
{
	vsock_free_all(to_vsock(v));
	to_vsock(v)->event = VSOCK_EVENT_NONE;
	return true;
}

static void save(struct virtio_dev *v, struct state_w *w)
{
	struct vsock *vs = to_vsock(v);

	/* Streams end at the host's sockets, which cannot be saved: their guest ends are reset by the load. */
	state_begin(w, "vsock", 2);
	state_put_u64(w, vs->cid);
	state_put_u32(w, vs->next_port);
	state_end(w);
}

static int load(struct virtio_dev *v, struct state_r *r)
{
	struct vsock *vs = to_vsock(v);
	uint32_t version;

	version = state_enter(r, "vsock", 2);
	if (!version)
		return -EBADMSG;
	vs->cid = state_get_u64(r);
	/* A guest that has not closed the saved machine's connections yet would refuse others with the same ports. */
	if (version > 1)
		vs->next_port = state_get_u32(r);
	state_leave(r);
	vs->event = VSOCK_EVENT_OWED;
	return 0;
}

static void vsock_free(struct virtio_dev *v)
{
	struct vsock *vs = to_vsock(v);

	vsock_free_all(vs);
	loop_src_free(vs->timer);
	if (vs->back)
		vs->back->free(vs->back_ctx);
	virtio_dev_done(v);
	free(vs);
}

static const struct virtio_dev_ops vsock_ops = {
	.name = "virtio-vsock",
	.id = VIRTIO_ID_VSOCK,
	.on_vcpu = true,
	.features = BIT(F_STREAM),
	.config_read = config_read,
	.ready = ready,
	.notify = notify,
	.reset = reset,
	.save = save,
	.load = load,
	.free = vsock_free,
};

static void timer_fired(void *ctx)
{
	struct vsock *vs = ctx;
	VIRTIO_GUARD(&vs->v);

	vsock_expire(vs, loop_now());
	vsock_pump(vs);
}

int vsock_new(
	struct vsock **ret, struct gmem *gm, struct loop *loop, const char *name, uint64_t cid)
{
	struct vsock *vs = calloc(1, sizeof(*vs));
	int r;

	if (!vs)
		return -ENOMEM;
	vs->cid = cid;
	vs->loop = loop;
	r = virtio_dev_init(&vs->v, &vsock_ops, name, gm, VSOCK_QUEUES, QUEUE_SIZE);
	if (r == 0 && loop)
		r = loop_timer(loop, timer_fired, vs, &vs->timer);
	if (r < 0) {
		virtio_dev_done(&vs->v);
		free(vs);
		return r;
	}
	*ret = vs;
	return 0;
}

void vsock_set_back(struct vsock *vs, const struct vsock_back_ops *ops, void *ctx)
{
	vs->back = ops;
	vs->back_ctx = ctx;
}
