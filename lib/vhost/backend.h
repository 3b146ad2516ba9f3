/* SPDX-License-Identifier: MIT */
/*
 * The back end's half of vhost-user: a server process that serves the virtqueues of one device of a virtual machine, over
 * a unix socket (lib/vhost/proto.h). The library speaks the protocol, maps the guest's memory and runs the rings; the
 * server says what the requests mean.
 *
 * Everything happens on the loop's thread, callbacks included, and all functions are for that thread, unless they say so. Nothing is allocated
 * per request. The guest owns the rings and the memory behind them, and may change both at any time: copy, check, use.
 *
 * A chain that was popped points into the guest's memory until vhost_push(), until the end of queue_ready(q, false), or
 * until vhost_backend_free(), whichever is first: then the memory may be gone. A request overtaken by one of these must not
 * touch its pieces any more; pushing it is harmless and does nothing.
 *
 * The front end is trusted with one thing, because nothing can be done about it: that the memory it hands over does not
 * shrink.
 */
#ifndef WSLX_VHOST_BACKEND_H
#define WSLX_VHOST_BACKEND_H

#include <stdbool.h>
#include <stdint.h>
#include "lib/base/err.h"
#include "lib/base/loop.h"
#include "lib/vring/vring.h"

struct vhost_backend;

enum { VHOST_MAX_QUEUES = 64 };

struct vhost_dev_ops {
	uint64_t features; /* device feature bits beyond the ring's own */
	unsigned n_queues; /* how many there are at most */

	/* Bytes [off, off + len) of the device's configuration space; what lies beyond it reads as zero. Optional: the front
	 * end has it. */
	void (*get_config)(void *ctx, uint32_t off, void *buf, uint32_t len);
	/* These features were agreed. May be called again. Optional. */
	void (*ready)(void *ctx, uint64_t features);
	/* Queue q may be used from now on, or no longer: what was popped is to be pushed or put back in this call, it is the
	 * last chance. Optional. */
	void (*queue_ready)(void *ctx, unsigned q, bool enabled);
	bool maps_files; /* it uses vhost_map_file() */
	bool skips; /* what is not in the memory that the front end gave is not done, and no error */

	/*
	 * Queue q may have requests: pop until 0, push, flush. May be spurious. Called by the loop itself, so that a device whose requests
	 * can take long may let another thread go on with it meanwhile: see loop_leave().
	 */
	void (*kick)(void *ctx, unsigned q);

	/*
	 * The device's own state, for a machine that is saved or restored: all of it is written to, or read from the
	 * (blocking) descriptor up to its end, while no queue is in use. Negative errno: it failed. Both or none; none: a
	 * machine with this device cannot be saved if the front end insists on its state.
	 */
	int (*save)(void *ctx, int fd);
	int (*load)(void *ctx, int fd);

	/*
	 * The front end is gone (error 0), or sent what makes no sense, or the connection failed (negative errno). All queues
	 * have ended, without queue_ready(). The only thing left is vhost_backend_free(), also from here.
	 */
	void (*closed)(void *ctx, int error);
};

/* Serves the front end at the other end of fd, which is taken over, also on failure. ops, ctx: borrowed. */
int vhost_backend_new(struct vhost_backend **ret, struct loop *l, int fd,
	const struct vhost_dev_ops *ops, void *ctx, struct err *e);
void vhost_backend_free(struct vhost_backend *b);
DEFINE_CLEANUP(struct vhost_backend, vhost_backend_free)

/* As vring_pop(), vring_unpop(), vring_push(), vring_flush(), vring_has_work() in lib/vring/vring.h. */
int vhost_pop(struct vhost_backend *b, unsigned q, struct vring_chain *c) MUST_CHECK;
void vhost_unpop(struct vhost_backend *b, unsigned q, const struct vring_chain *c);
void vhost_push(struct vhost_backend *b, unsigned q, const struct vring_chain *c, uint32_t written);
void vhost_flush(struct vhost_backend *b, unsigned q);
bool vhost_has_work(const struct vhost_backend *b, unsigned q);

/* May the queue be used now? */
bool vhost_queue_is_ready(const struct vhost_backend *b, unsigned q);
/* What the front end agreed to; 0 before. */
uint64_t vhost_features(const struct vhost_backend *b);

/*
 * Has the front end put [at, at + len) of a file (fd: borrowed) to offset off of the device's shared memory region 0, and take out what is
 * there; waits for its answer. What may be asked is the front end's to say. -ENOTSUP: it cannot do that. Any thread.
 */
int vhost_map_file(
	struct vhost_backend *b, uint64_t off, uint64_t len, int fd, uint64_t at, bool writable);
int vhost_unmap_file(struct vhost_backend *b, uint64_t off, uint64_t len);
/* Did the front end say that it can? */
bool vhost_maps_files(const struct vhost_backend *b);

/* Tells the front end that the device's configuration changed, if it wants to know. */
void vhost_config_changed(struct vhost_backend *b);

#endif
