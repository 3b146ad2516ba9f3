/* SPDX-License-Identifier: MIT */
/*
 * A request is a chain: the message in what the device reads, room for the reply in what it writes. They are done one after the
 * other on the loop's thread; a message is copied, since the guest may change it meanwhile.
 */
#include "fsd/p9-device.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "lib/base/iov.h"
#include "lib/base/le.h"
#include "lib/base/log.h"
#include "lib/fs/host.h"
#include "lib/p9/server.h"
#include "lib/vhost/backend.h"

enum { TURN = 64, BATCH = 16, RLERROR_LEN = P9_HEADER + 4, TAG = 5 };
/* After some requests it is seen to what the host may want to unmount. */
#define LET_GO_NS (2ull * 1000000000)

struct p9_device {
	struct loop *loop;
	struct p9_server *server;
	struct fs *fs;
	struct vhost_backend *backend;
	struct loop_src *let_go;
	bool let_go_armed, again;
	struct vring_chain c;
	uint8_t in[P9_MSIZE_MAX] ALIGNED(8), out[P9_MSIZE_MAX] ALIGNED(8);
};

static size_t error_reply(struct p9_device *d, int error)
{
	le32_put(d->out, RLERROR_LEN);
	d->out[4] = P9_RLERROR;
	memcpy(d->out + TAG, d->in + TAG, 2);
	le32_put(d->out + P9_HEADER, (uint32_t)error);
	return RLERROR_LEN;
}

/* How much was written. */
static uint32_t handle(struct p9_device *d)
{
	const struct vring_chain *c = &d->c;
	size_t len = iov_to_buf(vring_rd(c), c->n_rd, 0, d->in, sizeof(d->in)), n;
	int r = -EBADMSG;

	if (len < P9_HEADER)
		return 0;
	/* the length in the message is what counts; the buffers may be longer */
	if (le32_get(d->in) >= P9_HEADER && le32_get(d->in) <= len)
		r = p9_server_handle(d->server, d->in, le32_get(d->in), d->out);
	n = r < 0 ? error_reply(d, EPROTO) : (size_t)r;
	if (n > c->wr_len)
		n = error_reply(d, EMSGSIZE);
	return n > c->wr_len ? 0 : (uint32_t)iov_from_buf(vring_wr(c), c->n_wr, 0, d->out, n);
}

static void let_go(void *ctx)
{
	struct p9_device *d = ctx;

	d->let_go_armed = false;
	fs_host_let_go(d->fs);
}

static void kick(void *ctx, unsigned q);

static void serve_again(void *ctx)
{
	struct p9_device *d = ctx;

	d->again = false;
	kick(d, 0);
}

static void kick(void *ctx, unsigned q)
{
	struct p9_device *d = ctx;
	unsigned n = 0;

	if (!d->let_go_armed) {
		loop_timer_arm(d->let_go, loop_now() + LET_GO_NS);
		d->let_go_armed = true;
	}
	for (; n < TURN && vhost_pop(d->backend, q, &d->c) > 0; n++) {
		vhost_push(d->backend, q, &d->c, handle(d));
		if (n % BATCH == BATCH - 1)
			vhost_flush(d->backend, q);
	}
	vhost_flush(d->backend, q);
	if (n == TURN && !d->again) {
		d->again = true;
		loop_defer(d->loop, serve_again, d);
	}
}

static void closed(void *ctx, int error)
{
	struct p9_device *d = ctx;

	if (error)
		log_warn("9p", "the virtual machine monitor: %s", strerror(-error));
	loop_quit(d->loop, error ? 1 : 0);
}

static const struct vhost_dev_ops ops = {.n_queues = 1, .kick = kick, .closed = closed};

int p9_device_new(struct p9_device **ret, struct loop *l, int fd, struct p9_server *server,
	struct fs *fs, struct err *e)
{
	struct p9_device *d = calloc(1, sizeof(*d));
	int r = d ? loop_timer(l, let_go, d, &d->let_go) : -ENOMEM;

	if (r < 0) {
		close(fd);
		free(d);
		return err_sys(e, r, "make the device");
	}
	d->loop = l;
	d->server = server;
	d->fs = fs;
	r = vhost_backend_new(&d->backend, l, fd, &ops, d, e);
	if (r < 0) {
		loop_src_free(d->let_go);
		free(d);
		return r;
	}
	*ret = d;
	return 0;
}

void p9_device_free(struct p9_device *d)
{
	if (!d)
		return;
	vhost_backend_free(d->backend);
	loop_src_free(d->let_go);
	free(d);
}
