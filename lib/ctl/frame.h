/* SPDX-License-Identifier: MIT */
/*
 * Framing of calls: one JSON object a line over a unix stream socket, with descriptors beside it.
 *
 *	request  {"id":N,"method":"M","params":{...}}
 *	reply    {"id":N,"result":{...}}  or  {"id":N,"error":{"code":ERRNO,"text":"..."}}
 *	event    {"id":N,"event":{...}}   any number before the reply of call N
 *
 * An object that travels with k descriptors says "fds":k; they are sent with the object's first
 * byte, so the receiver has them by its last. Both directions are bounded: a line, the descriptors
 * on the way, and what waits for a peer that does not read.
 */
#ifndef WSLX_CTL_FRAME_H
#define WSLX_CTL_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include "lib/base/io.h"
#include "lib/json/json.h"

enum {
	CTL_MAX_LINE = 256 * 1024,
	CTL_MAX_OUT = 4 * 1024 * 1024,
	CTL_MAX_FDS = IO_MAX_FDS, /* with one message */
	CTL_MAX_WAITING_FDS = 4 * CTL_MAX_FDS,
};

/* Received bytes and descriptors. All zeroes is a valid empty one. */
struct ctl_in {
	char *buf;
	size_t len, cap;
	size_t scanned; /* no newline before this */
	int fds[CTL_MAX_WAITING_FDS];
	unsigned nfds;
};

struct ctl_fds {
	int fd[CTL_MAX_FDS];
	unsigned n;
};

void ctl_fds_close(struct ctl_fds *f);
#define cleanup_ctl_fds cleanup(ctl_fds_close)

void ctl_in_done(struct ctl_in *in);
/* Adds what one recvmsg() gives: bytes read, 0 at the end, -EAGAIN, other negative errno. */
ssize_t ctl_in_read(struct ctl_in *in, int sock);
/* As if these had been read; takes the descriptors over. -EMSGSIZE: too much without a message. */
int ctl_in_feed(struct ctl_in *in, const void *data, size_t len, const int *fds, unsigned nfds);
/* Takes the next whole message: 1, or 0 when there is none yet. -EBADMSG: the peer breaks the
 * rules. */
int ctl_in_next(struct ctl_in *in, struct json_object **ret, struct ctl_fds *ret_fds);

struct ctl_chunk;

/* What waits to be sent. All zeroes is a valid empty one. */
struct ctl_out {
	struct ctl_chunk *head, **tail;
	size_t bytes;
	bool mends; /* what is no UTF-8 goes out as '?': the peer would take it for a broken connection */
};

void ctl_out_done(struct ctl_out *out);
/* Queues o (taken over) with descriptors (taken over, closed after sending; f may be NULL).
 * -ENOBUFS: too much is waiting. */
int ctl_out_push(struct ctl_out *out, struct json_object *o, struct ctl_fds *f);
/* Sends what the socket takes: 1 when all is gone, 0 when some is left, negative errno. */
int ctl_out_flush(struct ctl_out *out, int sock);

/* Fails with -EPERM unless the socket's peer has our effective user id. */
int ctl_check_peer(int sock, struct err *e);

/* The error of a reply into *e: its negative errno, or 0 when the reply is a result. */
int ctl_reply_error(struct json_object *reply, struct err *e);

#endif
