/* SPDX-License-Identifier: MIT */
/*
 * A shadow of a virtqueue: a ring of our own, in memory that is shared with the process that serves the queue. Requests that
 * were popped from the guest's ring are posted here with the guest's own addresses, and come back here when they are done.
 *
 * So the monitor sees each request before and after it is served. It can tell translated code and dirty tracking what was
 * written before the guest learns of it, it knows what is in flight when the server dies, and the server cannot put anything
 * into the guest's ring that was not in it.
 *
 * The server may write anything into the shared memory: what is read back is checked, and the descriptors are only written.
 */
#ifndef WSLX_VMM_VIRTIO_SHADOW_H
#define WSLX_VMM_VIRTIO_SHADOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "lib/vring/vring.h"

struct shadow;

/* How much shared memory a ring of so many entries takes: whole pages. */
size_t shadow_len(unsigned size);

/* mem: that much, borrowed, which the server sees at address gpa. size: a power of two. */
int shadow_new(struct shadow **ret, void *mem, uint64_t gpa, unsigned size);
void shadow_free(struct shadow *s);

/* Empties the ring for a server that begins. What is in flight stays so, and is not in the ring. */
void shadow_restart(struct shadow *s);

/* The ring's parts, for who tells the server. */
struct shadow_parts {
	void *desc, *avail, *used;
};
struct shadow_parts shadow_parts(const struct shadow *s);

/* A free request to pop into, or NULL: as many are in flight as the ring has entries. It is taken by shadow_post(). */
struct vring_chain *shadow_slot(struct shadow *s);
/* Hands the request to the server, from shadow_slot() or, after shadow_restart(), from shadow_in_flight(). */
void shadow_post(struct shadow *s, const struct vring_chain *c);
/* Does the server want to be told of what was posted? After a batch. */
bool shadow_wants_kick(const struct shadow *s);

/*
 * The next request that the server finished: 1, and *c is free again when the next one is popped; 0: none; -EPROTO: the
 * server says what cannot be.
 */
int shadow_take(struct shadow *s, struct vring_chain **ret, uint32_t *written) MUST_CHECK;

/* Walks what is in flight: *i from 0 on; NULL at the end. Not in any order. */
struct vring_chain *shadow_in_flight(struct shadow *s, unsigned *i);
/* Ends a request without the server; it must not be in the ring any more (shadow_restart()). */
void shadow_drop(struct shadow *s, const struct vring_chain *c);
unsigned shadow_count(const struct shadow *s);

#endif
