/* SPDX-License-Identifier: MIT */
/*
 * A virtio network device (virtio 1.2 §5.1) behind vhost-user: one pair of queues, buffers that may be merged, checksums
 * left out in both directions. What the guest sends and how it lays out its buffers is checked here.
 */
#ifndef WSLX_NETD_DEVICE_H
#define WSLX_NETD_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>
#include "lib/base/err.h"
#include "lib/base/loop.h"

struct device;

enum { DEVICE_HEADER = 12 }; /* struct virtio_net_hdr with num_buffers, virtio 1.2 §5.1.6 */

/* What the guest takes from us: checksums that are not done, TCP segments larger than its packets. */
struct device_offloads {
	bool csum, tso4, tso6, ecn;
};

struct device_ops {
	/* A frame from the guest, which may be changed. */
	void (*input)(void *ctx, uint8_t *frame, size_t len);
	/*
	 * Instead: a frame behind its header, as the guest has it, unchecked but for its length, in memory that the guest
	 * can change. Frames for the guest have their header too, then, and segmentation is offered both ways.
	 */
	void (*raw)(void *ctx, const struct iovec *iov, unsigned n);
	/* The driver is there. May be NULL. */
	void (*agreed)(void *ctx, const struct device_offloads *o);
	/* No more of them for now. */
	void (*settled)(void *ctx);
	/* The guest takes no frames, and those that wait for it become many; or there is room again. */
	void (*congested)(void *ctx, bool yes);
	/* The monitor is gone, or broke the protocol: device_free() is all that can be done. */
	void (*closed)(void *ctx, int error);
};

struct device_config {
	uint8_t mac[6];
	uint16_t mtu;
};

struct device_counters {
	uint64_t rx_frames, rx_bytes; /* as the guest sees it */
	uint64_t tx_frames, tx_bytes;
	uint64_t dropped, bad;
};

/* fd: connected to the monitor, taken over, also on failure. */
int device_new(struct device **ret, struct loop *l, int fd, const struct device_config *cfg,
	const struct device_ops *ops, void *ctx, struct err *e);
struct device *device_free(struct device *d);

/* A frame for the guest, which sees it after device_flush(). One that finds no room is dropped, as on any network. */
void device_send(struct device *d, const uint8_t *frame, size_t len);
void device_flush(struct device *d);
/* While held, no frame is taken from the guest, but for the one that this is called in. */
void device_hold(struct device *d, bool yes);
const struct device_counters *device_counters(const struct device *d);

#endif
