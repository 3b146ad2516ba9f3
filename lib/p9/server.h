/* SPDX-License-Identifier: MIT */
/*
 * A 9P2000.L server over a file server (lib/fs/fs.h), for one connection: requests are done one after the other, in the
 * order in which they came. All are on behalf of one user, whoever an attach names.
 *
 * Not done: ".." in a walk, Trename and Tremove (the kernel's client uses renameat and unlinkat); opening what is
 * neither a file nor a folder, which is the client's own business.
 */
#ifndef WSLX_P9_SERVER_H
#define WSLX_P9_SERVER_H

#include "lib/base/cleanup.h"
#include "lib/fs/fs.h"
#include "lib/p9/proto.h"

struct p9_server;

/* An open file's descriptor, borrowed: locks are taken on it. */
typedef int (*p9_handle_fd)(const struct fs_handle *h);

/* fs and cred's groups: borrowed. handle_fd NULL: there are no locks. */
int p9_server_new(
	struct p9_server **ret, struct fs *fs, const struct fs_cred *cred, p9_handle_fd handle_fd);
void p9_server_free(struct p9_server *s);
/* For a peer that is a kernel: requests are on behalf of the user that the attach of their fid names, new files of the group they name. */
void p9_server_trust_ids(struct p9_server *s);
/*
 * A peer can go on with a server that was started again: fids are kept in the file fd (borrowed), and those that another server left
 * there are there again. What was open is not (-ESTALE). Before serving starts.
 */
int p9_server_keep(struct p9_server *s, int fd);
DEFINE_CLEANUP(struct p9_server, p9_server_free)

/*
 * Does what one message of len bytes asks and puts the reply into out, of P9_MSIZE_MAX bytes. Its length, or a negative
 * errno: the peer does not speak 9P, and the connection is of no use.
 */
int p9_server_handle(struct p9_server *s, const void *in, size_t len, void *out);

/* Serves a connected, blocking stream up to its end: 0, or a negative errno. fd is borrowed. The process ignores SIGPIPE. */
int p9_serve(struct p9_server *s, int fd);

#endif
