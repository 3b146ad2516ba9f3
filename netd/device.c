/* SPDX-License-Identifier: MIT */
#include "netd/device.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "lib/base/log.h"
#include "lib/vhost/backend.h"
#include "netd/backlog.h"
#include "netd/redirect.h"
#include "netd/stack.h"

/* virtio 1.2 §5.1.3: feature bits */
#define VIRTIO_NET_F_CSUM	BIT(0)
#define VIRTIO_NET_F_GUEST_CSUM BIT(1)
#define VIRTIO_NET_F_MTU	BIT(3)
#define VIRTIO_NET_F_MAC	BIT(5)
#define VIRTIO_NET_F_GUEST_TSO4 BIT(7)
#define VIRTIO_NET_F_GUEST_TSO6 BIT(8)
#define VIRTIO_NET_F_GUEST_ECN	BIT(9)
#define VIRTIO_NET_F_HOST_TSO4	BIT(11)
#define VIRTIO_NET_F_HOST_TSO6	BIT(12)
#define VIRTIO_NET_F_HOST_ECN	BIT(13)
#define VIRTIO_NET_F_MRG_RXBUF	BIT(15)
#define VIRTIO_NET_F_STATUS	BIT(16)

/* §5.1.4 */
struct net_config {
	uint8_t mac[6];
	uint16_t status; /* 1: the link is up */
	uint16_t queue_pairs;
	uint16_t mtu;
};

/* §5.1.6 */
struct net_header {
	uint8_t flags; /* enum header_flag */
	uint8_t gso_type;
	uint16_t header_len, gso_size, csum_start, csum_offset, n_buffers;
};
_Static_assert(sizeof(struct net_header) == DEVICE_HEADER, "virtio 1.2 §5.1.6");
enum header_flag { NEEDS_CSUM = 1, DATA_VALID = 2 };

enum { RX, TX, QUEUES, HEADER = sizeof(struct net_header) };
enum {
	/* Of one frame: a guest that posts pages of a usual size needs 17 for the largest, one that posts 1500 bytes 44. */
	MERGE_MAX = 64,
	BATCH = 64, /* frames from the guest before the network is looked at */
	/* Frames from the guest before the loop has its turn: whoever sends without a pause is not to be all that is heard. */
	TURN = 4 * BATCH,
};

#define FEATURES                                                                                   \
	(VIRTIO_NET_F_CSUM | VIRTIO_NET_F_GUEST_CSUM | VIRTIO_NET_F_MTU | VIRTIO_NET_F_MAC |       \
		VIRTIO_NET_F_MRG_RXBUF | VIRTIO_NET_F_STATUS)
#define RAW_FEATURES                                                                               \
	(VIRTIO_NET_F_GUEST_TSO4 | VIRTIO_NET_F_GUEST_TSO6 | VIRTIO_NET_F_GUEST_ECN |              \
		VIRTIO_NET_F_HOST_TSO4 | VIRTIO_NET_F_HOST_TSO6 | VIRTIO_NET_F_HOST_ECN)

struct device {
	struct vhost_backend *backend;
	struct loop_src *again; /* goes on with what the guest sends */
	const struct device_ops *ops;
	void *ctx;
	struct net_config config;
	bool merge, guest_csum, congested, unflushed, held;
	struct device_counters counters;
	struct vring_chain chain[MERGE_MAX]; /* for one frame to the guest */
	struct vring_chain tx;
	uint8_t frame[HEADER + STACK_FRAME_MAX];
	struct backlog backlog;
};

/* --- to the guest --- */

/* Buffers for so many bytes, header included; how many, or 0: there are too few yet, or -ENOBUFS: they will not do. */
static int take_buffers(struct device *d, size_t need)
{
	bool usable = true;
	size_t have = 0;
	int n = 0, r = 1;

	while (usable && have < need && n < (d->merge ? MERGE_MAX : 1)) {
		r = vhost_pop(d->backend, RX, &d->chain[n]);
		if (r <= 0)
			break;
		/* The header is in one buffer whole. */
		usable = n > 0 || d->chain[n].wr_len >= HEADER;
		have += d->chain[n++].wr_len;
	}
	if (usable && have >= need)
		return n;
	if (r == 0) {
		while (n)
			vhost_unpop(d->backend, RX, &d->chain[--n]);
		return 0;
	}
	/* They go back empty, and the frame is lost. */
	for (int i = 0; i < n; i++)
		vhost_push(d->backend, RX, &d->chain[i], 0);
	d->counters.bad++;
	return -ENOBUFS;
}

/* False: the guest has to make room first. */
static bool deliver(struct device *d, const uint8_t *frame, size_t len)
{
	struct net_header h = {.flags = d->guest_csum ? DATA_VALID : 0};
	size_t off = 0;
	int n;

	if (d->ops->raw) {
		memcpy(&h, frame, HEADER);
		frame += HEADER;
		len -= HEADER;
	}
	n = take_buffers(d, HEADER + len);
	if (n <= 0) {
		d->counters.dropped += n < 0;
		return n < 0;
	}
	h.n_buffers = (uint16_t)n;
	for (int i = 0; i < n; i++) {
		size_t at = i == 0 ? HEADER : 0;
		size_t part = MIN(len - off, (size_t)d->chain[i].wr_len - at);

		if (i == 0)
			vring_write(&d->chain[i], 0, &h, HEADER);
		vring_write(&d->chain[i], at, frame + off, part);
		vhost_push(d->backend, RX, &d->chain[i], (uint32_t)(at + part));
		off += part;
	}
	d->counters.rx_frames++;
	d->counters.rx_bytes += len;
	return true;
}

static void set_congested(struct device *d, bool yes)
{
	if (d->congested == yes)
		return;
	d->congested = yes;
	d->ops->congested(d->ctx, yes);
}

/* The guest has made room. */
static void drain(struct device *d)
{
	const uint8_t *frame;
	size_t len;

	while ((frame = backlog_first(&d->backlog, &len)) && deliver(d, frame, len))
		backlog_drop(&d->backlog);
	vhost_flush(d->backend, RX);
	if (d->backlog.used < BACKLOG_BYTES / 4)
		set_congested(d, false);
}

void device_send(struct device *d, const uint8_t *frame, size_t len)
{
	size_t extra = d->ops->raw ? HEADER : 0;

	if (len < extra + 14 || len > extra + STACK_FRAME_MAX ||
		!vhost_queue_is_ready(d->backend, RX))
		return;
	if (d->backlog.used == 0 && deliver(d, frame, len)) {
		d->unflushed = true;
		return;
	}
	if (!backlog_put(&d->backlog, frame, len))
		d->counters.dropped++;
	if (d->backlog.used > BACKLOG_BYTES / 2)
		set_congested(d, true);
}

void device_flush(struct device *d)
{
	if (d->unflushed)
		vhost_flush(d->backend, RX);
	d->unflushed = false;
}

/* --- from the guest --- */

/* Is what the header asks for among what we offered? Completes the checksum that it leaves to us. */
static bool header_ok(const struct net_header *h, uint8_t *frame, size_t len)
{
	if (h->gso_type != 0)
		return false;
	if (!(h->flags & NEEDS_CSUM))
		return true;
	return h->csum_start >= 14 && redirect_checksum(frame, len, h->csum_start, h->csum_offset);
}

static void take(struct device *d, const struct vring_chain *c)
{
	uint8_t *frame = d->frame + HEADER;
	struct net_header h;
	size_t len;

	if (c->rd_len < HEADER + 14 || c->rd_len > sizeof(d->frame)) {
		d->counters.bad++;
		return;
	}
	if (d->ops->raw) {
		d->counters.tx_frames++;
		d->counters.tx_bytes += c->rd_len - HEADER;
		d->ops->raw(d->ctx, vring_rd(c), c->n_rd);
		return;
	}
	len = vring_read(c, 0, d->frame, sizeof(d->frame)) - HEADER;
	memcpy(&h, d->frame, HEADER);
	if (!header_ok(&h, frame, len)) {
		d->counters.bad++;
		return;
	}
	d->counters.tx_frames++;
	d->counters.tx_bytes += len;
	d->ops->input(d->ctx, frame, len);
}

static void transmit(struct device *d)
{
	unsigned n = 0;

	if (!vhost_queue_is_ready(d->backend, TX))
		return;
	while (!d->held && n < TURN && vhost_pop(d->backend, TX, &d->tx) > 0) {
		take(d, &d->tx);
		vhost_push(d->backend, TX, &d->tx, 0);
		if (++n % BATCH == 0) {
			vhost_flush(d->backend, TX);
			d->ops->settled(d->ctx);
		}
	}
	vhost_flush(d->backend, TX);
	d->ops->settled(d->ctx);
	if (n == TURN)
		loop_timer_arm(d->again, loop_now());
}

static void go_on(void *ctx)
{
	transmit(ctx);
}

void device_hold(struct device *d, bool yes)
{
	bool was = d->held;

	d->held = yes;
	/* Its kick has long been heard. */
	if (was && !yes)
		transmit(d);
}

/* --- the connection --- */

static void get_config(void *ctx, uint32_t off, void *buf, uint32_t len)
{
	struct device *d = ctx;

	if (off < sizeof(d->config))
		memcpy(buf, (uint8_t *)&d->config + off, MIN(len, sizeof(d->config) - off));
}

static void ready(void *ctx, uint64_t features)
{
	struct device *d = ctx;

	d->merge = features & VIRTIO_NET_F_MRG_RXBUF;
	d->guest_csum = features & VIRTIO_NET_F_GUEST_CSUM;
	if (d->ops->agreed)
		d->ops->agreed(d->ctx, &(struct device_offloads){
					       .csum = d->guest_csum,
					       .tso4 = features & VIRTIO_NET_F_GUEST_TSO4,
					       .tso6 = features & VIRTIO_NET_F_GUEST_TSO6,
					       .ecn = features & VIRTIO_NET_F_GUEST_ECN,
				       });
}

static void queue_ready(void *ctx, unsigned q, bool enabled)
{
	struct device *d = ctx;

	if (q == RX && !enabled) {
		d->backlog.head = d->backlog.tail = d->backlog.used = 0;
		set_congested(d, false);
	}
}

static void kick(void *ctx, unsigned q)
{
	if (q == RX)
		drain(ctx);
	else if (q == TX)
		transmit(ctx);
}

static void closed(void *ctx, int error)
{
	struct device *d = ctx;

	d->ops->closed(d->ctx, error);
}

#define VHOST_OPS(which)                                                                           \
	{                                                                                          \
		.features = which, .n_queues = QUEUES, .get_config = get_config, .ready = ready,   \
		.queue_ready = queue_ready, .skips = true, .kick = kick, .closed = closed,         \
	}
static const struct vhost_dev_ops vhost_ops = VHOST_OPS(FEATURES);
static const struct vhost_dev_ops raw_ops = VHOST_OPS(FEATURES | RAW_FEATURES);

int device_new(struct device **ret, struct loop *l, int fd, const struct device_config *cfg,
	const struct device_ops *ops, void *ctx, struct err *e)
{
	struct device *d = calloc(1, sizeof(*d));
	int r;

	if (!d) {
		close(fd);
		return err_set(e, -ENOMEM, "make the device");
	}
	d->ops = ops;
	d->ctx = ctx;
	memcpy(d->config.mac, cfg->mac, sizeof(d->config.mac));
	d->config.status = 1;
	d->config.queue_pairs = 1;
	d->config.mtu = cfg->mtu;
	r = loop_timer(l, go_on, d, &d->again);
	if (r < 0) {
		close(fd);
		free(d);
		return err_sys(e, r, "make the device");
	}
	r = vhost_backend_new(&d->backend, l, fd, ops->raw ? &raw_ops : &vhost_ops, d, e);
	if (r < 0) {
		loop_src_free(d->again);
		free(d);
		return r;
	}
	*ret = d;
	return 0;
}

struct device *device_free(struct device *d)
{
	if (d) {
		loop_src_free(d->again);
		vhost_backend_free(d->backend);
		free(d);
	}
	return NULL;
}

const struct device_counters *device_counters(const struct device *d)
{
	return &d->counters;
}
