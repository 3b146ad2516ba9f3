/* SPDX-License-Identifier: MIT */
/* What the parts of the server share: fids, and the operations on them (ops.c, dir.c, xattr.c). */
#ifndef WSLX_P9_SERVER_INTERNAL_H
#define WSLX_P9_SERVER_INTERNAL_H

#include "lib/p9/server.h"

enum {
	FID_BUCKETS = 1024,
	FIDS_MAX = 1 << 16,
	OWNER_BUCKETS = 64,
	OWNERS_MAX = 4096,
	XATTRS_MAX = 256
};

/* A node that several fids may name. */
struct p9_node {
	struct fs_node *node;
	bool root;  /* not counted by fs */
	char *path; /* from the root, when fids are kept; NULL: it is the root, or not known */
	unsigned refs;
	struct p9_qid qid;
};

/* The value of an attribute, being read or to be written (Txattrwalk, Txattrcreate). */
struct p9_xattr {
	char name[P9_NAME_MAX + 1];
	bool writes;
	uint32_t flags;
	size_t len, done;
	uint8_t *value;
};

struct p9_fid {
	struct p9_fid *next;
	uint32_t fid;
	uint32_t uid; /* on behalf of whom */
	struct p9_node *node;
	struct fs_handle *h; /* NULL: not open */
	bool append, kept;
	struct p9_xattr *xattr;
};

struct p9_server {
	struct fs *fs;
	struct fs_cred cred;
	p9_handle_fd handle_fd;
	uint64_t root_dev;
	uint32_t msize; /* 0: no Tversion yet */
	bool wslx, trust_ids;
	int keep_fd;		  /* -1: fids are not kept */
	off_t keep_len, keep_max; /* of that file; and when it is written anew */
	bool resumed;
	struct p9_fid *fresh;	   /* made by this request */
	unsigned n_fids, n_xattrs; /* n_xattrs: fids with the value of an attribute */
	struct p9_fid *fids[FID_BUCKETS];
	unsigned n_owners;
	struct p9_lock_owner *owners[OWNER_BUCKETS];
};

/* server.c */
struct p9_fid *p9_fid_find(struct p9_server *s, uint32_t fid);
/* Takes node over, with its reference, also when it fails. */
int p9_fid_new(struct p9_server *s, uint32_t fid, struct p9_node *node, struct p9_fid **ret);
struct p9_node *p9_node_ref(struct p9_node *n);
void p9_node_unref(struct p9_server *s, struct p9_node *n);
/* Takes the entry's reference over. NULL: no memory. */
struct p9_node *p9_node_new(struct p9_server *s, const struct fs_entry *e);
int p9_node_root(struct p9_server *s, struct p9_node **ret);
/* A name as a string; -EINVAL. */
int p9_name(struct p9_str s, char ret[P9_NAME_MAX + 1]);

/* keep.c: after a request has made or changed a fid, whose node was another one before; before one ends; of all. */
void p9_keep(struct p9_server *s, struct p9_fid *f, const struct p9_node *before);
void p9_keep_no_more(struct p9_server *s, struct p9_fid *f);
void p9_keep_all(struct p9_server *s);
/* For a node found in dir; NULL: it is not kept. */
char *p9_keep_path(const struct p9_server *s, const struct p9_node *dir, const char *name);

/* attr.c */
struct p9_qid p9_qid_of(const struct p9_server *s, const struct fs_attr *a);
void p9_attr_of(const struct p9_server *s, const struct fs_attr *a, struct p9_attr *ret);
/* P9_SET_... as enum fs_set, with their values. */
uint32_t p9_set_of(const struct p9_setattr *s, struct fs_attr *ret);

/*
 * Each does m, whose fid is f, and fills r, of the reply's type. room: for data, where r->data may point. A negative errno
 * becomes an Rlerror.
 */
typedef int (*p9_op)(struct p9_server *s, struct p9_fid *f, const struct p9_msg *m,
	struct p9_msg *r, void *room);

int p9_op_readdir(struct p9_server *s, struct p9_fid *f, const struct p9_msg *m, struct p9_msg *r,
	void *room);
int p9_op_xattrwalk(struct p9_server *s, struct p9_fid *f, const struct p9_msg *m, struct p9_msg *r,
	void *room);
int p9_op_xattrcreate(struct p9_server *s, struct p9_fid *f, const struct p9_msg *m,
	struct p9_msg *r, void *room);
int p9_op_getxattr(struct p9_server *s, struct p9_fid *f, const struct p9_msg *m, struct p9_msg *r,
	void *room);
int p9_op_setxattr(struct p9_server *s, struct p9_fid *f, const struct p9_msg *m, struct p9_msg *r,
	void *room);
int p9_op_removexattr(struct p9_server *s, struct p9_fid *f, const struct p9_msg *m,
	struct p9_msg *r, void *room);
int p9_op_lock(struct p9_server *s, struct p9_fid *f, const struct p9_msg *m, struct p9_msg *r,
	void *room);
int p9_op_getlock(struct p9_server *s, struct p9_fid *f, const struct p9_msg *m, struct p9_msg *r,
	void *room);
void p9_locks_end(struct p9_server *s);
/* Tread and Twrite of a fid with an attribute. */
int p9_xattr_read(struct p9_fid *f, const struct p9_msg *m, struct p9_msg *r);
int p9_xattr_write(struct p9_fid *f, const struct p9_msg *m, struct p9_msg *r);
/* With the fid's end what was written becomes the attribute. */
int p9_xattr_end(struct p9_server *s, struct p9_fid *f);

/* What is done for a request of this type; NULL: unknown. */
p9_op p9_op_of(unsigned type);

#endif
