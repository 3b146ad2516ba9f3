/* SPDX-License-Identifier: MIT */
/* What the files of the vhost-user back end share: the connection and its queues. */
#ifndef WSLX_VHOST_BACKEND_INTERNAL_H
#define WSLX_VHOST_BACKEND_INTERNAL_H

#include <pthread.h>
#include "lib/vhost/backend.h"
#include "lib/vhost/memory.h"
#include "lib/vhost/message.h"

struct vhost_queue {
	struct vring ring;
	struct vhost_backend *b;
	bool have_addr;
	bool wanted;		    /* VU_SET_VRING_ENABLE */
	bool told;		    /* the device was told that it is ready */
	uint64_t desc, avail, used; /* the front end's addresses */
	uint16_t base;
	int kick, call, err; /* -1: none */
	struct loop_src *kick_src;
};

struct vhost_backend {
	struct loop *loop;
	const struct vhost_dev_ops *ops;
	void *ctx;
	int fd, channel; /* channel: to the front end, -1: none; under its lock */
	pthread_mutex_t channel_lock;
	struct loop_src *src;

	uint64_t features, protocol;
	bool have_features;
	int state_error; /* of the last transfer of the device's state */
	struct vhost_memory mem;
	struct vhost_queue q[VHOST_MAX_QUEUES];

	struct vu_in in; /* the message being received */
};

/* --- backend-queue.c --- */

void vhost_queue_init(struct vhost_backend *b, unsigned i);
/* Stops it and forgets all that the front end said about it; told: the device hears of it. */
void vhost_queue_reset(struct vhost_queue *q, bool told);
int vhost_queue_num(struct vhost_queue *q, uint32_t num);
int vhost_queue_addr(struct vhost_queue *q, const struct vu_vring_addr *a);
int vhost_queue_base(struct vhost_queue *q, uint32_t num);
/* fd: taken over; -1: the front end will not kick (it polls). Starts the ring. */
int vhost_queue_kick_fd(struct vhost_queue *q, int fd);
void vhost_queue_call_fd(struct vhost_queue *q, int fd);
void vhost_queue_err_fd(struct vhost_queue *q, int fd);
void vhost_queue_enable(struct vhost_queue *q, bool on);
/* Stops it; the position to go on from. */
uint16_t vhost_queue_stop(struct vhost_queue *q);
/* After a change of the memory: finds the ring again; negative: it is gone, and the queue stopped. */
int vhost_queue_remap(struct vhost_queue *q);

#endif
