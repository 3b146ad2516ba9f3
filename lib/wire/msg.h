/* SPDX-License-Identifier: MIT */
/*
 * Building, reading and moving the messages of <wslx/abi/guest.h>. Used by host and guest.
 *
 * A writer fills a caller's buffer; overflow is remembered and reported by wire_send(). A parsed
 * message points into the caller's buffer. Nothing is allocated.
 */
#ifndef WSLX_WIRE_MSG_H
#define WSLX_WIRE_MSG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <wslx/abi/guest.h>
#include "lib/base/attr.h"

struct wire_w {
	uint8_t *buf;
	size_t cap, len;
	bool overflow;
};

void wire_begin(struct wire_w *w, void *buf, size_t cap, unsigned type, unsigned flags, uint32_t id,
	uint32_t error);
void wire_u32(struct wire_w *w, enum wslx_tag tag, uint32_t v);
void wire_u64(struct wire_w *w, enum wslx_tag tag, uint64_t v);
void wire_bytes(struct wire_w *w, enum wslx_tag tag, const void *p, size_t len);
void wire_str(struct wire_w *w, enum wslx_tag tag, const char *s);
/* Finishes the header; the message's length, or -EMSGSIZE. */
int wire_end(struct wire_w *w) MUST_CHECK;
/* wire_end() and a whole write to a blocking descriptor (or one with room). */
int wire_send(struct wire_w *w, int fd) MUST_CHECK;

struct wire_msg {
	unsigned type, flags;
	uint32_t id, error;
	const uint8_t *attrs; /* checked: every attribute lies inside */
	size_t len;
};

/* Length of the message that starts at p, from its first 4 bytes; -EBADMSG when out of range. */
int wire_size(const void *p);
/* Checks a whole message of exactly len bytes. -EBADMSG. */
int wire_parse(const void *p, size_t len, struct wire_msg *ret) MUST_CHECK;
/* Reads one message from a blocking descriptor into buf. -EPIPE at its end, -EMSGSIZE when it does
 * not fit. */
int wire_recv(int fd, void *buf, size_t cap, struct wire_msg *ret) MUST_CHECK;

struct wire_attr {
	unsigned tag;
	const uint8_t *data;
	uint32_t len;
};

/* Iterates: start with *pos = 0; false at the end. */
bool wire_next(const struct wire_msg *m, size_t *pos, struct wire_attr *ret);
/* First attribute with this tag; false when absent. */
bool wire_find(const struct wire_msg *m, enum wslx_tag tag, struct wire_attr *ret);
/* Values with defaults when absent or of a wrong length. */
uint32_t wire_get_u32(const struct wire_msg *m, enum wslx_tag tag, uint32_t def);
uint64_t wire_get_u64(const struct wire_msg *m, enum wslx_tag tag, uint64_t def);
/*
 * Copies a string attribute with a NUL. Length, -ENOENT when absent, -EMSGSIZE when it does not
 * fit, -EBADMSG when it holds a NUL byte. buf is an empty string after a failure.
 */
int wire_get_str(const struct wire_msg *m, enum wslx_tag tag, char *buf, size_t cap);

/* Overwrites the values of attributes with this tag, in the caller's buffer, with zeroes: secrets. */
void wire_wipe(const struct wire_msg *m, enum wslx_tag tag);

#endif
