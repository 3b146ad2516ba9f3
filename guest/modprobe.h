/* SPDX-License-Identifier: MIT */
/*
 * Loading a kernel module with what it depends on, by the modules.dep that depmod(8) wrote: "FILE: FILE..." a line, where
 * each file named later has to be loaded earlier.
 */
#ifndef WSLX_GUEST_MODPROBE_H
#define WSLX_GUEST_MODPROBE_H

#include <stdbool.h>
#include <stddef.h>

/* path: relative to the folder of modules.dep, len bytes. Negative: stop, and give that back. */
typedef int (*modprobe_fn)(void *ctx, const char *path, size_t len);

/*
 * Calls fn for each file that module name needs, in the order in which they can be loaded, name's own last. -ENOENT: there
 * is no such module. In names '-' and '_' are the same.
 */
int modprobe_plan(const char *dep, size_t len, const char *name, modprobe_fn fn, void *ctx);

/* Loads the modules of a list "NAME,NAME..." (with "-" before a name: fine when there is none) from the folder. What fails
 * is logged. */
void modprobe_list(const char *folder, const char *list);

/*
 * Mounts the disk with modules at this LUN and loads what list says. The folder with modules.dep is at the disk's top, in
 * RELEASE, or in lib/modules/RELEASE. What fails is logged.
 */
void modprobe_disk(unsigned lun, const char *list);

#endif
