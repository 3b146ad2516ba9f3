/* SPDX-License-Identifier: MIT */
/* A notifier wakes the loop thread from any thread or process (an eventfd on Linux). Signals merge.
 */
#ifndef WSLX_OS_NOTIFIER_H
#define WSLX_OS_NOTIFIER_H

#include "lib/base/loop.h"

struct os_notifier;

int os_notifier_new(struct os_notifier **ret);
void os_notifier_free(struct os_notifier *n);
void os_notifier_signal(struct os_notifier *n);
/* Calls fn(ctx) on the loop's thread after signals, until the notifier is freed. */
int os_notifier_watch(struct os_notifier *n, struct loop *l, loop_fn fn, void *ctx);
int os_notifier_fd(const struct os_notifier *n); /* borrowed; for KVM and other processes */

#endif
