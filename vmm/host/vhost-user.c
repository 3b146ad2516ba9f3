/* SPDX-License-Identifier: MIT */
/* See vhost-user.h. */
#include "vmm/host/vhost-user.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include "lib/base/cleanup.h"
#include "lib/base/io.h"
#include "lib/base/loop.h"
#include "lib/os/mem.h"
#include "lib/os/notifier.h"
#include "lib/vhost/message.h"
#include "vmm/host/vhost-channel.h"

/* How long a server may take for an answer: it has nothing to do for it but to finish what it is at. */
#define ANSWER_NS (5ull * 1000000000)

struct link {
	struct vhost_link l;
	struct loop *loop;
	int fd;
	struct loop_src *src, *timer;
	struct vhost_channel *channel; /* what the server asks; NULL: nothing */
	uint64_t protocol;	       /* what was agreed */
	bool has_protocol;
	uint64_t running; /* queues that the server serves, one bit each */
	uint64_t asked;	  /* those whose end was asked for and is not yet confirmed */
	struct vu_in in;
};

static struct link *to_link(struct vhost_link *l)
{
	return container_of(l, struct link, l);
}

/* The loop then finds the connection closed, and the device loses its server. */
static void give_up(struct link *k)
{
	shutdown(k->fd, SHUT_RDWR);
}

/* --- questions that are waited for --- */

static int wait_message(struct link *k, uint64_t deadline)
{
	for (;;) {
		/* The server may be waiting for an answer itself. */
		struct pollfd p[] = {{.fd = k->fd, .events = POLLIN},
			{.fd = vhost_channel_fd(k->channel), .events = POLLIN}};
		uint64_t now = loop_now();
		int r = vu_receive(k->fd, &k->in);

		vhost_channel_serve(k->channel);
		if (r != 0)
			return r < 0 ? r : 0;
		if (now >= deadline)
			return -ETIMEDOUT;
		if (poll(p, ARRAY_LEN(p), (int)((deadline - now) / 1000000 + 1)) < 0 &&
			errno != EINTR)
			return -errno;
	}
}

static int ask(struct link *k, enum vu_request request, uint64_t deadline, uint64_t *ret)
{
	const struct vu_header *h = &k->in.msg.h;
	int r = vu_send(k->fd, request, 0, NULL, 0, NULL, 0);

	if (r == 0)
		r = wait_message(k, deadline);
	if (r == 0 &&
		(h->request != request || !(h->flags & VU_REPLY) || h->size != sizeof(uint64_t)))
		r = -EPROTO;
	*ret = k->in.msg.p.u64;
	vu_in_done(&k->in);
	return r;
}

/* What a server needs to map files. */
#define WINDOW_PROTOCOL                                                                            \
	(VU_PROTO_REPLY_ACK | VU_PROTO_BACKEND_REQ | VU_PROTO_BACKEND_SEND_FD | VU_PROTO_SHMEM)

static int make_channel(struct link *k)
{
	int theirs, r = vhost_channel_new(&k->channel, k->l.vh, k->loop, &theirs);

	if (r == 0) {
		r = vu_send(k->fd, VU_SET_BACKEND_REQ_FD, 0, NULL, 0, &theirs, 1);
		close(theirs);
	}
	return r;
}

static int negotiate(struct link *k)
{
	uint64_t queues = VHOST_DEV_QUEUES, protocol = 0, deadline = loop_now() + ANSWER_NS;
	int r = ask(k, VU_GET_FEATURES, deadline, &k->l.features);

	k->has_protocol = k->l.features & VU_F_PROTOCOL_FEATURES;
	if (r == 0 && k->has_protocol) {
		r = ask(k, VU_GET_PROTOCOL_FEATURES, deadline, &protocol);
		k->protocol = protocol & VU_PROTO_MQ;
		if (vhost_window(k->l.vh) && (protocol & WINDOW_PROTOCOL) == WINDOW_PROTOCOL)
			k->protocol |= WINDOW_PROTOCOL;
		if (r == 0)
			r = vu_send(k->fd, VU_SET_PROTOCOL_FEATURES, 0, &k->protocol,
				sizeof(k->protocol), NULL, 0);
		if (r == 0 && (k->protocol & VU_PROTO_SHMEM))
			r = make_channel(k);
	}
	if (r == 0 && (k->protocol & VU_PROTO_MQ))
		r = ask(k, VU_GET_QUEUE_NUM, deadline, &queues);
	if (r == 0)
		r = vu_send(k->fd, VU_SET_OWNER, 0, NULL, 0, NULL, 0);
	k->l.queues = (unsigned)MIN(queues, (uint64_t)VHOST_DEV_QUEUES);
	return r;
}

/* --- starting --- */

static int send_u64(struct link *k, enum vu_request request, uint64_t v)
{
	return vu_send(k->fd, request, 0, &v, sizeof(v), NULL, 0);
}

static int send_fd(struct link *k, enum vu_request request, uint64_t queue, int fd)
{
	return vu_send(k->fd, request, 0, &queue, sizeof(queue), &fd, 1);
}

static int send_state(struct link *k, enum vu_request request, unsigned queue, unsigned num)
{
	struct vu_vring_state s = {.index = queue, .num = num};

	return vu_send(k->fd, request, 0, &s, sizeof(s), NULL, 0);
}

static int send_memory(struct link *k)
{
	struct gmem *gm = vhost_dev(k->l.vh)->gm;
	const struct vhost_shared *shared = vhost_shared(k->l.vh);
	const struct gmem_region *g;
	size_t n = gmem_regions(gm, &g);
	struct vu_mem_table t = {.n = (uint32_t)n + 1};
	int fds[VU_TABLE_REGIONS];

	if (n + 1 > VU_TABLE_REGIONS)
		return -E2BIG;
	for (size_t i = 0; i < n; i++) {
		t.region[i] = (struct vu_region){.gpa = g[i].gpa,
			.size = g[i].size,
			.user_addr = (uintptr_t)g[i].hva,
			.mmap_offset = g[i].offset};
		fds[i] = os_memobj_fd(gmem_object(gm));
	}
	t.region[n] = (struct vu_region){
		.gpa = shared->gpa, .size = shared->len, .user_addr = (uintptr_t)shared->map};
	fds[n] = os_memobj_fd(shared->obj);
	return vu_send(k->fd, VU_SET_MEM_TABLE, 0, &t, (uint32_t)(8 + t.n * sizeof(t.region[0])),
		fds, t.n);
}

static int send_ring(struct link *k, unsigned i, const struct vhost_ring *ring)
{
	struct vu_vring_addr a = {.index = i,
		.desc = (uintptr_t)ring->desc,
		.avail = (uintptr_t)ring->avail,
		.used = (uintptr_t)ring->used};
	int r;

	if ((r = send_state(k, VU_SET_VRING_NUM, i, ring->size)) < 0 ||
		(r = send_state(k, VU_SET_VRING_BASE, i, ring->base)) < 0 ||
		(r = vu_send(k->fd, VU_SET_VRING_ADDR, 0, &a, sizeof(a), NULL, 0)) < 0 ||
		(r = send_fd(k, VU_SET_VRING_CALL, i, os_notifier_fd(ring->call))) < 0 ||
		(r = send_fd(k, VU_SET_VRING_KICK, i, os_notifier_fd(ring->kick))) < 0)
		return r;
	return k->has_protocol ? send_state(k, VU_SET_VRING_ENABLE, i, 1) : 0;
}

static void link_start(
	struct vhost_link *l, uint64_t features, const struct vhost_ring *rings, unsigned n)
{
	struct link *k = to_link(l);
	int r = send_u64(
		k, VU_SET_FEATURES, features | (k->has_protocol ? VU_F_PROTOCOL_FEATURES : 0));

	if (r == 0)
		r = send_memory(k);
	for (unsigned i = 0; r == 0 && i < n; i++) {
		if (!rings[i].size)
			continue;
		r = send_ring(k, i, &rings[i]);
		k->running |= BIT(i);
	}
	if (r < 0)
		give_up(k);
}

/* --- stopping --- */

static int ask_stop(struct link *k)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < VHOST_DEV_QUEUES; i++)
		if (k->running & BIT(i))
			r = send_state(k, VU_GET_VRING_BASE, i, 0);
	k->asked = k->running;
	return r;
}

static void link_stop(struct vhost_link *l)
{
	struct link *k = to_link(l);

	if (ask_stop(k) < 0)
		give_up(k);
	/* With nothing to wait for, the answer still comes from the loop. */
	loop_timer_arm(k->timer, k->asked ? loop_now() + ANSWER_NS : 1);
}

/* A message that came: all that can come is that a queue stopped. */
static int take_stopped(struct link *k)
{
	const struct vu_msg *m = &k->in.msg;

	if (m->h.request != VU_GET_VRING_BASE || !(m->h.flags & VU_REPLY) ||
		m->h.size != sizeof(m->p.state) || m->p.state.index >= VHOST_DEV_QUEUES ||
		!(k->asked & BIT(m->p.state.index)))
		return -EPROTO;
	k->l.base[m->p.state.index] = (uint16_t)m->p.state.num;
	k->asked &= ~BIT(m->p.state.index);
	k->running &= ~BIT(m->p.state.index);
	return 0;
}

static int link_stop_now(struct vhost_link *l)
{
	struct link *k = to_link(l);
	uint64_t deadline = loop_now() + ANSWER_NS;
	int r = k->asked ? 0 : ask_stop(k);

	loop_timer_arm(k->timer, 0);
	while (r == 0 && k->asked) {
		r = wait_message(k, deadline);
		if (r == 0)
			r = take_stopped(k);
		vu_in_done(&k->in);
	}
	return r;
}

static void on_timer(void *ctx)
{
	struct link *k = ctx;
	struct vhost *vh = k->l.vh;
	VIRTIO_GUARD(vhost_dev(vh));

	if (k->asked)
		vhost_link_down(vh, "it does not stop");
	else
		vhost_link_stopped(vh);
}

static void on_socket(void *ctx, int fd, uint32_t revents)
{
	struct link *k = ctx;
	struct vhost *vh = k->l.vh;
	VIRTIO_GUARD(vhost_dev(vh));
	int r;

	while ((r = vu_receive(fd, &k->in)) > 0) {
		r = take_stopped(k);
		vu_in_done(&k->in);
		if (r < 0)
			break;
		if (!k->asked) {
			loop_timer_arm(k->timer, 0);
			vhost_link_stopped(vh);
		}
	}
	if (r < 0)
		vhost_link_down(vh, r == -ENODATA ? "it closed the connection" : strerror(-r));
}

/* --- life --- */

static void link_free(struct vhost_link *l)
{
	struct link *k = to_link(l);

	loop_src_free(k->src);
	loop_src_free(k->timer);
	vhost_channel_free(k->channel);
	vu_in_done(&k->in);
	close(k->fd);
	free(k);
}

static const struct vhost_link_ops link_ops = {
	.start = link_start,
	.stop = link_stop,
	.stop_now = link_stop_now,
	.free = link_free,
};

int vhost_user_attach(struct vhost *vh, struct loop *loop, int fd, struct err *e)
{
	struct link *k = calloc(1, sizeof(*k));
	int r;

	if (!k) {
		close(fd);
		return err_sys(e, -ENOMEM, "connect %s", vhost_name(vh));
	}
	k->l.ops = &link_ops;
	k->l.vh = vh;
	k->loop = loop;
	k->fd = fd;
	r = io_set_nonblock(fd, true);
	if (r == 0)
		r = negotiate(k);
	if (r == 0)
		r = loop_timer(loop, on_timer, k, &k->timer);
	if (r == 0)
		r = loop_io(loop, fd, EPOLLIN, on_socket, k, &k->src);
	if (r < 0) {
		link_free(&k->l);
		return err_sys(e, r, "agree with the server of %s", vhost_name(vh));
	}
	r = vhost_attach(vh, &k->l, e);
	return r < 0 ? err_wrap(e, r, "connect %s", vhost_name(vh)) : 0;
}
