/* SPDX-License-Identifier: MIT */
/*
 * The names of a root file system being imported: a tree of nodes, looked up by path. Paths come from the archive and
 * are made safe here: every path is taken relative to the root, "." and doubled slashes vanish, ".." is refused, and no
 * symbolic link is ever followed.
 */
#ifndef WSLX_IMAGE_TREE_H
#define WSLX_IMAGE_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "lib/base/err.h"

enum { TREE_MAX_NODES = 1 << 22, TREE_MAX_PATH = 4096 };

struct node {
	struct node *parent, *child, *next; /* next: sibling */
	struct node *chain;		    /* in the hash table */
	uint32_t ino, mode;
	uint32_t children, subdirs;
	uint32_t hash;
	uint16_t layer; /* in which it was named last */
	uint8_t len;
	bool gone;
	char name[];
};

struct tree;

int tree_new(struct tree **ret, uint32_t root_ino);
void tree_free(struct tree *t);
struct node *tree_root(struct tree *t);

/*
 * The safe form of path in buf (TREE_MAX_PATH bytes): components joined by single slashes; "" is the root.
 * *ret_absolute: it began with a slash. -EINVAL with the reason in e.
 */
int tree_normalise(const char *path, char *buf, bool *ret_absolute, struct err *e);

/* Child by name; NULL: none. */
struct node *tree_child(struct tree *t, const struct node *dir, const char *name, size_t len);
/* By normalised path; NULL: none, or something on the way is not a directory. */
struct node *tree_find(struct tree *t, const char *path);
/* New child; the name must not exist. -ENOMEM, -ENFILE (too many). */
int tree_add(struct tree *t, struct node *dir, const char *name, size_t len, uint32_t ino,
	uint32_t mode, struct node **ret);
/* The layer of nodes added from now on; 0 at first. */
void tree_set_layer(struct tree *t, unsigned layer);
/* Takes the name away; it must not be a directory with children. */
void tree_remove(struct tree *t, struct node *n);
/*
 * Takes away what is below top (with itself: top, too) and was last named before this layer, except directories in which
 * something remains. fn is called for each node before it goes; stops at and returns its first negative result.
 */
int tree_prune(struct tree *t, struct node *top, bool itself, unsigned layer,
	int (*fn)(void *ctx, struct node *n), void *ctx);
/* Calls fn for every directory, parents first; stops at and returns its first negative result. */
int tree_each_dir(struct tree *t, int (*fn)(void *ctx, struct node *dir), void *ctx);

#endif
