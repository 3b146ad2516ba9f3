/* SPDX-License-Identifier: MIT */
/* The guest's memory as a vhost-user front end hands it over: regions, each a descriptor and where it lies in the guest. */
#ifndef WSLX_VHOST_MEMORY_H
#define WSLX_VHOST_MEMORY_H

#include <stdint.h>
#include <sys/types.h>
#include "lib/vhost/proto.h"

enum { VHOST_MAX_REGIONS = 32 };

struct vhost_region {
	struct vu_region r;
	uint8_t *base; /* where r.gpa is mapped */
	void *map;
	size_t map_len;
	dev_t dev;
	ino_t ino;
};

struct vhost_memory {
	unsigned n, last; /* last: where the last address was found */
	struct vhost_region region[VHOST_MAX_REGIONS];
};

void vhost_memory_clear(struct vhost_memory *m);

/*
 * Exactly these regions, fds[i] for region[i]; descriptors stay the caller's. What was mapped before and is among them stays
 * where it is. On failure nothing has changed.
 */
int vhost_memory_set(
	struct vhost_memory *m, const struct vu_region *region, const int *fds, unsigned n);
/* -ENOSPC, -EEXIST: overlaps another. */
int vhost_memory_add(struct vhost_memory *m, const struct vu_region *region, int fd);
/* By gpa, size and user_addr; -ENOENT. */
int vhost_memory_remove(struct vhost_memory *m, const struct vu_region *region);

/* Where the guest's addr is; *len is reduced to what lies in one region from there. NULL: not memory. */
void *vhost_memory_ptr(struct vhost_memory *m, uint64_t addr, uint64_t *len);
/* The same for an address of the front end's own, len bytes in one region. */
void *vhost_memory_user(const struct vhost_memory *m, uint64_t addr, uint64_t len);

#endif
