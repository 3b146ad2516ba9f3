/* SPDX-License-Identifier: MIT */
/* vsock connections: the table, timeouts, and the bytes on their way to the host. */
#include "vmm/virtio/vsock-internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "lib/base/loop.h"

static struct vsock_conn **bucket_of(struct vsock *vs, uint32_t guest_port, uint32_t host_port)
{
	uint64_t h = ((uint64_t)guest_port << 32 | host_port) * 0x9e3779b97f4a7c15ull;

	return &vs->bucket[h >> (64 - VSOCK_BUCKET_BITS)];
}

struct vsock_conn *vsock_find(struct vsock *vs, uint32_t guest_port, uint32_t host_port)
{
	struct vsock_conn *c = *bucket_of(vs, guest_port, host_port);

	while (c && (c->guest_port != guest_port || c->host_port != host_port))
		c = c->hash_next;
	return c;
}

/* Connections that only wait for the guest's last word give way to new ones. */
static void make_room(struct vsock *vs)
{
	for (unsigned i = 0; i < vs->touched && !vs->free; i++)
		if (vs->conn[i].state == VSOCK_CLOSING) {
			vsock_owe_rst(
				vs, VSOCK_CID_HOST, vs->conn[i].host_port, vs->conn[i].guest_port);
			vsock_conn_free(&vs->conn[i]);
		}
}

struct vsock_conn *vsock_conn_new(struct vsock *vs, uint32_t guest_port, uint32_t host_port)
{
	struct vsock_conn *c, **b;

	if (!vs->free && vs->touched == VSOCK_CONNS)
		make_room(vs);
	if (vs->free) {
		c = vs->free;
		vs->free = c->hash_next;
	} else if (vs->touched < VSOCK_CONNS) {
		c = &vs->conn[vs->touched++];
	} else {
		return NULL;
	}
	vs->count++;
	b = bucket_of(vs, guest_port, host_port);
	*c = (struct vsock_conn){.vs = vs,
		.guest_port = guest_port,
		.host_port = host_port,
		.hash_next = *b,
		.batch = 1};
	*b = c;
	return c;
}

void vsock_conn_unhash(struct vsock_conn *c)
{
	struct vsock_conn **p = bucket_of(c->vs, c->guest_port, c->host_port);

	while (*p && *p != c)
		p = &(*p)->hash_next;
	if (*p)
		*p = c->hash_next;
	c->hash_next = NULL;
}

void vsock_drop_peer(struct vsock_conn *c)
{
	void *peer = c->peer;

	c->peer = NULL;
	c->readable = false;
	if (peer)
		c->vs->back->close(c->vs->back_ctx, peer);
}

void vsock_conn_free(struct vsock_conn *c)
{
	struct vsock *vs = c->vs;

	if (c->state == VSOCK_FREE)
		return;
	if (c->state != VSOCK_LINGERING)
		vsock_conn_unhash(c);
	vsock_unqueue(c);
	vsock_drop_peer(c);
	free(c->buf);
	c->buf = NULL;
	c->state = VSOCK_FREE;
	c->hash_next = vs->free;
	vs->free = c;
	vs->count--;
}

void vsock_free_all(struct vsock *vs)
{
	for (unsigned i = 0; i < vs->touched; i++)
		vsock_conn_free(&vs->conn[i]);
	vs->n_rst = 0;
}

unsigned vsock_count(const struct vsock *vs)
{
	return vs->count;
}

/* --- who has something for the guest --- */

void vsock_queue(struct vsock_conn *c)
{
	struct vsock *vs = c->vs;

	if (c->queued || c->state == VSOCK_LINGERING)
		return;
	c->queued = true;
	c->ready_next = NULL;
	c->ready_prev = vs->ready_last;
	if (vs->ready_last)
		vs->ready_last->ready_next = c;
	else
		vs->ready = c;
	vs->ready_last = c;
}

void vsock_unqueue(struct vsock_conn *c)
{
	struct vsock *vs = c->vs;

	if (!c->queued)
		return;
	c->queued = false;
	if (c->ready_prev)
		c->ready_prev->ready_next = c->ready_next;
	else
		vs->ready = c->ready_next;
	if (c->ready_next)
		c->ready_next->ready_prev = c->ready_prev;
	else
		vs->ready_last = c->ready_prev;
}

void vsock_owe(struct vsock_conn *c, uint8_t what)
{
	c->owe |= what;
	vsock_queue(c);
}

/* --- time --- */

static void arm(struct vsock *vs, uint64_t at)
{
	if (!vs->timer || (vs->timer_at && vs->timer_at <= at))
		return;
	vs->timer_at = at;
	loop_timer_arm(vs->timer, at);
}

void vsock_deadline(struct vsock_conn *c, uint64_t ns_from_now)
{
	c->deadline = ns_from_now ? loop_now() + ns_from_now : 0;
	if (c->deadline)
		arm(c->vs, c->deadline);
}

void vsock_expire(struct vsock *vs, uint64_t now)
{
	uint64_t next = UINT64_MAX;

	vs->timer_at = 0;
	for (unsigned i = 0; i < vs->touched; i++) {
		struct vsock_conn *c = &vs->conn[i];

		if (c->state == VSOCK_FREE || !c->deadline)
			continue;
		if (c->deadline > now) {
			next = MIN(next, c->deadline);
			continue;
		}
		c->deadline = 0;
		/* A guest that never saw our REQUEST need not hear that it is void. */
		if (c->owe & VSOCK_OWE_REQUEST) {
			vsock_conn_free(c);
			continue;
		}
		vsock_drop_peer(c);
		vsock_owe(c, VSOCK_OWE_RST);
	}
	if (next != UINT64_MAX)
		arm(vs, next);
}

/* --- bytes for the host --- */

/* The host end took (or will never want) this many bytes: the guest may send as many more. */
void vsock_consumed(struct vsock_conn *c, uint32_t bytes)
{
	c->fwd += bytes;
	if (c->state == VSOCK_OPEN && c->fwd - c->fwd_told >= VSOCK_BUF / 2)
		vsock_owe(c, VSOCK_OWE_CREDIT);
}

void vsock_host_deaf(struct vsock_conn *c)
{
	uint32_t lost = c->buf_len;

	c->buf_len = 0;
	vsock_consumed(c, lost);
	if (!(c->host_shut & VSOCK_SHUT_RCV)) {
		c->host_shut |= VSOCK_SHUT_RCV;
		if (c->state == VSOCK_OPEN)
			vsock_owe(c, VSOCK_OWE_SHUTDOWN);
	}
	vsock_after_flush(c);
}

/* Nothing is left for the host: whatever waited for that. May free c. */
void vsock_after_flush(struct vsock_conn *c)
{
	if (c->buf_len)
		return;
	if (c->state == VSOCK_LINGERING) {
		vsock_conn_free(c);
		return;
	}
	if (!(c->guest_shut & VSOCK_SHUT_SEND) || c->state != VSOCK_OPEN)
		return;
	if (c->guest_shut == VSOCK_SHUT_BOTH) {
		vsock_drop_peer(c);
		vsock_owe(c, VSOCK_OWE_RST);
	} else if (!c->wr_done) {
		c->wr_done = true;
		if (c->peer)
			c->vs->back->shutdown(
				c->vs->back_ctx, c->peer, /* rd= */ false, /* wr= */ true);
	}
}

int vsock_buf_put(struct vsock_conn *c, const struct vring_chain *chain, size_t off, uint32_t len)
{
	if (!c->buf && !(c->buf = malloc(VSOCK_BUF)))
		return -ENOMEM;
	while (len) {
		uint32_t at = (c->buf_at + c->buf_len) % VSOCK_BUF;
		uint32_t n = MIN(len, VSOCK_BUF - at);

		if (vring_read(chain, off, c->buf + at, n) != n)
			return -EIO;
		off += n;
		len -= n;
		c->buf_len += n;
	}
	return 0;
}

void vsock_buf_flush(struct vsock_conn *c)
{
	while (c->buf_len && c->peer) {
		uint32_t first = MIN(c->buf_len, VSOCK_BUF - c->buf_at);
		struct iovec iov[2] = {{c->buf + c->buf_at, first}, {c->buf, c->buf_len - first}};
		ssize_t n = c->vs->back->send(
			c->vs->back_ctx, c->peer, iov, c->buf_len > first ? 2 : 1);

		if (n == -EAGAIN)
			return;
		if (n < 0) {
			vsock_host_deaf(c);
			return;
		}
		c->buf_at = (c->buf_at + (uint32_t)n) % VSOCK_BUF;
		c->buf_len -= (uint32_t)n;
		vsock_consumed(c, (uint32_t)n);
		if (c->buf_len)
			return; /* the back end tells when there is room again */
	}
	vsock_after_flush(c);
}
