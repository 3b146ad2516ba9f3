/* SPDX-License-Identifier: MIT */
/* The table of nodes: by number, by what they are, by place. */
#include "lib/fs/host-internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum { FIRST_SIZE = 1 << 10, MAX_NODES = 1 << 22, FIRST_SLOT = 128 };

_Static_assert(MAX_NODES < 1u << 31, "numbers of nodes have bit 31 clear");

static uint64_t mix(uint64_t v)
{
	v ^= v >> 33;
	v *= 0xff51afd7ed558ccdull;
	v ^= v >> 33;
	v *= 0xc4ceb9fe1a85ec53ull;
	return v ^ v >> 33;
}

static uint32_t ident_hash(const struct ident *i)
{
	return (uint32_t)mix(i->ino ^ mix(i->dev ^ i->mnt << 32));
}

static uint32_t place_hash(const struct fs_node *dir, const char *name)
{
	uint64_t v = (uintptr_t)dir;

	for (; *name; name++)
		v = (v ^ (uint8_t)*name) * 0x100000001b3ull;
	return (uint32_t)mix(v);
}

static void ident_from(struct ident *i, const struct statx *stx)
{
	*i = (struct ident){
		.dev = ident_dev(stx),
		.ino = stx->stx_ino,
		.mnt = stx->stx_mnt_id,
	};
	if (stx->stx_mask & STATX_BTIME) {
		i->btime = stx->stx_btime.tv_sec;
		i->btime_ns = stx->stx_btime.tv_nsec;
	}
}

static bool has_birth(const struct ident *i)
{
	return i->btime || i->btime_ns;
}

static bool ident_same(const struct ident *a, const struct statx *stx)
{
	struct ident b;

	ident_from(&b, stx);
	return a->ino == b.ino && a->dev == b.dev && a->mnt == b.mnt &&
	       (!has_birth(a) || (a->btime == b.btime && a->btime_ns == b.btime_ns));
}

void birth_forget(struct statx *stx)
{
	stx->stx_mask &= ~(uint32_t)STATX_BTIME;
}

void birth_check(const struct fs_node *dir, struct statx *stx)
{
	/* the same mount, the same file system */
	if (!has_birth(&dir->ident) && dir->ident.mnt == stx->stx_mnt_id)
		birth_forget(stx);
}

/* Some file systems have no time of birth, and give a number again at once: to a device where a file was. */
bool node_is(const struct fs_node *n, const struct statx *stx)
{
	const uint32_t shown = n->mode & S_IFMT, real = stx->stx_mode & S_IFMT;
	/* see meta.c */
	const bool stands_for = S_ISREG(real) && n->share && n->share->o.metadata &&
				!S_ISDIR(shown) && !S_ISLNK(shown);

	return ident_same(&n->ident, stx) && (shown == real || stands_for);
}

/* --- hashes --- */

static struct fs_node *ident_find(
	struct host *h, const struct fs_share *sh, const struct statx *stx)
{
	struct ident i;
	struct fs_node *n;

	ident_from(&i, stx);
	for (n = h->t.ident[ident_hash(&i) & h->t.mask]; n; n = n->ident_next)
		if (n->share == sh && ident_same(&n->ident, stx) &&
			(n->mode & S_IFMT) == (stx->stx_mode & S_IFMT))
			break;
	return n;
}

static void ident_add(struct host *h, struct fs_node *n)
{
	struct fs_node **at = &h->t.ident[ident_hash(&n->ident) & h->t.mask];

	n->ident_next = *at;
	*at = n;
	n->hashed = true;
}

void ident_remove(struct host *h, struct fs_node *n)
{
	struct fs_node **at = &h->t.ident[ident_hash(&n->ident) & h->t.mask];

	if (!n->hashed)
		return;
	while (*at != n)
		at = &(*at)->ident_next;
	*at = n->ident_next;
	n->hashed = false;
}

static struct fs_node *place_find(struct host *h, const struct fs_node *dir, const char *name)
{
	struct fs_node *n = h->t.place[place_hash(dir, name) & h->t.mask];

	while (n && (n->parent != dir || strcmp(n->name, name) != 0))
		n = n->place_next;
	return n;
}

static void place_add(struct host *h, struct fs_node *n, struct fs_node *dir, char *name)
{
	struct fs_node **at = &h->t.place[place_hash(dir, name) & h->t.mask];

	n->parent = dir;
	n->name = name;
	dir->pins++;
	n->place_next = *at;
	*at = n;
}

/* Takes the place away; the folder stays pinned and is returned. */
static struct fs_node *place_remove(struct host *h, struct fs_node *n)
{
	struct fs_node *dir = n->parent;
	struct fs_node **at;

	if (!n->name)
		return NULL;
	at = &h->t.place[place_hash(dir, n->name) & h->t.mask];
	while (*at != n)
		at = &(*at)->place_next;
	*at = n->place_next;
	free(n->name);
	n->name = NULL;
	n->parent = NULL;
	return dir;
}

/* Twice the buckets when there are as many nodes as buckets; without memory for it the chains get longer. */
static void grow(struct host *h)
{
	struct table *t = &h->t;
	uint32_t size = (t->mask + 1) * 2;
	struct fs_node **ident, **place;

	if (t->count <= t->mask)
		return;
	ident = calloc(size, sizeof(struct fs_node *));
	place = calloc(size, sizeof(struct fs_node *));
	if (!ident || !place) {
		free(ident);
		free(place);
		return;
	}
	free(t->ident);
	free(t->place);
	t->ident = ident;
	t->place = place;
	t->mask = size - 1;
	for (uint32_t i = 0; i < t->n_slots; i++) {
		struct fs_node *n = t->slots[i].node, **at;

		if (!n)
			continue;
		if (n->hashed)
			ident_add(h, n);
		if (n->name) {
			at = &t->place[place_hash(n->parent, n->name) & t->mask];
			n->place_next = *at;
			*at = n;
		}
	}
}

/* --- life --- */

static void lru_remove(struct host *h, struct fs_node *n)
{
	if (!n->lru_next)
		return;
	n->lru_prev->lru_next = n->lru_next;
	n->lru_next->lru_prev = n->lru_prev;
	n->lru_next = n->lru_prev = NULL;
}

/*
 * Slot 0 is nobody's: it ends the list of free ones. Those up to FIRST_SLOT are for roots, whose numbers are always
 * the same, so that a peer can go on with a server that was started again; the others' numbers are never mistaken for what they
 * were to the one before.
 */
static int slot_take(struct table *t, uint32_t first_gen)
{
	uint32_t i = t->free;

	if (i) {
		t->free = t->slots[i].next_free;
		return (int)i;
	}
	if (t->n_slots == t->cap) {
		struct slot *s;

		if (t->cap >= MAX_NODES)
			return -ENFILE;
		s = realloc(t->slots, 2ul * t->cap * sizeof(*s));
		if (!s)
			return -ENOMEM;
		t->slots = s;
		t->cap *= 2;
	}
	i = t->n_slots++;
	t->slots[i] = (struct slot){.gen = first_gen};
	return (int)i;
}

static int node_new(struct host *h, bool root, struct fs_share *sh, const struct statx *stx,
	struct fs_node **ret)
{
	struct fs_node *n = calloc(1, sizeof(*n));
	int i;

	if (!n)
		return -ENOMEM;
	if (root)
		i = h->t.n_roots < FIRST_SLOT ? (int)h->t.n_roots++ : -ENFILE;
	else
		i = slot_take(&h->t, h->first_gen);
	if (i < 0) {
		free(n);
		return i;
	}
	n->id = (uint64_t)h->t.slots[i].gen << 32 | (uint32_t)i;
	h->t.slots[i].node = n;
	n->fd = -1;
	n->share = sh;
	if (stx) {
		ident_from(&n->ident, stx);
		n->mode = stx->stx_mode;
		ident_add(h, n);
	}
	h->t.count++;
	*ret = n;
	return 0;
}

/* What is left of a node nobody knows any more is linked to *dead through ident_next; with it, maybe, its folders. */
static void unpin(struct host *h, struct fs_node *n, struct fs_node **dead)
{
	while (n && n->pins == 0 && n->lookups == 0) {
		uint32_t i = (uint32_t)n->id;
		struct fs_node *dir;

		ident_remove(h, n);
		dir = place_remove(h, n);
		lru_remove(h, n);
		if (n->fd >= 0)
			h->n_fds--;
		h->n_kept -= n->keep_fd;
		h->t.slots[i] = (struct slot){.gen = h->t.slots[i].gen + 1, .next_free = h->t.free};
		h->t.free = i;
		h->t.count--;
		n->ident_next = *dead;
		*dead = n;
		n = dir;
		if (n)
			n->pins--;
	}
}

static void bury(struct fs_node *dead)
{
	while (dead) {
		struct fs_node *n = dead;

		dead = n->ident_next;
		if (n->fd >= 0)
			close(n->fd);
		free(n);
	}
}

static void place_clear(struct host *h, struct fs_node *n, struct fs_node **dead)
{
	struct fs_node *dir = place_remove(h, n);

	/* of too many, those that are used least are lost */
	if (n->fd >= 0 && h->n_kept < h->max_fds) {
		n->keep_fd = true;
		h->n_kept++;
		lru_remove(h, n);
	}
	if (dir) {
		dir->pins--;
		unpin(h, dir, dead);
	}
}

/* A host's program can have moved folders so that our places would go round in a circle. */
static bool is_below(const struct fs_node *n, const struct fs_node *dir)
{
	while (dir && dir != n)
		dir = dir->parent;
	return dir == n;
}

static void place_set(struct host *h, struct fs_node *n, struct fs_node *dir, const char *name,
	struct fs_node **dead)
{
	struct fs_node *old = place_find(h, dir, name);
	char *copy;

	if (old == n || n == h->root || (S_ISDIR(n->mode) && is_below(n, dir)))
		return;
	copy = strdup(name);
	if (!copy)
		return; /* it keeps its old place, which may do */
	dir->pins++;
	if (old)
		place_clear(h, old, dead);
	if (n->name)
		place_clear(h, n, dead);
	h->n_kept -= n->keep_fd;
	n->keep_fd = false;
	if (n->fd >= 0 && n->fd_users == 0 && !n->lru_next) {
		n->lru_next = &h->lru;
		n->lru_prev = h->lru.lru_prev;
		n->lru_prev->lru_next = h->lru.lru_prev = n;
	}
	place_add(h, n, dir, copy);
	dir->pins--;
}

int node_enter(struct host *h, struct fs_node *dir, const char *name, const struct statx *stx,
	const struct mounted *m, struct fs_node **ret)
{
	struct fs_node *dead = NULL, *n;
	int r = 0;

	/* a place's name: file systems may list longer ones than they take from peers */
	if (name && strlen(name) > NAME_MAX)
		return -ENAMETOOLONG;
	pthread_mutex_lock(&h->lock);
	n = ident_find(h, dir->share, stx);
	if (!n) {
		grow(h);
		r = node_new(h, false, dir->share, stx, &n);
	}
	if (r == 0) {
		n->lookups++;
		n->mode = stx->stx_mode;
		n->closed = m->closed;
		n->remote = m->remote;
		if (name)
			place_set(h, n, dir, name, &dead);
		*ret = n;
	}
	pthread_mutex_unlock(&h->lock);
	bury(dead);
	return r;
}

uint64_t node_id(const struct fs_node *n)
{
	return n->id;
}

struct fs_node *node_get(struct fs *fs, uint64_t id)
{
	struct host *h = to_host(fs);
	uint32_t i = (uint32_t)id;
	struct fs_node *n = NULL;

	pthread_mutex_lock(&h->lock);
	if (i < h->t.n_slots)
		n = h->t.slots[i].node;
	/* what only we know of cannot be named; roots always can */
	if (n && (n->id != id || (n->lookups == 0 && n->name)))
		n = NULL;
	if (n)
		n->pins++;
	pthread_mutex_unlock(&h->lock);
	return n;
}

void node_put(struct fs *fs, struct fs_node *n)
{
	struct host *h = to_host(fs);
	struct fs_node *dead = NULL;

	pthread_mutex_lock(&h->lock);
	n->pins--;
	unpin(h, n, &dead);
	pthread_mutex_unlock(&h->lock);
	bury(dead);
}

void node_forget(struct fs *fs, struct fs_node *n, uint64_t count)
{
	struct host *h = to_host(fs);
	struct fs_node *dead = NULL;
	bool watched;

	pthread_mutex_lock(&h->lock);
	n->lookups -= MIN(count, n->lookups);
	/* who forgets a file does not watch it any more */
	watched = !n->lookups && n->watch;
	if (watched)
		n->pins++;
	else
		unpin(h, n, &dead);
	pthread_mutex_unlock(&h->lock);
	bury(dead);
	if (watched) {
		host_watch(fs, n, 0, 0);
		node_put(fs, n);
	}
}

void node_forget_all(struct fs *fs)
{
	struct host *h = to_host(fs);
	struct fs_node *dead = NULL;

	host_watch(fs, NULL, 0, 0);
	pthread_mutex_lock(&h->lock);
	for (uint32_t i = 0; i < h->t.n_slots; i++) {
		struct fs_node *n = h->t.slots[i].node;

		if (!n)
			continue;
		n->lookups = 0;
		unpin(h, n, &dead);
	}
	pthread_mutex_unlock(&h->lock);
	bury(dead);
}

/*
 * The file may be gone for good and its inode number be given to another before the peer forgets it: a node that
 * nothing holds open is not found by what it is any more. Another name of it, if there is one, becomes a new node.
 */
static void lose_name(struct host *h, struct fs_node *n, struct fs_node **dead)
{
	place_clear(h, n, dead);
	if (n->fd < 0 && !n->handles)
		ident_remove(h, n);
}

void node_hold(struct host *h, struct fs_node *dir, const char *name)
{
	struct fs_node *n;

	pthread_mutex_lock(&h->lock);
	n = place_find(h, dir, name);
	if (n && (n->fd >= 0 || n->handles))
		n = NULL;
	if (n)
		n->pins++;
	pthread_mutex_unlock(&h->lock);
	if (!n)
		return;
	if (node_fd(h, n) >= 0)
		node_fd_put(h, n);
	node_put(&h->fs, n);
}

/*
 * Others may have looked at the names when the operation was done and before it is said here: then a name is not what it was before, and
 * right.
 */
static bool is_still(
	struct host *h, const struct fs_node *n, const struct fs_node *dir, const char *name)
{
	return n && place_find(h, dir, name) == n;
}

void node_gone(struct host *h, struct fs_node *n, struct fs_node *dir, const char *name)
{
	struct fs_node *dead = NULL;

	pthread_mutex_lock(&h->lock);
	if (is_still(h, n, dir, name))
		lose_name(h, n, &dead);
	pthread_mutex_unlock(&h->lock);
	bury(dead);
}

void node_renamed(struct host *h, struct fs_node *a, struct fs_node *dir, const char *name,
	struct fs_node *b, struct fs_node *new_dir, const char *new_name, bool exchange)
{
	struct fs_node *dead = NULL;

	pthread_mutex_lock(&h->lock);
	if (!is_still(h, a, dir, name))
		a = NULL;
	if (!is_still(h, b, new_dir, new_name) || a == b)
		b = NULL;
	if (b && exchange)
		place_clear(h, b, &dead);
	else if (b)
		lose_name(h, b, &dead);
	if (a)
		place_set(h, a, new_dir, new_name, &dead);
	if (b && exchange)
		place_set(h, b, dir, name, &dead);
	pthread_mutex_unlock(&h->lock);
	bury(dead);
}

struct fs_node *node_at(struct host *h, struct fs_node *dir, const char *name)
{
	struct fs_node *n;

	pthread_mutex_lock(&h->lock);
	n = place_find(h, dir, name);
	if (n)
		n->pins++;
	pthread_mutex_unlock(&h->lock);
	return n;
}

struct fs_node *node_place(struct host *h, struct fs_node *n, char name[NAME_MAX + 1])
{
	struct fs_node *dir;

	pthread_mutex_lock(&h->lock);
	dir = n->parent;
	if (dir) {
		dir->pins++;
		if (name)
			memcpy(name, n->name, strlen(n->name) + 1);
	}
	pthread_mutex_unlock(&h->lock);
	return dir;
}

void node_again(struct host *h, struct fs_node *n)
{
	pthread_mutex_lock(&h->lock);
	n->lookups++;
	pthread_mutex_unlock(&h->lock);
}

void node_add_handle(struct host *h, struct fs_node *n, struct fs_handle *hd)
{
	hd->node = n;
	pthread_mutex_lock(&h->lock);
	n->pins++;
	hd->next = n->handles;
	if (hd->next)
		hd->next->prev = hd;
	n->handles = hd;
	pthread_mutex_unlock(&h->lock);
}

void node_drop_handle(struct host *h, struct fs_handle *hd)
{
	struct fs_node *dead = NULL, *n = hd->node;

	pthread_mutex_lock(&h->lock);
	if (hd->prev)
		hd->prev->next = hd->next;
	else
		n->handles = hd->next;
	if (hd->next)
		hd->next->prev = hd->prev;
	/* without a name and with nothing open it can be gone: see lose_name() */
	if (!n->handles && !n->name && n->fd < 0 && n != h->root)
		ident_remove(h, n);
	n->pins--;
	unpin(h, n, &dead);
	pthread_mutex_unlock(&h->lock);
	bury(dead);
}

/* --- the table --- */

int nodes_init(struct host *h)
{
	struct table *t = &h->t;

	h->lru.lru_next = h->lru.lru_prev = &h->lru;
	t->slots = calloc(FIRST_SIZE, sizeof(struct slot));
	t->ident = calloc(FIRST_SIZE, sizeof(struct fs_node *));
	t->place = calloc(FIRST_SIZE, sizeof(struct fs_node *));
	t->mask = FIRST_SIZE - 1;
	t->cap = FIRST_SIZE;
	t->n_slots = FIRST_SLOT;
	t->n_roots = 1;
	while (h->first_gen < 2)
		if (getrandom(&h->first_gen, sizeof(h->first_gen), 0) < 0)
			h->first_gen = (uint32_t)time(NULL);
	return t->slots && t->ident && t->place ? 0 : -ENOMEM;
}

struct fs_node *node_new_root(struct host *h, struct fs_share *sh, int fd, const struct statx *stx)
{
	struct fs_node *n;

	pthread_mutex_lock(&h->lock);
	if (node_new(h, true, sh, stx, &n) < 0)
		n = NULL;
	if (n) {
		n->pins = 1; /* for good */
		n->fd = fd;
		n->keep_fd = true;
		n->mode |= S_IFDIR;
	}
	pthread_mutex_unlock(&h->lock);
	return n;
}

void nodes_free(struct host *h)
{
	for (uint32_t i = 0; i < h->t.n_slots; i++) {
		struct fs_node *n = h->t.slots[i].node;

		if (!n)
			continue;
		if (n->fd >= 0)
			close(n->fd);
		free(n->name);
		free(n);
	}
	free(h->t.slots);
	free(h->t.ident);
	free(h->t.place);
}
