/* SPDX-License-Identifier: MIT */
/* Saved state: writer and reader of nested, named, versioned sections (state.h). */
#include "vmm/core/state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "lib/base/attr.h"
#include "lib/base/checked.h"
#include "lib/base/le.h"

enum { MAX_DEPTH = 8, MAX_NAME = 64 };

struct state_w {
	uint8_t *data;
	size_t len, cap;
	size_t open[MAX_DEPTH]; /* where each open section's payload starts */
	unsigned depth;
};

struct state_w *state_w_new(void)
{
	struct state_w *w = calloc(1, sizeof(*w));

	if (!w)
		abort();
	return w;
}

void state_w_free(struct state_w *w)
{
	if (!w)
		return;
	free(w->data);
	free(w);
}

const void *state_w_data(const struct state_w *w, size_t *ret_len)
{
	assert(w->depth == 0);
	*ret_len = w->len;
	return w->data;
}

/* Our own devices decide how much is written: a machine that cannot give these kilobytes is beyond
 * help. */
static uint8_t *grow(struct state_w *w, size_t len)
{
	if (w->cap - w->len < len) {
		size_t cap = MAX(w->cap * 2, w->len + len);

		cap = MAX(cap, (size_t)4096);
		w->data = realloc(w->data, cap);
		if (!w->data)
			abort();
		w->cap = cap;
	}
	w->len += len;
	return w->data + w->len - len;
}

void state_put_u8(struct state_w *w, uint8_t v)
{
	*grow(w, 1) = v;
}

void state_put_u16(struct state_w *w, uint16_t v)
{
	le16_put(grow(w, 2), v);
}

void state_put_u32(struct state_w *w, uint32_t v)
{
	le32_put(grow(w, 4), v);
}

void state_put_u64(struct state_w *w, uint64_t v)
{
	le64_put(grow(w, 8), v);
}

void state_put_bytes(struct state_w *w, const void *p, size_t len)
{
	if (len)
		memcpy(grow(w, len), p, len);
}

void state_begin(struct state_w *w, const char *name, uint32_t version)
{
	size_t n = strlen(name);

	assert(w->depth < MAX_DEPTH && n > 0 && n <= MAX_NAME && version > 0);
	state_put_u32(w, n);
	state_put_bytes(w, name, n);
	state_put_u32(w, version);
	state_put_u32(w, 0); /* the length: state_end() knows */
	w->open[w->depth++] = w->len;
}

void state_end(struct state_w *w)
{
	size_t start, n;

	assert(w->depth > 0);
	start = w->open[--w->depth];
	n = w->len - start;
	if (n > UINT32_MAX)
		abort();
	le32_put(w->data + start - 4, n);
}

struct state_r {
	const uint8_t *data;
	size_t pos, end;	/* of the innermost section */
	size_t ends[MAX_DEPTH]; /* where the sections around it end */
	unsigned depth;
	const char *why; /* failed */
};

struct state_r *state_r_new(const void *data, size_t len)
{
	struct state_r *r = calloc(1, sizeof(*r));

	if (!r)
		abort();
	r->data = data;
	r->end = len;
	return r;
}

void state_r_free(struct state_r *r)
{
	free(r);
}

void state_fail(struct state_r *r, const char *why)
{
	if (!r->why)
		r->why = why;
}

int state_check(const struct state_r *r, const char **ret_why)
{
	if (!r->why)
		return 0;
	if (ret_why)
		*ret_why = r->why;
	return -EBADMSG;
}

/* The next len bytes, or NULL once the reader has failed. */
static const uint8_t *take(struct state_r *r, size_t len)
{
	const uint8_t *p = r->data + r->pos;

	if (r->why)
		return NULL;
	if (!range_ok(r->pos, len, r->end)) {
		state_fail(r, "saved state is cut short");
		return NULL;
	}
	r->pos += len;
	return p;
}

uint8_t state_get_u8(struct state_r *r)
{
	const uint8_t *p = take(r, 1);

	return p ? *p : 0;
}

uint16_t state_get_u16(struct state_r *r)
{
	const uint8_t *p = take(r, 2);

	return p ? le16_get(p) : 0;
}

uint32_t state_get_u32(struct state_r *r)
{
	const uint8_t *p = take(r, 4);

	return p ? le32_get(p) : 0;
}

uint64_t state_get_u64(struct state_r *r)
{
	const uint8_t *p = take(r, 8);

	return p ? le64_get(p) : 0;
}

void state_get_bytes(struct state_r *r, void *dst, size_t len)
{
	const uint8_t *p;

	if (!len)
		return;
	p = take(r, len);
	if (p)
		memcpy(dst, p, len);
	else
		memset(dst, 0, len);
}

uint32_t state_enter(struct state_r *r, const char *name, uint32_t max_version)
{
	size_t want = strlen(name), n = state_get_u32(r);
	const uint8_t *p = take(r, n);
	uint32_t version = state_get_u32(r), len = state_get_u32(r);

	if (r->why)
		return 0;
	if (n != want || memcmp(p, name, n) != 0) {
		state_fail(r, "saved state has another section where this machine expects its own");
		return 0;
	}
	if (version == 0 || version > max_version) {
		state_fail(r, "saved state has a section of a version this program does not know");
		return 0;
	}
	if (!range_ok(r->pos, len, r->end)) {
		state_fail(r, "saved state is cut short");
		return 0;
	}
	assert(r->depth < MAX_DEPTH);
	r->ends[r->depth++] = r->end;
	r->end = r->pos + len;
	return version;
}

void state_leave(struct state_r *r)
{
	/* A failed reader may have entered fewer sections than its caller believes. */
	if (r->why || r->depth == 0)
		return;
	r->pos = r->end;
	r->end = r->ends[--r->depth];
}
