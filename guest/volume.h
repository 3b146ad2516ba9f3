/* SPDX-License-Identifier: MIT */
/*
 * Disks of no distribution (MOUNT, UNMOUNT): attached, their devices shown to distributions, or their file systems mounted
 * in the shared tree. A disk is hostile and may be slow: all of it is done by processes of their own.
 */
#ifndef WSLX_GUEST_VOLUME_H
#define WSLX_GUEST_VOLUME_H

#include <stdbool.h>
#include <stdint.h>
#include "lib/base/err.h"
#include "lib/wire/msg.h"

enum { VOLUME_NAMES = 64 };

/* A MOUNT, checked and copied. */
struct volume_spec {
	uint32_t lun, partition, timeout_ms;	 /* partition 0: the whole disk */
	char name[65], fstype[32], options[512]; /* name "": it is only attached */
	bool is_folder;				 /* of the host's, instead of a disk */
	char folder[4096];
};

int volume_spec_parse(const struct wire_msg *m, struct volume_spec *ret, struct err *e);
/* Letters, digits, '.', '_', '-'; not starting with '.' or '-'. */
bool volume_name_ok(const char *name);

/*
 * What mount(8) understands of a list of options: flags of mount(2), and what is left for the file system. nosuid and nodev
 * hold unless the list says suid, dev. -E2BIG.
 */
int volume_options(const char *list, unsigned long *ret_flags, char *data, size_t cap);

/* Who a process belongs to, for messages. */
typedef const char *(*volume_owner_fn)(const char *distro_id);

/* One "sh (process 12 of debian), ..." of those that use the file system of this device number; "" when there are none. */
void volume_users(uint64_t dev, volume_owner_fn owner, char *buf, size_t cap);

/* The work; attributes of the reply go to w. Negative errno. */
int volume_mount(const struct wire_msg *m, struct wire_w *w, struct err *e);
int volume_unmount(
	const struct wire_msg *m, volume_owner_fn owner, struct wire_w *w, struct err *e);
/* All there are, before the VM is off. */
void volume_unmount_all(void);

#endif
