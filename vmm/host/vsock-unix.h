/* SPDX-License-Identifier: MIT */
/*
 * Guest stream sockets as unix sockets of the host.
 *
 * Towards the guest: a program connects to PATH, writes "CONNECT <port>\n", and reads "OK <host port>\n" once the guest
 * accepted; from then on the socket is the stream. It is closed instead when the guest refuses, does not answer, or the
 * line is not understood.
 * From the guest: a connection to CID 2, port N becomes a connection to the unix socket PATH_N.
 */
#ifndef WSLX_VMM_HOST_VSOCK_UNIX_H
#define WSLX_VMM_HOST_VSOCK_UNIX_H

#include "lib/base/err.h"
#include "lib/base/loop.h"
#include "vmm/virtio/vsock.h"

/* Listens at path (replacing a stale socket) and becomes vs's back end, owned by it. Loop's thread; vs may be attached to
 * its transport before or after, but before the loop runs. */
int vsock_unix_attach(struct vsock *vs, struct loop *loop, const char *path, struct err *e);

#endif
