/* SPDX-License-Identifier: MIT */
#include "lib/vhdx/fake-file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "lib/base/attr.h"
#include "lib/base/checked.h"

enum { SECTOR = 512 };

struct fake_op {
	uint8_t *data; /* NULL: zeroes, or a size */
	uint64_t off, len;
	bool resize; /* to off */
};

static uint8_t *reserve(void)
{
	void *p = mmap(NULL, FAKE_FILE_MAX, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		abort();
	return p;
}

void fake_file_init(struct fake_file *f, bool journal)
{
	*f = (struct fake_file){.now = reserve(), .countdown = -1, .journal = journal};
	if (journal)
		f->stable = reserve();
}

static void forget(struct fake_file *f)
{
	for (unsigned i = 0; i < f->nops; i++)
		free(f->ops[i].data);
	f->nops = 0;
}

void fake_file_done(struct fake_file *f)
{
	forget(f);
	free(f->ops);
	munmap(f->now, FAKE_FILE_MAX);
	if (f->stable)
		munmap(f->stable, FAKE_FILE_MAX);
}

static int alive(struct fake_file *f)
{
	f->calls++;
	if (f->countdown >= 0 && f->countdown-- == 0)
		f->dead = true;
	return f->dead ? -EIO : 0;
}

static void note(struct fake_file *f, const void *data, uint64_t off, uint64_t len, bool resize)
{
	struct fake_op *op;

	if (!f->journal)
		return;
	if (f->nops == f->cap) {
		f->cap = f->cap ? f->cap * 2 : 64;
		f->ops = realloc(f->ops, f->cap * sizeof(*f->ops));
		if (!f->ops)
			abort();
	}
	op = &f->ops[f->nops++];
	*op = (struct fake_op){.off = off, .len = len, .resize = resize};
	if (data) {
		op->data = malloc(len);
		if (!op->data)
			abort();
		memcpy(op->data, data, len);
	}
}

static void resize(uint8_t *image, uint64_t *size, uint64_t to)
{
	/* Gives the memory back too. */
	if (to < *size) {
		uint64_t page = ALIGN_UP(to, 4096ull);

		memset(image + to, 0, MIN(page, *size) - to);
		if (page < *size)
			madvise(image + page, *size - page, MADV_DONTNEED);
	}
	*size = to;
}

static void put(uint8_t *image, uint64_t *size, const uint8_t *data, uint64_t off, uint64_t len)
{
	if (data)
		memcpy(image + off, data, len);
	else
		memset(image + off, 0, len);
	*size = MAX(*size, off + len);
}

static int fake_size(void *ctx, uint64_t *ret)
{
	struct fake_file *f = ctx;

	*ret = f->size;
	return alive(f);
}

static int fake_set_size(void *ctx, uint64_t size)
{
	struct fake_file *f = ctx;
	int r = alive(f);

	if (r < 0 || size > FAKE_FILE_MAX)
		return r < 0 ? r : -EFBIG;
	note(f, NULL, size, 0, true);
	resize(f->now, &f->size, size);
	return 0;
}

static int fake_read(void *ctx, void *buf, size_t len, uint64_t off)
{
	struct fake_file *f = ctx;
	int r = alive(f);

	if (r < 0 || !range_ok(off, len, f->size))
		return -EIO;
	memcpy(buf, f->now + off, len);
	return 0;
}

static int fake_write(void *ctx, const void *buf, size_t len, uint64_t off)
{
	struct fake_file *f = ctx;
	int r;

	if (!range_ok(off, len, FAKE_FILE_MAX))
		return -EFBIG;
	/* When the power fails in a write, a part of it may have arrived. */
	r = f->dead ? -EIO : 0;
	if (r == 0)
		note(f, buf, off, len, false);
	if (r == 0)
		r = alive(f);
	if (r == 0)
		put(f->now, &f->size, buf, off, len);
	return r;
}

static int fake_zero(void *ctx, uint64_t off, uint64_t len)
{
	struct fake_file *f = ctx;
	int r = alive(f);

	if (r < 0 || !range_ok(off, len, f->size))
		return r < 0 ? r : -EINVAL; /* ours never asks for more */
	note(f, NULL, off, len, false);
	put(f->now, &f->size, NULL, off, len);
	return 0;
}

static void make_stable(struct fake_file *f, const struct fake_op *op)
{
	if (op->resize)
		resize(f->stable, &f->stable_size, op->off);
	else
		put(f->stable, &f->stable_size, op->data, op->off, op->len);
}

static int fake_flush(void *ctx)
{
	struct fake_file *f = ctx;
	int r = alive(f);

	if (r < 0)
		return r;
	for (unsigned i = 0; i < f->nops; i++)
		make_stable(f, &f->ops[i]);
	forget(f);
	return 0;
}

static void tear(struct fake_file *f, const struct fake_op *op, uint64_t (*rnd)(void))
{
	uint64_t how = rnd() % 4, at = op->off, end = op->off + op->len;

	if (op->resize) {
		if (how)
			make_stable(f, op);
		return;
	}
	while (at < end) {
		uint64_t n = MIN(end, (at / SECTOR + 1) * SECTOR) - at;
		struct fake_op part = {
			.data = op->data ? op->data + (at - op->off) : NULL, .off = at, .len = n};

		/* Whole, not at all, or here and there. */
		if (how == 0 || (how > 1 && rnd() % 2))
			make_stable(f, &part);
		at += n;
	}
}

void fake_file_crash(struct fake_file *f, uint64_t (*rnd)(void))
{
	for (unsigned i = 0; i < f->nops; i++)
		tear(f, &f->ops[i], rnd);
	forget(f);
	resize(f->now, &f->size, 0);
	memcpy(f->now, f->stable, f->stable_size);
	f->size = f->stable_size;
	f->dead = false;
	f->countdown = -1;
}

const struct vhdx_io fake_file_io = {
	.size = fake_size,
	.set_size = fake_set_size,
	.read = fake_read,
	.write = fake_write,
	.zero = fake_zero,
	.flush = fake_flush,
};
