/* SPDX-License-Identifier: MIT */
/*
 * Programs in the guest that watch files of the host by inotify(7) hear of what the host changes (<wslx/abi/watch.h>). A process of
 * init's learns what is watched, and has this kernel raise the events that the file server reports.
 */
#ifndef WSLX_GUEST_WATCH_H
#define WSLX_GUEST_WATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <wslx/abi/watch.h>
#include "lib/base/loop.h"

/* Starts the process; fs: where the device's root is mounted. */
int watch_start(const char *fs);

/* A node somebody watches, in one file system of possibly several that have an inode for it. */
struct watched {
	uint64_t node;
	uint32_t gen, dev; /* dev: as in mountinfo, major << 20 | minor */
	uint32_t events;
};

/* watch-list.c: what an inotify descriptor watches. */
struct watch_list {
	struct watched *w;
	unsigned n, cap;
};

enum { WATCHED_MAX = 1 << 15 };

/* Of one line of its fdinfo, if it is about a node of FUSE. */
bool watch_parse(const char *line, struct watched *ret);
/* -ENOSPC: there are too many. */
int watch_add(struct watch_list *l, const struct watched *w);
/* Sorted by node and file system, each once, with the events of all. */
void watch_merge(struct watch_list *l);
/* The first of a node; those of other file systems follow. NULL: none. */
const struct watched *watch_find(const struct watch_list *l, uint64_t node);
/* What to tell the server so that it watches what is in now, rather than what is in before (both merged); at most cap. */
size_t watch_diff(const struct watch_list *before, const struct watch_list *now,
	struct wslx_watch *ret, size_t cap);
/* The first mount of this file system in the text of a mountinfo, if it is a virtiofs. */
bool watch_mount_point(const char *mountinfo, uint32_t dev, char *ret, size_t cap);

/* watch-events.c: the kernel's trace events of inotify. */
struct watch_event_fns {
	/* A process has another watch. fd -1: it is not known which. */
	void (*added)(pid_t pid, int fd);
	/* Somebody has fewer. */
	void (*removed)(void);
	/* Anything may have happened. */
	void (*lost)(void);
};
int watch_events_new(struct loop *l, const struct watch_event_fns *fns);

enum watch_trace { WATCH_OTHER, WATCH_BEGINS, WATCH_BEGAN, WATCH_FAILED, WATCH_ENDED };

/* One line of the trace (watch-list.c). BEGINS: of the descriptor *ret_fd. */
enum watch_trace watch_trace_parse(const char *line, pid_t *ret_pid, int *ret_fd);

/* watch-raise.c. tree: a mount of the file system dev, or negative. */
typedef int (*watch_tree_fn)(uint32_t dev);
void watch_raise(const struct watch_list *l, watch_tree_fn tree, const struct wslx_change *c,
	const char *name, const char *to_name);

#endif
