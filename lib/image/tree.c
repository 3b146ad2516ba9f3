/* SPDX-License-Identifier: MIT */
#include "lib/image/tree.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "lib/base/attr.h"

enum { ARENA = 1 << 18, FIRST_BUCKETS = 1 << 12 };

struct arena {
	struct arena *next;
	size_t used;
	char data[];
};

struct tree {
	struct node *root;
	struct node **bucket;
	size_t buckets, nodes;
	struct arena *arena;
	uint16_t layer;
};

static void *take(struct tree *t, size_t size)
{
	size = ALIGN_UP(size, sizeof(void *));
	if (!t->arena || ARENA - t->arena->used < size) {
		struct arena *a = malloc(sizeof(*a) + ARENA);

		if (!a)
			return NULL;
		a->used = 0;
		a->next = t->arena;
		t->arena = a;
	}
	t->arena->used += size;
	return memset(t->arena->data + t->arena->used - size, 0, size);
}

/* FNV-1a over the parent and the name. */
static uint32_t hash_of(const struct node *dir, const char *name, size_t len)
{
	uint64_t h = 0xcbf29ce484222325ull ^ (uintptr_t)dir;

	for (size_t i = 0; i < len; i++)
		h = (h ^ (uint8_t)name[i]) * 0x100000001b3ull;
	return (uint32_t)(h ^ h >> 32);
}

static int grow(struct tree *t)
{
	size_t buckets = t->buckets * 2;
	struct node **b = calloc(buckets, sizeof(*b));

	if (!b)
		return -ENOMEM;
	for (size_t i = 0; i < t->buckets; i++) {
		for (struct node *n = t->bucket[i], *next; n; n = next) {
			next = n->chain;
			n->chain = b[n->hash % buckets];
			b[n->hash % buckets] = n;
		}
	}
	free(t->bucket);
	t->bucket = b;
	t->buckets = buckets;
	return 0;
}

int tree_new(struct tree **ret, uint32_t root_ino)
{
	struct tree *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	t->buckets = FIRST_BUCKETS;
	t->bucket = calloc(t->buckets, sizeof(*t->bucket));
	t->root = take(t, sizeof(*t->root) + 1);
	if (!t->bucket || !t->root) {
		tree_free(t);
		return -ENOMEM;
	}
	t->root->ino = root_ino;
	t->root->mode = S_IFDIR | 0755;
	t->root->parent = t->root;
	*ret = t;
	return 0;
}

void tree_free(struct tree *t)
{
	if (!t)
		return;
	for (struct arena *a = t->arena, *next; a; a = next) {
		next = a->next;
		free(a);
	}
	free(t->bucket);
	free(t);
}

struct node *tree_root(struct tree *t)
{
	return t->root;
}

int tree_normalise(const char *path, char *buf, bool *ret_absolute, struct err *e)
{
	size_t used = 0;

	*ret_absolute = path[0] == '/';
	for (const char *p = path; *p;) {
		size_t len = strcspn(p, "/");

		if (len == 2 && p[0] == '.' && p[1] == '.')
			return err_set(e, -EINVAL, "unsafe path with \"..\": %s", path);
		if (len > 255)
			return err_set(e, -ENAMETOOLONG, "name longer than 255 bytes: %.60s...", p);
		if (len && !(len == 1 && p[0] == '.')) {
			if (used + 1 + len + 1 > TREE_MAX_PATH)
				return err_set(e, -ENAMETOOLONG, "path too long: %.60s...", path);
			if (used)
				buf[used++] = '/';
			memcpy(buf + used, p, len);
			used += len;
		}
		p += len;
		p += *p == '/';
	}
	buf[used] = 0;
	return 0;
}

struct node *tree_child(struct tree *t, const struct node *dir, const char *name, size_t len)
{
	uint32_t h = hash_of(dir, name, len);

	for (struct node *n = t->bucket[h % t->buckets]; n; n = n->chain)
		if (n->hash == h && n->parent == dir && n->len == len &&
			!memcmp(n->name, name, len))
			return n;
	return NULL;
}

struct node *tree_find(struct tree *t, const char *path)
{
	struct node *n = t->root;

	while (n && *path) {
		size_t len = strcspn(path, "/");

		n = S_ISDIR(n->mode) ? tree_child(t, n, path, len) : NULL;
		path += len;
		path += *path == '/';
	}
	return n;
}

int tree_add(struct tree *t, struct node *dir, const char *name, size_t len, uint32_t ino,
	uint32_t mode, struct node **ret)
{
	struct node *n;

	if (t->nodes >= TREE_MAX_NODES)
		return -ENFILE;
	if (t->nodes > t->buckets && grow(t) < 0)
		return -ENOMEM;
	n = take(t, sizeof(*n) + len + 1);
	if (!n)
		return -ENOMEM;
	memcpy(n->name, name, len);
	n->len = len;
	n->ino = ino;
	n->mode = mode;
	n->layer = t->layer;
	n->parent = dir;
	n->hash = hash_of(dir, name, len);
	n->chain = t->bucket[n->hash % t->buckets];
	t->bucket[n->hash % t->buckets] = n;
	n->next = dir->child;
	dir->child = n;
	dir->children++;
	dir->subdirs += S_ISDIR(mode);
	t->nodes++;
	*ret = n;
	return 0;
}

void tree_set_layer(struct tree *t, unsigned layer)
{
	t->layer = (uint16_t)layer;
}

/* It stays in its parent's list, marked, until the end: archives seldom name a thing twice. */
void tree_remove(struct tree *t, struct node *n)
{
	struct node **p = &t->bucket[n->hash % t->buckets];

	while (*p != n)
		p = &(*p)->chain;
	*p = n->chain;
	n->gone = true;
	n->parent->children--;
	n->parent->subdirs -= S_ISDIR(n->mode);
}

/* Children first, and without recursion: an archive may nest directories as deep as it likes. */
int tree_prune(struct tree *t, struct node *top, bool itself, unsigned layer,
	int (*fn)(void *ctx, struct node *n), void *ctx)
{
	struct node *n = top;

	for (;;) {
		while (S_ISDIR(n->mode) && !n->gone && n->child)
			n = n->child;
		for (;;) {
			if (!n->gone && n->layer < layer && !n->children && (n != top || itself)) {
				int r = fn(ctx, n);

				if (r < 0)
					return r;
				tree_remove(t, n);
			}
			if (n == top)
				return 0;
			if (n->next) {
				n = n->next;
				break;
			}
			n = n->parent;
		}
	}
}

/* Without recursion, too. */
int tree_each_dir(struct tree *t, int (*fn)(void *ctx, struct node *dir), void *ctx)
{
	struct node *n = t->root;

	for (;;) {
		if (S_ISDIR(n->mode) && !n->gone) {
			int r = fn(ctx, n);

			if (r < 0)
				return r;
			if (n->child) {
				n = n->child;
				continue;
			}
		}
		while (n != t->root && !n->next)
			n = n->parent;
		if (n == t->root)
			return 0;
		n = n->next;
	}
}
