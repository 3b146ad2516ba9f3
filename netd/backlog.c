/* SPDX-License-Identifier: MIT */
#include "netd/backlog.h"

#include <string.h>
#include "lib/base/attr.h"

/* Each frame lies in one piece behind its length; what is left at the buffer's end has the length SKIP. */
enum { HEADER = 8 };
#define SKIP UINT32_MAX

static size_t size_of(size_t len)
{
	return HEADER + ALIGN_UP(len, HEADER);
}

static uint32_t length_at(const struct backlog *b, size_t at)
{
	uint32_t len;

	memcpy(&len, b->data + at, sizeof(len));
	return len;
}

static void advance(size_t *at, size_t n)
{
	*at += n;
	if (*at == BACKLOG_BYTES)
		*at = 0;
}

bool backlog_put(struct backlog *b, const uint8_t *frame, size_t len)
{
	size_t need = size_of(len), left = BACKLOG_BYTES - b->tail;
	uint32_t n = (uint32_t)len, skip = SKIP;

	if (need + (left < need ? left : 0) > BACKLOG_BYTES - b->used)
		return false;
	if (left < need) {
		memcpy(b->data + b->tail, &skip, sizeof(skip));
		b->used += left;
		b->tail = 0;
	}
	memcpy(b->data + b->tail, &n, sizeof(n));
	memcpy(b->data + b->tail + HEADER, frame, len);
	b->used += need;
	advance(&b->tail, need);
	return true;
}

/* Where the oldest one is. */
static size_t first(const struct backlog *b)
{
	return length_at(b, b->head) == SKIP ? 0 : b->head;
}

const uint8_t *backlog_first(const struct backlog *b, size_t *ret_len)
{
	if (b->used == 0)
		return NULL;
	*ret_len = length_at(b, first(b));
	return b->data + first(b) + HEADER;
}

void backlog_drop(struct backlog *b)
{
	size_t at = first(b), n;

	if (at != b->head)
		b->used -= BACKLOG_BYTES - b->head;
	n = size_of(length_at(b, at));
	b->used -= n;
	b->head = at;
	advance(&b->head, n);
	if (b->used == 0)
		b->head = b->tail = 0;
}
