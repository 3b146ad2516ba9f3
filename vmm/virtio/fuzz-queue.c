/* SPDX-License-Identifier: MIT */
/* A hostile driver: the input is memory (rings, tables, buffers) and a script of notifications and
 * changes in flight. */
#include <stdlib.h>
#include <string.h>
#include "lib/base/le.h"
#include "vmm/virtio/fake-driver.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct sink {
	struct virtio_dev v;
	struct vring_chain c, held;
	bool have_held;
};

static void sink_notify(struct virtio_dev *v, unsigned q)
{
	struct sink *s = (struct sink *)v;
	uint8_t buf[4096];

	for (unsigned n = 0; n < 300 && vq_pop(&v->q[q], &s->c) > 0; n++) {
		size_t len = vring_read(&s->c, 0, buf, sizeof(buf));

		len = vring_write(&s->c, 1, buf, len);
		if (len % 7 == 3) {
			vq_unpop(&v->q[q], &s->c);
			break;
		}
		if (len % 5 == 1 && !s->have_held) {
			s->held = s->c;
			s->have_held = true;
			continue;
		}
		vq_push(&v->q[q], &s->c, (uint32_t)len * 3);
		if (s->have_held) {
			vq_push(&v->q[q], &s->held, 1);
			s->have_held = false;
		}
	}
	vq_flush(&v->q[q]);
}

static void sink_free(struct virtio_dev *v)
{
	virtio_dev_done(v);
}

static const struct virtio_dev_ops sink_ops = {
	.name = "sink", .notify = sink_notify, .free = sink_free};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct fake f;
	static struct sink s;
	uint8_t *rings;
	size_t fill;

	if (!f.gm) {
		fake_init(&f);
		if (virtio_dev_init(&s.v, &sink_ops, "sink0", f.gm, 1, 16) < 0)
			abort();
		fake_attach(&f, &s.v, NULL);
	}
	if (size < 8)
		return 0;
	s.have_held = false;
	if (!fake_start(&f, data[0] & 1 ? FAKE_ALL : ~VIRTIO_F_EVENT_IDX))
		abort();
	rings = fake_ptr(&f, FAKE_RINGS, 0x2000);
	/* Descriptors and available ring first, the rest in the heap as indirect tables. */
	data += 1;
	size -= 1;
	fill = MIN(size, (size_t)256);
	memcpy(rings, data, fill);
	data += fill;
	size -= fill;
	fill = MIN(size, (size_t)40);
	memcpy(rings + 0x1000, data, fill);
	data += fill;
	size -= fill;
	memcpy(fake_ptr(&f, 0, 0x1000), data, MIN(size, (size_t)0x1000));
	for (size_t i = 0; i < MIN(size, (size_t)64); i++) {
		if (data[i] & 1)
			fake_avail_index(&f, 0, data[i] >> 1);
		if (data[i] & 2)
			rings[data[i] * 3u % 256] ^= data[i];
		fake_notify(&f, 0);
		if (data[i] == 0xff && !fake_start(&f, FAKE_ALL))
			abort();
	}
	return 0;
}
