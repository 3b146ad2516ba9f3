/* SPDX-License-Identifier: MIT */
/* virtio-scsi (virtio 1.2 §5.6): carries commands to a SCSI target, and its events to the driver. */
#ifndef WSLX_VMM_VIRTIO_SCSI_H
#define WSLX_VMM_VIRTIO_SCSI_H

#include "vmm/scsi/scsi.h"
#include "vmm/virtio/dev.h"

enum { VIRTIO_SCSI_MAX_REQUEST_QUEUES = 16 };

/*
 * t: borrowed; outlives the device, which takes its events. Queues: control, event, then request_queues (1..16) for
 * commands. A command runs on the thread that notifies, with the device's lock released while the target works.
 */
int virtio_scsi_new(
	struct virtio_dev **ret, struct gmem *gm, struct scsi_target *t, unsigned request_queues);

#endif
