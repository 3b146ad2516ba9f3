/* SPDX-License-Identifier: MIT */
/* COPY_TREE, FS_RESIZE, FS_TRIM and FS_EXAMINE: work on file systems that takes a kernel which mounts them. */
#ifndef WSLX_GUEST_FS_WORK_H
#define WSLX_GUEST_FS_WORK_H

#include "lib/base/err.h"
#include "lib/wire/msg.h"

/* A worker_fn; the host asks for one at a time. */
int fs_work(const struct wire_msg *m, struct wire_w *w, struct err *e);

#endif
