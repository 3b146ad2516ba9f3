/* SPDX-License-Identifier: MIT */
/* The guest's side of a vsock device in a test; see fake-vsock.h. */
#include "vmm/virtio/fake-vsock.h"

#include <stdlib.h>
#include <string.h>
#include "lib/base/le.h"

enum { RXQ, TXQ, EVENTQ };

static void add_rx_at(struct fake_vsock *g, gpa_t gpa)
{
	uint16_t head = fake_add(&g->f, RXQ,
		(struct fake_buf[]){{gpa, FV_HDR, true}, {gpa + FV_HDR, g->rx_len - FV_HDR, true}},
		2, false);

	g->rx[head] = gpa;
}

void fv_add_rx(struct fake_vsock *g)
{
	add_rx_at(g, fake_alloc(&g->f, g->rx_len));
	fake_kick(&g->f, RXQ);
}

void fv_start(struct fake_vsock *g, unsigned rx_bufs)
{
	if (!g->tx[0])
		for (unsigned i = 0; i < FV_TX_BUFS; i++)
			g->tx[i] = fake_alloc(&g->f, FV_HDR + FV_MAX_PKT);
	g->f.heap = ALIGN_UP(g->tx[FV_TX_BUFS - 1] + FV_HDR + FV_MAX_PKT, 16);
	if (!fake_start(&g->f, FAKE_ALL))
		abort();
	for (unsigned i = 0; i < rx_bufs; i++)
		fv_add_rx(g);
}

void fv_init(struct fake_vsock *g, struct loop *loop, unsigned rx_bufs, unsigned rx_len)
{
	memset(g, 0, sizeof(*g));
	fake_init(&g->f);
	g->rx_len = rx_len;
	if (vsock_new(&g->vs, g->f.gm, loop, "vsock0", VSOCK_CID_GUEST) < 0)
		abort();
	fake_attach(&g->f, vsock_dev(g->vs), loop);
	fv_start(g, rx_bufs);
}

void fv_done(struct fake_vsock *g)
{
	fake_done(&g->f);
}

bool fv_send(struct fake_vsock *g, const struct fv_pkt *p, const void *data)
{
	gpa_t gpa = g->tx[g->tx_next++ % FV_TX_BUFS];
	uint8_t *h = fake_ptr(&g->f, gpa, FV_HDR + FV_MAX_PKT);
	struct fake_buf b[2] = {{gpa, FV_HDR, false}, {gpa + FV_HDR, p->len, false}};

	le64_put(h, p->src_cid);
	le64_put(h + 8, p->dst_cid);
	le32_put(h + 16, p->src_port);
	le32_put(h + 20, p->dst_port);
	le32_put(h + 24, p->len);
	le16_put(h + 28, p->type);
	le16_put(h + 30, p->op);
	le32_put(h + 32, p->flags);
	le32_put(h + 36, p->buf_alloc);
	le32_put(h + 40, p->fwd_cnt);
	if (data)
		memcpy(h + FV_HDR, data, p->len);
	fake_add(&g->f, TXQ, b, p->len && data ? 2 : 1, false);
	fake_kick(&g->f, TXQ);
	return fake_used(&g->f, TXQ, NULL, NULL);
}

bool fv_op(struct fake_vsock *g, uint16_t op, uint32_t guest_port, uint32_t host_port,
	uint32_t flags, const void *data, uint32_t len, uint32_t fwd_cnt)
{
	struct fv_pkt p = {.src_cid = VSOCK_CID_GUEST,
		.dst_cid = VSOCK_CID_HOST,
		.src_port = guest_port,
		.dst_port = host_port,
		.len = len,
		.type = 1,
		.op = op,
		.flags = flags,
		.buf_alloc = 256 << 10,
		.fwd_cnt = fwd_cnt};

	return fv_send(g, &p, data);
}

bool fv_recv(struct fake_vsock *g, struct fv_pkt *p)
{
	uint32_t head, len;
	const uint8_t *h;
	gpa_t gpa;

	if (!fake_used(&g->f, RXQ, &head, &len))
		return false;
	gpa = g->rx[head];
	h = fake_ptr(&g->f, gpa, g->rx_len);
	*p = (struct fv_pkt){.src_cid = le64_get(h),
		.dst_cid = le64_get(h + 8),
		.src_port = le32_get(h + 16),
		.dst_port = le32_get(h + 20),
		.len = le32_get(h + 24),
		.type = le16_get(h + 28),
		.op = le16_get(h + 30),
		.flags = le32_get(h + 32),
		.buf_alloc = le32_get(h + 36),
		.fwd_cnt = le32_get(h + 40),
		.data = g->data};
	if (len != FV_HDR + p->len || p->len > g->rx_len - FV_HDR)
		abort();
	memcpy(g->data, h + FV_HDR, p->len);
	add_rx_at(g, gpa);
	fake_kick(&g->f, RXQ);
	return true;
}
