/* SPDX-License-Identifier: MIT */
/*
 * The process that serves files of this host to one VM (wslx-fsd). It ends with the VM, not with the service; when it dies
 * before, another one takes its place.
 */
#ifndef WSLX_DAEMON_SHARE_H
#define WSLX_DAEMON_SHARE_H

#include "daemon/vm.h"

#define SHARE_TAG  "wslx" /* of the device */
#define SHARE_NAME "host" /* of the one share there is */

struct share_server;

/* What wslx-vmm has to be told for it to have the device, in buf; NULL: nothing is shared. */
enum { SHARE_DEVICE_LEN = 64 };
const char *share_device(const struct settings *set, const char *owner, char buf[SHARE_DEVICE_LEN]);

/* What this host's folder is called below the share's root; ret may become "". */
int share_path(
	const struct settings *set, const char *folder, char *ret, size_t cap, struct err *e);

/* dir: the VM's folder, where a server of an earlier service is found again. NULL: nothing is shared, or that failed, which is
 * logged and among the settings' warnings. */
struct share_server *share_new(struct loop *l, struct vm *vm, const struct settings *set,
	const char *owner, const char *dir);
/* The VM can be connected to it. */
void share_up(struct share_server *s);
/* The guest can mount it. NULL is fine. */
bool share_works(const struct share_server *s);
/* NULL is fine; returns NULL. The process goes on. */
struct share_server *share_free(struct share_server *s);

#endif
