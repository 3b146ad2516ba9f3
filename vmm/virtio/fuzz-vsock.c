/* SPDX-License-Identifier: MIT */
/* vsock packets from a hostile guest, against a host end that takes, gives, stalls and breaks as the input says. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "lib/base/le.h"
#include "vmm/virtio/fake-vsock.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct fuzz_end {
	bool open;
	struct vsock_conn *c;
};

static struct fuzz_end ends[64];
static const uint8_t *in;
static size_t left;

static uint8_t byte(void)
{
	if (!left)
		return 0;
	left--;
	return *in++;
}

static int f_connect(void *ctx, struct vsock_conn *c, uint32_t port, void **ret_peer)
{
	int r = byte() % 4;

	if (r > 1)
		return -ECONNREFUSED;
	for (unsigned i = 0; i < ARRAY_LEN(ends); i++)
		if (!ends[i].open) {
			ends[i] = (struct fuzz_end){true, c};
			*ret_peer = &ends[i];
			return r;
		}
	return -ENOSPC;
}

static bool f_established(void *ctx, void *peer, uint32_t host_port)
{
	return byte() & 1;
}

static ssize_t amount(const struct iovec *iov, unsigned n, bool eof)
{
	uint8_t b = byte();
	size_t total = 0;

	for (unsigned i = 0; i < n; i++) {
		memset(iov[i].iov_base, b, MIN(iov[i].iov_len, (size_t)1));
		total += iov[i].iov_len;
	}
	if (b < 64)
		return -EAGAIN;
	if (b < 72)
		return -EPIPE;
	if (b < 80 && eof)
		return 0;
	total = b & 1 ? total : MIN(total, (size_t)b * 7);
	return total ? (ssize_t)total : -EAGAIN;
}

static ssize_t f_recv(void *ctx, void *peer, const struct iovec *iov, unsigned n)
{
	if (!((struct fuzz_end *)peer)->open)
		abort();
	return amount(iov, n, true);
}

static ssize_t f_send(void *ctx, void *peer, const struct iovec *iov, unsigned n)
{
	if (!((struct fuzz_end *)peer)->open)
		abort();
	return amount(iov, n, false);
}

static void f_shutdown(void *ctx, void *peer, bool rd, bool wr)
{
	if (!((struct fuzz_end *)peer)->open)
		abort();
}

static void f_close(void *ctx, void *peer)
{
	struct fuzz_end *e = peer;

	if (!e->open)
		abort();
	e->open = false;
}

static void f_free(void *ctx)
{
}

static const struct vsock_back_ops f_ops = {
	f_connect, f_established, f_recv, f_send, f_shutdown, f_close, f_free};

static void host_event(struct fake_vsock *g)
{
	struct fuzz_end *e = &ends[byte() % ARRAY_LEN(ends)];
	struct vsock_conn *c;
	OS_GUARD(&g->f.lock);

	if (!e->open) {
		e->open = true;
		if (vsock_open(g->vs, byte() % 4, e, &c) < 0)
			e->open = false;
		else
			e->c = c;
	} else {
		switch (byte() % 5) {
		case 0: vsock_readable(e->c); break;
		case 1: vsock_writable(e->c); break;
		case 2: vsock_hangup(e->c); break;
		case 3: vsock_connected(e->c); break;
		case 4: vsock_expire(g->vs, byte() & 1 ? UINT64_MAX : 0); break;
		}
	}
	vsock_pump(g->vs);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct fake_vsock g;
	static const uint8_t payload[4096];
	struct fv_pkt p;

	in = data;
	left = size;
	if (!g.vs) {
		fv_init(&g, NULL, 0, 1024);
		vsock_set_back(g.vs, &f_ops, NULL);
	}
	fv_start(&g, byte() % 32);
	for (unsigned i = 0; i < ARRAY_LEN(ends); i++)
		if (ends[i].open)
			abort(); /* a reset closes every end */
	while (left) {
		uint8_t what = byte();

		if (what < 160) {
			p = (struct fv_pkt){.src_cid = what == 159 ? byte() : 3,
				.dst_cid = what == 158 ? byte() : 2,
				.src_port = byte() % 4,
				.dst_port = what & 1 ? byte() % 4 : (1u << 30) + byte() % 4,
				.type = what == 157 ? byte() : 1,
				.op = what % 8,
				.flags = byte() % 4,
				.buf_alloc = what & 2 ? byte() : 65536,
				.fwd_cnt = what & 4 ? 0 : byte() * 1000u,
				.len = byte() * 16u};
			fv_send(&g, &p, what == 156 ? NULL : payload);
		} else if (what < 200) {
			fv_recv(&g, &p);
		} else if (what < 204) {
			fv_start(&g, what % 16);
		} else {
			host_event(&g);
		}
		fake_settle(&g.f);
	}
	return 0;
}
