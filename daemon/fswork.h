/* SPDX-License-Identifier: MIT */
/*
 * Work on a file system that takes a kernel which mounts it, done in a virtual machine of its own: what is on a disk is
 * hostile, and distributions that run are not to suffer from it. The machine ends with the work, or with the service.
 */
#ifndef WSLX_DAEMON_FSWORK_H
#define WSLX_DAEMON_FSWORK_H

#include "daemon/service.h"

/* The owner of such a machine (vm_env), which no later service takes over. */
#define FSWORK_OWNER "file-systems"

struct fswork_task {
	enum wslx_type type; /* WSLX_COPY_TREE, _FS_RESIZE, _FS_TRIM, _FS_EXAMINE */
	int disk;	     /* borrowed; a raw disk file, open for reading and writing */
	const char *fs;	     /* "ext4", "xfs", "btrfs" */
	int to;		     /* the same of WSLX_COPY_TREE's other one; else negative */
	const char *to_fs;
	uint64_t size; /* of WSLX_FS_RESIZE, bytes */
};

struct fswork;
struct fswork_ops {
	void (*progress)(void *ctx, uint64_t done, uint64_t total);
	/* The last call, when the machine is gone; free the work. m: the guest's reply; e: NULL when all went well. */
	void (*end)(void *ctx, const struct wire_msg *m, const struct err *e);
};

int fswork_start(struct service *s, const struct fswork_task *t, const struct fswork_ops *ops,
	void *ctx, struct fswork **ret, struct err *e);
/* Ends its machine if that still runs. */
struct fswork *fswork_free(struct fswork *f);
/* The service ends: the machines of all that are under way do, too. */
void fswork_end_all(struct service *s);

#endif
