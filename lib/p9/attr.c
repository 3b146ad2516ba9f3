/* SPDX-License-Identifier: MIT */
#include "lib/p9/server-internal.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

struct p9_qid p9_qid_of(const struct p9_server *s, const struct fs_attr *a)
{
	struct p9_qid q = {.type = S_ISDIR(a->mode)   ? P9_QT_DIR
				   : S_ISLNK(a->mode) ? P9_QT_SYMLINK
						      : P9_QT_FILE};

	/* Unique across the file systems that are mounted below one another; the root's own do not depend on its device. */
	q.path = a->ino;
	if (a->dev != s->root_dev)
		q.path ^= a->dev * 0x9e3779b97f4a7c15ull & 0xffffff0000000000ull;
	q.version =
		(uint32_t)a->mtime.tv_sec ^ (uint32_t)a->mtime.tv_nsec ^ (uint32_t)(a->size << 8);
	return q;
}

static struct p9_time time_of(struct timespec ts)
{
	return (struct p9_time){(uint64_t)ts.tv_sec, (uint64_t)ts.tv_nsec};
}

void p9_attr_of(const struct p9_server *s, const struct fs_attr *a, struct p9_attr *ret)
{
	bool born = a->btime.tv_sec || a->btime.tv_nsec;

	*ret = (struct p9_attr){.valid = P9_GETATTR_BASIC | (born ? P9_GETATTR_BTIME : 0),
		.qid = p9_qid_of(s, a),
		.mode = a->mode,
		.uid = a->uid,
		.gid = a->gid,
		.nlink = a->nlink,
		.rdev = a->rdev,
		.size = a->size,
		.blksize = a->blksize,
		.blocks = a->blocks,
		.atime = time_of(a->atime),
		.mtime = time_of(a->mtime),
		.ctime = time_of(a->ctime),
		.btime = time_of(a->btime)};
}

static struct timespec timespec_of(struct p9_time t)
{
	return (struct timespec){(time_t)t.sec, (long)t.nsec};
}

uint32_t p9_set_of(const struct p9_setattr *s, struct fs_attr *ret)
{
	static const uint32_t plain[][2] = {{P9_SET_MODE, FS_SET_MODE}, {P9_SET_UID, FS_SET_UID},
		{P9_SET_GID, FS_SET_GID}, {P9_SET_SIZE, FS_SET_SIZE}};
	uint32_t set = 0;

	*ret = (struct fs_attr){.mode = s->mode,
		.uid = s->uid,
		.gid = s->gid,
		.size = s->size,
		.atime = timespec_of(s->atime),
		.mtime = timespec_of(s->mtime)};
	for (size_t i = 0; i < ARRAY_LEN(plain); i++)
		set |= s->valid & plain[i][0] ? plain[i][1] : 0;
	if (s->valid & P9_SET_ATIME)
		set |= s->valid & P9_SET_ATIME_GIVEN ? FS_SET_ATIME : FS_SET_ATIME_NOW;
	if (s->valid & P9_SET_MTIME)
		set |= s->valid & P9_SET_MTIME_GIVEN ? FS_SET_MTIME : FS_SET_MTIME_NOW;
	return set;
}

int p9_name(struct p9_str s, char ret[P9_NAME_MAX + 1])
{
	if (s.len > P9_NAME_MAX)
		return -ENAMETOOLONG;
	if (!p9_name_ok(s))
		return -EINVAL;
	memcpy(ret, s.s, s.len);
	ret[s.len] = '\0';
	return 0;
}
