/* SPDX-License-Identifier: MIT */
/* virtio console, virtio 1.2 §5.3. */
#include "vmm/virtio/console.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "lib/base/le.h"
#include "vmm/core/state.h"

enum { RXQ, TXQ, QUEUES, QUEUE_SIZE = 64, ROUND = 64 };
enum { F_SIZE = 0, F_EMERG_WRITE = 2 };
enum { CFG_COLS = 0, CFG_ROWS = 2, CFG_MAX_PORTS = 4, CFG_EMERG = 8, CFG_SIZE = 12 };

struct console {
	struct virtio_dev v;
	const struct console_back_ops *back;
	void *back_ctx;
	uint16_t cols, rows;
	struct vring_chain c;
};

static struct console *to_console(struct virtio_dev *v)
{
	return container_of(v, struct console, v);
}

struct virtio_dev *console_dev(struct console *c)
{
	return &c->v;
}

static void output(struct console *c)
{
	struct vq *q = &c->v.q[TXQ];
	unsigned left = ROUND;

	while (vq_pop(q, &c->c) > 0) {
		if (c->back && c->c.n_rd)
			c->back->write(c->back_ctx, vring_rd(&c->c), c->c.n_rd);
		vq_push(q, &c->c, 0);
		if (--left == 0) {
			virtio_again(&c->v, TXQ);
			break;
		}
	}
	vq_flush(q);
}

static void input(struct console *c)
{
	struct vq *q = &c->v.q[RXQ];
	unsigned left = ROUND;

	while (c->back && vq_pop(q, &c->c) > 0) {
		size_t n = c->c.n_wr ? c->back->read(c->back_ctx, vring_wr(&c->c), c->c.n_wr) : 0;

		if (!n && c->c.n_wr) {
			vq_unpop(q, &c->c);
			break;
		}
		vq_push(q, &c->c, (uint32_t)n);
		if (--left == 0) {
			virtio_again(&c->v, RXQ);
			break;
		}
	}
	vq_flush(q);
}

void console_readable(struct console *c)
{
	if (virtio_live(&c->v))
		input(c);
}

void console_resize(struct console *c, uint16_t cols, uint16_t rows)
{
	if (c->cols == cols && c->rows == rows)
		return;
	c->cols = cols;
	c->rows = rows;
	if (virtio_has(&c->v, BIT(F_SIZE)))
		virtio_config_changed(&c->v);
}

static void notify(struct virtio_dev *v, unsigned q)
{
	if (q == TXQ)
		output(to_console(v));
	else
		input(to_console(v));
}

static void ready(struct virtio_dev *v)
{
	input(to_console(v));
}

static void config_read(struct virtio_dev *v, uint32_t off, void *buf, uint32_t len)
{
	struct console *c = to_console(v);
	uint8_t cfg[CFG_SIZE] = {0};

	le16_put(cfg + CFG_COLS, c->cols);
	le16_put(cfg + CFG_ROWS, c->rows);
	le32_put(cfg + CFG_MAX_PORTS, 1);
	memset(buf, 0, len);
	if (off < CFG_SIZE)
		memcpy(buf, cfg + off, MIN(len, CFG_SIZE - off));
}

/* One character, without queues or negotiation: what a dying kernel has left. */
static void config_write(struct virtio_dev *v, uint32_t off, const void *buf, uint32_t len)
{
	struct console *c = to_console(v);
	uint8_t byte = *(const uint8_t *)buf;
	struct iovec iov = {&byte, 1};

	if (off == CFG_EMERG && c->back)
		c->back->write(c->back_ctx, &iov, 1);
}

static void save(struct virtio_dev *v, struct state_w *w)
{
	struct console *c = to_console(v);

	state_begin(w, "console", 1);
	state_put_u16(w, c->cols);
	state_put_u16(w, c->rows);
	state_end(w);
}

static int load(struct virtio_dev *v, struct state_r *r)
{
	struct console *c = to_console(v);

	if (!state_enter(r, "console", 1))
		return -EBADMSG;
	c->cols = state_get_u16(r);
	c->rows = state_get_u16(r);
	state_leave(r);
	return 0;
}

static void console_free(struct virtio_dev *v)
{
	struct console *c = to_console(v);

	if (c->back)
		c->back->free(c->back_ctx);
	virtio_dev_done(v);
	free(c);
}

static const struct virtio_dev_ops console_ops = {
	.name = "virtio-console",
	.id = VIRTIO_ID_CONSOLE,
	.on_vcpu = true,
	.features = BIT(F_SIZE) | BIT(F_EMERG_WRITE),
	.config_read = config_read,
	.config_write = config_write,
	.ready = ready,
	.notify = notify,
	.save = save,
	.load = load,
	.free = console_free,
};

int console_new(struct console **ret, struct gmem *gm, const char *name)
{
	struct console *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	r = virtio_dev_init(&c->v, &console_ops, name, gm, QUEUES, QUEUE_SIZE);
	if (r < 0) {
		free(c);
		return r;
	}
	*ret = c;
	return 0;
}

void console_set_back(struct console *c, const struct console_back_ops *ops, void *ctx)
{
	c->back = ops;
	c->back_ctx = ctx;
}
