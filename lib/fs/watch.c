/* SPDX-License-Identifier: MIT */
/*
 * What others than peers change in nodes that somebody on a peer's side watches: inotify(7) of this host, translated to nodes.
 *
 * What a peer changes, its kernel has told its watchers. Operations of peers are between touch() and touched(): news from before
 * is taken in first, and of what has come when the operation is done, that which is about the same files is its own. What somebody
 * else does to the same file in that moment is covered by the peer's own event, which follows. If the operation fails, none does:
 * so what comes while it is under way, which can be long, is kept until then.
 */
#include "lib/fs/host-internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>

enum { MAX_WATCHES = 1 << 15, MAX_OWN = 3, MAX_HELD = 256 };

static const uint32_t watchable = IN_MODIFY | IN_ATTRIB | IN_CLOSE_WRITE | IN_MOVED_FROM |
				  IN_MOVED_TO | IN_CREATE | IN_DELETE | IN_DELETE_SELF |
				  IN_MOVE_SELF;

/* A node; several, of different views of one file, can have one descriptor. */
struct watch {
	struct watch *next; /* of those with this hash */
	struct fs_node *node;
	int wd;
	uint32_t events;
	unsigned peers;
};

/* What an operation of a peer's is about to change. */
struct own {
	uint64_t dir, file; /* numbers; 0: none */
	char name[NAME_MAX + 1];
};

/* News that is its own, if it is done: of a node. */
struct held {
	struct held *next;
	uint64_t node;
	struct inotify_event ev; /* its name follows */
};

/* A thread has one under way at most. */
struct own_op {
	struct own_op *next;
	struct own own[MAX_OWN];
	unsigned n;
	bool done;
	bool lost; /* more than MAX_HELD */
	unsigned n_held;
	struct held *held, **last;
};
static _Thread_local struct own_op op;

struct change {
	struct change *next;
	uint64_t node, to;
	struct fs_share *share;
	uint32_t cookie;
	uint8_t kind;
	bool dir;
	char names
		[]; /* both, with their NULs; there is room for a second one behind that of MOVED_FROM */
};

void watches_init(struct watches *w)
{
	w->fd = -1;
	w->last = &w->first;
	w->max_queued = 1 << 16;
	pthread_mutex_init(&w->lock, NULL);
}

int fs_host_enable_watches(struct fs *fs)
{
	struct watches *w = &to_host(fs)->w;

	if (w->fd < 0)
		w->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	return w->fd < 0 ? -errno : w->fd;
}

/* --- the queue --- */

static void drop_all(struct watches *w)
{
	while (w->first) {
		struct change *c = w->first;

		w->first = c->next;
		free(c);
	}
	w->last = &w->first;
	w->moved = NULL;
	w->n_queued = 0;
}

static void lose(struct watches *w)
{
	drop_all(w);
	w->lost = true;
}

static struct change *add(struct watches *w, const struct watch *at, enum fs_change_kind kind,
	bool dir, const char *name)
{
	size_t len = strlen(name) + 1;
	size_t room = kind == FS_CHANGE_MOVED_FROM ? NAME_MAX + 1 : 1;
	struct change *c;

	if (w->lost)
		return NULL;
	c = w->n_queued < w->max_queued ? malloc(sizeof(*c) + len + room) : NULL;
	if (!c) {
		lose(w);
		return NULL;
	}
	*c = (struct change){
		.node = at->node->id, .share = at->node->share, .kind = (uint8_t)kind, .dir = dir};
	memcpy(c->names, name, len);
	c->names[len] = '\0';
	*w->last = c;
	w->last = &c->next;
	w->n_queued++;
	return c;
}

static bool is_last(const struct watches *w, const struct change *c)
{
	return c && w->last == &c->next;
}

/* The other half of a move that began in this view makes it a whole one. */
static bool join(struct watches *w, const struct watch *at, uint32_t cookie, const char *name)
{
	struct change *c = w->moved;
	size_t len = strlen(name);

	if (!is_last(w, c) || c->cookie != cookie || c->share != at->node->share || len > NAME_MAX)
		return false;
	c->kind = FS_CHANGE_MOVE;
	c->to = at->node->id;
	memcpy(c->names + strlen(c->names) + 1, name, len + 1);
	return true;
}

/* A move raises the event of the file itself, too; and twice the same is once. */
static bool is_said(
	const struct watches *w, const struct watch *at, enum fs_change_kind kind, const char *name)
{
	const struct change *c = w->first ? container_of(w->last, struct change, next) : NULL;

	if (!c)
		return false;
	if (kind == FS_CHANGE_MOVE_SELF)
		return c->kind == FS_CHANGE_MOVE || c->kind == FS_CHANGE_MOVED_FROM ||
		       c->kind == FS_CHANGE_MOVED_TO;
	return c->kind == kind && c->node == at->node->id && strcmp(c->names, name) == 0;
}

/* --- events --- */

/* The operation under way that changes this, or NULL. */
static struct own_op *whose(const struct watches *w, const struct watch *at, const char *name)
{
	/* another inode of the peer's knows nothing of it */
	if (at->peers > 1)
		return NULL;
	for (struct own_op *p = w->own; p; p = p->next)
		for (unsigned i = 0; i < p->n; i++) {
			const struct own *o = &p->own[i];

			if (*name ? o->dir == at->node->id && strcmp(o->name, name) == 0
				  : o->file == at->node->id)
				return p;
		}
	return NULL;
}

static void hold(struct own_op *p, const struct watch *at, const struct inotify_event *ev)
{
	struct held *k;

	if (p->done || p->lost)
		return;
	k = p->n_held < MAX_HELD ? malloc(sizeof(*k) + ev->len) : NULL;
	if (!k) {
		p->lost = true;
		return;
	}
	k->next = NULL;
	k->node = at->node->id;
	memcpy(&k->ev, ev, sizeof(*ev) + ev->len);
	*p->last = k;
	p->last = &k->next;
	p->n_held++;
}

static void take_in(
	struct watches *w, const struct watch *at, const struct inotify_event *ev, const char *name)
{
	static const struct {
		uint32_t event;
		enum fs_change_kind kind;
	} kinds[] = {
		{IN_CREATE, FS_CHANGE_CREATE},
		{IN_DELETE, FS_CHANGE_DELETE},
		{IN_MODIFY, FS_CHANGE_MODIFY},
		{IN_ATTRIB, FS_CHANGE_ATTRIB},
		{IN_CLOSE_WRITE, FS_CHANGE_CLOSE_WRITE},
		{IN_MOVED_FROM, FS_CHANGE_MOVED_FROM},
		{IN_MOVED_TO, FS_CHANGE_MOVED_TO},
		{IN_DELETE_SELF, FS_CHANGE_DELETE_SELF},
		{IN_MOVE_SELF, FS_CHANGE_MOVE_SELF},
	};
	struct change *c;

	if (ev->mask & IN_MOVED_TO && join(w, at, ev->cookie, name))
		return;
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		if (!(ev->mask & at->events & kinds[i].event) ||
			is_said(w, at, kinds[i].kind, name))
			continue;
		c = add(w, at, kinds[i].kind, *name ? ev->mask & IN_ISDIR : S_ISDIR(at->node->mode),
			name);
		if (c && kinds[i].kind == FS_CHANGE_MOVED_FROM) {
			c->cookie = ev->cookie;
			w->moved = c;
		}
	}
}

static struct watch **bucket(struct watches *w, int wd)
{
	return &w->by_wd[(unsigned)wd % WATCH_BUCKETS];
}

/* Takes one out; its node is to be given back, without the lock. */
static struct fs_node *take_out(struct host *h, struct watch **at)
{
	struct watch *v = *at;
	struct fs_node *n = v->node;

	pthread_mutex_lock(&h->lock);
	n->watch = NULL;
	pthread_mutex_unlock(&h->lock);
	*at = v->next;
	free(v);
	h->w.n--;
	return n;
}

static void one_event(struct host *h, const struct inotify_event *ev)
{
	const char *name = ev->len ? ev->name : "";
	struct watches *w = &h->w;
	struct own_op *own;

	if (ev->mask & IN_Q_OVERFLOW)
		lose(w);
	for (struct watch **at = bucket(w, ev->wd), *v; (v = *at);) {
		if (v->wd == ev->wd && ev->mask & IN_IGNORED) {
			node_put(&h->fs, take_out(h, at));
			continue;
		}
		if (v->wd == ev->wd && (own = whose(w, v, name)))
			hold(own, v, ev);
		else if (v->wd == ev->wd)
			take_in(w, v, ev, name);
		at = &v->next;
	}
}

static void look(struct host *h)
{
	char buf[16 << 10] ALIGNED(8);
	ssize_t n;

	while (h->w.fd >= 0 && (n = read(h->w.fd, buf, sizeof(buf))) > 0)
		for (ssize_t at = 0; at < n;) {
			const struct inotify_event *ev = (void *)(buf + at);

			one_event(h, ev);
			at += (ssize_t)sizeof(*ev) + ev->len;
		}
}

void fs_host_look(struct fs *fs)
{
	struct host *h = to_host(fs);

	pthread_mutex_lock(&h->w.lock);
	look(h);
	pthread_mutex_unlock(&h->w.lock);
}

bool host_has_change(struct fs *fs)
{
	struct watches *w = &to_host(fs)->w;
	bool any;

	pthread_mutex_lock(&w->lock);
	any = w->first || w->lost;
	pthread_mutex_unlock(&w->lock);
	return any;
}

bool host_next_change(struct fs *fs, struct fs_change *ret)
{
	struct watches *w = &to_host(fs)->w;
	struct change *c;
	bool any;

	pthread_mutex_lock(&w->lock);
	c = w->first;
	any = c || w->lost;
	if (c) {
		w->first = c->next;
		if (!c->next)
			w->last = &w->first;
		if (w->moved == c)
			w->moved = NULL;
		w->n_queued--;
		*ret = (struct fs_change){
			.kind = c->kind, .dir = c->dir, .node = c->node, .to = c->to};
		memcpy(ret->name, c->names, strlen(c->names) + 1);
		if (c->kind == FS_CHANGE_MOVE)
			strcpy(ret->to_name, c->names + strlen(c->names) + 1);
		free(c);
	} else if (w->lost) {
		*ret = (struct fs_change){.kind = FS_CHANGE_LOST};
		w->lost = false;
	}
	pthread_mutex_unlock(&w->lock);
	return any;
}

/* --- watches --- */

/* Nobody is interested in it any more, unless another is. */
static void drop_wd(struct watches *w, int wd)
{
	for (const struct watch *v = *bucket(w, wd); v; v = v->next)
		if (v->wd == wd)
			return;
	inotify_rm_watch(w->fd, wd);
}

static void unwatch(struct host *h, struct watch **at)
{
	const int wd = (*at)->wd;
	struct fs_node *n = take_out(h, at);

	drop_wd(&h->w, wd);
	node_put(&h->fs, n);
}

static void unwatch_node(struct host *h, const struct fs_node *n)
{
	struct watch **at;

	if (!n->watch)
		return;
	for (at = bucket(&h->w, n->watch->wd); *at != n->watch; at = &(*at)->next)
		;
	unwatch(h, at);
}

static void unwatch_all(struct host *h)
{
	if (h->w.n)
		for (unsigned i = 0; i < WATCH_BUCKETS; i++)
			while (h->w.by_wd[i])
				unwatch(h, &h->w.by_wd[i]);
	drop_all(&h->w);
	h->w.lost = false;
}

static int new_watch(struct host *h, struct fs_node *n, int wd, uint32_t events, unsigned peers)
{
	struct watch *v = malloc(sizeof(*v));

	if (!v)
		return -ENOMEM;
	*v = (struct watch){*bucket(&h->w, wd), n, wd, events, peers};
	*bucket(&h->w, wd) = v;
	pthread_mutex_lock(&h->lock);
	n->pins++;
	n->watch = v;
	pthread_mutex_unlock(&h->lock);
	h->w.n++;
	return 0;
}

/* Without the lock: to find the file may take as long as its file system likes. */
static int begin_watch(struct host *h, struct fs_node *n, uint32_t events)
{
	char path[FD_PATH];
	int fd = node_fd(h, n), wd;

	if (fd < 0)
		return fd;
	/* a view of the same file may want others */
	wd = inotify_add_watch(h->w.fd, fd_path(path, fd), events | IN_MASK_ADD);
	if (wd < 0)
		wd = -errno;
	node_fd_put(h, n);
	/* that it is gone for good is an event; we are not to keep it */
	node_let_go(h, n);
	return wd;
}

/* It is watched by wd now. */
static int note_watch(struct host *h, struct fs_node *n, int wd, uint32_t events, unsigned peers)
{
	struct watch *v = n->watch;
	int r = v && v->wd != wd ? -ESTALE : 0;

	if (!v)
		r = h->w.n < MAX_WATCHES ? new_watch(h, n, wd, events, peers) : -ENOSPC;
	if (r < 0) {
		drop_wd(&h->w, wd);
	} else if (v) {
		v->events = events;
		v->peers = peers;
	}
	return r;
}

int host_watch(struct fs *fs, struct fs_node *n, uint32_t events, unsigned peers)
{
	struct host *h = to_host(fs);
	int r = 0, wd = 0;

	events &= watchable;
	if (h->w.fd < 0)
		return -EOPNOTSUPP;
	if (n && !n->share)
		return 0;
	if (n && events) {
		wd = n->watch || h->w.n < MAX_WATCHES ? begin_watch(h, n, events) : -ENOSPC;
		if (wd < 0)
			return wd;
	}
	pthread_mutex_lock(&h->w.lock);
	if (!n)
		unwatch_all(h);
	else if (events)
		r = note_watch(h, n, wd, events, peers);
	else
		unwatch_node(h, n);
	pthread_mutex_unlock(&h->w.lock);
	return r;
}

void watches_free(struct host *h)
{
	if (h->w.fd >= 0) {
		host_watch(&h->fs, NULL, 0, 0);
		close(h->w.fd);
	}
	pthread_mutex_destroy(&h->w.lock);
}

/* --- what peers change --- */

/* True: somebody watches it. */
static bool fill_own(struct host *h, const struct fs_touch *t, struct own *o)
{
	struct fs_node *dir, *file;
	bool watched;

	*o = (struct own){0};
	if (!t->name) {
		o->file = t->node->id;
		watched = t->node->watch;
		dir = node_place(h, t->node, o->name);
		if (dir) {
			o->dir = dir->id;
			watched |= dir->watch != NULL;
			node_put(&h->fs, dir);
		}
		return watched;
	}
	o->dir = t->node->id;
	watched = t->node->watch;
	if (strlen(t->name) > NAME_MAX)
		return false;
	memcpy(o->name, t->name, strlen(t->name) + 1);
	file = node_at(h, t->node, t->name);
	if (file) {
		o->file = file->id;
		watched |= file->watch != NULL;
		node_put(&h->fs, file);
	}
	return watched;
}

bool host_touch(struct fs *fs, const struct fs_touch *t, unsigned n)
{
	struct host *h = to_host(fs);
	bool watched = false;

	if (!h->w.n)
		return false;
	for (unsigned i = 0; i < n; i++)
		watched |= fill_own(h, &t[i], &op.own[i]);
	if (!watched)
		return false;
	op.n = n;
	op.done = op.lost = false;
	op.n_held = 0;
	op.held = NULL;
	op.last = &op.held;
	pthread_mutex_lock(&h->w.lock);
	look(h);
	op.next = h->w.own;
	h->w.own = &op;
	pthread_mutex_unlock(&h->w.lock);
	return true;
}

/* It was somebody else after all. */
static void take_in_held(struct host *h, const struct held *k)
{
	for (struct watch *v = *bucket(&h->w, k->ev.wd); v; v = v->next)
		if (v->wd == k->ev.wd && v->node->id == k->node)
			take_in(&h->w, v, &k->ev, k->ev.len ? k->ev.name : "");
}

void host_touched(struct fs *fs, bool done)
{
	struct host *h = to_host(fs);
	struct own_op **at = &h->w.own;

	pthread_mutex_lock(&h->w.lock);
	op.done = done;
	if (done)
		look(h);
	while (*at != &op)
		at = &(*at)->next;
	*at = op.next;
	while (op.held) {
		struct held *k = op.held;

		op.held = k->next;
		if (!done)
			take_in_held(h, k);
		free(k);
	}
	if (!done && op.lost)
		lose(&h->w);
	if (!done)
		look(h);
	pthread_mutex_unlock(&h->w.lock);
}

/* --- what is to be seen of changes --- */

static int entry_of(struct host *h, struct fs_node *n, struct fs_entry *ret)
{
	struct statx stx;

	/* held open by somebody, or known by another name */
	if (node_stat(h, n, &stx) < 0 || !stx.stx_nlink) {
		stx = (struct statx){.stx_mode = (uint16_t)n->mode,
			.stx_ino = n->ident.ino,
			.stx_nlink = 1,
			.stx_blksize = 4096};
	}
	attr_of(NULL, n, &stx, false, &ret->attr);
	node_again(h, n);
	ret->node = n;
	return 0;
}

int host_departed(struct fs *fs, struct fs_node *dir, const char *name, struct fs_entry *ret)
{
	struct host *h = to_host(fs);
	struct fs_node *n;
	struct statx stx;
	int fd, r = 0;

	if (!dir->share)
		return -ENOENT;
	if (!name)
		return entry_of(h, dir, ret);
	n = name_check(name) == 0 ? node_at(h, dir, name) : NULL;
	if (!n)
		return -ENOENT;
	fd = node_fd(h, dir);
	if (fd >= 0) {
		if (sys_statx(fd, name, &stx) == 0 && node_is(n, &stx))
			r = -ENOENT;
		node_fd_put(h, dir);
	}
	/* what only we know of has no number for peers */
	if (r == 0 && !n->lookups)
		r = -ENOENT;
	if (r == 0)
		r = entry_of(h, n, ret);
	node_put(fs, n);
	return r;
}

int host_parent(struct fs *fs, struct fs_node *n, struct fs_entry *ret)
{
	struct host *h = to_host(fs);
	struct fs_node *dir = n->share ? node_place(h, n, NULL) : NULL;
	struct statx stx;
	int r;

	if (!dir)
		return -ENOENT;
	r = node_stat(h, dir, &stx);
	if (r == 0) {
		attr_of(NULL, dir, &stx, false, &ret->attr);
		node_again(h, dir);
		ret->node = dir;
	}
	node_put(fs, dir);
	return r;
}
