/* SPDX-License-Identifier: MIT */
/*
 * A vhost-user front end and the guest behind it, for tests of servers: it hands over memory of its own, sets up queues, adds
 * requests as a driver does and waits for them. The server runs in another thread or process; every wait has a limit, after
 * which the test program aborts.
 */
#ifndef WSLX_VHOST_FAKE_FRONT_H
#define WSLX_VHOST_FAKE_FRONT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "lib/vhost/message.h"

enum {
	FRONT_QUEUES = 4,
	FRONT_SIZE = 64, /* descriptors in a ring */
	FRONT_MEM = 8 << 20,
};
/* Where the memory is in the guest, and in the front end's own idea of itself: neither is where it is mapped. */
#define FRONT_GPA  0x40000000ull
#define FRONT_USER 0x7000000000ull

struct front_queue {
	int kick, call;
	uint16_t avail, used; /* ours */
	uint16_t next;	      /* descriptor to use next; the ring is never full */
	uint64_t gpa;	      /* of the ring: descriptors, +0x1000 available, +0x2000 used */
};

struct front {
	int fd; /* ours */
	int memfd;
	uint8_t *mem;
	uint64_t heap; /* next free guest address */
	uint64_t features, protocol;
	struct front_queue q[FRONT_QUEUES];
};

struct front_buf {
	uint64_t gpa;
	uint32_t len;
	bool write;
};

/* *ret_server: the other end, for the server. */
void front_init(struct front *f, int *ret_server);
void front_done(struct front *f);

/* Features (all that the server offers, and these), memory; then queues 0..n-1 from position base on. */
void front_negotiate(struct front *f, uint64_t features);
void front_memory(struct front *f);
void front_queue(struct front *f, unsigned q, uint16_t base);
void front_start(struct front *f, unsigned n);
/* Stops the queue and returns where it was. */
uint16_t front_stop(struct front *f, unsigned q);

uint64_t front_alloc(struct front *f, size_t len);
void *front_ptr(struct front *f, uint64_t gpa);
/* Adds a request and returns its head; front_kick() tells the server. */
uint16_t front_add(struct front *f, unsigned q, const struct front_buf *b, unsigned n);
void front_kick(struct front *f, unsigned q);
/* Waits for the next finished request; how much was written is in *written. Returns its head. */
uint16_t front_wait(struct front *f, unsigned q, uint32_t *written);

/* --- messages by hand --- */

void front_send(struct front *f, uint32_t request, uint32_t flags, const void *payload,
	uint32_t len, const int *fds, unsigned nfds);
void front_state(struct front *f, uint32_t request, unsigned q, uint32_t num);
void front_queue_fd(struct front *f, uint32_t request, unsigned q, int fd);
/* The next answer; false: the server closed the connection. */
bool front_answer(struct front *f, struct vu_msg *ret);
uint64_t front_ask(struct front *f, uint32_t request);

#endif
