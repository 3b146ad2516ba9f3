/* SPDX-License-Identifier: MIT */
/*
 * virtio memory balloon (virtio 1.2 §5.5): memory the guest does not use goes back to the host, on request (inflating) and
 * by itself (free page reporting). What was given back reads as zero when the guest touches it again.
 */
#ifndef WSLX_VMM_VIRTIO_BALLOON_H
#define WSLX_VMM_VIRTIO_BALLOON_H

#include "vmm/virtio/dev.h"

struct balloon;

int balloon_new(struct balloon **ret, struct gmem *gm, const char *name);
struct virtio_dev *balloon_dev(struct balloon *b);

/* Pages of 4 KiB. Any thread, lock not held. */
void balloon_set_target(
	struct balloon *b, uint32_t pages);   /* the guest is asked to give up this many */
uint32_t balloon_actual(struct balloon *b);   /* how many it says it gave */
uint64_t balloon_reported(struct balloon *b); /* bytes given back by free page reporting, in all */

#endif
