/* SPDX-License-Identifier: MIT */
/*
 * The event loop: one a process, run by one thread at a time. Sources call back on that thread; a source may
 * be freed from any callback, its own included. Only loop_defer(), loop_quit() and loop_timer_arm()
 * may be called from other threads.
 *
 * Portable code (see lib/os) uses timers and deferred calls only; descriptors, signals and children
 * are for the Linux-only parts.
 */
#ifndef WSLX_BASE_LOOP_H
#define WSLX_BASE_LOOP_H

#include <stdint.h>
#include <sys/types.h>
#include "lib/base/attr.h"
#include "lib/base/cleanup.h"

struct loop;
struct loop_src;

typedef void (*loop_fn)(void *ctx);
typedef void (*loop_io_fn)(void *ctx, int fd, uint32_t revents);
typedef void (*loop_signal_fn)(void *ctx, int signo);
typedef void (*loop_child_fn)(void *ctx, pid_t pid, int wait_status);

int loop_new(struct loop **ret);
void loop_free(struct loop *l);
DEFINE_CLEANUP(struct loop, loop_free)

/*
 * Runs until loop_quit(); returns its code, or a negative errno when the loop itself failed. -ECANCELED: loop_leave() was called.
 */
int loop_run(struct loop *l);

/*
 * For a callback that took so long that another thread has called loop_run() meanwhile and is the loop's thread now: loop_run()
 * returns on this one when the callback does, and nothing of the loop is touched. To be called by callbacks for descriptors and deferred
 * calls only, as the last thing they do; that they are the ones who are overtaken is for the two threads to agree on.
 */
void loop_leave(void);
void loop_quit(struct loop *l, int code);

/* CLOCK_MONOTONIC in nanoseconds. */
uint64_t loop_now(void);

/* Calls fn(ctx) once, soon, on the loop's thread, in order of the calls. Aborts when out of memory.
 */
void loop_defer(struct loop *l, loop_fn fn, void *ctx);

/* A disarmed timer; arm with an absolute deadline on CLOCK_MONOTONIC (ns), 0 disarms. One shot. */
int loop_timer(struct loop *l, loop_fn fn, void *ctx, struct loop_src **ret);
void loop_timer_arm(struct loop_src *s, uint64_t deadline_ns);

/*
 * events, revents: EPOLLIN, EPOLLOUT, ... level-triggered. The descriptor stays the caller's. With events = 0 it is not
 * watched at all, not even for EPOLLHUP and EPOLLERR, which otherwise are always reported.
 */
int loop_io(
	struct loop *l, int fd, uint32_t events, loop_io_fn fn, void *ctx, struct loop_src **ret);
int loop_io_events(struct loop_src *s, uint32_t events);

/* Blocks signo in the calling thread (call before starting threads) and reports it through a
 * signalfd. */
int loop_signal(struct loop *l, int signo, loop_signal_fn fn, void *ctx, struct loop_src **ret);

/* Reports the end of one child process (by pidfd) and reaps it. */
int loop_child(struct loop *l, pid_t pid, loop_child_fn fn, void *ctx, struct loop_src **ret);

/* Removes a source of any kind; NULL is fine. Returns NULL. */
struct loop_src *loop_src_free(struct loop_src *s);

#endif
