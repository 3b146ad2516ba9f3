/* SPDX-License-Identifier: MIT */
/*
 * The FUSE protocol (linux/fuse.h, 7.31 and later) for one peer, a kernel, on top of a file server (lib/fs). Requests
 * come as vectors, replies go into vectors: of a virtqueue, or of /dev/fuse. What the peer sends is copied once and checked; the
 * data of reads and writes goes straight between its buffers and the files.
 */
#ifndef WSLX_FUSE_FUSE_H
#define WSLX_FUSE_FUSE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

struct fs;
struct fs_handle;
struct fuse_server;

struct fuse_opts {
	/* For how long, in ms, the peer may believe what it was told: names, attributes, that there is no such name. */
	uint32_t entry_ms, attr_ms, negative_ms;
	/* The peer alone changes these files: it may keep content without asking, and write later. */
	bool exclusive;
	bool posix_acl; /* the peer checks permissions by ACLs too */
	/* The peer agreed with a server before this one and does not know that it was replaced: it is taken for one that can all we
	 * want. What it had open is lost to it. */
	bool resume;
};

/*
 * Where the peer can see files as its memory. off and len are the peer's, unchecked. Any thread; 0 or a negative errno.
 */
struct fuse_window_ops {
	bool (*works)(void *ctx); /* is there one? */
	int (*map)(void *ctx, struct fs_handle *h, uint64_t at, uint64_t off, uint64_t len,
		bool writable);
	int (*unmap)(void *ctx, uint64_t off, uint64_t len);
};

/* fs is borrowed. */
int fuse_server_new(struct fuse_server **ret, struct fs *fs, const struct fuse_opts *opts);
/* Closes what is open. No request may be under way. */
void fuse_server_free(struct fuse_server *s);
/* Before the first request. ops and ctx are borrowed. */
void fuse_server_set_window(struct fuse_server *s, const struct fuse_window_ops *ops, void *ctx);
/* The peer is gone, and with it all it had open or looked up; the next begins with FUSE_INIT. No request may be under way. */
void fuse_server_reset(struct fuse_server *s);

enum { FUSE_HANDLE_NO_WAIT = 1, FUSE_HANDLE_NO_PARK = 2 };

/*
 * Does one request. How much was written to out; 0: there is no reply to this request. With FUSE_HANDLE_NO_WAIT, -EAGAIN:
 * it may have to wait for a disk, nothing was done, and it is to be handed over again, to a thread that can wait. -EBUSY: it
 * waits for changes of files; to be handed over again when there may be some, or with FUSE_HANDLE_NO_PARK for an answer at once.
 * Several threads may call this at once.
 */
ssize_t fuse_server_handle(struct fuse_server *s, const struct iovec *in, unsigned n_in,
	const struct iovec *out, unsigned n_out, uint32_t flags);

#endif
