/* SPDX-License-Identifier: MIT */
/* What the parts of the vsock device share: vsock.c (device, queues), vsock-conn.c (table, buffers), vsock-rx.c (towards
 * the guest), vsock-tx.c (from the guest). */
#ifndef WSLX_VMM_VIRTIO_VSOCK_INTERNAL_H
#define WSLX_VMM_VIRTIO_VSOCK_INTERNAL_H

#include "vmm/virtio/vsock.h"

enum { VSOCK_RXQ, VSOCK_TXQ, VSOCK_EVENTQ, VSOCK_QUEUES };

/* struct virtio_vsock_hdr, §5.10.6 */
enum {
	VSH_SRC_CID = 0,
	VSH_DST_CID = 8,
	VSH_SRC_PORT = 16,
	VSH_DST_PORT = 20,
	VSH_LEN = 24,
	VSH_TYPE = 28,
	VSH_OP = 30,
	VSH_FLAGS = 32,
	VSH_BUF_ALLOC = 36,
	VSH_FWD_CNT = 40,
	VSH_SIZE = 44,
};
enum { VSOCK_TYPE_STREAM = 1 };
enum vsock_op {
	VSOCK_OP_REQUEST = 1,
	VSOCK_OP_RESPONSE = 2,
	VSOCK_OP_RST = 3,
	VSOCK_OP_SHUTDOWN = 4,
	VSOCK_OP_RW = 5,
	VSOCK_OP_CREDIT_UPDATE = 6,
	VSOCK_OP_CREDIT_REQUEST = 7,
};
/* SHUTDOWN flags: the sender will receive, send no more. */
enum { VSOCK_SHUT_RCV = 1, VSOCK_SHUT_SEND = 2, VSOCK_SHUT_BOTH = 3 };

enum {
	VSOCK_RX_BATCH = 32, /* receive buffers filled by one recv() */
	VSOCK_IOVS = 128,    /* pieces of one recv() or send() */
	VSOCK_MAX_PKT = 64 << 10,
	VSOCK_BUCKET_BITS = 12,
	VSOCK_RSTS = 64, /* resets owed to strangers; beyond that they are dropped */
	VSOCK_BUCKETS = 1 << VSOCK_BUCKET_BITS,
};

/*
 *	           guest REQUEST                 back end connected
 *	FREE ---------------------> DIALING ----------------------> OPEN --- SHUTDOWN(both) sent ---> CLOSING
 *	FREE -- vsock_open() -----> ASKING --- guest RESPONSE ----> OPEN --- RST, bytes left ---> LINGERING
 *
 * Each goes back to FREE by RST from or to the guest. CLOSING has no host end any more and waits for the guest's RST;
 * LINGERING has no guest end any more and delivers the last bytes to the host.
 */
enum vsock_state {
	VSOCK_FREE,
	VSOCK_DIALING,
	VSOCK_ASKING,
	VSOCK_OPEN,
	VSOCK_CLOSING,
	VSOCK_LINGERING,
};

/* Packets owed to the guest. */
enum {
	VSOCK_OWE_REQUEST = 1,
	VSOCK_OWE_RESPONSE = 2,
	VSOCK_OWE_CREDIT = 4,
	VSOCK_OWE_SHUTDOWN = 8,
	VSOCK_OWE_RST = 16,
};

struct vsock_conn {
	struct vsock *vs;
	enum vsock_state state;
	uint32_t guest_port, host_port;
	void *peer; /* the back end's end; NULL when it is closed */
	uint8_t owe;
	uint8_t guest_shut; /* what the guest said it does no more */
	uint8_t host_shut;  /* what the host end does no more, said or owed to the guest */
	bool readable;	    /* recv() is worth trying */
	bool wr_done;	    /* the host end was told that no more comes */

	/* Credit, as free-running byte counts. */
	uint32_t sent, peer_fwd, peer_alloc; /* towards the guest */
	uint32_t got, fwd, fwd_told; /* from the guest; told: the guest's last news of fwd */

	/* Bytes from the guest that the host end would not take yet. */
	uint8_t *buf; /* owned, VSOCK_BUF bytes, allocated when first needed */
	uint32_t buf_at, buf_len;

	unsigned batch;	   /* receive buffers to offer to the next recv() */
	uint64_t deadline; /* 0: none */
	struct vsock_conn *hash_next;
	struct vsock_conn *ready_prev, *ready_next; /* in vs->ready when queued */
	bool queued;
};

struct vsock_rst {
	uint64_t src_cid;
	uint32_t src_port, dst_port;
};

struct vsock {
	struct virtio_dev v;
	uint64_t cid;
	const struct vsock_back_ops *back;
	void *back_ctx;
	struct loop *loop;
	struct loop_src *timer;
	uint64_t timer_at; /* what the timer is armed for; 0: nothing */

	struct vsock_conn conn[VSOCK_CONNS];
	struct vsock_conn *bucket[VSOCK_BUCKETS];
	struct vsock_conn *free; /* through hash_next */
	unsigned
		touched; /* the first so many of conn have been in use: memory behind them is not touched */
	unsigned count;
	struct vsock_conn *ready, *ready_last; /* connections with something for the guest */
	uint32_t next_port;

	struct vsock_rst rst[VSOCK_RSTS];
	unsigned n_rst;
	/* TRANSPORT_RESET after a load. The guest ends all its connections when it gets to it, those too that were made
	 * meanwhile: until it gives the event's buffer back it gets no packet. */
	enum { VSOCK_EVENT_NONE, VSOCK_EVENT_OWED, VSOCK_EVENT_SENT } event;

	struct vring_chain tx;
	struct vring_chain rx[VSOCK_RX_BATCH];
};

/* vsock-conn.c */
struct vsock_conn *vsock_find(struct vsock *vs, uint32_t guest_port, uint32_t host_port);
struct vsock_conn *vsock_conn_new(struct vsock *vs, uint32_t guest_port, uint32_t host_port);
void vsock_conn_unhash(struct vsock_conn *c); /* the guest may use the ports again */
void vsock_conn_free(struct vsock_conn *c);   /* closes the host end */
void vsock_drop_peer(struct vsock_conn *c);
void vsock_queue(struct vsock_conn *c); /* has something for the guest */
void vsock_unqueue(struct vsock_conn *c);
void vsock_owe(struct vsock_conn *c, uint8_t what);
void vsock_deadline(struct vsock_conn *c, uint64_t ns_from_now);
void vsock_free_all(struct vsock *vs);
int vsock_buf_put(struct vsock_conn *c, const struct vring_chain *chain, size_t off, uint32_t len);
void vsock_buf_flush(struct vsock_conn *c);
void vsock_consumed(struct vsock_conn *c, uint32_t bytes);
void vsock_host_deaf(struct vsock_conn *c); /* the host end reads no more */
void vsock_after_flush(struct vsock_conn *c);

/* vsock-rx.c, vsock-tx.c */
bool vsock_wants_read(const struct vsock_conn *c);
void vsock_owe_rst(struct vsock *vs, uint64_t src_cid, uint32_t src_port, uint32_t dst_port);
void vsock_tx(struct vsock *vs);

#endif
