/* SPDX-License-Identifier: MIT */
/*
 * virtio console (virtio 1.2 §5.3), one port: hvc0 in a Linux guest, with window size and emergency write.
 *
 * A guest kernel spins until its console output is taken, so the back end takes everything at once and drops what it
 * cannot keep; input waits in the back end while the guest has no buffers.
 */
#ifndef WSLX_VMM_VIRTIO_CONSOLE_H
#define WSLX_VMM_VIRTIO_CONSOLE_H

#include <sys/uio.h>
#include "vmm/virtio/dev.h"

struct console;

/* Called with the device's lock held; must not call back into the console. */
struct console_back_ops {
	void (*write)(void *ctx, const struct iovec *iov, unsigned n);
	/* Does not block: bytes, or 0 for none now: console_readable() follows when there are some. */
	size_t (*read)(void *ctx, const struct iovec *iov, unsigned n);
	void (*free)(void *ctx); /* with the device, lock not held */
};

int console_new(struct console **ret, struct gmem *gm, const char *name);
struct virtio_dev *console_dev(struct console *c);
/* Once, before the VM runs; the device owns the back end from then on. */
void console_set_back(struct console *c, const struct console_back_ops *ops, void *ctx);

/* For the back end, lock held (virtio_lock()): input is waiting; the terminal's size. */
void console_readable(struct console *c);
void console_resize(struct console *c, uint16_t cols, uint16_t rows);

#endif
