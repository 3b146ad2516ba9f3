/* SPDX-License-Identifier: MIT */
/* vhost-user messages over a socket, one at a time: what both ends do alike. */
#ifndef WSLX_VHOST_MESSAGE_H
#define WSLX_VHOST_MESSAGE_H

#include <stddef.h>
#include <stdint.h>
#include "lib/vhost/proto.h"

/* Never waits. 0, or a negative errno; -EAGAIN: the other side stopped reading, what it gets now makes no sense. */
int vu_send(int fd, uint32_t request, uint32_t flags, const void *payload, uint32_t len,
	const int *fds, unsigned nfds);

/* A message as it comes in. */
struct vu_in {
	struct vu_msg msg;
	size_t got;
	int fds[VU_MAX_FDS]; /* owned; one that is taken becomes -1 */
	unsigned nfds;
};

/*
 * Receives, without waiting, as much as there is. 1: msg is complete, vu_in_done() makes room for the next; 0: not yet;
 * -ENODATA: the other side closed the connection between messages; other negative errno: no more can come.
 */
int vu_receive(int fd, struct vu_in *in);
void vu_in_done(struct vu_in *in);
/* The first descriptor, which is then the caller's; -1: none. */
int vu_take_fd(struct vu_in *in);

#endif
