/* SPDX-License-Identifier: MIT */
/*
 * A server maps the guest's RAM, and not the files in its windows (gmem_add_window()). A program of the guest can have such a file's pages
 * read from or written to a device directly all the same: then the server gets a copy, in memory that it has, and what it writes there is
 * copied back. One request at a time, since that is rare; others wait in the guest's ring.
 */
#ifndef WSLX_VMM_VIRTIO_BOUNCE_H
#define WSLX_VMM_VIRTIO_BOUNCE_H

#include "lib/vring/vring.h"
#include "vmm/core/gmem.h"

enum { BOUNCE_LEN = 2 << 20 };

struct bounce {
	uint8_t *mem; /* BOUNCE_LEN, which the server finds at gpa */
	uint64_t gpa;
	const struct vring_chain *c; /* whose it is; NULL: free */
	uint64_t addr[VRING_MAX_PIECES];
	bool wanted; /* somebody waits */
};

/*
 * Before the request goes to the server: its addresses become such that the server has. -EAGAIN: not now; -E2BIG: it is too long for
 * that. Nothing happens to one that needs nothing.
 */
int bounce_begin(struct bounce *b, const struct gmem *gm, struct vring_chain *c) MUST_CHECK;
/* It is done, and the first bytes of its writable part were written. True: others may be waiting. */
bool bounce_end(struct bounce *b, struct vring_chain *c, uint32_t written);

#endif
