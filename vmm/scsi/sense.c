/* SPDX-License-Identifier: MIT */
/* Answers of the target: status, sense data (SPC-4 §4.5), parameter data out and in. */
#include "vmm/scsi/scsi-internal.h"

#include <errno.h>
#include <string.h>
#include "lib/base/attr.h"
#include "lib/base/iov.h"

bool scsi_good(struct scsi_req *r)
{
	r->result = SCSI_DONE;
	r->status = SCSI_GOOD;
	return true;
}

unsigned scsi_sense_build(uint8_t buf[SCSI_SENSE_LEN], enum scsi_sense sense, bool descriptor)
{
	memset(buf, 0, SCSI_SENSE_LEN);
	if (descriptor) {
		buf[0] = 0x72;
		buf[1] = sense >> 16;
		buf[2] = sense >> 8;
		buf[3] = sense;
		return 8;
	}
	buf[0] = 0x70;
	buf[2] = sense >> 16;
	buf[7] = SCSI_SENSE_LEN - 8;
	buf[12] = sense >> 8;
	buf[13] = sense;
	return SCSI_SENSE_LEN;
}

bool scsi_check(struct scsi_req *r, enum scsi_sense sense)
{
	r->result = SCSI_DONE;
	r->status = SCSI_CHECK_CONDITION;
	r->moved = 0;
	r->sense_len = scsi_sense_build(r->sense, sense, /* descriptor= */ false);
	return true;
}

bool scsi_overrun(struct scsi_req *r)
{
	r->result = SCSI_OVERRUN;
	r->status = SCSI_GOOD;
	r->moved = 0;
	return true;
}

enum scsi_sense scsi_sense_of(const struct blk_req *b, int res)
{
	switch (res) {
	case -ENOSPC:
	case -EDQUOT: return SENSE_NO_SPACE;
	case -EROFS:
	case -EPERM: return SENSE_WRITE_PROTECTED;
	case -EINVAL: return SENSE_LBA_RANGE;
	case -EOPNOTSUPP: return SENSE_BAD_OPCODE;
	case -EIO: return b->op == BLK_READ ? SENSE_READ_ERROR : SENSE_WRITE_ERROR;
	default: return SENSE_TARGET_FAILURE;
	}
}

bool scsi_reply(struct scsi_req *r, const void *data, size_t len, size_t alloc)
{
	r->moved = iov_from_buf(r->in, r->in_n, 0, data, MIN(len, alloc));
	return scsi_good(r);
}

void scsi_get_param(struct scsi_req *r, size_t len)
{
	size_t n = iov_to_buf(r->out, r->out_n, 0, r->param, len);

	memset(r->param + n, 0, len - n);
}
