/* SPDX-License-Identifier: MIT */
/*
 * Saved state: a growing byte buffer of little-endian values in named sections. A section is
 * {u32 name length, name, u32 version, u32 payload length, payload}; sections nest. A reader that
 * runs off the end of its section, or meets a wrong name or version, goes into the failed state, in
 * which every read yields zero; the caller checks once at the end. Not thread-safe.
 */
#ifndef WSLX_VMM_CORE_STATE_H
#define WSLX_VMM_CORE_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct state_w;
struct state_w *state_w_new(void);
void state_w_free(struct state_w *w);
const void *state_w_data(const struct state_w *w, size_t *ret_len);

void state_put_u8(struct state_w *w, uint8_t v);
void state_put_u16(struct state_w *w, uint16_t v);
void state_put_u32(struct state_w *w, uint32_t v);
void state_put_u64(struct state_w *w, uint64_t v);
void state_put_bytes(struct state_w *w, const void *p, size_t len); /* raw: the reader knows len */
void state_begin(struct state_w *w, const char *name, uint32_t version);
void state_end(struct state_w *w);

struct state_r;
/* data stays the caller's and must outlive the reader. */
struct state_r *state_r_new(const void *data, size_t len);
void state_r_free(struct state_r *r);

uint8_t state_get_u8(struct state_r *r);
uint16_t state_get_u16(struct state_r *r);
uint32_t state_get_u32(struct state_r *r);
uint64_t state_get_u64(struct state_r *r);
void state_get_bytes(struct state_r *r, void *p, size_t len);
/* Enters the section, which must have this name and a version of at most max_version; returns the
 * version, 0: failed. */
uint32_t state_enter(struct state_r *r, const char *name, uint32_t max_version);
void state_leave(struct state_r *r); /* skips what was not read */
/* Marks the reader failed, with a reason (static string); for values that cannot be. */
void state_fail(struct state_r *r, const char *why);
/* 0, or -EBADMSG with *ret_why set. */
int state_check(const struct state_r *r, const char **ret_why);

#endif
