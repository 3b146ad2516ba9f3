/* SPDX-License-Identifier: MIT */
/* virtio entropy device (virtio 1.2 §5.4): random bytes of cryptographic quality from the host. */
#ifndef WSLX_VMM_VIRTIO_RNG_H
#define WSLX_VMM_VIRTIO_RNG_H

#include "vmm/virtio/dev.h"

enum { RNG_MAX_BYTES = 4096 }; /* for one request; the guest asks again */

int virtio_rng_new(struct virtio_dev **ret, struct gmem *gm, const char *name);

#endif
