/* SPDX-License-Identifier: MIT */
/* See bounce.h. */
#include "vmm/virtio/bounce.h"

#include <errno.h>
#include <string.h>

static bool is_window(const struct gmem *gm, const struct vring_chain *c, unsigned k)
{
	return gmem_in_window(gm, c->addr[k], c->iov[k].iov_len);
}

int bounce_begin(struct bounce *b, const struct gmem *gm, struct vring_chain *c)
{
	unsigned n = (unsigned)c->n_rd + c->n_wr;
	const struct gmem_region *w;
	size_t len = 0, at = 0;

	for (unsigned k = 0; gmem_windows(gm, &w) && k < n; k++)
		if (is_window(gm, c, k))
			len += c->iov[k].iov_len;
	if (!len)
		return 0;
	if (len > BOUNCE_LEN)
		return -E2BIG;
	if (b->c) {
		b->wanted = true;
		return -EAGAIN;
	}
	b->c = c;
	memcpy(b->addr, c->addr, n * sizeof(b->addr[0]));
	for (unsigned k = 0; k < n; k++) {
		if (!is_window(gm, c, k))
			continue;
		/* The writable ones as well: the server may write only some of it. */
		memcpy(b->mem + at, c->iov[k].iov_base, c->iov[k].iov_len);
		c->addr[k] = b->gpa + at;
		at += c->iov[k].iov_len;
	}
	return 0;
}

bool bounce_end(struct bounce *b, struct vring_chain *c, uint32_t written)
{
	unsigned n = (unsigned)c->n_rd + c->n_wr;
	bool wanted = b->wanted;
	size_t left = written;

	if (!b->c || b->c != c)
		return false;
	for (unsigned k = 0; k < n; k++) {
		size_t len = k < c->n_rd ? 0 : MIN(left, c->iov[k].iov_len);

		if (c->addr[k] != b->addr[k])
			memcpy(c->iov[k].iov_base, b->mem + (c->addr[k] - b->gpa), len);
		c->addr[k] = b->addr[k];
		left -= len;
	}
	b->c = NULL;
	b->wanted = false;
	return wanted;
}
