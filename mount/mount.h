/* SPDX-License-Identifier: MIT */
/*
 * wslx-mount: all distributions' files as one folder of the host (FUSE, by libfuse's low-level interface). One thread runs
 * a loop: what FUSE asks becomes 9P requests (lib/p9/client) and is answered when those are. Whatever blocks, wslxd
 * above all, is asked from threads of its own (job.c).
 *
 * The kernel knows nodes (node.c): the mount's root, below it a folder for each distribution (dist.c), below that its
 * files. A node has a fid on the server when it is needed, and loses it with the connection; it is then walked to again.
 * The connection is made by the first request that needs one and ends when nothing has been asked for a while, so that a
 * distribution that only has its folder mounted becomes idle. Open files do not outlive their connection: EIO.
 */
#ifndef WSLX_MOUNT_MOUNT_H
#define WSLX_MOUNT_MOUNT_H

#define FUSE_USE_VERSION 35

#include <fuse3/fuse_lowlevel.h>
#include <stdbool.h>
#include "lib/base/err.h"
#include "lib/base/loop.h"
#include "lib/p9/client.h"

struct ctl_client;
struct rq;

enum dist_state { DIST_DOWN, DIST_CONNECTING, DIST_UP };

/* A distribution. It is known as long as it is registered, or its nodes are. */
struct dist {
	struct dist *next;
	struct mnt *m;
	char name[65], id[40];
	unsigned index; /* 1..: makes inode numbers of different distributions differ */
	bool listed;	/* registered, as of the last look */
	bool running;
	enum dist_state state;
	uint64_t gen;	 /* of its connection; fids of older ones are void */
	uint64_t serial; /* counts changes that we ask for */
	struct p9_client *client;
	struct ctl_client *hold;
	bool offline; /* what is connected is its disk, read-only */
	uid_t uid;    /* who we are there */
	gid_t gid;
	struct node *root;
	struct rq *queue; /* waits for the connection */
	unsigned files;	  /* open */
	uint64_t last_use;
	struct loop_src *idle;
	struct node *lru_head, *lru_tail; /* nodes with a fid, longest unused first */
	unsigned n_fids;
};

struct node {
	struct node *by_qid, *by_name; /* chains of hash tables */
	struct node *lru_prev, *lru_next;
	struct node *parent; /* counted; NULL: a distribution's root, or the mount's */
	struct dist *d;	     /* NULL: the mount's root */
	uint64_t lookups;    /* the kernel's */
	unsigned refs;	     /* ours: children, requests */
	uint32_t fid;
	uint64_t gen; /* the fid's connection */
	bool stale;   /* at its name there is something else now */
	/* On the way to a new fid: what is at its name has not been seen yet. */
	bool walking;
	unsigned walks;	    /* under way, older ones too */
	uint64_t serial;    /* of the last one */
	struct node *below; /* the next on a way down to a node */
	struct rq *queue;   /* waits for what it is */
	uint64_t found_at, found_gen;
	uint64_t changed; /* the last that we asked for, in it or of what it is */
	struct p9_qid qid;
	struct p9_time btime;
	/* As of the last look, for what the page cache holds. */
	struct p9_time mtime;
	uint64_t size;
	struct p9_time ctime;  /* when it was opened the last time; 0: that does not tell */
	uint64_t no_cap_until; /* it has no security.capability, as far as we know */
	char *name;
};

/* An open file or folder. */
struct file {
	struct node *node;
	struct dist *d;
	uint32_t fid;
	uint64_t gen;
	bool dir, plus_used, locked;
	/* Of a folder: entries that were read ahead; asked for when, and after which change. */
	uint64_t asked_at, asked_after;
	uint8_t *entries;
	size_t len, at;
	uint64_t next; /* the offset of the first of them */
	bool plus;
};

struct mnt {
	struct loop *loop;
	struct fuse_session *se;
	struct loop_src *src;
	const char *user; /* in the distributions; NULL: the default one */
	bool no_start;	  /* stopped distributions are shown from their disks */
	uid_t uid;
	gid_t gid;
	struct node *root;
	struct dist *dists;
	unsigned last_index;
	uint64_t listed_at; /* when wslxd was asked last; 0: never */
	bool listing;
	struct rq *list_queue;
};

/* --- requests (rq.c) --- */

/* One request of the kernel's, until it is answered. */
struct rq {
	struct rq *next;
	fuse_req_t req;
	struct mnt *m;
	struct dist *d;
	void (*go)(struct rq *rq);   /* when what it waits for is there */
	void (*then)(struct rq *rq); /* what go was before something else had to come first */
	struct node *node, *node2;
	struct file *file;
	char *name, *name2;
	uint32_t flags, mode, fid, fid2;
	uint64_t rdev, off, gen;
	size_t size;
	struct p9_setattr set;
	bool plus, fid_made, fid2_made;
	int error; /* the first of several replies */
	struct fuse_file_info fi;
	/* Reads and writes in pieces. */
	unsigned pieces;
	uint8_t *buf;
	size_t done;
	bool cut;
	bool answered; /* it was interrupted; replies are only cleaned up after */
	struct loop_src *again;
	unsigned tries;
};

struct rq *rq_new(fuse_req_t req, struct node *n, void (*go)(struct rq *rq));
void rq_free(struct rq *rq);
/* Answers, unless that was done, and frees. error: negative errno or 0. */
void rq_error(struct rq *rq, int error);
char *rq_str(const char *s);
/* Calls go when the distribution of its node is connected, which is seen to; answers when that fails. */
void rq_run(struct rq *rq);

/* --- distributions (dist.c, list.c) --- */

struct dist *dist_find(struct mnt *m, const char *name);
/* To be called for everything that uses the connection. */
void dist_used(struct dist *d);
void dist_connect(struct dist *d);
/* Makes a request of the current connection; there is one. */
void dist_call(struct rq *rq, struct p9_msg *m, p9_done done);
/* Gives a fid back that a request made, if its connection still is. */
void dist_clunk(struct dist *d, uint64_t gen, uint32_t fid);
/* A new fid for this request. False: there is none, and the request has been answered. */
bool rq_fid(struct rq *rq, uint32_t *ret);
/* Its files are gone or its connection is: nothing of it is of use any more. */
void dist_down(struct dist *d, int error);
/* Would list_run() look now? */
bool list_is_old(const struct mnt *m);
/* Looks, at most once a second, which distributions there are; then calls rq->go. */
void list_run(struct rq *rq);

/* Runs work in a thread and then done on the loop. */
void job_start(struct loop *l, void (*work)(void *ctx), void (*done)(void *ctx), void *ctx);

/* --- nodes (node.c) --- */

struct node *node_of(struct mnt *m, fuse_ino_t ino);
fuse_ino_t node_ino(const struct node *n);
/* The node of what was found under a name, with one more lookup of the kernel's; fid: taken over, may be P9_NO_FID. */
struct node *node_found(
	struct node *parent, const char *name, const struct p9_attr *a, uint32_t fid);
struct node *node_dist(struct dist *d);
void node_forget(struct mnt *m, struct node *n, uint64_t lookups);
void node_ref(struct node *n);
void node_unref(struct node *n);
void node_renamed(struct node *parent, const char *name, struct node *to, const char *new_name);
void node_unlinked(struct node *parent, const char *name);
/* A request follows that changes what it is, or what is in it: what was said of it before does not count any more. */
void node_changes(struct node *n);
/* What was asked for after that change does not tell what it is now. */
bool node_changed_since(const struct node *n, uint64_t serial);
/* What is known already of what a listing says. NULL: nothing. */
struct node *node_known(const struct dist *d, const struct p9_attr *a);
/* It cannot be reached by name any more. */
bool node_gone(const struct node *n);
/* Its fid, in the current connection, walked to if need be: requests that follow are worked on after that. */
uint32_t node_fid(struct node *n);
/* True: it has to be walked to, which may find another file at its name; rq_run() again, or an error, follows. */
bool node_wait(struct node *n, struct rq *rq);

/* --- answers (attr.c) --- */

void attr_stat(
	const struct dist *d, const struct node *n, const struct p9_attr *a, struct stat *ret);
/* Of a folder that is no file of any distribution. */
void attr_synthetic(const struct mnt *m, const struct node *n, struct stat *ret);
void attr_remember(struct node *n, const struct p9_attr *a);
/* Answers with an entry for what a reply of Tlookup says; fid is its fid. */
void attr_reply_entry(struct rq *rq, const char *name, const struct p9_attr *a, uint32_t fid);
uint32_t attr_uid_there(const struct dist *d, uint32_t uid);
uint32_t attr_gid_there(const struct dist *d, uint32_t gid);

/* On the root there is nothing to be changed, and one level below nothing to be done but looking. True: answered so. */
bool ops_refuse(fuse_req_t req, fuse_ino_t parent);
void ops_meta(struct fuse_lowlevel_ops *ops); /* meta.c */
void ops_name(struct fuse_lowlevel_ops *ops); /* name.c */
void ops_file(struct fuse_lowlevel_ops *ops); /* file.c */
void ops_dir(struct fuse_lowlevel_ops *ops);  /* dir.c */
void ops_lock(struct fuse_lowlevel_ops *ops); /* lock.c */

enum { TIMEOUT_S = 1 };

#define MNT(req) ((struct mnt *)fuse_req_userdata(req))

#endif
