/* SPDX-License-Identifier: MIT */
/* Hostile requests to the console and the balloon: buffers anywhere in memory, of any size and direction. */
#include <stdlib.h>
#include <string.h>
#include "lib/base/le.h"
#include "vmm/virtio/balloon.h"
#include "vmm/virtio/console.h"
#include "vmm/virtio/fake-driver.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t input_left;

static void f_write(void *ctx, const struct iovec *iov, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		(void)*(const volatile uint8_t *)((const uint8_t *)iov[i].iov_base +
						  iov[i].iov_len - 1);
}

static size_t f_read(void *ctx, const struct iovec *iov, unsigned n)
{
	size_t k = MIN(input_left, iov[0].iov_len);

	memset(iov[0].iov_base, 'x', k);
	input_left -= k;
	return k;
}

static void f_free(void *ctx)
{
}

static const struct console_back_ops f_ops = {f_write, f_read, f_free};

/* Six bytes a buffer: address and length in units that make edges likely. */
static void run(struct fake *f, const uint8_t *data, size_t size)
{
	if (!fake_start(f, FAKE_ALL))
		abort();
	while (size >= 8 && virtio_live(f->v)) {
		unsigned q = data[0] % f->v->n_queues, n = data[1] % 6 + 1;
		struct fake_buf b[6];
		unsigned k = 0;

		for (data += 2, size -= 2; k < n && size >= 6; k++, data += 6, size -= 6)
			b[k] = (struct fake_buf){(gpa_t)le16_get(data) << 8 | data[2],
				le16_get(data + 3), data[5] & 1};
		if (!k)
			break;
		fake_add(f, q, b, k, data[-1] & 2);
		f->heap = FAKE_HEAP;
		fake_notify(f, q);
		fake_settle(f);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct fake fc, fb;
	static struct console *c;
	static struct balloon *b;

	if (!c) {
		fake_init(&fc);
		fake_init(&fb);
		if (console_new(&c, fc.gm, "console0") < 0 ||
			balloon_new(&b, fb.gm, "balloon0") < 0)
			abort();
		console_set_back(c, &f_ops, NULL);
		fake_attach(&fc, console_dev(c), NULL);
		fake_attach(&fb, balloon_dev(b), NULL);
	}
	input_left = 1000;
	run(&fc, data, size);
	run(&fb, data, size);
	return 0;
}
