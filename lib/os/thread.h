/* SPDX-License-Identifier: MIT */
/* Threads, locks and waiting. Locks are not recursive. Failure to create a lock ends the process:
 * it cannot happen. */
#ifndef WSLX_OS_THREAD_H
#define WSLX_OS_THREAD_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include "lib/base/attr.h"

struct os_mutex {
	pthread_mutex_t m;
};
void os_mutex_init(struct os_mutex *m);
void os_mutex_done(struct os_mutex *m);
void os_mutex_lock(struct os_mutex *m);
void os_mutex_unlock(struct os_mutex *m);

static inline void os_mutex_unlockp(struct os_mutex **m)
{
	os_mutex_unlock(*m);
}
/* Holds the lock to the end of the scope. */
#define OS_GUARD(mutex)                                                                            \
	__attribute__((__cleanup__(os_mutex_unlockp), unused)) struct os_mutex *os_guard_ =        \
		(os_mutex_lock(mutex), (mutex))

/* An auto-reset event: a set is remembered until one wait takes it. */
struct os_event {
	pthread_mutex_t m;
	pthread_cond_t c;
	bool set;
};
void os_event_init(struct os_event *e);
void os_event_done(struct os_event *e);
void os_event_set(struct os_event *e); /* any thread */
/* Waits until set (true) or until os_now() reaches deadline_ns (false; UINT64_MAX: no deadline). */
bool os_event_wait(struct os_event *e, uint64_t deadline_ns);

struct os_thread;
int os_thread_start(struct os_thread **ret, const char *name, void (*fn)(void *), void *ctx);
void os_thread_join(struct os_thread *t); /* frees it */
/* Interrupts a blocking system call of the thread (an empty signal handler on Linux). */
void os_thread_kick(struct os_thread *t);
void os_thread_yield(void); /* lets another thread have the processor, if one waits for it */

uint64_t os_now(void);	    /* monotonic, ns */
uint64_t os_realtime(void); /* since 1970-01-01 UTC, ns */
uint64_t os_tsc_hz(
	void); /* rate of the host's time-stamp counter; measured when the host does not say */
void os_random(void *buf, size_t len); /* cryptographic quality; never fails */

#endif
