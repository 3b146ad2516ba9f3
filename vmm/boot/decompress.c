/* SPDX-License-Identifier: MIT */
/* Decompression by the usual libraries into one growing, bounded buffer (decompress.h). */
#include "vmm/boot/decompress.h"

#include <errno.h>
#include <limits.h>
#include <lz4.h>
#include <lzma.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#define ZLIB_CONST /* const input pointers */
#include <zlib.h>
#include <zstd.h>
#include "lib/base/cleanup.h"
#include "lib/base/le.h"

struct out {
	uint8_t *data;
	size_t len, cap, max;
};

enum { FIRST_CAP = 1 << 20, LZ4_BLOCK = 8 << 20 };

/* Makes room for want more bytes, or for as many as the limit allows; -EFBIG when that is none. */
static int reserve(struct out *o, size_t want)
{
	size_t cap = MIN(MAX(MAX(o->cap * 2, o->len + want), (size_t)FIRST_CAP), o->max);
	uint8_t *p;

	if (o->cap - o->len >= want)
		return 0;
	if (cap <= o->len)
		return -EFBIG;
	p = realloc(o->data, cap);
	if (!p)
		return -ENOMEM;
	o->data = p;
	o->cap = cap;
	return 0;
}

static int un_gzip(struct out *o, const uint8_t *src, size_t len)
{
	z_stream z = {.next_in = src, .avail_in = MIN(len, (size_t)UINT_MAX)};
	int r, zr = Z_OK;

	if (inflateInit2(&z, 16 + MAX_WBITS) != Z_OK)
		return -ENOMEM;
	while ((r = reserve(o, 1)) == 0 && zr != Z_STREAM_END) {
		size_t room = MIN(o->cap - o->len, (size_t)UINT_MAX);

		z.next_out = o->data + o->len;
		z.avail_out = room;
		zr = inflate(&z, Z_NO_FLUSH);
		o->len += room - z.avail_out;
		if (zr != Z_OK && zr != Z_STREAM_END) {
			r = -EBADMSG;
			break;
		}
	}
	inflateEnd(&z);
	return zr == Z_STREAM_END ? 0 : r;
}

static int un_xz(struct out *o, const uint8_t *src, size_t len)
{
	lzma_stream z = LZMA_STREAM_INIT;
	lzma_ret zr = LZMA_OK;
	int r;

	/* The dictionary is at most 32 MiB in kernels; a limit keeps a made-up header from asking for gigabytes. */
	if (lzma_auto_decoder(&z, 256 << 20, 0) != LZMA_OK)
		return -ENOMEM;
	z.next_in = src;
	z.avail_in = len;
	while ((r = reserve(o, 1)) == 0 && zr != LZMA_STREAM_END) {
		z.next_out = o->data + o->len;
		z.avail_out = o->cap - o->len;
		zr = lzma_code(&z, LZMA_RUN);
		o->len = o->cap - z.avail_out;
		if (zr != LZMA_OK && zr != LZMA_STREAM_END) {
			r = -EBADMSG;
			break;
		}
	}
	lzma_end(&z);
	return zr == LZMA_STREAM_END ? 0 : r;
}

static int un_zstd(struct out *o, const uint8_t *src, size_t len)
{
	ZSTD_DCtx *z = ZSTD_createDCtx();
	ZSTD_inBuffer in = {.src = src, .size = len};
	size_t zr = 1;
	int r;

	if (!z)
		return -ENOMEM;
	while ((r = reserve(o, 1)) == 0 && zr != 0) {
		ZSTD_outBuffer ob = {.dst = o->data, .size = o->cap, .pos = o->len};
		size_t had = in.pos;

		zr = ZSTD_decompressStream(z, &ob, &in);
		/* No progress with room left: the input ended too early. */
		if (ZSTD_isError(zr) || (zr != 0 && in.pos == had && ob.pos == o->len)) {
			r = -EBADMSG;
			break;
		}
		o->len = ob.pos;
	}
	ZSTD_freeDCtx(z);
	return zr == 0 ? 0 : r;
}

/* The legacy frame has no end mark: blocks of {u32 size, data} follow until the input ends or a size cannot be. */
static int un_lz4(struct out *o, const uint8_t *src, size_t len)
{
	size_t pos = 4;

	while (len - pos > 4) {
		uint32_t n = le32_get(src + pos);
		int got, r;

		/* What follows the last block in a kernel is the unpacked size; it is no block. */
		if (n == 0 || n > len - pos - 4)
			break;
		r = reserve(o, LZ4_BLOCK);
		if (r < 0)
			return r;
		got = LZ4_decompress_safe((const char *)src + pos + 4, (char *)o->data + o->len, n,
			MIN(o->cap - o->len, (size_t)LZ4_BLOCK));
		if (got < 0)
			return o->cap - o->len < LZ4_BLOCK ? -EFBIG : -EBADMSG;
		o->len += got;
		pos += 4 + n;
	}
	return o->len ? 0 : -EBADMSG;
}

static const struct format {
	const char *name;
	uint8_t magic[6];
	unsigned magic_len;
	int (*unpack)(struct out *o, const uint8_t *src, size_t len);
} formats[] = {
	{"gzip", {0x1f, 0x8b, 0x08}, 3, un_gzip},
	{"xz", {0xfd, '7', 'z', 'X', 'Z', 0}, 6, un_xz},
	{"lzma", {0x5d, 0, 0}, 3, un_xz},
	{"lz4", {0x02, 0x21, 0x4c, 0x18}, 4, un_lz4},
	{"zstd", {0x28, 0xb5, 0x2f, 0xfd}, 4, un_zstd},
};

static const struct format *detect(const void *src, size_t len)
{
	for (unsigned i = 0; i < ARRAY_LEN(formats); i++)
		if (len > formats[i].magic_len &&
			memcmp(src, formats[i].magic, formats[i].magic_len) == 0)
			return &formats[i];
	return NULL;
}

const char *decompress_format(const void *src, size_t len)
{
	const struct format *f = detect(src, len);

	return f ? f->name : NULL;
}

int decompress(const void *src, size_t len, size_t hint, size_t max, void **ret, size_t *ret_len,
	struct err *e)
{
	const struct format *f = detect(src, len);
	struct out o = {.max = max};
	int r;

	if (!f)
		return err_set(e, -EOPNOTSUPP, "compressed in a way wslx does not know");
	/* One byte more than expected lets a decoder see the end of its stream without another round. */
	if (hint > 0 && hint < max) {
		o.data = malloc(hint + 1);
		if (!o.data)
			return err_sys(e, -ENOMEM, "unpack %s data", f->name);
		o.cap = hint + 1;
	}
	r = f->unpack(&o, src, len);
	if (r < 0) {
		free(o.data);
		if (r == -EBADMSG)
			return err_set(e, r, "the %s data is damaged or cut short", f->name);
		if (r == -EFBIG)
			return err_set(e, r, "the %s data unpacks to more than %zu MiB", f->name,
				max >> 20);
		return err_sys(e, r, "unpack %s data", f->name);
	}
	*ret = o.data;
	*ret_len = o.len;
	return 0;
}
