/* SPDX-License-Identifier: MIT */
/* What is different between the kinds of devices that other processes serve (vhost.h). */
#ifndef WSLX_VMM_VIRTIO_VHOST_KINDS_H
#define WSLX_VMM_VIRTIO_VHOST_KINDS_H

#include "vmm/virtio/vhost.h"

struct vhost_kind_ops {
	uint64_t
		own; /* feature bits that the monitor itself keeps: offered whatever the server can do */
	uint64_t mtu;	 /* of these, the one that is only for a configuration with an MTU */
	uint64_t server; /* those that the server must have to be offered */
	uint16_t queue_size;
	bool keeps_state; /* the server knows what the guest does not tell it again */

	/* Requests are done in order, and one that is lost or done twice does no harm: when the server dies, the next goes on
	 * after the last that was done. */
	bool direct;

	/* The configuration space; up says that a server is connected. Returns its length. */
	size_t (*config)(const struct vhost_config *c, bool up, uint8_t *buf);
	/* Ends a request that no server will serve: true, with how much was written; false: it waits for the next server. */
	bool (*orphan)(const struct vhost_config *c, unsigned q, const struct vring_chain *chain,
		uint32_t *written);
};

enum { VHOST_CONFIG_SPACE = 64 };

extern const struct vhost_kind_ops vhost_fs_kind, vhost_net_kind, vhost_p9_kind;

#endif
