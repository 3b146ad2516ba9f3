/* SPDX-License-Identifier: MIT */
/*
 * The guest's console on a unix socket. One client at a time, the latest: whoever connects gets first the last
 * CONSOLE_KEPT bytes of output, then what follows, and types; the one before is closed. A client too slow to keep up loses
 * the oldest bytes, never the guest its time.
 */
#ifndef WSLX_VMM_HOST_CONSOLE_UNIX_H
#define WSLX_VMM_HOST_CONSOLE_UNIX_H

#include "lib/base/err.h"
#include "lib/base/loop.h"
#include "vmm/virtio/console.h"

enum { CONSOLE_KEPT = 64 << 10 };

/* Listens at path and becomes c's back end, owned by it. Loop's thread, before the loop runs. */
int console_unix_attach(struct console *c, struct loop *loop, const char *path, struct err *e);

#endif
