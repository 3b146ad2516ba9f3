/* SPDX-License-Identifier: MIT */
/* What is done to a distribution's disk while it is stopped, each by a process of its own (daemon/work.h). */
#ifndef WSLX_DAEMON_DISK_WORK_H
#define WSLX_DAEMON_DISK_WORK_H

#include <stdbool.h>
#include "lib/image/image.h"

struct disk_work {
	int in, out; /* borrowed; out: an empty file, the result; negative: in itself is changed */
	const char *fs; /* of in, or what out is to become */
	uint64_t size;	/* of the result, bytes */
	bool vhdx;	/* in is a VHDX file; what is made of it is raw */
};

/* out becomes an empty file system; in: none. mkfs.xfs(8), mkfs.btrfs(8), mke2fs(8). */
int disk_make_start(struct image_job **ret, const struct disk_work *w, struct err *e);
/* A copy of the disk, with an identity of its own if two of one could not be in a machine. */
int disk_clone_start(struct image_job **ret, const struct disk_work *w, struct err *e);
/*
 * ext4: a copy with a file system of another size, by e2fsck(8) and resize2fs(8). Others: a copy with room for a file
 * system of that size at least, which is for a kernel to resize.
 */
int disk_resize_start(struct image_job **ret, const struct disk_work *w, struct err *e);
/* ext4: gives what the file system does not use back to the host: e2fsck(8). Safe to be killed. */
int disk_compact_start(struct image_job **ret, const struct disk_work *w, struct err *e);

#endif
