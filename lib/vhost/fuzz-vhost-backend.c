/* SPDX-License-Identifier: MIT */
/*
 * A hostile front end and a hostile guest: the input is messages, each a length byte, what descriptors go with it, and that
 * many bytes of it; and what is written into the memory that was handed over, rings included, before each kick.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "lib/base/attr.h"
#include "lib/base/io.h"
#include "lib/base/le.h"
#include "lib/vhost/backend.h"
#include "lib/vhost/fake-front.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct server {
	struct loop *loop;
	struct vhost_backend *b;
	struct vring_chain c;
	bool closed;
};

static void get_config(void *ctx, uint32_t off, void *buf, uint32_t len)
{
	memset(buf, (int)off, len);
}

static void kick(void *ctx, unsigned q)
{
	struct server *s = ctx;
	uint8_t buf[4096];

	for (unsigned n = 0; n < 100 && vhost_pop(s->b, q, &s->c) > 0; n++) {
		size_t len = vring_read(&s->c, 0, buf, sizeof(buf));

		vhost_push(s->b, q, &s->c, (uint32_t)vring_write(&s->c, 0, buf, len) * 3);
	}
	vhost_flush(s->b, q);
}

static int save(void *ctx, int fd)
{
	return 0;
}

static void closed(void *ctx, int error)
{
	((struct server *)ctx)->closed = true;
}

static const struct vhost_dev_ops ops = {.features = 0xff,
	.n_queues = 2,
	.get_config = get_config,
	.kick = kick,
	.save = save,
	.load = save,
	.closed = closed};

static void quit(void *ctx)
{
	struct server *s = ctx;

	loop_quit(s->loop, 0);
}

/* The loop sees what is there, and ends. */
static void turn(struct server *s)
{
	loop_defer(s->loop, quit, s);
	loop_run(s->loop);
}

/* Answers are not looked at; but nobody may wait for room for them. */
static void drain(int fd)
{
	char buf[4096];

	while (read(fd, buf, sizeof(buf)) > 0)
		;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct server s = {0};
	struct front f;
	int fd;

	front_init(&f, &fd);
	if (loop_new(&s.loop) < 0 || vhost_backend_new(&s.b, s.loop, fd, &ops, &s, NULL) < 0)
		abort();
	/* The first byte says how far a decent front end came before. */
	if (size && (data[0] & 1)) {
		uint64_t features = 0xff | VIRTIO_F_VERSION_1 | VU_F_PROTOCOL_FEATURES |
				    (data[0] & 4 ? VIRTIO_F_INDIRECT_DESC : 0);

		front_send(&f, VU_SET_FEATURES, 0, &features, 8, NULL, 0);
		front_memory(&f);
		if (data[0] & 2)
			front_queue(&f, 0, 0);
		turn(&s);
	}
	for (size_t at = 1; at + 3 < size && !s.closed;) {
		size_t len = MIN((size_t)data[at], size - at - 3);
		unsigned how = data[at + 1], where = data[at + 2];
		int fds[2] = {how & 1 ? f.memfd : f.q[0].kick, f.memfd};

		at += 3;
		if (how & 0x80) {
			memcpy(f.mem + (size_t)(where & 3) * 0x1000 + (size_t)(where >> 2) * 4,
				data + at, len);
			front_kick(&f, 0);
		} else if (how & 0x40) {
			uint8_t msg[12 + 512] = {0};

			/* A message whose header makes sense, mostly. */
			le32_put(msg, where);
			le32_put(msg + 4, 1 | (how & 0x20 ? VU_NEED_REPLY : 0));
			le32_put(msg + 8, (uint32_t)len);
			memcpy(msg + 12, data + at, len);
			if (io_send_fds(f.fd, msg, 12 + len, fds, (how >> 1) % 3) < 0)
				break;
		} else if (io_send_fds(f.fd, data + at, len, fds, (how >> 1) % 3) < 0) {
			break;
		}
		at += len;
		turn(&s);
		drain(f.fd);
	}
	vhost_backend_free(s.b);
	loop_free(s.loop);
	front_done(&f);
	return 0;
}
