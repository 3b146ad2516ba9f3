/* SPDX-License-Identifier: MIT */
/* What the files of the SCSI target share; nobody else includes this. */
#ifndef WSLX_VMM_SCSI_INTERNAL_H
#define WSLX_VMM_SCSI_INTERNAL_H

#include "lib/os/thread.h"
#include "vmm/scsi/scsi.h"

/* SPC-4 §4.5.6: sense key, additional sense code and qualifier in one number, 0xKKAAQQ. */
enum scsi_sense {
	SENSE_NONE = 0,
	SENSE_STOPPED = 0x020402, /* initializing command required */
	SENSE_WRITE_ERROR = 0x030c00,
	SENSE_READ_ERROR = 0x031100,
	SENSE_TARGET_FAILURE = 0x044400,
	SENSE_PARAM_LIST_LENGTH = 0x051a00,
	SENSE_BAD_OPCODE = 0x052000,
	SENSE_LBA_RANGE = 0x052100,
	SENSE_BAD_CDB = 0x052400,
	SENSE_NO_LUN = 0x052500,
	SENSE_BAD_PARAM = 0x052600,
	SENSE_NO_SAVED_PAGES = 0x053900,
	SENSE_POWER_ON = 0x062901,
	SENSE_RESET = 0x062903,
	SENSE_CAPACITY_CHANGED = 0x062a09,
	SENSE_LUNS_CHANGED = 0x063f0e,
	SENSE_WRITE_PROTECTED = 0x072700,
	SENSE_NO_SPACE = 0x072707, /* space allocation failed, write protect */
};

/* Pending unit attentions of a LUN, a bit each, reported in this order (SAM-5 §5.14). */
enum scsi_ua { UA_POWER_ON = 1, UA_RESET = 2, UA_CAPACITY = 4, UA_LUNS = 8 };

struct scsi_lun {
	struct blk *blk; /* owned */
	unsigned number;
	char serial[33];
	char product[17];
	uint64_t naa;

	/* Under the target's lock. */
	uint64_t blocks;
	unsigned ua;
	bool stopped;
	unsigned busy; /* requests in flight */
	bool leaving;
	struct os_event idle; /* set when busy falls to 0 while leaving */
};

struct scsi_target {
	struct os_mutex lock; /* guards everything below and the LUNs' marked fields */
	struct scsi_lun *luns[SCSI_MAX_LUNS];
	struct scsi_req *flight;
	struct scsi_tmf *tmfs;
	uint64_t seq;
	scsi_event_fn event;
	void *event_ctx;
};

/* Answers; each returns true, "finished", so that handlers can end with it. */
bool scsi_good(struct scsi_req *r);
bool scsi_check(struct scsi_req *r, enum scsi_sense sense);
bool scsi_overrun(struct scsi_req *r);
/* Sends len bytes of answer, cut to the allocation length and to the buffer. */
bool scsi_reply(struct scsi_req *r, const void *data, size_t len, size_t alloc);
/* Builds fixed (SPC-4 §4.5.3) or descriptor (§4.5.2) sense data; returns its length. */
unsigned scsi_sense_build(uint8_t buf[SCSI_SENSE_LEN], enum scsi_sense sense, bool descriptor);
/* Sense for a back end's failure. */
enum scsi_sense scsi_sense_of(const struct blk_req *b, int res);
/* Copies the first len bytes of the data-out buffer to r->param. The caller has checked len. */
void scsi_get_param(struct scsi_req *r, size_t len);
/* After an asynchronous request: unlinks it and calls done(). */
void scsi_finish(struct scsi_req *r);

/* Commands of a disk; each takes a request whose CDB has the opcode's length, and returns whether
 * it is finished. */
bool scsi_inquiry(struct scsi_req *r);
bool scsi_mode_sense(struct scsi_req *r);
bool scsi_read_capacity10(struct scsi_req *r);
bool scsi_service_action_in(struct scsi_req *r);
bool scsi_rw(struct scsi_req *r);
bool scsi_verify(struct scsi_req *r);
bool scsi_sync_cache(struct scsi_req *r);
bool scsi_unmap(struct scsi_req *r);
bool scsi_write_same(struct scsi_req *r);
bool scsi_start_stop(struct scsi_req *r);

/* Limits told in VPD page B0h and enforced. In bytes: the commands count in blocks. */
#define SCSI_MAX_TRANSFER   (16ull << 20)
#define SCSI_MAX_UNMAP	    (2ull << 30)
#define SCSI_MAX_WRITE_SAME (2ull << 30)
/* WRITE SAME of anything but zeroes is written out block by block; it may be at most this long. */
#define SCSI_MAX_PATTERN (32ull << 20)
enum { SCSI_MAX_UNMAP_DESCS = (SCSI_PARAM_MAX - 8) / 16 };

#endif
