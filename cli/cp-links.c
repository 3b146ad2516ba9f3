/* SPDX-License-Identifier: MIT */
/*
 * Files with several names: made once, then linked. What is kept of each is where its copy is, and looked up when the next
 * name comes by: an open file for each would soon be one too many.
 */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "cli/cp.h"
#include "lib/base/attr.h"

struct linked {
	struct linked *next;
	uint64_t dev, ino;
	char path[]; /* from the folder that the copy goes to */
};
static struct linked *linked[1 << 14];

static struct linked **bucket(const struct cp_attr *a)
{
	return &linked[(a->ino ^ a->dev) % ARRAY_LEN(linked)];
}

void cp_links_keep(const struct cp_attr *a, const char *path)
{
	size_t len = strlen(path) + 1;
	struct linked *l = malloc(sizeof(*l) + len), **b = bucket(a);

	/* Then its next name becomes a file of its own. */
	if (!l)
		return;
	l->next = *b;
	l->dev = a->dev;
	l->ino = a->ino;
	memcpy(l->path, path, len);
	*b = l;
}

bool cp_links_find(
	const struct cp_attr *a, struct cp_side *to, struct cp_node *root, struct cp_node *ret)
{
	struct cp_node at = *root;
	const struct linked *l = *bucket(a);
	struct cp_attr there = {0};

	while (l && (l->dev != a->dev || l->ino != a->ino))
		l = l->next;
	if (!l)
		return false;
	/* Name by name: a link that somebody put there meanwhile is not followed. */
	for (const char *p = l->path; *p;) {
		size_t n = strcspn(p, "/");
		char name[NAME_MAX + 1];
		struct cp_node next;
		int r;

		/* A file was made under it: it is not longer than that. */
		memcpy(name, p, MIN(n, sizeof(name) - 1));
		name[MIN(n, sizeof(name) - 1)] = '\0';
		r = to->ops->lookup(to, &at, name, &next, &there);
		if (p != l->path)
			to->ops->put(to, &at);
		if (r < 0)
			return false;
		at = next;
		p += n;
		p += *p == '/';
	}
	*ret = at;
	if ((there.mode & S_IFMT) == (a->mode & S_IFMT))
		return true;
	to->ops->put(to, ret);
	return false;
}

void cp_links_clear(void)
{
	for (size_t i = 0; i < ARRAY_LEN(linked); i++)
		while (linked[i]) {
			struct linked *l = linked[i];

			linked[i] = l->next;
			free(l);
		}
}
