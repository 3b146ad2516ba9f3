/* SPDX-License-Identifier: MIT */
/* What is done to a distribution's disk while it is stopped: for daemon/work.h's child. */
#ifndef WSLX_DAEMON_DISK_WORK_H
#define WSLX_DAEMON_DISK_WORK_H

#include <stdbool.h>
#include "daemon/work.h"

struct disk_work {
	int in, out;	 /* out: an empty file, the result; negative: in itself is changed */
	char path[4096]; /* of the file that changes */
	uint64_t size;	 /* of the result, bytes */
	bool vhdx;	 /* in is a VHDX file; what is made of it is raw */
};

/* arg: struct disk_work. A copy of the disk, which is raw. */
int disk_copy(void *arg, struct work_out *out, struct err *e);
/* A copy of the disk with a file system of another size: e2fsck(8), resize2fs(8). */
int disk_resize(void *arg, struct work_out *out, struct err *e);
/* Gives what the file system does not use back to the host: e2fsck(8). Safe to be killed. */
int disk_compact(void *arg, struct work_out *out, struct err *e);

#endif
