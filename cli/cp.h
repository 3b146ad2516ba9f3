/* SPDX-License-Identifier: MIT */
/*
 * Copying files between sides: this host (cp-local.c), a distribution (cp-remote.c). The copying itself (cp.c) knows
 * neither. Nothing is followed: a node is what has the name, a symbolic link too.
 */
#ifndef WSLX_CLI_CP_H
#define WSLX_CLI_CP_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>
#include "lib/base/err.h"

struct cp_attr {
	uint32_t mode, uid, gid, major, minor;
	uint64_t nlink, size, blocks, dev, ino;
	struct timespec atime, mtime;
};

/* What of it cp_ops.setattr sets. */
enum { CP_MODE = 1, CP_OWNER = 2, CP_TIMES = 4 };

/* A file of a side, open in no way, or for reading, or for writing. */
struct cp_node {
	int fd, path_fd; /* local */
	uint32_t fid;	 /* remote */
	struct cp_writes *writes;
};

struct cp_side;
struct cp_ops {
	/* The node at a path, whose last component is followed when it is a link; "" is the folder one is in. */
	int (*find)(struct cp_side *s, const char *path, bool follow, struct cp_node *ret,
		struct cp_attr *a);
	int (*lookup)(struct cp_side *s, struct cp_node *dir, const char *name, struct cp_node *ret,
		struct cp_attr *a);
	void (*put)(struct cp_side *s, struct cp_node *n);
	/* fn for each entry but "." and ".."; stops at its first result that is not 0. */
	int (*list)(struct cp_side *s, struct cp_node *dir, int (*fn)(void *ctx, const char *name),
		void *ctx);
	ssize_t (*readlink)(struct cp_side *s, struct cp_node *n, char *buf, size_t cap);

	int (*open)(struct cp_side *s, struct cp_node *n); /* for reading */
	ssize_t (*read)(struct cp_side *s, struct cp_node *n, void *buf, size_t len, uint64_t off);
	/* The data from off on: [*start, *end). -ENXIO: there is none. */
	int (*data)(
		struct cp_side *s, struct cp_node *n, uint64_t off, uint64_t *start, uint64_t *end);

	/* A new file, open for writing, that nobody else can read yet. */
	int (*create)(
		struct cp_side *s, struct cp_node *dir, const char *name, struct cp_node *ret);
	/* May be under way when it returns; done() then says what came of it. */
	int (*write)(
		struct cp_side *s, struct cp_node *n, const void *buf, size_t len, uint64_t off);
	int (*truncate)(struct cp_side *s, struct cp_node *n, uint64_t size);
	int (*done)(struct cp_side *s, struct cp_node *n);

	int (*mkdir)(struct cp_side *s, struct cp_node *dir, const char *name, struct cp_node *ret);
	int (*symlink)(struct cp_side *s, struct cp_node *dir, const char *name, const char *target,
		struct cp_node *ret);
	int (*mknod)(struct cp_side *s, struct cp_node *dir, const char *name,
		const struct cp_attr *a, struct cp_node *ret);
	int (*link)(struct cp_side *s, struct cp_node *n, struct cp_node *dir, const char *name);
	int (*rename)(struct cp_side *s, struct cp_node *dir, const char *from, const char *to);
	int (*unlink)(struct cp_side *s, struct cp_node *dir, const char *name);

	int (*setattr)(
		struct cp_side *s, struct cp_node *n, const struct cp_attr *a, unsigned what);
	/* name "": the list of their names, each with a NUL behind. */
	ssize_t (*getxattr)(
		struct cp_side *s, struct cp_node *n, const char *name, void *buf, size_t cap);
	int (*setxattr)(struct cp_side *s, struct cp_node *n, const char *name, const void *value,
		size_t len);
};

struct cp_side {
	const struct cp_ops *ops;
	struct cp_remote *remote; /* NULL: this host */
};

struct cp_opts {
	bool recursive, all; /* -r; -a: every attribute, and -r */
	mode_t umask;
	/* Where an owner's numbers differ between the sides, to become the other's. */
	uint32_t from_uid, to_uid, from_gid, to_gid;
	/* Set by a signal: everything comes to an end, and leaves nothing half done. */
	const volatile sig_atomic_t *stop;
	/* A piece of data was copied, or a file is complete. */
	void (*progress)(void *ctx, uint64_t bytes, uint64_t files);
	/* What cannot be copied does not keep the rest from it. */
	void (*failed)(void *ctx, const char *path, const struct err *e);
	void *ctx;
};

/* Copies what n is to the name in dir. shown: its path, for messages. */
int cp_copy(const struct cp_opts *o, struct cp_side *from, struct cp_node *n,
	const struct cp_attr *a, struct cp_side *to, struct cp_node *dir, const char *name,
	const char *shown);

/* --- files with several names (cp-links.c) --- */

/* The copy of such a file, that was made at this path below root. */
void cp_links_keep(const struct cp_attr *a, const char *path);
/* False: there is none, or it is there no more. */
bool cp_links_find(
	const struct cp_attr *a, struct cp_side *to, struct cp_node *root, struct cp_node *ret);
void cp_links_clear(void);

extern struct cp_side cp_local;

/* Opens a distribution's side; user: NULL: its default user. Its user is told. *ret is a name's path there. */
int cp_remote_open(struct cp_side *ret, const char *distribution, const char *user, uint32_t *uid,
	uint32_t *gid, struct err *e);
void cp_remote_close(struct cp_side *s);

#endif
