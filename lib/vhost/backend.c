/* SPDX-License-Identifier: MIT */
/* The connection of a vhost-user back end: receives the front end's messages one at a time and does what they say. */
#include "lib/vhost/backend.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>
#include "lib/base/io.h"
#include "lib/base/log.h"
#include "lib/vhost/backend-internal.h"

#define RING_FEATURES (VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX | VIRTIO_F_VERSION_1)

/* So many messages before others have their turn. */
enum { BATCH = 16 };

static uint64_t offered(const struct vhost_backend *b)
{
	return b->ops->features | RING_FEATURES | VU_F_PROTOCOL_FEATURES;
}

static uint64_t offered_protocol(const struct vhost_backend *b)
{
	return VU_PROTO_MQ | VU_PROTO_REPLY_ACK | VU_PROTO_BACKEND_REQ | VU_PROTO_RESET_DEVICE |
	       VU_PROTO_CONFIGURE_MEM_SLOTS | (b->ops->get_config ? VU_PROTO_CONFIG : 0) |
	       (b->ops->save && b->ops->load ? VU_PROTO_DEVICE_STATE : 0) |
	       (b->ops->maps_files ? VU_PROTO_SHMEM | VU_PROTO_BACKEND_SEND_FD : 0);
}

static int reply(struct vhost_backend *b, const void *payload, uint32_t len)
{
	return vu_send(b->fd, b->in.msg.h.request, VU_REPLY, payload, len, NULL, 0);
}

static int reply_u64(struct vhost_backend *b, uint64_t v)
{
	return reply(b, &v, sizeof(v));
}

static void reset_queues(struct vhost_backend *b, bool told)
{
	for (unsigned i = 0; i < b->ops->n_queues; i++)
		vhost_queue_reset(&b->q[i], told);
}

static bool any_running(const struct vhost_backend *b)
{
	for (unsigned i = 0; i < b->ops->n_queues; i++)
		if (b->q[i].ring.enabled)
			return true;
	return false;
}

/* --- features --- */

static int set_features(struct vhost_backend *b)
{
	uint64_t f = b->in.msg.p.u64;

	if (f & ~offered(b))
		return -EINVAL;
	/* The same may come again while queues run; what they rely on may not change. */
	if (b->have_features && f != b->features && any_running(b))
		return -EBUSY;
	b->features = f;
	b->have_features = true;
	if (b->ops->ready)
		b->ops->ready(b->ctx, f & ~VU_F_PROTOCOL_FEATURES);
	return 0;
}

static int set_protocol_features(struct vhost_backend *b)
{
	if (b->in.msg.p.u64 & ~offered_protocol(b))
		return -EINVAL;
	b->protocol = b->in.msg.p.u64;
	return 0;
}

static int reset_device(struct vhost_backend *b)
{
	reset_queues(b, true);
	b->features = 0;
	b->have_features = false;
	return 0;
}

/* --- memory --- */

/* Requests in flight hold pointers into the memory. */
static bool any_in_flight(const struct vhost_backend *b)
{
	for (unsigned i = 0; i < b->ops->n_queues; i++)
		if (b->q[i].ring.inflight)
			return true;
	return false;
}

static int remap_queues(struct vhost_backend *b)
{
	int r = 0;

	for (unsigned i = 0; i < b->ops->n_queues; i++) {
		int e = vhost_queue_remap(&b->q[i]);

		r = r < 0 ? r : e;
	}
	return r;
}

static int set_mem_table(struct vhost_backend *b)
{
	const struct vu_mem_table *t = &b->in.msg.p.table;
	size_t len = b->in.msg.h.size;
	int r;

	if (len < 8 || t->n > VU_TABLE_REGIONS || len < 8 + t->n * sizeof(t->region[0]) ||
		b->in.nfds != t->n)
		return -EINVAL;
	if (any_in_flight(b))
		return -EBUSY;
	r = vhost_memory_set(&b->mem, t->region, b->in.fds, t->n);
	return r < 0 ? r : remap_queues(b);
}

static int add_mem_reg(struct vhost_backend *b)
{
	int r = b->in.nfds == 1 ? vhost_memory_add(&b->mem, &b->in.msg.p.reg.region, b->in.fds[0])
				: -EINVAL;

	return r < 0 ? r : remap_queues(b);
}

static int rem_mem_reg(struct vhost_backend *b)
{
	int r;

	if (any_in_flight(b))
		return -EBUSY;
	r = vhost_memory_remove(&b->mem, &b->in.msg.p.reg.region);
	return r < 0 ? r : remap_queues(b);
}

/* --- queues --- */

static struct vhost_queue *queue(struct vhost_backend *b, uint64_t index)
{
	return index < b->ops->n_queues ? &b->q[index] : NULL;
}

static int vring_state(struct vhost_backend *b)
{
	const struct vu_vring_state *s = &b->in.msg.p.state;
	struct vhost_queue *q = queue(b, s->index);

	if (!q)
		return -EINVAL;
	switch (b->in.msg.h.request) {
	case VU_SET_VRING_NUM: return vhost_queue_num(q, s->num);
	case VU_SET_VRING_BASE: return vhost_queue_base(q, s->num);
	case VU_SET_VRING_ENABLE: vhost_queue_enable(q, s->num != 0); return 0;
	default: return -EINVAL;
	}
}

static int set_vring_addr(struct vhost_backend *b)
{
	struct vhost_queue *q = queue(b, b->in.msg.p.addr.index);

	return q ? vhost_queue_addr(q, &b->in.msg.p.addr) : -EINVAL;
}

static int get_vring_base(struct vhost_backend *b)
{
	struct vhost_queue *q = queue(b, b->in.msg.p.state.index);
	struct vu_vring_state s;

	if (!q)
		return -EINVAL;
	s = (struct vu_vring_state){.index = q->ring.index, .num = vhost_queue_stop(q)};
	return reply(b, &s, sizeof(s));
}

static int vring_fd(struct vhost_backend *b)
{
	uint64_t v = b->in.msg.p.u64;
	struct vhost_queue *q = queue(b, v & VU_VRING_INDEX);
	bool none = v & VU_NO_FD;

	if (!q || (v & ~(uint64_t)(VU_VRING_INDEX | VU_NO_FD)) || b->in.nfds != (none ? 0 : 1))
		return -EINVAL;
	switch (b->in.msg.h.request) {
	case VU_SET_VRING_KICK: return vhost_queue_kick_fd(q, vu_take_fd(&b->in));
	case VU_SET_VRING_CALL: vhost_queue_call_fd(q, vu_take_fd(&b->in)); return 0;
	default: vhost_queue_err_fd(q, vu_take_fd(&b->in)); return 0;
	}
}

/* --- configuration and state --- */

static int get_config(struct vhost_backend *b)
{
	struct vu_config *c = &b->in.msg.p.config;
	uint32_t head = VU_CONFIG_HEAD;

	if (b->in.msg.h.size < head || c->size > VU_CONFIG_MAX || c->offset > VU_CONFIG_MAX ||
		!b->ops->get_config)
		return reply(b, NULL, 0);
	memset(c->data, 0, c->size);
	b->ops->get_config(b->ctx, c->offset, c->data, c->size);
	return reply(b, c, head + c->size);
}

/* What a driver writes into a configuration space that it may only read has no effect (virtio 1.2 §2.5). */
static int set_config(struct vhost_backend *b)
{
	return b->in.msg.p.config.size <= VU_CONFIG_MAX ? 0 : -EINVAL;
}

static int set_channel(struct vhost_backend *b)
{
	int r;

	if (b->in.nfds != 1)
		return -EINVAL;
	pthread_mutex_lock(&b->channel_lock);
	if (b->channel >= 0)
		close(b->channel);
	b->channel = vu_take_fd(&b->in);
	r = io_set_nonblock(b->channel, true);
	pthread_mutex_unlock(&b->channel_lock);
	return r;
}

static int set_device_state(struct vhost_backend *b)
{
	const struct vu_device_state *s = &b->in.msg.p.device;
	cleanup_close int fd = vu_take_fd(&b->in);
	int r;

	if (!b->ops->save || !b->ops->load || fd < 0 || s->phase != VU_PHASE_STOPPED ||
		s->direction > VU_STATE_LOAD || any_running(b))
		return reply_u64(b, VU_NO_FD | 1);
	/* The front end reads or writes the other end only after this. */
	r = reply_u64(b, VU_NO_FD);
	if (r < 0)
		return r;
	io_set_nonblock(fd, false);
	b->state_error =
		s->direction == VU_STATE_SAVE ? b->ops->save(b->ctx, fd) : b->ops->load(b->ctx, fd);
	return 0;
}

/* --- messages --- */

/* What a request carries, and whether it is answered with a message of its own. */
static const struct rule {
	int (*fn)(struct vhost_backend *b);
	uint16_t min; /* bytes of payload */
	bool answers;
} rules[] = {
	[VU_SET_FEATURES] = {set_features, 8},
	[VU_RESET_OWNER] = {reset_device},
	[VU_SET_MEM_TABLE] = {set_mem_table, 8},
	[VU_SET_VRING_NUM] = {vring_state, 8},
	[VU_SET_VRING_ADDR] = {set_vring_addr, sizeof(struct vu_vring_addr)},
	[VU_SET_VRING_BASE] = {vring_state, 8},
	[VU_GET_VRING_BASE] = {get_vring_base, 8, true},
	[VU_SET_VRING_KICK] = {vring_fd, 8},
	[VU_SET_VRING_CALL] = {vring_fd, 8},
	[VU_SET_VRING_ERR] = {vring_fd, 8},
	[VU_SET_PROTOCOL_FEATURES] = {set_protocol_features, 8},
	[VU_SET_VRING_ENABLE] = {vring_state, 8},
	[VU_SET_BACKEND_REQ_FD] = {set_channel},
	[VU_GET_CONFIG] = {get_config, 0, true},
	[VU_SET_CONFIG] = {set_config, VU_CONFIG_HEAD},
	[VU_RESET_DEVICE] = {reset_device},
	[VU_ADD_MEM_REG] = {add_mem_reg, sizeof(struct vu_mem_reg)},
	[VU_REM_MEM_REG] = {rem_mem_reg, sizeof(struct vu_mem_reg)},
	[VU_SET_DEVICE_STATE_FD] = {set_device_state, 8, true},
};

/* Questions that need no more than a number. */
static bool number_for(const struct vhost_backend *b, uint64_t *ret)
{
	switch (b->in.msg.h.request) {
	case VU_GET_FEATURES: *ret = offered(b); return true;
	case VU_GET_PROTOCOL_FEATURES: *ret = offered_protocol(b); return true;
	case VU_GET_QUEUE_NUM: *ret = b->ops->n_queues; return true;
	case VU_GET_MAX_MEM_SLOTS: *ret = VHOST_MAX_REGIONS; return true;
	case VU_CHECK_DEVICE_STATE: *ret = b->state_error < 0; return true;
	default: return false;
	}
}

static int handle(struct vhost_backend *b)
{
	const struct vu_header *h = &b->in.msg.h;
	const struct rule *rule = h->request < ARRAY_LEN(rules) ? &rules[h->request] : NULL;
	bool ack = (h->flags & VU_NEED_REPLY) && (b->protocol & VU_PROTO_REPLY_ACK);
	uint64_t number;
	int r;

	if (number_for(b, &number))
		return reply_u64(b, number);
	if (h->request == VU_SET_OWNER)
		r = 0;
	else if (!rule || !rule->fn)
		r = -EOPNOTSUPP;
	else if (h->size < rule->min)
		r = -EBADMSG;
	else
		r = rule->fn(b);
	if (r < 0)
		log_debug("vhost", "request %u: %s", h->request, strerror(-r));
	if (rule && rule->answers)
		return r;
	return ack ? reply_u64(b, r < 0) : r;
}

/* One message, if all of it is there: 1, else 0; negative: the end. */
static int one_message(struct vhost_backend *b)
{
	int r = vu_receive(b->fd, &b->in);

	if (r <= 0)
		return r;
	r = b->in.msg.h.flags & VU_REPLY ? -EPROTO : handle(b);
	vu_in_done(&b->in);
	return r < 0 ? r : 1;
}

static void on_socket(void *ctx, int fd, uint32_t revents)
{
	struct vhost_backend *b = ctx;
	int r = 1;

	for (unsigned i = 0; i < BATCH && r > 0; i++)
		r = one_message(b);
	if (r >= 0)
		return;
	b->src = loop_src_free(b->src);
	reset_queues(b, false);
	b->ops->closed(b->ctx, r == -ENODATA ? 0 : r);
}

int vhost_backend_new(struct vhost_backend **ret, struct loop *l, int fd,
	const struct vhost_dev_ops *ops, void *ctx, struct err *e)
{
	struct vhost_backend *b = calloc(1, sizeof(*b));
	int r = 0;

	if (!b || !ops->n_queues || ops->n_queues > VHOST_MAX_QUEUES) {
		r = b ? -EINVAL : -ENOMEM;
		free(b);
		close(fd);
		return err_sys(e, r, "serve vhost-user");
	}
	b->loop = l;
	b->ops = ops;
	b->ctx = ctx;
	b->fd = fd;
	b->channel = -1;
	pthread_mutex_init(&b->channel_lock, NULL);
	for (unsigned i = 0; i < VHOST_MAX_QUEUES; i++) {
		vhost_queue_init(b, i);
		b->q[i].ring.skips = ops->skips;
	}
	r = io_set_nonblock(fd, true);
	if (r == 0)
		r = loop_io(l, fd, EPOLLIN, on_socket, b, &b->src);
	if (r < 0) {
		vhost_backend_free(b);
		return err_sys(e, r, "serve vhost-user");
	}
	*ret = b;
	return 0;
}

void vhost_backend_free(struct vhost_backend *b)
{
	if (!b)
		return;
	loop_src_free(b->src);
	reset_queues(b, false);
	vu_in_done(&b->in);
	vhost_memory_clear(&b->mem);
	if (b->channel >= 0)
		close(b->channel);
	close(b->fd);
	pthread_mutex_destroy(&b->channel_lock);
	free(b);
}

uint64_t vhost_features(const struct vhost_backend *b)
{
	return b->features & ~VU_F_PROTOCOL_FEATURES;
}

/* --- what the front end is asked --- */

static void drop_channel(struct vhost_backend *b)
{
	close(b->channel);
	b->channel = -1;
}

void vhost_config_changed(struct vhost_backend *b)
{
	pthread_mutex_lock(&b->channel_lock);
	if (b->channel >= 0 &&
		vu_send(b->channel, VU_BACKEND_CONFIG_CHANGE, 0, NULL, 0, NULL, 0) < 0)
		drop_channel(b);
	pthread_mutex_unlock(&b->channel_lock);
}

/*
 * Its answer: 0, a positive errno, or negative: the channel is of no use any more. A front end that is slow is waited for
 * as long as it lives: it may be writing all of the guest's memory, with the guest paused, and a channel given up does not
 * come back.
 */
static int answer(struct vhost_backend *b, uint32_t request)
{
	struct vu_in in = {0};
	bool gone = false;
	int r;

	while ((r = vu_receive(b->channel, &in)) == 0 && !gone) {
		struct pollfd p[] = {
			{.fd = b->channel, .events = POLLIN}, {.fd = b->fd, .events = POLLRDHUP}};

		/* It may have answered and then gone: the answer first. */
		if (poll(p, ARRAY_LEN(p), -1) > 0)
			gone = p[1].revents != 0;
	}
	if (r == 0)
		r = -ENOTCONN;
	else if (r > 0 && (in.msg.h.request != request || !(in.msg.h.flags & VU_REPLY) ||
				  in.msg.h.size != sizeof(uint64_t)))
		r = -EPROTO;
	if (r > 0)
		r = in.msg.p.u64 > 4095 ? EIO : (int)in.msg.p.u64;
	vu_in_done(&in);
	return r;
}

static int ask(struct vhost_backend *b, uint32_t request, const struct vu_shmem *s, int fd)
{
	int r;

	if (!vhost_maps_files(b))
		return -ENOTSUP;
	pthread_mutex_lock(&b->channel_lock);
	r = b->channel < 0
		    ? -ENOTSUP
		    : vu_send(b->channel, request, VU_NEED_REPLY, s, sizeof(*s), &fd, fd >= 0);
	if (r == 0)
		r = answer(b, request);
	if (r < 0 && b->channel >= 0)
		drop_channel(b);
	pthread_mutex_unlock(&b->channel_lock);
	return r > 0 ? -r : r;
}

bool vhost_maps_files(const struct vhost_backend *b)
{
	const uint64_t all = VU_PROTO_SHMEM | VU_PROTO_BACKEND_REQ | VU_PROTO_REPLY_ACK |
			     VU_PROTO_BACKEND_SEND_FD;

	return (b->protocol & all) == all;
}

int vhost_map_file(
	struct vhost_backend *b, uint64_t off, uint64_t len, int fd, uint64_t at, bool writable)
{
	const struct vu_shmem s = {.shm_offset = off,
		.len = len,
		.fd_offset = at,
		.flags = writable ? VU_SHMEM_WRITABLE : 0};

	return ask(b, VU_BACKEND_SHMEM_MAP, &s, fd);
}

int vhost_unmap_file(struct vhost_backend *b, uint64_t off, uint64_t len)
{
	const struct vu_shmem s = {.shm_offset = off, .len = len};

	return ask(b, VU_BACKEND_SHMEM_UNMAP, &s, -1);
}
