/* SPDX-License-Identifier: MIT */
/*
 * POSIX ACLs as attributes (acl(5), <linux/posix_acl_xattr.h>): users and groups in them are mapped as owners are, and what a share takes
 * away from permissions it takes away from ACLs. Where owners and modes are kept beside the files (meta.c) the files' own ACLs say nothing,
 * and are not there.
 */
#include "lib/fs/host-internal.h"

#include <stdlib.h>
#include <string.h>
#include "lib/base/le.h"

#define ACCESS	"system.posix_acl_access"
#define DEFAULT "system.posix_acl_default"

enum { HEADER = 4, ENTRY = 8, VERSION = 2 };
enum { USER_OBJ = 1, USER = 2, GROUP_OBJ = 4, GROUP = 8, MASK = 16, OTHER = 32 };

bool acl_is(const char *xattr)
{
	return strcmp(xattr, ACCESS) == 0 || strcmp(xattr, DEFAULT) == 0;
}

bool acl_hides(const struct fs_share *sh, const char *xattr)
{
	return sh->o.metadata && acl_is(xattr);
}

static bool well_formed(const uint8_t *p, size_t len)
{
	return len >= HEADER && (len - HEADER) % ENTRY == 0 && le32_get(p) == VERSION;
}

/* Who is somebody else on this side, or stands for several, cannot be named: another would get the permission. */
static int named(uint32_t id, uint32_t own, uint32_t as, uint32_t *ret)
{
	if (own != as && id != as && (id == own || id == NOBODY))
		return -EINVAL;
	*ret = id_meant(id, own, as);
	return 0;
}

int acl_meant(const struct fs_share *sh, const void *val, size_t len, void **ret)
{
	uint8_t *p = len ? malloc(len) : NULL;
	int r = 0;

	*ret = p;
	/* an empty one takes the file's away */
	if (!len)
		return 0;
	if (!p)
		return -ENOMEM;
	memcpy(p, val, len);
	if (!well_formed(p, len))
		r = -EINVAL;
	for (size_t at = HEADER; r == 0 && sh->o.squash && at < len; at += ENTRY) {
		const uint16_t tag = le16_get(p + at);
		uint32_t id = le32_get(p + at + 4);

		if (tag == USER)
			r = named(id, sh->uid, sh->o.uid, &id);
		else if (tag == GROUP)
			r = named(id, sh->gid, sh->o.gid, &id);
		le32_put(p + at + 4, id);
	}
	return r;
}

static uint16_t taken_away(uint16_t tag, uint32_t mask)
{
	switch (tag) {
	case USER_OBJ: return mask >> 6 & 7;
	case USER:
	case GROUP_OBJ:
	case GROUP:
	case MASK: return mask >> 3 & 7;
	case OTHER: return mask & 7;
	default: return 0;
	}
}

void acl_shown(const struct fs_node *n, const char *xattr, void *val, size_t len)
{
	const struct fs_share *sh = n->share;
	/* a folder's default is only what new files begin with */
	const uint32_t mask = strcmp(xattr, ACCESS) != 0 ? 0
			      : S_ISDIR(n->mode)	 ? sh->o.dmask
							 : sh->o.fmask;
	uint8_t *p = val;

	if (!well_formed(p, len))
		return;
	for (size_t at = HEADER; at < len; at += ENTRY) {
		const uint16_t tag = le16_get(p + at), perm = le16_get(p + at + 2);
		const uint32_t id = le32_get(p + at + 4);

		le16_put(p + at + 2, perm & (uint16_t)~taken_away(tag, mask));
		if (sh->o.squash && tag == USER)
			le32_put(p + at + 4, id_shown(id, sh->uid, sh->o.uid));
		if (sh->o.squash && tag == GROUP)
			le32_put(p + at + 4, id_shown(id, sh->gid, sh->o.gid));
	}
}
