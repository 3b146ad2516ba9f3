/* SPDX-License-Identifier: MIT */
/*
 * virtio socket device (virtio 1.2 §5.10), stream sockets: the portable core. It speaks the packet protocol with the
 * guest and keeps the connection table, credit and half-close; a back end connects each stream to something on the host.
 *
 * Bytes move between guest memory and the back end without an intermediate copy; only what the host end would not take
 * yet is buffered (at most VSOCK_BUF a connection, which is the credit the guest has).
 *
 * Everything here, both ways, runs with the device's lock held (virtio_lock()).
 */
#ifndef WSLX_VMM_VIRTIO_VSOCK_H
#define WSLX_VMM_VIRTIO_VSOCK_H

#include "vmm/virtio/dev.h"

struct vsock;
struct vsock_conn;

enum { VSOCK_CID_HOST = 2, VSOCK_CID_GUEST = 3 };
enum { VSOCK_CONNS = 16384, VSOCK_BUF = 256 << 10 };

/*
 * The host end. "peer" is the back end's own name for its end of a stream. recv and send do not block: -EAGAIN, and for
 * send also fewer bytes than asked, means that the back end will call vsock_readable(), vsock_writable() once it is worth
 * trying again. They must not call back into the core; connect may answer by its return value instead.
 */
struct vsock_back_ops {
	/* The guest connects to a port of the host. 1: connected; 0: vsock_connected() or vsock_refused() follows;
	 * negative: refused. */
	int (*connect)(void *ctx, struct vsock_conn *c, uint32_t port, void **ret_peer);
	/* The guest accepted what vsock_open() asked for. False: the host end is gone. */
	bool (*established)(void *ctx, void *peer, uint32_t host_port);
	/* Bytes; 0: end of stream; other negative values: the stream is broken. */
	ssize_t (*recv)(void *ctx, void *peer, const struct iovec *iov, unsigned n);
	ssize_t (*send)(void *ctx, void *peer, const struct iovec *iov, unsigned n);
	/* No more will be received from, sent to the host end; it learns of it. */
	void (*shutdown)(void *ctx, void *peer, bool rd, bool wr);
	/* The last call for this peer. */
	void (*close)(void *ctx, void *peer);
	void (*free)(void *ctx); /* with the device, lock not held; all peers are closed by then */
};

/* name: "vsock0". The loop (may be NULL in tests: no timeouts) is borrowed. */
int vsock_new(
	struct vsock **ret, struct gmem *gm, struct loop *loop, const char *name, uint64_t cid);
struct virtio_dev *vsock_dev(struct vsock *vs);
/* Once, before the VM runs; the device owns the back end from then on. */
void vsock_set_back(struct vsock *vs, const struct vsock_back_ops *ops, void *ctx);

/* --- for the back end --- */

/* A host program wants to talk to a port of the guest. established(), or close() when the guest refuses or does not
 * answer in time. -ENOSPC: too many connections. */
int vsock_open(struct vsock *vs, uint32_t guest_port, void *peer, struct vsock_conn **ret);
void vsock_connected(struct vsock_conn *c);
void vsock_refused(struct vsock_conn *c); /* no close() for its peer follows */
void vsock_readable(struct vsock_conn *c);
void vsock_writable(struct vsock_conn *c);
/* The host end is closed both ways: nothing sent to it arrives; what it sent before may still be received. */
void vsock_hangup(struct vsock_conn *c);
/* Are there bytes that vsock_writable() would send? */
bool vsock_waits_for_host(const struct vsock_conn *c);
/* Sends what the calls above made ready; after one or several of them. */
void vsock_pump(struct vsock *vs);

/* Connections in use, for tests and diagnosis. */
unsigned vsock_count(const struct vsock *vs);
/* Ends connections whose time is up; the device's timer does this. */
void vsock_expire(struct vsock *vs, uint64_t now_ns);

#endif
