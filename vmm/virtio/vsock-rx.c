/* SPDX-License-Identifier: MIT */
/* vsock packets towards the guest: the receive queue. Connections with something to say wait in line; each gets one
 * batch of buffers, then the next. */
#include "vmm/virtio/vsock-internal.h"

#include <errno.h>
#include "lib/base/le.h"

enum { PUMP_PACKETS = 1024 }; /* in one call; the rest follows from the loop */

static const uint64_t close_ns = 10ull * 1000 * 1000 * 1000;

static void header(uint8_t h[VSH_SIZE], const struct vsock *vs, uint64_t src_cid, uint32_t src_port,
	uint32_t dst_port, uint16_t op)
{
	memset(h, 0, VSH_SIZE);
	le64_put(h + VSH_SRC_CID, src_cid);
	le64_put(h + VSH_DST_CID, vs->cid);
	le32_put(h + VSH_SRC_PORT, src_port);
	le32_put(h + VSH_DST_PORT, dst_port);
	le16_put(h + VSH_TYPE, VSOCK_TYPE_STREAM);
	le16_put(h + VSH_OP, op);
}

static void conn_header(
	uint8_t h[VSH_SIZE], struct vsock_conn *c, uint16_t op, uint32_t len, uint32_t flags)
{
	header(h, c->vs, VSOCK_CID_HOST, c->host_port, c->guest_port, op);
	le32_put(h + VSH_LEN, len);
	le32_put(h + VSH_FLAGS, flags);
	le32_put(h + VSH_BUF_ALLOC, VSOCK_BUF);
	le32_put(h + VSH_FWD_CNT, c->fwd);
	/* Every packet tells the guest of its credit. */
	c->fwd_told = c->fwd;
	c->owe &= ~VSOCK_OWE_CREDIT;
}

/* Takes a receive buffer; false: there is none (the guest will notify), or the ring is broken. */
static bool take(struct vsock *vs, struct vring_chain *chain)
{
	struct vq *q = &vs->v.q[VSOCK_RXQ];

	if (vq_pop(q, chain) <= 0)
		return false;
	if (chain->wr_len >= VSH_SIZE)
		return true;
	virtio_broken(&vs->v, "receive buffer of %u bytes", chain->wr_len);
	return false;
}

static bool control(struct vsock_conn *c, uint16_t op, uint32_t flags)
{
	struct vring_chain *chain = &c->vs->rx[0];
	uint8_t h[VSH_SIZE];

	if (!take(c->vs, chain))
		return false;
	conn_header(h, c, op, 0, flags);
	vring_write(chain, 0, h, sizeof(h));
	vq_push(&c->vs->v.q[VSOCK_RXQ], chain, sizeof(h));
	return true;
}

void vsock_owe_rst(struct vsock *vs, uint64_t src_cid, uint32_t src_port, uint32_t dst_port)
{
	if (vs->n_rst < VSOCK_RSTS)
		vs->rst[vs->n_rst++] = (struct vsock_rst){src_cid, src_port, dst_port};
}

static bool send_rsts(struct vsock *vs)
{
	uint8_t h[VSH_SIZE];

	while (vs->n_rst) {
		const struct vsock_rst *r = &vs->rst[vs->n_rst - 1];

		if (!take(vs, &vs->rx[0]))
			return false;
		header(h, vs, r->src_cid, r->src_port, r->dst_port, VSOCK_OP_RST);
		vring_write(&vs->rx[0], 0, h, sizeof(h));
		vq_push(&vs->v.q[VSOCK_RXQ], &vs->rx[0], sizeof(h));
		vs->n_rst--;
	}
	return true;
}

static uint32_t credit(const struct vsock_conn *c)
{
	uint32_t used = c->sent - c->peer_fwd;

	return used < c->peer_alloc ? c->peer_alloc - used : 0;
}

bool vsock_wants_read(const struct vsock_conn *c)
{
	return c->state == VSOCK_OPEN && c->readable && c->peer &&
	       !(c->guest_shut & VSOCK_SHUT_RCV) && !(c->host_shut & VSOCK_SHUT_SEND) &&
	       !(c->owe & VSOCK_OWE_RST) && credit(c);
}

enum served { SERVED_DONE, SERVED_MORE, SERVED_NO_BUFFER };

/* One recv() into as many receive buffers as the connection's recent past suggests. */
static enum served read_batch(struct vsock_conn *c, unsigned *packets)
{
	struct vsock *vs = c->vs;
	struct vq *q = &vs->v.q[VSOCK_RXQ];
	struct iovec iov[VSOCK_IOVS];
	uint32_t room[VSOCK_RX_BATCH], want = credit(c);
	unsigned n_iov = 0, n = 0, used = 0;
	size_t total = 0;
	ssize_t got;

	while (n < c->batch && want && n_iov < VSOCK_IOVS) {
		struct vring_chain *chain = &vs->rx[n];
		size_t len;

		if (!take(vs, chain))
			break;
		n_iov += vring_slice(vring_wr(chain), chain->n_wr, VSH_SIZE,
			MIN(want, VSOCK_MAX_PKT), iov + n_iov, VSOCK_IOVS - n_iov, &len);
		if (!len) {
			virtio_broken(&vs->v, "receive buffer with room for a header only");
			return SERVED_NO_BUFFER;
		}
		room[n++] = (uint32_t)len;
		want -= (uint32_t)len;
		total += len;
	}
	if (!n)
		return SERVED_NO_BUFFER;
	got = virtio_live(&vs->v) ? vs->back->recv(vs->back_ctx, c->peer, iov, n_iov) : -EAGAIN;
	if (got > 0) {
		size_t left = (size_t)got;

		for (; left; used++) {
			uint32_t part = (uint32_t)MIN(left, room[used]);
			uint8_t h[VSH_SIZE];

			conn_header(h, c, VSOCK_OP_RW, part, 0);
			vring_write(&vs->rx[used], 0, h, sizeof(h));
			vq_push(q, &vs->rx[used], VSH_SIZE + part);
			left -= part;
		}
		c->sent += (uint32_t)got;
		*packets += used;
	}
	while (n > used)
		vq_unpop(q, &vs->rx[--n]);
	if (got > 0) {
		c->batch = (size_t)got == total ? MIN(c->batch * 4, (unsigned)VSOCK_RX_BATCH) : 1;
		return SERVED_MORE;
	}
	c->readable = false;
	c->batch = 1;
	if (got == -EAGAIN)
		return SERVED_DONE;
	c->host_shut |= VSOCK_SHUT_SEND;
	vsock_owe(c, VSOCK_OWE_SHUTDOWN);
	if (got < 0)
		vsock_host_deaf(c);
	return SERVED_DONE;
}

static enum served serve(struct vsock_conn *c, unsigned *packets)
{
	if (c->owe & VSOCK_OWE_RST) {
		if (!control(c, VSOCK_OP_RST, 0))
			return SERVED_NO_BUFFER;
		vsock_conn_free(c);
		return SERVED_DONE;
	}
	if (c->owe & VSOCK_OWE_REQUEST) {
		if (!control(c, VSOCK_OP_REQUEST, 0))
			return SERVED_NO_BUFFER;
		c->owe &= ~VSOCK_OWE_REQUEST;
	}
	if (c->owe & VSOCK_OWE_RESPONSE) {
		if (!control(c, VSOCK_OP_RESPONSE, 0))
			return SERVED_NO_BUFFER;
		c->owe &= ~VSOCK_OWE_RESPONSE;
	}
	if (vsock_wants_read(c)) {
		enum served s = read_batch(c, packets);

		if (s != SERVED_DONE)
			return s;
	}
	if ((c->owe & VSOCK_OWE_CREDIT) && !(c->owe & VSOCK_OWE_SHUTDOWN)) {
		if (!control(c, VSOCK_OP_CREDIT_UPDATE, 0))
			return SERVED_NO_BUFFER;
	}
	if (c->owe & VSOCK_OWE_SHUTDOWN) {
		if (!control(c, VSOCK_OP_SHUTDOWN, c->host_shut))
			return SERVED_NO_BUFFER;
		c->owe &= ~VSOCK_OWE_SHUTDOWN;
		if (c->host_shut == VSOCK_SHUT_BOTH) {
			vsock_drop_peer(c);
			c->state = VSOCK_CLOSING;
			vsock_deadline(c, close_ns);
		}
	}
	return SERVED_DONE;
}

void vsock_pump(struct vsock *vs)
{
	unsigned packets = 0;

	if (!virtio_live(&vs->v) || vs->event == VSOCK_EVENT_SENT)
		return;
	if (send_rsts(vs)) {
		while (vs->ready) {
			struct vsock_conn *c = vs->ready;
			enum served s;

			if (packets++ >= PUMP_PACKETS) {
				virtio_again(&vs->v, VSOCK_RXQ);
				break;
			}
			s = serve(c, &packets);
			if (s == SERVED_NO_BUFFER)
				break;
			if (c->state == VSOCK_FREE)
				continue;
			vsock_unqueue(c);
			if (s == SERVED_MORE || c->owe)
				vsock_queue(c);
		}
	}
	vq_flush(&vs->v.q[VSOCK_RXQ]);
}
