/* SPDX-License-Identifier: MIT */
/* The guest's side of a vsock device in a test: packets in and out over the fake driver. */
#ifndef WSLX_VMM_VIRTIO_FAKE_VSOCK_H
#define WSLX_VMM_VIRTIO_FAKE_VSOCK_H

#include "vmm/virtio/fake-driver.h"
#include "vmm/virtio/vsock.h"

enum {
	FV_REQUEST = 1,
	FV_RESPONSE,
	FV_RST,
	FV_SHUTDOWN,
	FV_RW,
	FV_CREDIT_UPDATE,
	FV_CREDIT_REQUEST
};
enum { FV_SHUT_RCV = 1, FV_SHUT_SEND = 2, FV_SHUT_BOTH = 3 };
enum { FV_RX_BUFS = 64, FV_TX_BUFS = 16, FV_MAX_PKT = 64 << 10, FV_HDR = 44 };

struct fv_pkt {
	uint64_t src_cid, dst_cid;
	uint32_t src_port, dst_port, len;
	uint16_t type, op;
	uint32_t flags, buf_alloc, fwd_cnt;
	uint8_t *data; /* of a received one: valid until the next fv_recv() */
};

struct fake_vsock {
	struct fake f;
	struct vsock *vs;
	unsigned rx_len; /* bytes of each receive buffer */
	gpa_t rx[256];	 /* buffer by head */
	gpa_t tx[FV_TX_BUFS];
	unsigned tx_next;
	uint8_t data[FV_MAX_PKT];
};

/* rx_bufs buffers of rx_len bytes (header included); 0: none yet. */
void fv_init(struct fake_vsock *g, struct loop *loop, unsigned rx_bufs, unsigned rx_len);
void fv_start(struct fake_vsock *g, unsigned rx_bufs); /* (again) from reset */
void fv_done(struct fake_vsock *g);
void fv_add_rx(struct fake_vsock *g);

/* Sends; p->len bytes of payload from data. False: the device did not give the buffer back. */
bool fv_send(struct fake_vsock *g, const struct fv_pkt *p, const void *data);
/* The same with the usual fields: guest to host, 256 KiB of credit. */
bool fv_op(struct fake_vsock *g, uint16_t op, uint32_t guest_port, uint32_t host_port,
	uint32_t flags, const void *data, uint32_t len, uint32_t fwd_cnt);
/* Takes one packet and gives its buffer back to the device. False: there is none. */
bool fv_recv(struct fake_vsock *g, struct fv_pkt *p);

#endif
