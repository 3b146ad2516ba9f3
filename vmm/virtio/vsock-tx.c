/* SPDX-License-Identifier: MIT */
/* vsock packets from the guest: the transmit queue. A packet that cannot be right is answered with RST and nothing else
 * happens; only a broken ring stops the device. */
#include "vmm/virtio/vsock-internal.h"

#include <errno.h>
#include "lib/base/le.h"
#include "lib/base/loop.h"

static const uint64_t dial_ns = 10ull * 1000 * 1000 * 1000;

struct packet {
	uint64_t src_cid, dst_cid;
	uint32_t src_port, dst_port, len;
	uint16_t type, op;
	uint32_t flags, buf_alloc, fwd_cnt;
};

static void request(struct vsock *vs, const struct packet *p)
{
	struct vsock_conn *c = vsock_conn_new(vs, p->src_port, p->dst_port);
	int r;

	if (!c) {
		vsock_owe_rst(vs, VSOCK_CID_HOST, p->dst_port, p->src_port);
		return;
	}
	c->state = VSOCK_DIALING;
	c->peer_alloc = p->buf_alloc;
	c->peer_fwd = p->fwd_cnt;
	r = vs->back ? vs->back->connect(vs->back_ctx, c, p->dst_port, &c->peer) : -ECONNREFUSED;
	if (r < 0) {
		c->peer = NULL;
		vsock_owe(c, VSOCK_OWE_RST);
	} else if (r > 0) {
		vsock_connected(c);
	} else {
		vsock_deadline(c, dial_ns);
	}
}

static void response(struct vsock_conn *c)
{
	struct vsock *vs = c->vs;

	if (c->state != VSOCK_ASKING || (c->owe & VSOCK_OWE_REQUEST)) {
		vsock_drop_peer(c);
		vsock_owe(c, VSOCK_OWE_RST);
		return;
	}
	c->state = VSOCK_OPEN;
	vsock_deadline(c, 0);
	if (!vs->back->established(vs->back_ctx, c->peer, c->host_port)) {
		vsock_drop_peer(c);
		vsock_owe(c, VSOCK_OWE_RST);
		return;
	}
	vsock_readable(c);
}

static void reset(struct vsock_conn *c)
{
	if (c->state == VSOCK_OPEN && c->buf_len && c->peer) {
		/* The guest has done with it; what it sent is still delivered. */
		vsock_conn_unhash(c);
		vsock_unqueue(c);
		c->state = VSOCK_LINGERING;
		c->owe = 0;
		c->readable = false;
		return;
	}
	vsock_conn_free(c);
}

static void shut(struct vsock_conn *c, uint32_t flags)
{
	uint8_t news = flags & VSOCK_SHUT_BOTH & ~c->guest_shut;

	c->guest_shut |= news;
	if (c->state != VSOCK_OPEN) {
		if (c->state != VSOCK_CLOSING || c->guest_shut == VSOCK_SHUT_BOTH) {
			vsock_drop_peer(c);
			vsock_owe(c, VSOCK_OWE_RST);
		}
		return;
	}
	if ((news & VSOCK_SHUT_RCV) && c->guest_shut != VSOCK_SHUT_BOTH && c->peer)
		c->vs->back->shutdown(c->vs->back_ctx, c->peer, /* rd= */ true, /* wr= */ false);
	vsock_after_flush(c);
}

static void data(struct vsock_conn *c, const struct vring_chain *chain, uint32_t len)
{
	struct iovec iov[VSOCK_IOVS];
	ssize_t sent = 0;
	size_t covered;
	unsigned n;

	if (c->state == VSOCK_CLOSING) {
		c->got += len;
		c->fwd += len;
		return;
	}
	if (c->state != VSOCK_OPEN || (c->guest_shut & VSOCK_SHUT_SEND) ||
		len > VSOCK_BUF - (c->got - c->fwd)) {
		vsock_drop_peer(c);
		vsock_owe(c, VSOCK_OWE_RST);
		return;
	}
	c->got += len;
	if ((c->host_shut & VSOCK_SHUT_RCV) || !c->peer) {
		vsock_consumed(c, len);
		return;
	}
	if (!c->buf_len && len) {
		n = vring_slice(
			vring_rd(chain), chain->n_rd, VSH_SIZE, len, iov, VSOCK_IOVS, &covered);
		sent = c->vs->back->send(c->vs->back_ctx, c->peer, iov, n);
		if (sent == -EAGAIN) {
			sent = 0;
		} else if (sent < 0) {
			vsock_consumed(c, len);
			vsock_host_deaf(c);
			return;
		}
		vsock_consumed(c, (uint32_t)sent);
		/* More pieces than one send takes: the rest goes the buffered way, from where it is sent. */
		if ((size_t)sent == covered && covered < len) {
			if (vsock_buf_put(c, chain, VSH_SIZE + covered, len - (uint32_t)covered) ==
				0) {
				vsock_buf_flush(c);
				return;
			}
			sent = (ssize_t)covered;
		}
	}
	if ((uint32_t)sent < len &&
		vsock_buf_put(c, chain, VSH_SIZE + (size_t)sent, len - (uint32_t)sent) < 0) {
		vsock_drop_peer(c);
		vsock_owe(c, VSOCK_OWE_RST);
	}
}

static void credit(struct vsock_conn *c, const struct packet *p)
{
	c->peer_alloc = p->buf_alloc;
	c->peer_fwd = p->fwd_cnt;
	if (vsock_wants_read(c))
		vsock_queue(c);
}

static void handle(struct vsock *vs, const struct packet *p, const struct vring_chain *chain)
{
	struct vsock_conn *c = NULL;
	bool sane = p->src_cid == vs->cid && p->dst_cid == VSOCK_CID_HOST &&
		    p->type == VSOCK_TYPE_STREAM && p->len <= chain->rd_len - VSH_SIZE;

	if (sane)
		c = vsock_find(vs, p->src_port, p->dst_port);
	if (c && (c->owe & VSOCK_OWE_RST)) {
		/* Already over; the RST is on its way. */
		if (p->op == VSOCK_OP_RST)
			vsock_conn_free(c);
		return;
	}
	if (sane && !c && p->op == VSOCK_OP_REQUEST) {
		request(vs, p);
		return;
	}
	if (!c) {
		if (p->op != VSOCK_OP_RST)
			vsock_owe_rst(vs, p->dst_cid, p->dst_port, p->src_port);
		return;
	}
	switch (p->op) {
	case VSOCK_OP_RESPONSE:
		credit(c, p);
		response(c);
		break;
	case VSOCK_OP_RST: reset(c); break;
	case VSOCK_OP_SHUTDOWN:
		credit(c, p);
		shut(c, p->flags);
		break;
	case VSOCK_OP_RW:
		credit(c, p);
		data(c, chain, p->len);
		break;
	case VSOCK_OP_CREDIT_UPDATE: credit(c, p); break;
	case VSOCK_OP_CREDIT_REQUEST:
		credit(c, p);
		vsock_owe(c, VSOCK_OWE_CREDIT);
		break;
	default: /* a second REQUEST, or nothing we know */
		vsock_drop_peer(c);
		vsock_owe(c, VSOCK_OWE_RST);
	}
}

void vsock_tx(struct vsock *vs)
{
	struct vq *q = &vs->v.q[VSOCK_TXQ];
	struct vring_chain *chain = &vs->tx;
	uint8_t h[VSH_SIZE];
	unsigned left = q->ring.size;

	while (vq_pop(q, chain) > 0) {
		if (vring_read(chain, 0, h, sizeof(h)) == sizeof(h)) {
			struct packet p = {.src_cid = le64_get(h + VSH_SRC_CID),
				.dst_cid = le64_get(h + VSH_DST_CID),
				.src_port = le32_get(h + VSH_SRC_PORT),
				.dst_port = le32_get(h + VSH_DST_PORT),
				.len = le32_get(h + VSH_LEN),
				.type = le16_get(h + VSH_TYPE),
				.op = le16_get(h + VSH_OP),
				.flags = le32_get(h + VSH_FLAGS),
				.buf_alloc = le32_get(h + VSH_BUF_ALLOC),
				.fwd_cnt = le32_get(h + VSH_FWD_CNT)};

			handle(vs, &p, chain);
		}
		vq_push(q, chain, 0);
		if (--left == 0) {
			virtio_again(&vs->v, VSOCK_TXQ); /* other vCPUs may refill it for ever */
			break;
		}
	}
	vq_flush(q);
}
