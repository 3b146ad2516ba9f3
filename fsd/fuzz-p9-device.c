/* SPDX-License-Identifier: MIT */
/*
 * A guest lays requests out as it likes in the memory of a virtio-9p device: whatever the chains, their lengths and the messages'
 * own, the server gets whole messages, and the guest no more than it has room for. What the messages ask is done by
 * p9_server_handle() below: lib/p9/fuzz-server.c is for those.
 *
 * The input is a byte of features, then steps: see step().
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "fsd/p9-device.h"
#include "lib/base/attr.h"
#include "lib/base/le.h"
#include "lib/fs/host.h"
#include "lib/p9/server.h"
#include "lib/vhost/fake-front.h"
#include "lib/vring/vring.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_BUFS = 16, USED = 0x2000, HEAP = FRONT_MEM / 2 - 0x8000 };

struct guest {
	struct front f;
	struct loop *loop;
	const uint8_t *data;
	size_t size;
	bool decent; /* it wrote nothing into the rings but requests */
	unsigned added;
	uint32_t room[FRONT_SIZE]; /* of the request with this head */
};

static void expect(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "the device: %s\n", what);
	abort();
}

/* --- what the device is made of --- */

/* The message says how long the reply is, and whether it is one. */
int p9_server_handle(struct p9_server *s, const void *in, size_t len, void *out)
{
	const uint8_t *m = in;
	size_t n = P9_HEADER;

	expect(len >= P9_HEADER && len <= P9_MSIZE_MAX && le32_get(m) == len, "half a message");
	if (m[4] & 0x80)
		return -EBADMSG;
	if (len >= P9_HEADER + 4)
		n += le32_get(m + P9_HEADER) % (P9_MSIZE_MAX - P9_HEADER + 1);
	memset(out, m[len - 1], n);
	le32_put(out, (uint32_t)n);
	return (int)n;
}

void fs_host_let_go(struct fs *fs)
{
}

/* --- the guest --- */

static uint8_t byte(struct guest *g)
{
	if (!g->size)
		return 0;
	g->size--;
	return *g->data++;
}

static void bytes(struct guest *g, void *to, size_t len)
{
	len = MIN(len, g->size);
	memcpy(to, g->data, len);
	g->data += len;
	g->size -= len;
}

static void quit(void *ctx)
{
	loop_quit(ctx, 0);
}

/* The device does what there is. */
static void turn(struct guest *g)
{
	char buf[4096];

	loop_defer(g->loop, quit, g->loop);
	loop_run(g->loop);
	while (read(g->f.fd, buf, sizeof(buf)) > 0)
		;
}

/* It said how much it wrote of each request. */
static void look(struct guest *g)
{
	const uint8_t *used = g->f.mem + USED;
	struct front_queue *q = &g->f.q[0];

	while (g->decent && le16_get(used + 2) != q->used) {
		const uint8_t *e = used + 4 + (size_t)(q->used++ % FRONT_SIZE) * 8;
		uint32_t head = le32_get(e), len = le32_get(e + 4);

		expect(head < FRONT_SIZE, "a request that there is not");
		expect(len <= g->room[head], "more than there is room for");
		expect(len == 0 || len >= P9_HEADER, "half a reply");
	}
}

static void kick(struct guest *g)
{
	front_kick(&g->f, 0);
	turn(g);
	look(g);
	g->added = 0;
}

/* Of a few sizes, and at the end of a region or of the memory, too. */
static struct front_buf buffer(struct guest *g, bool write)
{
	uint8_t how = byte(g), len = byte(g);
	static const uint32_t scale[] = {1, 16, 256, 4096};
	struct front_buf b = {.write = write, .len = len * scale[how & 3]};

	b.gpa = FRONT_GPA + HEAP + (uint64_t)(how >> 2) * 0x400;
	if (how >= 0xf8)
		b.gpa = FRONT_GPA + FRONT_MEM - b.len + (how & 4 ? 1 : 0);
	return b;
}

/*
 * A request: how many buffers are read, how many written (one byte); the buffers; the message's length field and its other bytes,
 * as long as the next byte says, at the first one's start.
 */
static void request(struct guest *g, bool indirect)
{
	struct front_buf b[MAX_BUFS], one = {.len = 0};
	uint8_t how = byte(g), *table;
	unsigned n_rd = how & 7, n = n_rd + (how >> 3 & 7);
	uint32_t room = 0, len;
	uint16_t head;

	if (g->added + MAX(n, 1u) > FRONT_SIZE)
		kick(g);
	for (unsigned i = 0; i < n; i++) {
		b[i] = buffer(g, i >= n_rd);
		room += b[i].write ? b[i].len : 0;
	}
	if (n == 0)
		return;
	len = byte(g);
	if (b[0].gpa - FRONT_GPA + len <= FRONT_MEM)
		bytes(g, g->f.mem + (b[0].gpa - FRONT_GPA), len);
	/* otherwise it hardly ever is the right one */
	if (how & 0x40 && b[0].len >= 4 && b[0].gpa - FRONT_GPA + 4 <= FRONT_MEM) {
		uint32_t all = 0;

		for (unsigned i = 0; i < n_rd; i++)
			all += b[i].len;
		le32_put(g->f.mem + (b[0].gpa - FRONT_GPA), all);
	}
	if (!indirect) {
		head = front_add(&g->f, 0, b, n);
		g->added += n;
	} else {
		one.gpa = FRONT_GPA + HEAP - 0x1000;
		one.len = n * 16 + (how & 0x80 ? 8 : 0);
		table = g->f.mem + (one.gpa - FRONT_GPA);
		for (unsigned i = 0; i < n; i++, table += 16) {
			le64_put(table, b[i].gpa);
			le32_put(table + 8, b[i].len);
			le16_put(table + 12, (uint16_t)((b[i].write ? 2 : 0) | (i + 1 < n)));
			le16_put(table + 14, (uint16_t)(i + 1));
		}
		head = front_add(&g->f, 0, &one, 1);
		le16_put(g->f.mem + (size_t)head * 16 + 12, 4);
		g->added++;
	}
	g->room[head] = room;
	/* the next one's table would be in its place */
	if (indirect)
		kick(g);
}

/* 0, 1: a request, its descriptors in a table of their own; 2: the device looks; 3: bytes into the rings, or into the messages. */
static void step(struct guest *g)
{
	uint8_t what = byte(g), where, len;

	switch (what & 3) {
	case 0:
	case 1: request(g, what & 1); break;
	case 2: kick(g); break;
	case 3:
		where = byte(g);
		len = byte(g);
		bytes(g,
			g->f.mem + (where & 3 ? (where & 3) * 0x1000u - 0x1000u : HEAP) +
				(where >> 2) * 4u,
			len);
		g->decent &= (where & 3) == 0;
		break;
	default: break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct guest g = {.data = data, .size = size, .decent = true};
	struct p9_device *dev;
	uint64_t features = VIRTIO_F_VERSION_1 | VU_F_PROTOCOL_FEATURES;
	uint8_t how;
	int fd;

	how = byte(&g);
	features |= how & 1 ? VIRTIO_F_INDIRECT_DESC : 0;
	features |= how & 2 ? VIRTIO_F_EVENT_IDX : 0;
	front_init(&g.f, &fd);
	if (loop_new(&g.loop) < 0 || p9_device_new(&dev, g.loop, fd, NULL, NULL, NULL) < 0)
		abort();
	front_send(&g.f, VU_SET_FEATURES, 0, &features, 8, NULL, 0);
	g.f.features = features;
	front_memory(&g.f);
	front_queue(&g.f, 0, 0);
	turn(&g);
	while (g.size)
		step(&g);
	kick(&g);
	p9_device_free(dev);
	loop_free(g.loop);
	front_done(&g.f);
	return 0;
}
