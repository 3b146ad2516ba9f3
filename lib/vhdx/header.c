/* SPDX-License-Identifier: MIT */
/* File type identifier (2.2.1) and the two headers (2.2.2), of which the one with the greater
 * SequenceNumber is current. */
#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include "lib/base/crc32c.h"
#include "lib/base/le.h"
#include "lib/vhdx/vhdx-internal.h"

const char vhdx_signature[8] = {'v', 'h', 'd', 'x', 'f', 'i', 'l', 'e'};

enum {
	H_CHECKSUM = 4,
	H_SEQ = 8,
	H_FILE_WRITE_GUID = 16,
	H_DATA_WRITE_GUID = 32,
	H_LOG_GUID = 48,
	H_LOG_VERSION = 64,
	H_VERSION = 66,
	H_LOG_LENGTH = 68,
	H_LOG_OFFSET = 72,
	VERSION = 1,
};

void vhdx_new_guid(uint8_t *guid)
{
	/* 16 bytes never come short or fail on a kernel that has the call. */
	if (getrandom(guid, GUID_LEN, 0) != GUID_LEN)
		__builtin_trap();
	guid[7] = (guid[7] & 0x0f) | 0x40; /* RFC 4122 section 4.4, in Microsoft's byte order */
	guid[8] = (guid[8] & 0x3f) | 0x80;
}

const uint8_t *vhdx_log_guid(const struct vhdx *v)
{
	return v->header + H_LOG_GUID;
}

static void checksum(uint8_t *h)
{
	le32_put(h + H_CHECKSUM, 0);
	le32_put(h + H_CHECKSUM, crc32c(0, h, HEADER_LEN));
}

static bool valid(const uint8_t *h)
{
	uint8_t copy[HEADER_LEN];

	memcpy(copy, h, HEADER_LEN);
	checksum(copy);
	return !memcmp(copy, h, HEADER_LEN) && !memcmp(h, "head", 4);
}

int vhdx_read_header(struct vhdx *v, struct err *e)
{
	uint8_t h[2][HEADER_LEN], id[sizeof(vhdx_signature)];
	bool ok[2];
	int r = v->file_size < MIB ? -EINVAL : v->io->read(v->ctx, id, sizeof(id), 0);

	if (r == -EINVAL || (r == 0 && memcmp(id, vhdx_signature, sizeof(id))))
		return err_set(e, -EINVAL, "not a VHDX file");
	for (unsigned i = 0; r == 0 && i < 2; i++) {
		r = v->io->read(v->ctx, h[i], HEADER_LEN, HEADER_AT * (i + 1));
		ok[i] = r == 0 && valid(h[i]);
	}
	if (r < 0)
		return err_sys(e, r, "read the headers");
	if (!ok[0] && !ok[1])
		return err_set(e, -EINVAL, "both headers are damaged");
	/* Equal numbers are only in files whose two headers were written alike, when they were
	 * made. */
	v->header_copy = !ok[0] || (ok[1] && le64_get(h[1] + H_SEQ) > le64_get(h[0] + H_SEQ));
	memcpy(v->header, h[v->header_copy], HEADER_LEN);
	if (le64_get(v->header + H_SEQ) > UINT64_MAX / 2) /* or it would wrap one day */
		return err_set(e, -EINVAL, "its header's sequence number cannot be");
	if (le16_get(v->header + H_VERSION) != VERSION)
		return err_set(e, -EOPNOTSUPP, "its version %u is not known",
			le16_get(v->header + H_VERSION));
	if (le16_get(v->header + H_LOG_VERSION))
		return err_set(e, -EOPNOTSUPP, "its log's version %u is not known",
			le16_get(v->header + H_LOG_VERSION));
	v->log_off = le64_get(v->header + H_LOG_OFFSET);
	v->log_len = le32_get(v->header + H_LOG_LENGTH);
	if (v->log_len > VHDX_MAX_LOG)
		return err_set(e, -EFBIG, "its log of %u bytes is too large", v->log_len);
	if (!v->log_len || v->log_len % MIB || v->log_off < MIB || v->log_off % MIB ||
		v->log_off > v->file_size || v->log_len > v->file_size - v->log_off)
		return err_set(e, -EINVAL, "its log lies where it cannot");
	return 0;
}

int vhdx_write_header(struct vhdx *v, const uint8_t *log_guid, enum header_news news)
{
	uint8_t h[HEADER_LEN];
	int r;

	memcpy(h, v->header, HEADER_LEN);
	le64_put(h + H_SEQ, le64_get(h + H_SEQ) + 1);
	if (news >= NEWS_FILE)
		vhdx_new_guid(h + H_FILE_WRITE_GUID);
	if (news >= NEWS_DATA)
		vhdx_new_guid(h + H_DATA_WRITE_GUID);
	memcpy(h + H_LOG_GUID, log_guid, GUID_LEN);
	checksum(h);
	/* The current one stays what it is until the other is stable (2.2.2.1). */
	r = v->io->write(v->ctx, h, HEADER_LEN, HEADER_AT * (2 - v->header_copy));
	if (r == 0)
		r = vhdx_flush_file(v);
	if (r < 0)
		return r;
	memcpy(v->header, h, HEADER_LEN);
	v->header_copy = !v->header_copy;
	return 0;
}

void vhdx_format_header(uint8_t *h, uint64_t seq, uint64_t log_off, uint32_t log_len)
{
	memset(h, 0, HEADER_LEN);
	memcpy(h, "head", 4);
	le64_put(h + H_SEQ, seq);
	vhdx_new_guid(h + H_FILE_WRITE_GUID);
	vhdx_new_guid(h + H_DATA_WRITE_GUID);
	le16_put(h + H_VERSION, VERSION);
	le32_put(h + H_LOG_LENGTH, log_len);
	le64_put(h + H_LOG_OFFSET, log_off);
	checksum(h);
}
