/* SPDX-License-Identifier: MIT */
/*
 * Keeps a guest's wall clock at the host's. They part when the host sleeps, its clock is set, or the VM was stopped for a
 * while; the kernel tells us of the first two (timerfd_create(2), TFD_TIMER_CANCEL_ON_SET, which a resume triggers as
 * well), and for the rest they are compared now and then.
 */
#ifndef WSLX_DAEMON_CLOCK_H
#define WSLX_DAEMON_CLOCK_H

#include <stdbool.h>
#include <stdint.h>
#include "daemon/vm.h"

/*
 * How far the guest's clock has to be moved, ns, to agree with the host's; 0: near enough, or not known better than that.
 * sent, received: the host's clock before and after the guest was asked. Times in ns since 1970.
 */
int64_t clock_correction(uint64_t sent, uint64_t received, uint64_t guest);

struct clock_watch;

/* interval_ms negative: only when the host's clock was set. vm is borrowed and must outlive it. */
int clock_watch_new(struct loop *l, struct vm *vm, int64_t interval_ms, struct clock_watch **ret);
/* NULL is fine; returns NULL. */
struct clock_watch *clock_watch_free(struct clock_watch *c);

#endif
