/* SPDX-License-Identifier: MIT */
/*
 * Extended attributes and POSIX ACLs of an archive entry. An ACL becomes the value of system.posix_acl_access or
 * _default in the form that setxattr(2) takes (linux/posix_acl_xattr.h): u32 version 2, then {u16 tag, u16 permissions,
 * u32 id} for each entry, in the order of tags and ids.
 */
#include "lib/image/tar-internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "lib/base/attr.h"
#include "lib/base/le.h"

enum { USER_OBJ = 1, USER = 2, GROUP_OBJ = 4, GROUP = 8, MASK = 16, OTHER = 32 };
enum { NO_ID = 0xffffffff };

struct acl_entry {
	uint16_t tag, perm;
	uint32_t id;
};

static uint16_t tag_of(int tag)
{
	switch (tag) {
	case ARCHIVE_ENTRY_ACL_USER_OBJ: return USER_OBJ;
	case ARCHIVE_ENTRY_ACL_USER: return USER;
	case ARCHIVE_ENTRY_ACL_GROUP_OBJ: return GROUP_OBJ;
	case ARCHIVE_ENTRY_ACL_GROUP: return GROUP;
	case ARCHIVE_ENTRY_ACL_MASK: return MASK;
	case ARCHIVE_ENTRY_ACL_OTHER: return OTHER;
	default: return 0;
	}
}

/* A name instead of a number can only be a number written as a name: the archive's users are not ours. */
static int id_of(int qual, const char *name, uint32_t *ret, struct err *e)
{
	char *end;
	unsigned long v;

	if (qual >= 0) {
		*ret = qual;
		return 0;
	}
	v = name && *name ? strtoul(name, &end, 10) : NO_ID;
	if (v >= NO_ID || *end)
		return err_set(e, -EINVAL,
			"an access control list names a user or group without its number");
	*ret = v;
	return 0;
}

static int by_tag(const void *va, const void *vb)
{
	const struct acl_entry *a = va, *b = vb;

	if (a->tag != b->tag)
		return a->tag < b->tag ? -1 : 1;
	return a->id < b->id ? -1 : a->id > b->id;
}

/* Writes the list of one type to out; returns its length, 0: there is none. */
static int collect_acl(
	struct archive_entry *entry, int type, uint8_t *out, uint16_t *ret_mask, struct err *e)
{
	struct acl_entry list[ACL_MAX];
	int got_type, perm, tag, qual, r;
	const char *name;
	size_t n = 0;

	if (archive_entry_acl_reset(entry, type) == 0)
		return 0;
	while ((r = archive_entry_acl_next(entry, type, &got_type, &perm, &tag, &qual, &name)) ==
		ARCHIVE_OK) {
		struct acl_entry *a = &list[n];

		if (n == ACL_MAX)
			return err_set(e, -E2BIG,
				"an access control list with more than %d entries", ACL_MAX);
		a->tag = tag_of(tag);
		a->perm = perm & 7;
		a->id = NO_ID;
		if (!a->tag)
			return err_set(e, -EINVAL, "an access control list that is not POSIX");
		if ((a->tag == USER || a->tag == GROUP) && (r = id_of(qual, name, &a->id, e)) < 0)
			return r;
		if (a->tag == MASK)
			*ret_mask = a->perm;
		n++;
	}
	if (r != ARCHIVE_EOF)
		return err_set(e, -EINVAL, "a damaged access control list");
	if (!n)
		return 0;
	qsort(list, n, sizeof(list[0]), by_tag);
	le32_put(out, 2);
	for (size_t i = 0; i < n; i++) {
		le16_put(out + 4 + 8 * i, list[i].tag);
		le16_put(out + 6 + 8 * i, list[i].perm);
		le32_put(out + 8 + 8 * i, list[i].id);
	}
	return 4 + 8 * n;
}

static bool known(const char *name)
{
	return !strncmp(name, "user.", 5) || !strncmp(name, "trusted.", 8) ||
	       !strncmp(name, "security.", 9);
}

static bool has(const struct xattr_set *s, const char *name)
{
	for (size_t i = 0; i < s->n; i++)
		if (!strcmp(s->xa[i].name, name))
			return true;
	return false;
}

int xattr_collect(struct archive_entry *entry, struct xattr_set *s, uint32_t *mode, struct err *e)
{
	static const char *const acl_name[2] = {
		"system.posix_acl_access", "system.posix_acl_default"};
	static const int acl_type[2] = {
		ARCHIVE_ENTRY_ACL_TYPE_ACCESS, ARCHIVE_ENTRY_ACL_TYPE_DEFAULT};
	const char *name;
	const void *value;
	size_t len;

	s->n = 0;
	for (archive_entry_xattr_reset(entry);
		archive_entry_xattr_next(entry, &name, &value, &len) == ARCHIVE_OK;) {
		if (!name || !known(name) || (len && !value))
			continue; /* of another system's kind, as "com.apple." */
		if (has(s, name))
			continue; /* archives often have them in two forms */
		if (s->n == XATTR_MAX)
			return err_set(e, -E2BIG, "more than %d extended attributes", XATTR_MAX);
		if (strlen(name) > 255 || len > 65536)
			return err_set(e, -E2BIG, "an extended attribute too large for ext4");
		s->xa[s->n++] = (struct ext4_xattr){name, value, len};
	}
	for (unsigned i = 0; i < 2; i++) {
		uint16_t mask = 8;
		int n = collect_acl(entry, acl_type[i], s->acl[i], &mask, e);

		if (n < 0)
			return n;
		if (n == 0 || (i == 1 && !S_ISDIR(*mode)))
			continue;
		s->xa[s->n++] = (struct ext4_xattr){acl_name[i], s->acl[i], n};
		if (i == 0 && mask < 8)
			*mode = (*mode & ~070u) | mask << 3;
	}
	return 0;
}
