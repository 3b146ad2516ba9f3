/* SPDX-License-Identifier: MIT */
/* All files of one file system into another, with all that the kernel lets be known of them. */
#ifndef WSLX_GUEST_COPY_TREE_H
#define WSLX_GUEST_COPY_TREE_H

#include <stdint.h>
#include "lib/base/err.h"

typedef void (*copy_progress_fn)(void *ctx, uint64_t done, uint64_t total);

/*
 * From the root folder of a file system that nobody changes to that of an empty one: names, types, contents with their
 * holes, hard links, owners, modes, times, extended attributes (access control lists and capabilities among them), and
 * the flags of chattr(1) that forbid or advise. What cannot be said of the copy fails it. A folder lost+found at the top is
 * the file system's own and stays where it is. Needs /proc, and to be root; progress may be NULL.
 */
int copy_tree(int from, int to, copy_progress_fn progress, void *ctx, struct err *e);

#endif
