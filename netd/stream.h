/* SPDX-License-Identifier: MIT */
/*
 * Frames on a stream socket, each behind its length in 4 bytes, the most significant first: QEMU's protocol of network
 * sockets, which passt speaks. Whole buffers go through the socket, of as many frames as there are.
 */
#ifndef WSLX_NETD_STREAM_H
#define WSLX_NETD_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	STREAM_PREFIX = 4,
	STREAM_FRAME_MIN = 14,
	STREAM_FRAME_MAX = 14 + 65535, /* the largest packet of IPv4 */
	STREAM_BYTES = 512 << 10,      /* of a buffer */
};

struct stream_in {
	size_t have; /* of a frame that is not whole */
	uint8_t buf[STREAM_BYTES];
};

/* A frame, which may be changed. */
typedef void (*stream_frame_fn)(void *ctx, uint8_t *frame, size_t len);

/* Where what comes next is to be put, and how much at most. */
uint8_t *stream_space(struct stream_in *s, size_t *ret_cap);
/* So much has come: hands out the frames that are whole. -EPROTO: a length that no frame has; the stream is over. */
int stream_take(struct stream_in *s, size_t n, stream_frame_fn fn, void *ctx);

struct stream_out {
	size_t from, to;
	uint8_t buf[STREAM_BYTES];
};

/* There is room for the largest frame. */
bool stream_has_room(const struct stream_out *s);
/* Only if there is room, and for no more than STREAM_FRAME_MAX bytes. */
void stream_put(struct stream_out *s, const uint8_t *frame, size_t len);
/* Writes what waits. 1: all of it; 0: the socket is full; negative errno. */
int stream_flush(struct stream_out *s, int fd);

#endif
