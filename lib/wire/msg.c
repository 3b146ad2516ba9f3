/* SPDX-License-Identifier: MIT */
#include "lib/wire/msg.h"

#include <errno.h>
#include <string.h>
#include "lib/base/io.h"
#include "lib/base/le.h"

enum { HDR = sizeof(struct wslx_msg), ATTR = sizeof(struct wslx_attr) };

void wire_begin(struct wire_w *w, void *buf, size_t cap, unsigned type, unsigned flags, uint32_t id,
	uint32_t error)
{
	*w = (struct wire_w){.buf = buf, .cap = MIN(cap, (size_t)WSLX_MSG_MAX), .len = HDR};
	if (w->cap < HDR) {
		w->overflow = true;
		return;
	}
	le32_put(w->buf, 0);
	le16_put(w->buf + 4, (uint16_t)type);
	le16_put(w->buf + 6, (uint16_t)flags);
	le32_put(w->buf + 8, id);
	le32_put(w->buf + 12, error);
}

void wire_bytes(struct wire_w *w, enum wslx_tag tag, const void *p, size_t len)
{
	size_t padded = ALIGN_UP(len, 4);

	if (w->overflow || len > WSLX_MSG_MAX || w->cap - w->len < ATTR + padded) {
		w->overflow = true;
		return;
	}
	uint8_t *a = w->buf + w->len;
	le32_put(a, (uint32_t)len);
	le16_put(a + 4, (uint16_t)tag);
	le16_put(a + 6, 0);
	if (len)
		memcpy(a + ATTR, p, len);
	memset(a + ATTR + len, 0, padded - len);
	w->len += ATTR + padded;
}

void wire_u32(struct wire_w *w, enum wslx_tag tag, uint32_t v)
{
	uint8_t b[4];

	le32_put(b, v);
	wire_bytes(w, tag, b, sizeof(b));
}

void wire_u64(struct wire_w *w, enum wslx_tag tag, uint64_t v)
{
	uint8_t b[8];

	le64_put(b, v);
	wire_bytes(w, tag, b, sizeof(b));
}

void wire_str(struct wire_w *w, enum wslx_tag tag, const char *s)
{
	wire_bytes(w, tag, s, strlen(s));
}

int wire_end(struct wire_w *w)
{
	if (w->overflow)
		return -EMSGSIZE;
	le32_put(w->buf, (uint32_t)w->len);
	return (int)w->len;
}

int wire_send(struct wire_w *w, int fd)
{
	int n = wire_end(w);

	return n < 0 ? n : io_write_full(fd, w->buf, (size_t)n);
}

int wire_size(const void *p)
{
	uint32_t n = le32_get(p);

	return n < HDR || n > WSLX_MSG_MAX || n % 4 ? -EBADMSG : (int)n;
}

int wire_parse(const void *p, size_t len, struct wire_msg *ret)
{
	const uint8_t *b = p;

	if (len < HDR || wire_size(p) != (int)len)
		return -EBADMSG;
	*ret = (struct wire_msg){.type = le16_get(b + 4),
		.flags = le16_get(b + 6),
		.id = le32_get(b + 8),
		.error = le32_get(b + 12),
		.attrs = b + HDR,
		.len = len - HDR};
	for (size_t off = 0; off < ret->len;) {
		if (ret->len - off < ATTR)
			return -EBADMSG;
		size_t n = ALIGN_UP((size_t)le32_get(ret->attrs + off), 4);
		if (n > ret->len - off - ATTR)
			return -EBADMSG;
		off += ATTR + n;
	}
	return 0;
}

int wire_recv(int fd, void *buf, size_t cap, struct wire_msg *ret)
{
	int n, r = io_read_full(fd, buf, 4);

	if (r < 0)
		return r;
	n = wire_size(buf);
	if (n < 0)
		return n;
	if ((size_t)n > cap)
		return -EMSGSIZE;
	r = io_read_full(fd, (uint8_t *)buf + 4, (size_t)n - 4);
	return r < 0 ? r : wire_parse(buf, (size_t)n, ret);
}

bool wire_next(const struct wire_msg *m, size_t *pos, struct wire_attr *ret)
{
	if (*pos >= m->len)
		return false;
	const uint8_t *a = m->attrs + *pos;
	*ret = (struct wire_attr){.len = le32_get(a), .tag = le16_get(a + 4), .data = a + ATTR};
	*pos += ATTR + ALIGN_UP((size_t)ret->len, 4);
	return true;
}

bool wire_find(const struct wire_msg *m, enum wslx_tag tag, struct wire_attr *ret)
{
	for (size_t pos = 0; wire_next(m, &pos, ret);)
		if (ret->tag == (unsigned)tag)
			return true;
	return false;
}

uint32_t wire_get_u32(const struct wire_msg *m, enum wslx_tag tag, uint32_t def)
{
	struct wire_attr a;

	return wire_find(m, tag, &a) && a.len == 4 ? le32_get(a.data) : def;
}

uint64_t wire_get_u64(const struct wire_msg *m, enum wslx_tag tag, uint64_t def)
{
	struct wire_attr a;

	return wire_find(m, tag, &a) && a.len == 8 ? le64_get(a.data) : def;
}

int wire_get_str(const struct wire_msg *m, enum wslx_tag tag, char *buf, size_t cap)
{
	struct wire_attr a;

	buf[0] = '\0';
	if (!wire_find(m, tag, &a))
		return -ENOENT;
	if (a.len >= cap)
		return -EMSGSIZE;
	if (memchr(a.data, 0, a.len))
		return -EBADMSG;
	memcpy(buf, a.data, a.len);
	buf[a.len] = '\0';
	return (int)a.len;
}

void wire_wipe(const struct wire_msg *m, enum wslx_tag tag)
{
	struct wire_attr a;

	for (size_t pos = 0; wire_next(m, &pos, &a);)
		if (a.tag == (unsigned)tag)
			explicit_bzero((void *)(uintptr_t)a.data, a.len);
}
