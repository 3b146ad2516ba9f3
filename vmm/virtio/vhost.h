/* SPDX-License-Identifier: MIT */
/*
 * A virtio device whose queues another process serves: a file server (virtio-fs, virtio 1.2 §5.11, or virtio-9p) or a network
 * (virtio-net, §5.1). The monitor keeps what the guest's driver sees of it: features, configuration, reset. The server is reached through
 * a link (vmm/host/vhost-user.h), which may be missing, break, and come back; the device stays.
 *
 * Each queue has a shadow (shadow.h) that the server works on; or, where guests' notifications can go past the monitor, and for
 * devices that can do without the monitor knowing their requests, it works on the guest's own ring. While there is no server a file system answers each request
 * with ENOTCONN, as a FUSE mount does whose server died, and a network drops what is sent; its link is down.
 */
#ifndef WSLX_VMM_VIRTIO_VHOST_H
#define WSLX_VMM_VIRTIO_VHOST_H

#include "lib/base/err.h"
#include "vmm/virtio/dev.h"

struct os_memobj;
struct os_notifier;
struct os_window;
struct vhost;
struct vhost_link;

enum vhost_kind { VHOST_FS, VHOST_NET, VHOST_9P };
enum { VHOST_TAG_MAX = 36, VHOST_DEV_QUEUES = 8 };

struct vhost_config {
	enum vhost_kind kind;
	const char *name;  /* of the device: "fs0"; copied */
	const char *tag;   /* fs, 9p: what the guest mounts; copied */
	unsigned requests; /* fs: request queues, besides the one of high priority */
	uint8_t mac[6];	   /* net */
	uint16_t mtu;	   /* net; 0: the guest's choice */
	uint64_t
		window; /* fs: bytes of guest addresses where the server can map files (§5.11.5), a power of two; 0: none */
	bool direct; /* nothing needs to know what the server writes: the guest's own rings, if the kind allows that */
};

int vhost_new(struct vhost **ret, struct gmem *gm, struct loop *loop, const struct vhost_config *c);
struct virtio_dev *vhost_dev(struct vhost *vh);
const char *vhost_name(const struct vhost *vh);
bool vhost_connected(struct vhost *vh);
/* Can the device be saved as it is? -EBUSY with the reason: the server keeps state that would be lost. */
int vhost_can_save(struct vhost *vh, struct err *e);

/*
 * Files in the guest's addresses. NULL: the device has no window. Mappings stay when the server
 * goes, since the guest goes on to use them: zeroes there would be data that nobody wrote, and what it writes would be lost. They go with a
 * reset of the device. gpa: the address it got; before the VM runs.
 */
struct os_window *vhost_window(struct vhost *vh);
int vhost_place_window(struct vhost *vh, uint64_t gpa);
/*
 * What the server asks for; the link says it. Any thread, whatever lock is held. fd is borrowed. As os_window_map().
 */
int vhost_map(struct vhost *vh, uint64_t off, uint64_t len, int fd, uint64_t at, bool writable);
int vhost_unmap(struct vhost *vh, uint64_t off, uint64_t len);

/* --- the link --- */

/* One queue as the server is to work on it. */
struct vhost_ring {
	uint16_t size; /* 0: the driver does not use this queue */
	uint16_t base; /* the available index to begin at */
	const void *desc, *avail;
	void *used;
	struct os_notifier *kick, *call;
};

/* All with the device's lock held. A failure is reported by vhost_link_down(), later, on the loop's thread. */
struct vhost_link_ops {
	/* The server begins to serve the rings. Must not block. */
	void (*start)(struct vhost_link *l, uint64_t features, const struct vhost_ring *rings,
		unsigned n);
	/* Asks the server to stop; vhost_link_stopped() follows, or vhost_link_down(). Must not block. */
	void (*stop)(struct vhost_link *l);
	/* Asks, unless stop() has, and waits, for a limited time; neither of the two follows. Loop's thread. */
	int (*stop_now)(struct vhost_link *l);
	void (*free)(struct vhost_link *l); /* closes the connection; loop's thread */
};

struct vhost_link {
	const struct vhost_link_ops *ops;
	struct vhost *vh;		 /* set when attached */
	uint64_t features;		 /* what the server can do */
	unsigned queues;		 /* how many it serves */
	uint16_t base[VHOST_DEV_QUEUES]; /* where it stopped */
};

/*
 * The memory that a link gives to the server beside the guest's: the shadows. Where it is mapped here, and where the server
 * finds it among the guest's addresses.
 */
struct vhost_shared {
	struct os_memobj *obj;
	void *map;
	uint64_t gpa;
	size_t len;
};
const struct vhost_shared *vhost_shared(const struct vhost *vh);

/*
 * Connects the device, which has its transport, to a server; one that it had before is left. Takes l over, also on failure:
 * -ENOTSUP: the server lacks what the device needs, or what the running driver was promised. Loop's thread.
 */
int vhost_attach(struct vhost *vh, struct vhost_link *l, struct err *e);

/* From the link, on the loop's thread, lock held. */
void vhost_link_stopped(struct vhost *vh);
void vhost_link_down(struct vhost *vh, const char *why); /* the link is freed in it */

#endif
