/* SPDX-License-Identifier: MIT */
/* Between the archive reader and its helpers. */
#ifndef WSLX_IMAGE_TAR_INTERNAL_H
#define WSLX_IMAGE_TAR_INTERNAL_H

#include <archive.h>
#include <archive_entry.h>
#include "lib/image/ext4.h"

/* As many attributes as fit into an inode and a block of ext4. */
enum { XATTR_MAX = 256, ACL_MAX = 64, ACL_BYTES = 4 + 8 * ACL_MAX };

struct xattr_set {
	struct ext4_xattr xa[XATTR_MAX + 2];
	size_t n;
	uint8_t acl[2][ACL_BYTES];
};

/*
 * The extended attributes of an entry as the kernel knows them, access control lists included; values are borrowed from
 * the entry. *mode: its group bits become the list's mask. -E2BIG, -EINVAL.
 */
int xattr_collect(struct archive_entry *entry, struct xattr_set *s, uint32_t *mode, struct err *e);

#endif
