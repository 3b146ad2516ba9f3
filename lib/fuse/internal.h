/* SPDX-License-Identifier: MIT */
/* One request on its way through the server. */
#ifndef WSLX_FUSE_INTERNAL_H
#define WSLX_FUSE_INTERNAL_H

#include <errno.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <stdatomic.h>
#include "lib/base/attr.h"
#include "lib/base/iov.h"
#include "lib/fs/fs.h"
#include "lib/fuse/fuse.h"

enum {
	MAX_PAGES = 256, /* 1 MiB a read or write */
	MAX_NAME = 256,	 /* with the NUL */
	MAX_XATTR = 64 << 10,
	/* What is copied of a request; only the data of writes is longer. */
	MAX_ARGS = MAX_XATTR + 2 * MAX_NAME + 128,
};

struct open_file {
	struct fs_handle *h; /* NULL: free */
	uint32_t gen, users, next_free;
	bool dir, closing;
};

/* raise.c: the change that somebody makes the guest's kernel tell. */
struct raise {
	pthread_mutex_t lock;
	_Atomic uint32_t pid; /* who has it in hand; 0: nobody */
	struct fs_change c;
	uint64_t n; /* numbers nodes that are not there */
	_Atomic bool watching;
};

struct fuse_server {
	struct fs *fs;
	struct raise raise;
	struct fuse_opts o;
	const struct fuse_window_ops *window; /* NULL: none */
	void *window_ctx;
	_Atomic uint32_t minor;	    /* 0: no FUSE_INIT yet */
	_Atomic uint64_t flags;	    /* agreed on */
	_Atomic uint32_t under_way; /* requests; see enter() */
	pthread_mutex_t reset_lock;
	pthread_mutex_t lock; /* of the open files */
	struct open_file *files;
	uint32_t n_files, cap, free, first_gen;
};

struct req {
	struct fuse_server *s;
	struct fuse_in_header h;
	const uint8_t *arg; /* behind the header */
	size_t len;
	const struct iovec *in, *out;
	unsigned n_in, n_out;
	size_t in_size, out_size;
	bool no_wait, no_park;
	struct fs_cred cred;
	struct fs_node *node; /* of h.nodeid, for operations that need it */
};

/* Of handlers: how long the reply is, or a negative errno that becomes the reply. */
enum { NO_REPLY = 0, AGAIN = -(1 << 20), LATER = -(2 << 20) };
typedef ssize_t (*handler)(struct req *r);

/* The peer maps files, and asks for it as we say. */
bool server_maps(const struct fuse_server *s);
ssize_t reply(struct req *r, const void *body, size_t len);
/* The header of a reply whose body is in place. */
ssize_t reply_header(struct req *r, int error, size_t body);
/* The handle becomes the peer's, or is closed. */
ssize_t reply_open(struct req *r, struct fs_handle *h, bool dir, uint32_t flags);
/* The entry goes to the peer, or is forgotten. */
ssize_t reply_entry(struct req *r, int error, const struct fs_entry *e);
ssize_t reply_attr(struct req *r, int error, const struct fs_attr *a);
static inline ssize_t done(struct req *r, int error)
{
	return error < 0 ? error : reply_header(r, 0, 0);
}
/* The argument structure at the start; NULL when the request is too short for it. */
static inline const void *args(const struct req *r, size_t size)
{
	return r->len >= size ? r->arg : NULL;
}
/* The string at off of the arguments; *off moves behind it. NULL: it does not end. */
const char *string_at(const struct req *r, size_t *off);
void fill_entry(const struct req *r, const struct fs_entry *e, struct fuse_entry_out *ret);
void fill_attr(const struct req *r, const struct fs_attr *a, struct fuse_attr *ret);
void fill_time(uint32_t ms, uint64_t *sec, uint32_t *nsec);

/*
 * raise.c. True: the request is part of a change that is being raised, and *ret its answer. The extended attributes are those of
 * <wslx/abi/watch.h>.
 */
bool raise_request(struct req *r, ssize_t *ret);
bool raise_is_xattr(const char *name);
ssize_t raise_set_xattr(struct req *r, const char *name, const uint8_t *val, size_t len);
ssize_t raise_get_xattr(struct req *r, const char *name, size_t cap);
void raise_reset(struct fuse_server *s);
/* touch.c: around a request; see fs.h. */
bool touch_begin(struct req *r);

/* handles.c */
int files_add(struct fuse_server *s, struct fs_handle *h, bool dir, uint64_t *ret);
struct fs_handle *files_get(struct fuse_server *s, uint64_t fh, bool dir);
void files_put(struct fuse_server *s, uint64_t fh);
bool files_close(struct fuse_server *s, uint64_t fh, bool dir);
void files_close_all(struct fuse_server *s);

ssize_t fuse_lookup(struct req *r);
ssize_t fuse_forget(struct req *r);
ssize_t fuse_batch_forget(struct req *r);
ssize_t fuse_getattr(struct req *r);
ssize_t fuse_setattr(struct req *r);
ssize_t fuse_readlink(struct req *r);
ssize_t fuse_symlink(struct req *r);
ssize_t fuse_mknod(struct req *r);
ssize_t fuse_mkdir(struct req *r);
ssize_t fuse_unlink(struct req *r);
ssize_t fuse_rmdir(struct req *r);
ssize_t fuse_rename(struct req *r);
ssize_t fuse_rename2(struct req *r);
ssize_t fuse_link(struct req *r);
ssize_t fuse_access(struct req *r);
ssize_t fuse_open(struct req *r);
ssize_t fuse_create(struct req *r);
ssize_t fuse_tmpfile(struct req *r);
ssize_t fuse_read(struct req *r);
ssize_t fuse_write(struct req *r);
ssize_t fuse_release(struct req *r);
ssize_t fuse_releasedir(struct req *r);
ssize_t fuse_flush(struct req *r);
ssize_t fuse_fsync(struct req *r);
ssize_t fuse_fsyncdir(struct req *r);
ssize_t fuse_fallocate(struct req *r);
ssize_t fuse_lseek(struct req *r);
ssize_t fuse_copy_range(struct req *r);
ssize_t fuse_opendir(struct req *r);
ssize_t fuse_readdir(struct req *r);
ssize_t fuse_readdirplus(struct req *r);
ssize_t fuse_statfs(struct req *r);
ssize_t fuse_syncfs(struct req *r);
ssize_t fuse_setupmapping(struct req *r);
ssize_t fuse_removemapping(struct req *r);
ssize_t fuse_setxattr(struct req *r);
ssize_t fuse_getxattr(struct req *r);
ssize_t fuse_listxattr(struct req *r);
ssize_t fuse_removexattr(struct req *r);

#endif
