/* SPDX-License-Identifier: MIT */
/* The virtqueues of a vhost-user back end: from what the front end says about them to rings that run. */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>
#include "lib/base/io.h"
#include "lib/base/log.h"
#include "lib/vhost/backend-internal.h"

static struct vhost_queue *to_queue(struct vring *r)
{
	return container_of(r, struct vhost_queue, ring);
}

static void signal_fd(int fd)
{
	uint64_t one = 1;

	/* A full counter says the same as a larger one. */
	if (fd >= 0 && write(fd, &one, sizeof(one)) < 0 && errno != EAGAIN)
		log_debug("vhost", "signal the front end: %s", strerror(errno));
}

static void *ring_map(struct vring *r, uint64_t addr, uint64_t *len)
{
	return vhost_memory_ptr(&to_queue(r)->b->mem, addr, len);
}

static bool ring_live(const struct vring *r)
{
	static_assert(offsetof(struct vhost_queue, ring) == 0, "the ring comes first");

	return ((const struct vhost_queue *)(const void *)r)->wanted;
}

static void ring_broken(struct vring *r, const char *text)
{
	log_limited("vhost", "queue stopped until it is set up anew: %s", text);
	signal_fd(to_queue(r)->err);
}

static void ring_interrupt(struct vring *r)
{
	signal_fd(to_queue(r)->call);
}

static const struct vring_ops ring_ops = {
	.map = ring_map,
	.live = ring_live,
	.broken = ring_broken,
	.interrupt = ring_interrupt,
};

void vhost_queue_init(struct vhost_backend *b, unsigned i)
{
	b->q[i] = (struct vhost_queue){
		.ring = {.ops = &ring_ops, .index = i, .max_size = VRING_MAX_SIZE},
		.b = b,
		.kick = -1,
		.call = -1,
		.err = -1};
	vring_reset(&b->q[i].ring);
}

static void replace_fd(int *fd, int by)
{
	if (*fd >= 0)
		close(*fd);
	*fd = by;
	if (by >= 0)
		io_set_nonblock(by, true);
}

static void drop_kick(struct vhost_queue *q)
{
	q->kick_src = loop_src_free(q->kick_src);
	replace_fd(&q->kick, -1);
}

/* Tells the device that it may begin, if it may. */
static void tell(struct vhost_queue *q)
{
	struct vhost_backend *b = q->b;

	if (q->told || !q->ring.enabled || !q->wanted)
		return;
	q->told = true;
	if (b->ops->queue_ready)
		b->ops->queue_ready(b->ctx, q->ring.index, true);
	/* What was added before nobody will kick for. The device is to have its turn from the loop, not from within a message. */
	signal_fd(q->kick);
}

/* Tells it to end, while it still can finish or put back what it has. */
static void untell(struct vhost_queue *q)
{
	struct vhost_backend *b = q->b;

	if (q->told && b->ops->queue_ready)
		b->ops->queue_ready(b->ctx, q->ring.index, false);
	q->told = false;
}

/* The ring stops; its size stays, as does what the front end says in other messages. */
static void stop_ring(struct vhost_queue *q)
{
	uint16_t size = q->ring.size;

	vring_reset(&q->ring);
	q->ring.size = size;
}

void vhost_queue_reset(struct vhost_queue *q, bool told)
{
	if (told)
		untell(q);
	stop_ring(q);
	q->ring.size = q->ring.max_size;
	q->told = q->wanted = q->have_addr = false;
	q->base = 0;
	drop_kick(q);
	replace_fd(&q->call, -1);
	replace_fd(&q->err, -1);
}

int vhost_queue_num(struct vhost_queue *q, uint32_t num)
{
	if (q->ring.enabled)
		return -EBUSY;
	if (!num || num > VRING_MAX_SIZE || (num & (num - 1)))
		return -EINVAL;
	q->ring.size = (uint16_t)num;
	return 0;
}

int vhost_queue_base(struct vhost_queue *q, uint32_t num)
{
	if (q->ring.enabled)
		return -EBUSY;
	/* Bits above are for packed rings. */
	if (num > UINT16_MAX)
		return -EINVAL;
	q->base = (uint16_t)num;
	return 0;
}

struct parts {
	void *desc, *avail, *used;
};

static int find_parts(const struct vhost_queue *q, struct parts *ret)
{
	const struct vhost_memory *m = &q->b->mem;

	ret->desc = vhost_memory_user(m, q->desc, vring_desc_len(q->ring.size));
	ret->avail = vhost_memory_user(m, q->avail, vring_avail_len(q->ring.size));
	ret->used = vhost_memory_user(m, q->used, vring_used_len(q->ring.size));
	return ret->desc && ret->avail && ret->used ? 0 : -EFAULT;
}

static int start_ring(struct vhost_queue *q)
{
	struct parts p;
	int r = find_parts(q, &p);

	if (r < 0)
		return r;
	q->ring.features = q->b->features;
	return vring_start(&q->ring, p.desc, p.avail, p.used, q->base, vring_used_index(p.used));
}

int vhost_queue_remap(struct vhost_queue *q)
{
	struct parts p;
	int r;

	if (!q->ring.enabled)
		return 0;
	r = find_parts(q, &p);
	if (r == 0 && ((uintptr_t)p.desc % 16 || (uintptr_t)p.avail % 2 || (uintptr_t)p.used % 4))
		r = -EINVAL;
	if (r < 0) {
		untell(q);
		stop_ring(q);
		return r;
	}
	q->ring.desc = p.desc;
	q->ring.avail = p.avail;
	q->ring.used = p.used;
	return 0;
}

int vhost_queue_addr(struct vhost_queue *q, const struct vu_vring_addr *a)
{
	if (a->flags)
		return -EOPNOTSUPP; /* the log of dirty pages, which is not offered */
	q->desc = a->desc;
	q->avail = a->avail;
	q->used = a->used;
	q->have_addr = true;
	return vhost_queue_remap(q);
}

static void on_kick(void *ctx, int fd, uint32_t revents)
{
	struct vhost_queue *q = ctx;
	uint64_t count;
	ssize_t n = read(fd, &count, sizeof(count));

	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
		q->kick_src = loop_src_free(q->kick_src);
		return;
	}
	if (q->told)
		q->b->ops->kick(q->b->ctx, q->ring.index);
}

int vhost_queue_kick_fd(struct vhost_queue *q, int fd)
{
	int r = 0;

	drop_kick(q);
	if (fd >= 0) {
		replace_fd(&q->kick, fd);
		r = loop_io(q->b->loop, fd, EPOLLIN, on_kick, q, &q->kick_src);
	}
	if (r == 0 && !q->ring.enabled)
		r = q->have_addr ? start_ring(q) : -EINVAL;
	if (r < 0) {
		drop_kick(q);
		return r;
	}
	/* Without protocol features nobody will enable it. */
	if (!(q->b->features & VU_F_PROTOCOL_FEATURES))
		q->wanted = true;
	tell(q);
	return 0;
}

void vhost_queue_call_fd(struct vhost_queue *q, int fd)
{
	replace_fd(&q->call, fd);
	/* What was pushed before had nobody to tell. */
	if (q->told)
		signal_fd(fd);
}

void vhost_queue_err_fd(struct vhost_queue *q, int fd)
{
	replace_fd(&q->err, fd);
}

void vhost_queue_enable(struct vhost_queue *q, bool on)
{
	if (!on)
		untell(q);
	q->wanted = on;
	tell(q);
}

uint16_t vhost_queue_stop(struct vhost_queue *q)
{
	untell(q);
	if (q->ring.enabled)
		q->base = q->ring.last_avail;
	stop_ring(q);
	drop_kick(q);
	return q->base;
}

/* --- for the device --- */

int vhost_pop(struct vhost_backend *b, unsigned q, struct vring_chain *c)
{
	return vring_pop(&b->q[q].ring, c);
}

void vhost_unpop(struct vhost_backend *b, unsigned q, const struct vring_chain *c)
{
	vring_unpop(&b->q[q].ring, c);
}

void vhost_push(struct vhost_backend *b, unsigned q, const struct vring_chain *c, uint32_t written)
{
	vring_push(&b->q[q].ring, c, written);
}

void vhost_flush(struct vhost_backend *b, unsigned q)
{
	vring_flush(&b->q[q].ring);
}

bool vhost_has_work(const struct vhost_backend *b, unsigned q)
{
	return vring_has_work(&b->q[q].ring);
}

bool vhost_queue_is_ready(const struct vhost_backend *b, unsigned q)
{
	return b->q[q].told;
}
