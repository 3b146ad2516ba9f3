/* SPDX-License-Identifier: MIT */
/* A disk's bytes, whether its file is raw or a VHDX file. */
#ifndef WSLX_IMAGE_DISK_READ_H
#define WSLX_IMAGE_DISK_READ_H

#include <stdbool.h>
#include "lib/image/image.h"
#include "lib/vhdx/vhdx.h"

struct disk_read {
	int fd;		   /* borrowed */
	struct vhdx *vhdx; /* NULL: raw */
	int vhdx_fd;	   /* what it reads */
};

/* x stays where it is until disk_read_done(). A VHDX file's log is replayed, for which fd is open for writing. */
int disk_read_open(struct disk_read *x, int fd, bool vhdx, struct err *e);
void disk_read_done(struct disk_read *x);
/* All of it: 0, a negative errno, or -ENODATA behind the end. */
int disk_read_at(const struct disk_read *x, void *buf, size_t len, uint64_t off);

/* image_probe() of a VHDX file's content. */
int disk_read_probe(const struct disk_read *x, struct image_info *ret);

#endif
