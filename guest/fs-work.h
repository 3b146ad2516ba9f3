/* SPDX-License-Identifier: MIT */
/* COPY_TREE, FS_RESIZE, FS_TRIM and FS_EXAMINE: work on file systems that takes a kernel which mounts them. */
#ifndef WSLX_GUEST_FS_WORK_H
#define WSLX_GUEST_FS_WORK_H

#include "lib/wire/msg.h"

/* A chore_fn. */
void fs_work(const struct wire_msg *m, int pair);

#endif
