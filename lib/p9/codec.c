/* SPDX-License-Identifier: MIT */
#include "lib/p9/proto.h"

#include <errno.h>
#include <string.h>
#include "lib/base/le.h"

enum kind {
	K_U8,
	K_U16,
	K_U32,
	K_U64,
	K_STR,
	K_QID,
	K_ATTR,
	K_SET,
	K_STATFS,
	K_NAMES,
	K_QIDS,
	K_DATA
};

/* Members of struct p9_msg, by a letter that stands for each in the layouts. */
static const struct field {
	char letter;
	uint8_t kind;
	uint16_t at;
} fields[] = {
#define F(letter, kind, member)                                                                    \
	{                                                                                          \
		letter, kind, offsetof(struct p9_msg, member)                                      \
	}
	F('f', K_U32, fid),
	F('F', K_U32, fid2),
	F('l', K_U32, flags),
	F('m', K_U32, mode),
	F('u', K_U32, uid),
	F('g', K_U32, gid),
	F('x', K_U32, major),
	F('y', K_U32, minor),
	F('p', K_U32, proc_id),
	F('z', K_U32, msize),
	F('i', K_U32, iounit),
	F('e', K_U32, ecode),
	F('c', K_U32, count),
	F('t', K_U16, oldtag),
	F('k', K_U8, lock_type),
	F('s', K_U8, status),
	F('o', K_U64, offset),
	F('O', K_U64, offset2),
	F('L', K_U64, length),
	F('v', K_U64, valid),
	F('n', K_STR, name),
	F('N', K_STR, name2),
	F('q', K_QID, qid),
	F('a', K_ATTR, attr),
	F('S', K_SET, set),
	F('T', K_STATFS, statfs),
	F('w', K_NAMES, names),
	F('Q', K_QIDS, qids),
	F('d', K_DATA, data),
#undef F
};

/* A reply is its request's type and one. NULL: no such message. */
static const char *const layouts[P9_TYPES] = {
	[P9_RLERROR] = "e",
	[P9_TSTATFS] = "f",
	[P9_TSTATFS + 1] = "T",
	[P9_TLOPEN] = "fl",
	[P9_TLOPEN + 1] = "qi",
	[P9_TLCREATE] = "fnlmg",
	[P9_TLCREATE + 1] = "qi",
	[P9_TSYMLINK] = "fnNg",
	[P9_TSYMLINK + 1] = "q",
	[P9_TMKNOD] = "fnmxyg",
	[P9_TMKNOD + 1] = "q",
	[P9_TRENAME] = "fFn",
	[P9_TRENAME + 1] = "",
	[P9_TREADLINK] = "f",
	[P9_TREADLINK + 1] = "n",
	[P9_TGETATTR] = "fv",
	[P9_TGETATTR + 1] = "a",
	[P9_TSETATTR] = "fS",
	[P9_TSETATTR + 1] = "",
	[P9_TXATTRWALK] = "fFn",
	[P9_TXATTRWALK + 1] = "L",
	[P9_TXATTRCREATE] = "fnLl",
	[P9_TXATTRCREATE + 1] = "",
	[P9_TREADDIR] = "foc",
	[P9_TREADDIR + 1] = "d",
	[P9_TFSYNC] = "fl",
	[P9_TFSYNC + 1] = "",
	[P9_TLOCK] = "fkloLpn",
	[P9_TLOCK + 1] = "s",
	[P9_TGETLOCK] = "fkoLpn",
	[P9_TGETLOCK + 1] = "koLpn",
	[P9_TLINK] = "fFn",
	[P9_TLINK + 1] = "",
	[P9_TMKDIR] = "fnmg",
	[P9_TMKDIR + 1] = "q",
	[P9_TRENAMEAT] = "fnFN",
	[P9_TRENAMEAT + 1] = "",
	[P9_TUNLINKAT] = "fnl",
	[P9_TUNLINKAT + 1] = "",
	[P9_TVERSION] = "zn",
	[P9_TVERSION + 1] = "zn",
	[P9_TAUTH] = "fnNu",
	[P9_TAUTH + 1] = "q",
	[P9_TATTACH] = "fFnNu",
	[P9_TATTACH + 1] = "q",
	[P9_TFLUSH] = "t",
	[P9_TFLUSH + 1] = "",
	[P9_TWALK] = "fFw",
	[P9_TWALK + 1] = "Q",
	[P9_TREAD] = "foc",
	[P9_TREAD + 1] = "d",
	[P9_TWRITE] = "fod",
	[P9_TWRITE + 1] = "c",
	[P9_TCLUNK] = "f",
	[P9_TCLUNK + 1] = "",
	[P9_TREMOVE] = "f",
	[P9_TREMOVE + 1] = "",
	[P9_TLOOKUP] = "fFw",
	[P9_TLOOKUP + 1] = "a",
	[P9_TREADDIRPLUS] = "foc",
	[P9_TREADDIRPLUS + 1] = "d",
	[P9_TFALLOCATE] = "fmoL",
	[P9_TFALLOCATE + 1] = "",
	[P9_TSEEK] = "fol",
	[P9_TSEEK + 1] = "o",
	[P9_TRENAMEAT2] = "fnFNl",
	[P9_TRENAMEAT2 + 1] = "",
	[P9_TCOPY] = "foFOL",
	[P9_TCOPY + 1] = "L",
	[P9_TACCESS] = "fm",
	[P9_TACCESS + 1] = "",
	[P9_TGETXATTR] = "fnc",
	[P9_TGETXATTR + 1] = "Ld",
	[P9_TSETXATTR] = "fnld",
	[P9_TSETXATTR + 1] = "",
	[P9_TREMOVEXATTR] = "fn",
	[P9_TREMOVEXATTR + 1] = "",
};

/* Reads from, or writes to, a buffer; what does not fit is remembered. */
struct cursor {
	uint8_t *p;
	size_t left;
	bool put, bad;
};

static uint8_t *take(struct cursor *c, size_t n)
{
	uint8_t *p = c->p;

	if (c->bad || c->left < n) {
		c->bad = true;
		return NULL;
	}
	c->p += n;
	c->left -= n;
	return p;
}

static void do_u8(struct cursor *c, uint8_t *v)
{
	uint8_t *p = take(c, 1);

	if (p && c->put)
		*p = *v;
	else if (p)
		*v = *p;
}

static void do_u16(struct cursor *c, uint16_t *v)
{
	uint8_t *p = take(c, 2);

	if (p && c->put)
		le16_put(p, *v);
	else if (p)
		*v = le16_get(p);
}

static void do_u32(struct cursor *c, uint32_t *v)
{
	uint8_t *p = take(c, 4);

	if (p && c->put)
		le32_put(p, *v);
	else if (p)
		*v = le32_get(p);
}

static void do_u64(struct cursor *c, uint64_t *v)
{
	uint8_t *p = take(c, 8);

	if (p && c->put)
		le64_put(p, *v);
	else if (p)
		*v = le64_get(p);
}

static void do_str(struct cursor *c, struct p9_str *s)
{
	uint8_t *p;

	do_u16(c, &s->len);
	p = take(c, s->len);
	if (!p)
		return;
	if (c->put && s->len)
		memmove(p, s->s, s->len); /* it may stand in the buffer already */
	else if (!c->put)
		s->s = (const char *)p;
	if (!c->put && memchr(p, 0, s->len))
		c->bad = true;
}

static void do_qid(struct cursor *c, struct p9_qid *q)
{
	do_u8(c, &q->type);
	do_u32(c, &q->version);
	do_u64(c, &q->path);
}

static void do_time(struct cursor *c, struct p9_time *t)
{
	do_u64(c, &t->sec);
	do_u64(c, &t->nsec);
}

static void do_attr(struct cursor *c, struct p9_attr *a)
{
	uint64_t *const sizes[] = {&a->nlink, &a->rdev, &a->size, &a->blksize, &a->blocks};
	struct p9_time *const times[] = {&a->atime, &a->mtime, &a->ctime, &a->btime};

	do_u64(c, &a->valid);
	do_qid(c, &a->qid);
	do_u32(c, &a->mode);
	do_u32(c, &a->uid);
	do_u32(c, &a->gid);
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
		do_u64(c, sizes[i]);
	for (size_t i = 0; i < ARRAY_LEN(times); i++)
		do_time(c, times[i]);
	do_u64(c, &a->gen);
	do_u64(c, &a->data_version);
}

static void do_setattr(struct cursor *c, struct p9_setattr *a)
{
	do_u32(c, &a->valid);
	do_u32(c, &a->mode);
	do_u32(c, &a->uid);
	do_u32(c, &a->gid);
	do_u64(c, &a->size);
	do_time(c, &a->atime);
	do_time(c, &a->mtime);
}

static void do_statfs(struct cursor *c, struct p9_statfs *s)
{
	uint64_t *const counts[] = {
		&s->blocks, &s->bfree, &s->bavail, &s->files, &s->ffree, &s->fsid};

	do_u32(c, &s->type);
	do_u32(c, &s->bsize);
	for (size_t i = 0; i < ARRAY_LEN(counts); i++)
		do_u64(c, counts[i]);
	do_u32(c, &s->namelen);
}

static void do_names(struct cursor *c, struct p9_msg *m)
{
	do_u16(c, &m->nnames);
	c->bad |= m->nnames > P9_WALK_MAX;
	for (unsigned i = 0; i < m->nnames && !c->bad; i++)
		do_str(c, &m->names[i]);
}

static void do_qids(struct cursor *c, struct p9_msg *m)
{
	do_u16(c, &m->nqids);
	c->bad |= m->nqids > P9_WALK_MAX;
	for (unsigned i = 0; i < m->nqids && !c->bad; i++)
		do_qid(c, &m->qids[i]);
}

static void do_data(struct cursor *c, struct p9_msg *m)
{
	uint8_t *p;

	do_u32(c, &m->count);
	if (c->put && !m->data)
		return; /* follows */
	p = take(c, m->count);
	if (p && c->put)
		memcpy(p, m->data, m->count);
	else if (p)
		m->data = p;
}

static void do_field(struct cursor *c, const struct field *f, struct p9_msg *m)
{
	void *v = (char *)m + f->at;

	switch ((enum kind)f->kind) {
	case K_U8: do_u8(c, v); break;
	case K_U16: do_u16(c, v); break;
	case K_U32: do_u32(c, v); break;
	case K_U64: do_u64(c, v); break;
	case K_STR: do_str(c, v); break;
	case K_QID: do_qid(c, v); break;
	case K_ATTR: do_attr(c, v); break;
	case K_SET: do_setattr(c, v); break;
	case K_STATFS: do_statfs(c, v); break;
	case K_NAMES: do_names(c, m); break;
	case K_QIDS: do_qids(c, m); break;
	case K_DATA: do_data(c, m); break;
	}
}

static void do_body(struct cursor *c, const char *layout, struct p9_msg *m)
{
	for (; *layout && !c->bad; layout++)
		for (size_t i = 0; i < ARRAY_LEN(fields); i++)
			if (fields[i].letter == *layout) {
				do_field(c, &fields[i], m);
				break;
			}
}

static const char *layout_of(unsigned type)
{
	return type < P9_TYPES ? layouts[type] : NULL;
}

int p9_size(const void *buf, size_t max)
{
	uint32_t n = le32_get(buf);

	return n < P9_HEADER || n > max ? -EBADMSG : (int)n;
}

int p9_decode(const void *buf, size_t size, struct p9_msg *ret)
{
	struct cursor c = {.p = (uint8_t *)(uintptr_t)buf, .left = size};
	uint32_t said = 0;

	/* Not the lists of a walk, which their counts guard. */
	memset(ret, 0, offsetof(struct p9_msg, names));
	ret->data = NULL;
	do_u32(&c, &said);
	do_u8(&c, &ret->type);
	do_u16(&c, &ret->tag);
	if (c.bad || said != size)
		return -EBADMSG;
	if (!layout_of(ret->type))
		return -EOPNOTSUPP;
	do_body(&c, layout_of(ret->type), ret);
	return c.bad || c.left ? -EBADMSG : 0;
}

int p9_encode(const struct p9_msg *m, void *buf, size_t cap)
{
	struct cursor c = {.p = buf, .left = cap, .put = true};
	const char *layout = layout_of(m->type);
	/* A cursor that puts only reads. */
	struct p9_msg *in = (struct p9_msg *)(uintptr_t)m;
	uint32_t len;

	if (!layout)
		return -EINVAL;
	take(&c, 4);
	do_u8(&c, &in->type);
	do_u16(&c, &in->tag);
	do_body(&c, layout, in);
	if (c.bad)
		return -EMSGSIZE;
	len = (uint32_t)(cap - c.left);
	le32_put(buf, len + (strchr(layout, 'd') && !m->data ? m->count : 0));
	return (int)len;
}

int p9_dirent_decode(const void *buf, size_t len, bool plus, struct p9_dirent *ret)
{
	struct cursor c = {.p = (uint8_t *)(uintptr_t)buf, .left = len};

	if (len == 0)
		return 0;
	memset(ret, 0, sizeof(*ret));
	if (plus)
		do_attr(&c, &ret->attr);
	else
		do_qid(&c, &ret->attr.qid);
	do_u64(&c, &ret->offset);
	do_u8(&c, &ret->type);
	do_str(&c, &ret->name);
	if (c.bad || ret->name.len == 0 || ret->name.len > P9_NAME_MAX ||
		memchr(ret->name.s, '/', ret->name.len))
		return -EBADMSG;
	return (int)(len - c.left);
}

int p9_dirent_encode(const struct p9_dirent *d, bool plus, void *buf, size_t cap)
{
	struct cursor c = {.p = buf, .left = cap, .put = true};
	struct p9_dirent in = *d;

	if (plus)
		do_attr(&c, &in.attr);
	else
		do_qid(&c, &in.attr.qid);
	do_u64(&c, &in.offset);
	do_u8(&c, &in.type);
	do_str(&c, &in.name);
	return c.bad ? -EMSGSIZE : (int)(cap - c.left);
}

bool p9_name_ok(struct p9_str s)
{
	if (s.len == 0 || s.len > P9_NAME_MAX || memchr(s.s, '/', s.len) || memchr(s.s, 0, s.len))
		return false;
	return !(s.s[0] == '.' && (s.len == 1 || (s.len == 2 && s.s[1] == '.')));
}

struct p9_str p9_str(const char *s)
{
	size_t n = strlen(s);

	return (struct p9_str){s, n > UINT16_MAX ? UINT16_MAX : (uint16_t)n};
}
