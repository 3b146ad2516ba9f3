/* SPDX-License-Identifier: MIT */
/* ACPI machine language encoder (aml.h). */
#include "vmm/boot/aml.h"

#include <stdlib.h>
#include <string.h>
#include "lib/base/attr.h"
#include "lib/base/le.h"

enum {
	OP_ZERO = 0x00,
	OP_ONE = 0x01,
	OP_NAME = 0x08,
	OP_BYTE = 0x0a,
	OP_WORD = 0x0b,
	OP_DWORD = 0x0c,
	OP_STRING = 0x0d,
	OP_QWORD = 0x0e,
	OP_SCOPE = 0x10,
	OP_BUFFER = 0x11,
	OP_PACKAGE = 0x12,
	OP_METHOD = 0x14,
	OP_DUAL_NAME = 0x2e,
	OP_MULTI_NAME = 0x2f,
	OP_EXT = 0x5b,
	OP_EXT_DEVICE = 0x82,
	OP_NOTIFY = 0x86,
};

/* A package's length takes two bytes here whatever it is: 12 bits are more than AML_MAX needs. */
enum { PKG_LEN_BYTES = 2, PKG_LEN_MAX = 0xfff };
static_assert(AML_MAX - 1 <= PKG_LEN_MAX, "a package length must fit two bytes");

static void bytes(struct aml *a, const void *p, size_t n)
{
	if (n > sizeof(a->data) - a->len) {
		a->overflow = true;
		return;
	}
	memcpy(a->data + a->len, p, n);
	a->len += n;
}

void aml_byte(struct aml *a, uint8_t v)
{
	bytes(a, &v, 1);
}

static void word(struct aml *a, uint16_t v)
{
	uint8_t b[2];

	le16_put(b, v);
	bytes(a, b, sizeof(b));
}

static void dword(struct aml *a, uint32_t v)
{
	uint8_t b[4];

	le32_put(b, v);
	bytes(a, b, sizeof(b));
}

static void qword(struct aml *a, uint64_t v)
{
	uint8_t b[8];

	le64_put(b, v);
	bytes(a, b, sizeof(b));
}

void aml_path(struct aml *a, const char *path)
{
	unsigned segs;

	while (*path == '\\' || *path == '^')
		aml_byte(a, *path++);
	segs = (strlen(path) + 1) / 5;
	assert(strlen(path) == segs * 5 - 1);
	if (segs == 2) {
		aml_byte(a, OP_DUAL_NAME);
	} else if (segs > 2) {
		aml_byte(a, OP_MULTI_NAME);
		aml_byte(a, segs);
	}
	for (; segs > 0; segs--, path += 5)
		bytes(a, path, 4);
}

void aml_int(struct aml *a, uint64_t v)
{
	if (v <= 1) {
		aml_byte(a, v ? OP_ONE : OP_ZERO);
	} else if (v <= UINT8_MAX) {
		aml_byte(a, OP_BYTE);
		aml_byte(a, v);
	} else if (v <= UINT16_MAX) {
		aml_byte(a, OP_WORD);
		word(a, v);
	} else if (v <= UINT32_MAX) {
		aml_byte(a, OP_DWORD);
		dword(a, v);
	} else {
		aml_byte(a, OP_QWORD);
		qword(a, v);
	}
}

void aml_string(struct aml *a, const char *s)
{
	aml_byte(a, OP_STRING);
	bytes(a, s, strlen(s) + 1);
}

/* Three letters of five bits, then four hexadecimal digits, big-endian (§19.6.36). */
void aml_eisa_id(struct aml *a, const char id[8])
{
	uint32_t v = (id[0] - '@') << 26 | (id[1] - '@') << 21 | (id[2] - '@') << 16 |
		     (uint32_t)strtoul(id + 3, NULL, 16);

	aml_byte(a, OP_DWORD);
	dword(a, __builtin_bswap32(v));
}

static void begin(struct aml *a)
{
	assert(a->depth < AML_DEPTH);
	a->open[a->depth++] = a->len;
	word(a, 0);
}

void aml_end(struct aml *a)
{
	size_t at, n;

	assert(a->depth > 0);
	at = a->open[--a->depth];
	if (a->overflow)
		return;
	n = a->len - at; /* the length counts its own bytes */
	a->data[at] = (PKG_LEN_BYTES - 1) << 6 | (n & 0xf);
	a->data[at + 1] = n >> 4;
}

void aml_name(struct aml *a, const char *name)
{
	aml_byte(a, OP_NAME);
	aml_path(a, name);
}

void aml_begin_scope(struct aml *a, const char *path)
{
	aml_byte(a, OP_SCOPE);
	begin(a);
	aml_path(a, path);
}

void aml_begin_device(struct aml *a, const char *name)
{
	aml_byte(a, OP_EXT);
	aml_byte(a, OP_EXT_DEVICE);
	begin(a);
	aml_path(a, name);
}

void aml_begin_method(struct aml *a, const char *name, unsigned args, bool serialized)
{
	aml_byte(a, OP_METHOD);
	begin(a);
	aml_path(a, name);
	aml_byte(a, args | (serialized ? 8 : 0));
}

void aml_begin_package(struct aml *a, unsigned n)
{
	aml_byte(a, OP_PACKAGE);
	begin(a);
	aml_byte(a, n);
}

void aml_notify(struct aml *a, const char *object, uint8_t value)
{
	aml_byte(a, OP_NOTIFY);
	aml_path(a, object);
	aml_int(a, value);
}

/* A buffer: package length, size as a word constant (patched at the end), bytes. */
void aml_begin_crs(struct aml *a)
{
	aml_name(a, "_CRS");
	aml_byte(a, OP_BUFFER);
	begin(a);
	aml_byte(a, OP_WORD);
	word(a, 0);
}

void aml_end_crs(struct aml *a)
{
	size_t start = a->open[a->depth - 1] + PKG_LEN_BYTES + 3;

	aml_byte(a, 0x79); /* end tag; a zero checksum means "not checked" (§6.4.2.9) */
	aml_byte(a, 0);
	if (!a->overflow)
		le16_put(a->data + start - 2, a->len - start);
	aml_end(a);
}

void aml_res_io(struct aml *a, uint16_t port, uint8_t len)
{
	aml_byte(a, 0x47); /* I/O port descriptor (§6.4.2.5) */
	aml_byte(a, 1);	   /* decodes 16 bits */
	word(a, port);
	word(a, port);
	aml_byte(a, 1);
	aml_byte(a, len);
}

void aml_res_irq(struct aml *a, uint32_t gsi)
{
	aml_byte(a, 0x89); /* extended interrupt descriptor (§6.4.3.6) */
	word(a, 6);
	aml_byte(a, 0x03); /* consumer, edge, active high, exclusive */
	aml_byte(a, 1);
	dword(a, gsi);
}

enum { RANGE_MEM, RANGE_IO, RANGE_BUS };
enum { RANGE_FLAGS = 0x0c }; /* producer, positive decode, minimum and maximum fixed */

void aml_res_bus_range(struct aml *a, uint16_t first, uint16_t last)
{
	const uint16_t f[] = {0, first, last, 0, last - first + 1};

	aml_byte(a, 0x88); /* word address space descriptor (§6.4.3.5.3) */
	word(a, 13);
	aml_byte(a, RANGE_BUS);
	aml_byte(a, RANGE_FLAGS);
	aml_byte(a, 0);
	for (unsigned i = 0; i < ARRAY_LEN(f); i++)
		word(a, f[i]);
}

void aml_res_io_range(struct aml *a, uint16_t first, uint16_t last)
{
	const uint16_t f[] = {0, first, last, 0, last - first + 1};

	aml_byte(a, 0x88);
	word(a, 13);
	aml_byte(a, RANGE_IO);
	aml_byte(a, RANGE_FLAGS);
	aml_byte(a, 3); /* the entire range */
	for (unsigned i = 0; i < ARRAY_LEN(f); i++)
		word(a, f[i]);
}

void aml_res_mem_range(struct aml *a, uint64_t first, uint64_t last)
{
	const uint64_t f[] = {0, first, last, 0, last - first + 1};

	aml_byte(a, 0x8a); /* quad word address space descriptor (§6.4.3.5.1) */
	word(a, 43);
	aml_byte(a, RANGE_MEM);
	aml_byte(a, RANGE_FLAGS);
	aml_byte(a, 1); /* non-cacheable, read-write */
	for (unsigned i = 0; i < ARRAY_LEN(f); i++)
		qword(a, f[i]);
}
