/* SPDX-License-Identifier: MIT */
/*
 * One direction of a session's bytes, copied by a thread of its own: descriptors we inherited may
 * block, and must not be made non-blocking, since others share them. A blocked reader at the other
 * end holds up its own stream and no other.
 */
#ifndef WSLX_SESSION_PUMP_H
#define WSLX_SESSION_PUMP_H

#include <pthread.h>
#include <stdbool.h>

struct pump {
	pthread_t thread;
	int from, to;
	bool outward;
	bool running;
	int error; /* of our own descriptor: negative errno; -EPIPE is none */
};

/* outward: from is ours and "to" a stream, whose writing half is shut at the end of input.
 * Otherwise "from" is a stream, which is shut when nobody wants its bytes any more. */
int pump_start(struct pump *p, int from, int to, bool outward);
/* Waits until everything is copied. */
void pump_join(struct pump *p);

#endif
