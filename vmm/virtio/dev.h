/* SPDX-License-Identifier: MIT */
/*
 * A virtio device (virtio 1.2 §2): what every device implements, and what it may call. The
 * transport (vmm/virtio/pci.h, or the fake driver of the tests) owns the status, feature and queue
 * registers and drives these operations.
 *
 * Threads: every operation runs with the device's lock held (virtio_lock()), on a vCPU's thread or,
 * where the back end has ioevents, on the loop's. notify() is to do the work right there when that
 * is quick. A back end that completes later takes the lock, pushes, flushes. Lock order: the
 * device's lock, then the back end's own.
 */
#ifndef WSLX_VMM_VIRTIO_DEV_H
#define WSLX_VMM_VIRTIO_DEV_H

#include <stdbool.h>
#include <stdint.h>
#include "lib/os/thread.h"
#include "vmm/core/gmem.h"
#include "vmm/virtio/queue.h"

struct loop;
struct loop_src;
struct os_notifier;
struct state_w;
struct state_r;
struct virtio_dev;

/* Device ids, virtio 1.2 §5. */
enum {
	VIRTIO_ID_NET = 1,
	VIRTIO_ID_BLOCK = 2,
	VIRTIO_ID_CONSOLE = 3,
	VIRTIO_ID_RNG = 4,
	VIRTIO_ID_BALLOON = 5,
	VIRTIO_ID_SCSI = 8,
	VIRTIO_ID_9P = 9,
	VIRTIO_ID_VSOCK = 19,
	VIRTIO_ID_FS = 26,
};

/* Device status bits, §2.1. */
enum {
	VIRTIO_ST_ACKNOWLEDGE = 1,
	VIRTIO_ST_DRIVER = 2,
	VIRTIO_ST_DRIVER_OK = 4,
	VIRTIO_ST_FEATURES_OK = 8,
	VIRTIO_ST_NEEDS_RESET = 64,
	VIRTIO_ST_FAILED = 128,
};

enum { VIRTIO_MAX_QUEUES = 64, VIRTIO_NAME_MAX = 24 };

struct virtio_dev_ops {
	const char *name;  /* "virtio-console" */
	uint16_t id;	   /* VIRTIO_ID_* */
	bool on_vcpu;	   /* notify() does the work itself, and may block: it wants the vCPU's
			      thread, never an ioevent and so the loop's */
	uint64_t features; /* device-specific bits that are always offered; see also
			      virtio_dev.offered */

	/* Device configuration space; off + len may lie beyond it: absent bytes read as zero.
	 * Optional. */
	void (*config_read)(struct virtio_dev *v, uint32_t off, void *buf, uint32_t len);
	void (*config_write)(struct virtio_dev *v, uint32_t off, const void *buf, uint32_t len);

	/* The driver set DRIVER_OK: v->features holds what was agreed, enabled queues may be used.
	 * Optional. */
	void (*ready)(struct virtio_dev *v);
	/* The driver enabled queue q; the device is not live (and q not usable) before ready().
	 * Optional. */
	void (*queue_ready)(struct virtio_dev *v, unsigned q);
	/* The driver says that queue q has requests. Called only between ready() and reset(); may
	 * be spurious. */
	void (*notify)(struct virtio_dev *v, unsigned q);

	/* What the queue's ioevent is to signal instead of calling notify(), where there are ioevents; borrowed. Optional,
	 * NULL: nothing. */
	struct os_notifier *(*kick_notifier)(struct virtio_dev *v, unsigned q);

	/*
	 * Forget all requests and return to the power-on state; the queues are reset afterwards.
	 * True: done, nothing of ours touches guest memory any more. False: requests are still in
	 * flight; the device completes them without result and then calls virtio_reset_done();
	 * until then the driver sees the reset pending. Optional.
	 */
	bool (*reset)(struct virtio_dev *v);

	/* Waits until no request is in flight: before save(), vCPUs stopped, lock NOT held.
	 * Optional. */
	void (*drain)(struct virtio_dev *v);
	/* The device's own state; transport and queues are saved by others. load() runs before
	 * ready(), which is called after it if the saved device was live. Optional. */
	void (*save)(struct virtio_dev *v, struct state_w *w);
	int (*load)(struct virtio_dev *v, struct state_r *r);

	void (*free)(struct virtio_dev *v); /* lock not held; must call virtio_dev_done() */
};

/* What the transport does for the device. */
struct virtio_transport_ops {
	void (*queue_irq)(struct virtio_dev *v, unsigned q);
	void (*config_irq)(struct virtio_dev *v);
};

/* Embedded first in each device. */
struct virtio_dev {
	const struct virtio_dev_ops *ops;
	char name[VIRTIO_NAME_MAX]; /* for messages and the saved section: "virtio-scsi0" */
	struct gmem *gm;	    /* borrowed */
	struct vq *q;		    /* owned */
	unsigned n_queues;
	uint64_t offered;  /* what the driver may choose from; a device may add bits before it is
			      attached */
	uint64_t features; /* what it chose; final from ready() on */
	uint64_t
		shm_len; /* of shared memory region 0 (§2.10), a power of two; 0: there is none. Before it is attached */

	/* Transport side. */
	const struct virtio_transport_ops *transport;
	void *transport_ctx;
	struct os_mutex *lock; /* the transport's; set when attached */
	struct loop *loop;     /* borrowed; NULL in tests */
	struct loop_src *again_timer;
	uint64_t again; /* queues to be notified again, one bit each */
	uint8_t status;
	uint8_t config_generation;
	bool resetting;
};

/* n_queues queues of at most queue_size (a power of two <= VQ_MAX_SIZE) entries. name: copied. */
int virtio_dev_init(struct virtio_dev *v, const struct virtio_dev_ops *ops, const char *name,
	struct gmem *gm, unsigned n_queues, uint16_t queue_size);
void virtio_dev_done(struct virtio_dev *v);

static inline void virtio_lock(struct virtio_dev *v)
{
	os_mutex_lock(v->lock);
}

static inline void virtio_unlock(struct virtio_dev *v)
{
	os_mutex_unlock(v->lock);
}

/* Holds the device's lock to the end of the scope; for back ends' callbacks. */
#define VIRTIO_GUARD(v) OS_GUARD((v)->lock)

/* --- for devices, lock held --- */

static inline bool virtio_has(const struct virtio_dev *v, uint64_t feature)
{
	return v->features & feature;
}

/* DRIVER_OK, not broken, not being reset: queues may be used. */
bool virtio_live(const struct virtio_dev *v);

/* The driver broke the protocol: DEVICE_NEEDS_RESET, one rate-limited line in the log, nothing more
 * until reset. */
void virtio_broken(struct virtio_dev *v, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* The configuration space changed: new generation, configuration interrupt. */
void virtio_config_changed(struct virtio_dev *v);

/* Calls notify(q) again soon from the loop's thread: for work beyond what one notify() should do.
 */
void virtio_again(struct virtio_dev *v, unsigned q);

/* The end of a reset whose reset() returned false. */
void virtio_reset_done(struct virtio_dev *v);

/* --- for transports, lock held --- */

/* Binds the device to its transport, before anything runs: the lock is the transport's, the loop
 * serves virtio_again() (NULL: the caller looks at v->again itself). */
int virtio_attach(struct virtio_dev *v, const struct virtio_transport_ops *t, void *ctx,
	struct os_mutex *lock, struct loop *loop);

/* The driver writes the status register: negotiation, DRIVER_OK, reset (0). */
void virtio_set_status(struct virtio_dev *v, uint8_t status);
void virtio_set_features(struct virtio_dev *v, uint64_t features);
void virtio_queue_enable(struct virtio_dev *v, unsigned q);
void virtio_notify(struct virtio_dev *v, unsigned q);
void virtio_reset(struct virtio_dev *v);

/* All of the device: status, features, queues, then the device's own section. Lock not held, vCPUs
 * stopped. */
void virtio_save(struct virtio_dev *v, struct state_w *w);
int virtio_load(struct virtio_dev *v, struct state_r *r);

#endif
