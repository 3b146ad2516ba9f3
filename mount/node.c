/* SPDX-License-Identifier: MIT */
/*
 * Nodes. One file has one node, whatever its names: it is found by its qid, and by the time of its birth, since the numbers
 * of files that are gone are used again. Its parent and name are the last by which it was looked up.
 *
 * A fid stays with its file, a name does not: what is walked to again may be another file by now, of which nothing must be
 * asked in the node's name. So whatever needs the fid waits until the server has said what it is of.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "mount/mount.h"

enum { BUCKETS = 1 << 14, FIDS_MAX = 8192 };

static struct node *by_qid[BUCKETS], *by_name[BUCKETS];

static unsigned qid_bucket(const struct dist *d, uint64_t path)
{
	return (unsigned)((path * 0x9e3779b97f4a7c15ull + d->index) >> 40) % BUCKETS;
}

static unsigned name_bucket(const struct node *parent, const char *name)
{
	uint64_t h = (uintptr_t)parent;

	for (; *name; name++)
		h = (h ^ (uint8_t)*name) * 0x100000001b3ull;
	return (unsigned)(h >> 20) % BUCKETS;
}

static void chain_remove(struct node **p, struct node *n, bool qid)
{
	while (*p && *p != n)
		p = qid ? &(*p)->by_qid : &(*p)->by_name;
	if (*p)
		*p = qid ? n->by_qid : n->by_name;
}

/* --- fids --- */

static bool has_fid(const struct node *n)
{
	return n->fid != P9_NO_FID && n->d && n->gen == n->d->gen && n->d->client;
}

static void lru_remove(struct node *n)
{
	struct dist *d = n->d;

	*(n->lru_prev ? &n->lru_prev->lru_next : &d->lru_head) = n->lru_next;
	*(n->lru_next ? &n->lru_next->lru_prev : &d->lru_tail) = n->lru_prev;
	n->lru_prev = n->lru_next = NULL;
	d->n_fids--;
}

static void lru_add(struct node *n)
{
	struct dist *d = n->d;

	n->lru_prev = d->lru_tail;
	n->lru_next = NULL;
	*(d->lru_tail ? &d->lru_tail->lru_next : &d->lru_head) = n;
	d->lru_tail = n;
	d->n_fids++;
}

void node_changes(struct node *n)
{
	n->changed = ++n->d->serial;
}

bool node_changed_since(const struct node *n, uint64_t serial)
{
	return n->changed > serial;
}

bool node_gone(const struct node *n)
{
	return n->stale && !has_fid(n);
}

/* The connection took its fids with it, and dist_down() the list. */
static void drop_fid(struct node *n, bool clunk)
{
	if (has_fid(n)) {
		lru_remove(n);
		if (clunk)
			p9_client_clunk(n->d->client, n->fid);
		else
			p9_client_fid_unused(n->d->client, n->fid);
	}
	n->fid = P9_NO_FID;
}

static void set_fid(struct node *n, uint32_t fid)
{
	n->fid = fid;
	n->gen = n->d->gen;
	lru_add(n);
	/* What was asked of them before is worked on before they go. */
	while (n->d->n_fids > FIDS_MAX && n->d->lru_head != n)
		drop_fid(n->d->lru_head, true);
}

struct walk {
	struct node *n;
	uint64_t serial;
};

/* Whatever is at its name, the answer that is under way is not about the fid it gets next. */
static void forget_walk(struct node *n)
{
	if (n->walking)
		drop_fid(n, true);
	n->walking = false;
	n->serial++;
}

/* Disks that are read without their distribution know no time of birth. */
static bool is_same_file(const struct node *n, const struct p9_attr *a)
{
	bool born = (n->btime.sec || n->btime.nsec) && (a->btime.sec || a->btime.nsec);

	return n->qid.path == a->qid.path && n->qid.type == a->qid.type &&
	       (!born || (n->btime.sec == a->btime.sec && n->btime.nsec == a->btime.nsec));
}

/* Those that waited for it begin again, or fail with it. */
static void resume(struct node *n, int error)
{
	struct rq *queue = n->queue;

	n->queue = NULL;
	while (queue) {
		struct rq *rq = queue;

		queue = rq->next;
		if (error)
			rq_error(rq, error);
		else
			rq_run(rq);
	}
}

static void walked(void *ctx, const struct p9_msg *r, int error)
{
	struct walk *w = ctx;
	struct node *n = w->n;
	bool current = w->serial == n->serial;

	free(w);
	n->walks--;
	if (current) {
		n->walking = false;
		if (!error && !is_same_file(n, &r->attr)) {
			drop_fid(n, true);
			error = -ESTALE;
		} else if (error && has_fid(n)) {
			drop_fid(n, false);
		}
		if (error == -ENOENT || error == -ENOTDIR)
			error = -ESTALE;
		n->stale |= error == -ESTALE;
	}
	if (current || !n->walks)
		resume(n, current ? error : 0);
	node_unref(n);
}

/* Its parent has a fid. */
static uint32_t walk(struct node *n)
{
	struct p9_msg m = {.type = P9_TLOOKUP, .nnames = 1};
	struct walk *w;

	m.fid = n->parent->parent ? n->parent->fid : P9_ROOT_FID;
	m.fid2 = p9_client_fid(n->d->client);
	m.names[0] = p9_str(n->name);
	if (m.fid2 == P9_NO_FID)
		return P9_NO_FID;
	w = malloc(sizeof(*w));
	if (!w)
		abort();
	set_fid(n, m.fid2);
	n->walking = true;
	n->walks++;
	*w = (struct walk){n, ++n->serial};
	node_ref(n);
	p9_client_call(n->d->client, &m, walked, w);
	return m.fid2;
}

/* Not the next to be given up. */
static void touch(struct node *n)
{
	lru_remove(n);
	lru_add(n);
}

uint32_t node_fid(struct node *n)
{
	struct node *top;

	if (!n->parent)
		return P9_ROOT_FID;
	if (has_fid(n)) {
		touch(n);
		return n->fid;
	}
	/* From the nearest that has one down to it. How deep folders are is not for us to say. */
	n->below = NULL;
	for (top = n; top->parent->parent && !has_fid(top->parent); top = top->parent)
		top->parent->below = top;
	if (has_fid(top->parent))
		touch(top->parent);
	for (; top; top = top->below)
		if (walk(top) == P9_NO_FID)
			return P9_NO_FID;
	return n->fid;
}

/* Where it was found just now, in this connection, it is: the kernel trusts that as long itself. */
static bool is_fresh(const struct node *n)
{
	return n->found_gen == n->d->gen && loop_now() - n->found_at < TIMEOUT_S * 1000000000ull;
}

static bool is_sure(const struct node *n)
{
	for (; n->parent; n = n->parent) {
		if (has_fid(n) && !n->walking)
			return true;
		if (!is_fresh(n))
			return false;
	}
	return true;
}

bool node_wait(struct node *n, struct rq *rq)
{
	struct rq **tail = &n->queue;

	if (is_sure(n) || node_fid(n) == P9_NO_FID || !n->walking)
		return false;
	while (*tail)
		tail = &(*tail)->next;
	rq->next = NULL;
	*tail = rq;
	return true;
}

/* --- lives --- */

struct node *node_of(struct mnt *m, fuse_ino_t ino)
{
	return ino == FUSE_ROOT_ID ? m->root : (struct node *)ino;
}

fuse_ino_t node_ino(const struct node *n)
{
	return n->d ? (fuse_ino_t)n : FUSE_ROOT_ID;
}

static void node_free(struct node *n)
{
	while (n && !n->lookups && !n->refs && n->d) {
		struct node *parent = n->parent;

		drop_fid(n, true);
		if (parent) {
			chain_remove(&by_qid[qid_bucket(n->d, n->qid.path)], n, true);
			chain_remove(&by_name[name_bucket(parent, n->name)], n, false);
			parent->refs--;
		} else {
			n->d->root = NULL;
		}
		free(n->name);
		free(n);
		n = parent;
	}
}

void node_ref(struct node *n)
{
	n->refs++;
}

void node_unref(struct node *n)
{
	n->refs--;
	node_free(n);
}

void node_forget(struct mnt *m, struct node *n, uint64_t lookups)
{
	n->lookups -= lookups < n->lookups ? lookups : n->lookups;
	node_free(n);
}

static struct node *make(struct node *parent, const char *name)
{
	struct node *n = calloc(1, sizeof(*n));

	if (!n || !(n->name = strdup(name)))
		abort();
	n->fid = P9_NO_FID;
	if (parent) {
		n->d = parent->d;
		n->parent = parent;
		node_ref(parent);
	}
	return n;
}

static void put_name(struct node *n)
{
	struct node **b = &by_name[name_bucket(n->parent, n->name)];

	n->by_name = *b;
	*b = n;
}

static void put_qid(struct node *n)
{
	struct node **b = &by_qid[qid_bucket(n->d, n->qid.path)];

	n->by_qid = *b;
	*b = n;
}

static struct node *find_qid(const struct dist *d, const struct p9_attr *a)
{
	struct node *n = by_qid[qid_bucket(d, a->qid.path)];

	while (n && (n->d != d || n->qid.path != a->qid.path || n->qid.type != a->qid.type ||
			    n->btime.sec != a->btime.sec || n->btime.nsec != a->btime.nsec))
		n = n->by_qid;
	return n;
}

struct node *node_known(const struct dist *d, const struct p9_attr *a)
{
	return find_qid(d, a);
}

static struct node *find_name(const struct node *parent, const char *name)
{
	struct node *n = by_name[name_bucket(parent, name)];

	while (n && (n->parent != parent || strcmp(n->name, name) != 0))
		n = n->by_name;
	return n;
}

/* Is n the folder, or one that the folder is in? */
static bool is_above(const struct node *n, const struct node *folder)
{
	while (folder && folder != n)
		folder = folder->parent;
	return folder != NULL;
}

static void rename_node(struct node *n, struct node *parent, const char *name)
{
	struct node *old = n->parent;
	char *copy;

	/* A folder that is mounted in itself again, or that a folder was moved out of, stays where it was: never in itself. */
	if ((n->parent == parent && !strcmp(n->name, name)) || is_above(n, parent))
		return;
	forget_walk(n);
	chain_remove(&by_name[name_bucket(n->parent, n->name)], n, false);
	copy = strdup(name);
	if (!copy)
		abort();
	free(n->name);
	n->name = copy;
	n->parent = parent;
	node_ref(parent);
	put_name(n);
	node_unref(old);
}

struct node *node_found(
	struct node *parent, const char *name, const struct p9_attr *a, uint32_t fid)
{
	struct node *n = find_qid(parent->d, a);

	if (n) {
		rename_node(n, parent, name);
	} else {
		n = make(parent, name);
		n->qid = a->qid;
		n->btime = a->btime;
		put_name(n);
		put_qid(n);
	}
	n->stale = false;
	n->found_gen = n->d->gen;
	n->found_at = loop_now();
	n->lookups++;
	if (fid == P9_NO_FID)
		return n;
	/* This one is of the file for sure. */
	forget_walk(n);
	if (has_fid(n))
		p9_client_clunk(n->d->client, fid);
	else
		set_fid(n, fid);
	return n;
}

struct node *node_dist(struct dist *d)
{
	if (!d->root) {
		d->root = make(NULL, "");
		d->root->d = d;
		d->root->qid = (struct p9_qid){.type = P9_QT_DIR, .path = 2};
	}
	d->root->lookups++;
	return d->root;
}

void node_renamed(struct node *parent, const char *name, struct node *to, const char *new_name)
{
	struct node *n = find_name(parent, name);

	if (n)
		rename_node(n, to, new_name);
}

void node_unlinked(struct node *parent, const char *name)
{
	struct node *n = find_name(parent, name);

	/* Another name of it may be looked up again; the fid it has is good until then. */
	if (n) {
		n->stale = true;
		node_changes(n); /* its links are fewer */
	}
}
