/* SPDX-License-Identifier: MIT */
/*
 * A request answered by a process of its own, so that what hangs holds nobody else up: the process does the work, and its
 * reply, which has attributes and a text unlike a helper's (guest/vm.h), is passed on as it is. So are events before it.
 */
#ifndef WSLX_GUEST_WORKER_H
#define WSLX_GUEST_WORKER_H

#include "lib/base/err.h"
#include "lib/base/loop.h"
#include "lib/wire/msg.h"

/* In the process: 0 with the reply's attributes in w, or a negative errno and the text in e. */
typedef int (*worker_fn)(const struct wire_msg *m, struct wire_w *w, struct err *e);
/* In the process, from there: an event for the host. */
void worker_tell(struct wire_w *event);
/* In init: a whole message for the host. */
typedef void (*worker_send_fn)(struct wire_w *w);

/* m is used in the process only. Negative errno: nothing was started, and no reply comes. */
int worker_start(struct loop *l, const struct wire_msg *m, worker_fn fn, worker_send_fn send);

#endif
