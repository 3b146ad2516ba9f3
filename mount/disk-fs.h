/* SPDX-License-Identifier: MIT */
/* An ext4 file system on a disk that nobody has mounted, as a file server that only reads. For one thread. */
#ifndef WSLX_MOUNT_DISK_FS_H
#define WSLX_MOUNT_DISK_FS_H

#include "lib/base/err.h"
#include "lib/fs/fs.h"
#include "lib/image/disk-read.h"

/* disk: borrowed. */
int disk_fs_new(struct fs **ret, const struct disk_read *disk, struct err *e);

#endif
