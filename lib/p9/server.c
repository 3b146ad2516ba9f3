/* SPDX-License-Identifier: MIT */
/* Fids, and messages in and out. What is done on them is in ops.c. */
#include "lib/p9/server.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "lib/base/io.h"
#include "lib/p9/server-internal.h"

int p9_server_new(
	struct p9_server **ret, struct fs *fs, const struct fs_cred *cred, p9_handle_fd handle_fd)
{
	struct p9_server *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->fs = fs;
	s->cred = *cred;
	s->handle_fd = handle_fd;
	s->keep_fd = -1;
	*ret = s;
	return 0;
}

void p9_server_trust_ids(struct p9_server *s)
{
	s->trust_ids = true;
}

/* --- nodes and fids --- */

struct p9_node *p9_node_new(struct p9_server *s, const struct fs_entry *e)
{
	struct p9_node *n = calloc(1, sizeof(*n));

	if (!n) {
		s->fs->ops->forget(s->fs, e->node, 1);
		return NULL;
	}
	*n = (struct p9_node){.node = e->node, .refs = 1, .qid = p9_qid_of(s, &e->attr)};
	return n;
}

int p9_node_root(struct p9_server *s, struct p9_node **ret)
{
	struct fs_entry e = {.node = s->fs->ops->root(s->fs)};
	int r = s->fs->ops->getattr(s->fs, &s->cred, e.node, NULL, &e.attr);
	struct p9_node *n = r < 0 ? NULL : calloc(1, sizeof(*n));

	if (!n)
		return r < 0 ? r : -ENOMEM;
	s->root_dev = e.attr.dev;
	*n = (struct p9_node){
		.node = e.node, .root = true, .refs = 1, .qid = p9_qid_of(s, &e.attr)};
	*ret = n;
	return 0;
}

struct p9_node *p9_node_ref(struct p9_node *n)
{
	n->refs++;
	return n;
}

void p9_node_unref(struct p9_server *s, struct p9_node *n)
{
	if (!n || --n->refs)
		return;
	if (!n->root)
		s->fs->ops->forget(s->fs, n->node, 1);
	free(n->path);
	free(n);
}

struct p9_fid *p9_fid_find(struct p9_server *s, uint32_t fid)
{
	struct p9_fid *f = s->fids[fid % FID_BUCKETS];

	while (f && f->fid != fid)
		f = f->next;
	return f;
}

int p9_fid_new(struct p9_server *s, uint32_t fid, struct p9_node *node, struct p9_fid **ret)
{
	struct p9_fid *f = NULL;
	int r = 0;

	if (!node)
		return -ENOMEM;
	if (fid == P9_NO_FID || p9_fid_find(s, fid))
		r = -EBADF;
	else if (s->n_fids >= FIDS_MAX)
		r = -ENFILE;
	else if (!(f = calloc(1, sizeof(*f))))
		r = -ENOMEM;
	if (r < 0) {
		p9_node_unref(s, node);
		return r;
	}
	*f = (struct p9_fid){
		.next = s->fids[fid % FID_BUCKETS], .fid = fid, .uid = s->cred.uid, .node = node};
	s->fids[fid % FID_BUCKETS] = f;
	s->n_fids++;
	s->fresh = f;
	*ret = f;
	return 0;
}

static int fid_end(struct p9_server *s, struct p9_fid *f)
{
	struct p9_fid **p = &s->fids[f->fid % FID_BUCKETS];
	int r = 0;

	p9_keep_no_more(s, f);
	if (s->fresh == f)
		s->fresh = NULL;
	while (*p != f)
		p = &(*p)->next;
	*p = f->next;
	s->n_fids--;
	if (f->xattr)
		r = p9_xattr_end(s, f);
	if (f->h)
		s->fs->ops->close(s->fs, f->h);
	p9_node_unref(s, f->node);
	free(f);
	return r;
}

static void end_all(struct p9_server *s)
{
	p9_locks_end(s);
	for (unsigned i = 0; i < FID_BUCKETS; i++)
		while (s->fids[i]) {
			if (s->fids[i]->xattr)
				s->fids[i]->xattr->writes = false; /* given up, not ended */
			fid_end(s, s->fids[i]);
		}
}

void p9_server_free(struct p9_server *s)
{
	if (!s)
		return;
	s->keep_fd = -1; /* the peer has not given them up */
	end_all(s);
	free(s);
}

/* --- messages --- */

static int version(struct p9_server *s, const struct p9_msg *m, struct p9_msg *r)
{
	static const char plain[] = P9_VERSION, ours[] = P9_VERSION_WSLX;
	bool is_ours = m->name.len == sizeof(ours) - 1 && !memcmp(m->name.s, ours, m->name.len);

	end_all(s);
	s->msize = MIN(m->msize, (uint32_t)P9_MSIZE_MAX);
	if (s->msize < P9_MSIZE_MIN)
		return -EINVAL;
	s->wslx = is_ours;
	r->msize = s->msize;
	r->name = p9_str(
		is_ours ? ours
		: m->name.len >= sizeof(plain) - 1 && !memcmp(m->name.s, plain, sizeof(plain) - 1)
			? plain
			: "unknown");
	if (r->name.s != ours && r->name.s != plain)
		s->msize = 0;
	p9_keep_all(s);
	return 0;
}

static int attach(struct p9_server *s, const struct p9_msg *m, struct p9_msg *r)
{
	struct p9_node *n;
	struct p9_fid *f;
	int err = p9_node_root(s, &n);

	if (err < 0)
		return err;
	r->qid = n->qid;
	if (s->trust_ids && m->uid != P9_NO_UID)
		s->cred.uid = m->uid;
	return p9_fid_new(s, m->fid, n, &f);
}

static int dispatch(struct p9_server *s, const struct p9_msg *m, struct p9_msg *r, void *room)
{
	p9_op op = p9_op_of(m->type);
	const struct p9_node *before;
	struct p9_fid *f;
	int err;

	if (m->type == P9_TVERSION)
		return version(s, m, r);
	if (!s->msize)
		return -EPROTO;
	switch (m->type) {
	case P9_TATTACH: return attach(s, m, r);
	case P9_TAUTH: return -EOPNOTSUPP; /* none is needed */
	case P9_TFLUSH: return 0;	   /* it was answered already */
	default: break;
	}
	if (m->type >= P9_TLOOKUP && !s->wslx)
		return -EOPNOTSUPP;
	if (!op && m->type != P9_TCLUNK && m->type != P9_TREMOVE)
		return -EOPNOTSUPP;
	f = p9_fid_find(s, m->fid);
	if (!f)
		return s->resumed ? -ESTALE : -EBADF;
	if (s->trust_ids) {
		s->cred.uid = f->uid;
		if (m->type == P9_TLCREATE || m->type == P9_TMKDIR || m->type == P9_TMKNOD ||
			m->type == P9_TSYMLINK)
			s->cred.gid = m->gid;
	}
	if (m->type == P9_TCLUNK)
		return fid_end(s, f);
	if (m->type == P9_TREMOVE) {
		fid_end(s, f); /* whatever comes of it */
		return -EOPNOTSUPP;
	}
	/* A fid of an attribute is not one of a file. */
	if (f->xattr && m->type != P9_TREAD && m->type != P9_TWRITE)
		return -EBADF;
	before = f->node;
	err = op(s, f, m, r, room);
	p9_keep(s, f, before);
	return err;
}

/* Where the data of a reply stands, so that it is not moved. 0: it has none. */
static size_t data_at(unsigned request)
{
	switch (request) {
	case P9_TREAD:
	case P9_TREADDIR:
	case P9_TREADDIRPLUS: return P9_HEADER + 4;
	case P9_TGETXATTR: return P9_HEADER + 8 + 4;
	default: return 0;
	}
}

int p9_server_handle(struct p9_server *s, const void *in, size_t len, void *out)
{
	size_t at;
	struct p9_msg m, r;
	int err = p9_decode(in, len, &m), n;

	if (err < 0 && (err != -EOPNOTSUPP || m.type % 2))
		return -EBADMSG;
	if (m.type % 2 || (s->msize && len > s->msize))
		return -EBADMSG;
	memset(&r, 0, offsetof(struct p9_msg, names));
	r.data = NULL;
	r.nqids = 0;
	r.type = m.type + 1;
	r.tag = m.tag;
	at = data_at(m.type);
	s->fresh = NULL;
	if (err == 0)
		err = dispatch(s, &m, &r, (uint8_t *)out + (at ? at : (size_t)P9_DATA_HEADER));
	if (s->fresh)
		p9_keep(s, s->fresh, s->fresh->node);
	if (err < 0) {
		r = (struct p9_msg){.type = P9_RLERROR, .tag = m.tag, .ecode = (uint32_t)-err};
		at = 0;
	}
	if (!at)
		return p9_encode(&r, out, P9_MSIZE_MAX);
	if (r.count && r.data != (uint8_t *)out + at)
		memmove((uint8_t *)out + at, r.data, r.count);
	r.data = NULL;
	n = p9_encode(&r, out, P9_MSIZE_MAX);
	return n < 0 ? n : n + (int)r.count;
}

/* --- a connection --- */

struct serving {
	struct p9_server *s;
	int fd;
	uint8_t *in, *out;
	size_t have, used;
};

enum { IN_CAP = P9_MSIZE_MAX + 65536, OUT_CAP = 2 * P9_MSIZE_MAX };

static int flush(struct serving *v)
{
	int r = v->used ? io_write_full(v->fd, v->out, v->used) : 0;

	v->used = 0;
	return r;
}

/* Does all that has come; replies are sent together. */
static int work(struct serving *v)
{
	size_t at = 0;
	int r = 0, n;

	while (v->have - at >= P9_HEADER) {
		n = p9_size(v->in + at, v->s->msize ? v->s->msize : (size_t)P9_MSIZE_MIN);
		if (n < 0)
			return n;
		if (v->have - at < (size_t)n)
			break;
		if (OUT_CAP - v->used < P9_MSIZE_MAX)
			r = flush(v);
		if (r < 0)
			return r;
		r = p9_server_handle(v->s, v->in + at, (size_t)n, v->out + v->used);
		if (r < 0)
			return r;
		v->used += (size_t)r;
		at += (size_t)n;
	}
	memmove(v->in, v->in + at, v->have - at);
	v->have -= at;
	return flush(v);
}

int p9_serve(struct p9_server *s, int fd)
{
	cleanup_free uint8_t *in = malloc(IN_CAP), *out = malloc(OUT_CAP);
	struct serving v = {.s = s, .fd = fd, .in = in, .out = out};
	int r = in && out ? 0 : -ENOMEM;

	while (r == 0) {
		ssize_t n = read(fd, in + v.have, IN_CAP - v.have);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : 0;
		v.have += (size_t)n;
		r = work(&v);
	}
	return r;
}
