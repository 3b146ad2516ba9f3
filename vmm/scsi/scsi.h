/* SPDX-License-Identifier: MIT */
/*
 * One SCSI target with up to 256 logical units, all of them disks (SPC-4, SBC-3, SAM-5). It knows
 * no transport: virtio-scsi and storvsp hand it commands and carry its events. One initiator is
 * assumed.
 *
 * Locks: scsi_submit() and scsi_tmf() may be called with a transport's lock held; done() callbacks
 * and event callbacks come without any lock of the target, done() callbacks always on the loop's
 * thread.
 */
#ifndef WSLX_VMM_SCSI_SCSI_H
#define WSLX_VMM_SCSI_SCSI_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>
#include "vmm/scsi/blk.h"

struct scsi_target;
struct scsi_lun;
struct state_w;
struct state_r;

enum {
	SCSI_MAX_LUNS = 256,
	SCSI_LUN_REPORT_LUNS = 0x10000, /* the REPORT LUNS well-known logical unit */
	SCSI_CDB_MAX = 32,
	SCSI_SENSE_LEN = 18,
	SCSI_PARAM_MAX =
		4096, /* parameter lists: UNMAP's header and 255 descriptors; WRITE SAME's block */
};

enum { SCSI_GOOD = 0x00, SCSI_CHECK_CONDITION = 0x02, SCSI_TASK_ABORTED = 0x40 };

/* What became of a command, above the SCSI status. */
enum scsi_result {
	SCSI_DONE,    /* status, sense and moved are valid */
	SCSI_OVERRUN, /* the buffers are smaller than what the command transfers; nothing was
			 transferred */
	SCSI_ABORTED, /* a task management function ended it */
	SCSI_RESET,   /* a reset ended it */
};

struct scsi_req {
	/* The caller's, before scsi_submit(). The iovecs stay valid until the request is finished.
	 */
	unsigned lun;
	uint64_t tag;
	uint8_t cdb[SCSI_CDB_MAX];
	unsigned cdb_len;
	const struct iovec *out, *in; /* to and from the device */
	unsigned out_n, in_n;
	uint64_t out_len, in_len;
	void (*done)(struct scsi_req *r);

	/* The answer. */
	enum scsi_result result;
	uint8_t status;
	uint8_t sense[SCSI_SENSE_LEN];
	unsigned sense_len;
	uint64_t moved; /* bytes transferred */

	/* The target's. */
	struct scsi_target *t;
	struct scsi_lun *l;
	struct scsi_req *next, **prev; /* list of requests in flight */
	uint64_t seq;
	enum scsi_result cancelled; /* SCSI_DONE: not cancelled */
	struct blk_req blk;
	uint64_t off, left;
	unsigned unmap_next, unmap_count;
	bool flush_after;
	uint8_t param[SCSI_PARAM_MAX];
	struct iovec param_iov[64];
};

enum scsi_event {
	SCSI_EV_ATTACHED,
	SCSI_EV_DETACHED,
	SCSI_EV_RESIZED,
};
typedef void (*scsi_event_fn)(void *ctx, enum scsi_event ev, unsigned lun);

int scsi_target_new(struct scsi_target **ret);
/* Detaches every LUN. No request may be in flight but those of LUNs' back ends, which are drained.
 */
void scsi_target_free(struct scsi_target *t);
/* Called on the loop's thread when the set of LUNs or a LUN's size changes. */
void scsi_set_events(struct scsi_target *t, scsi_event_fn fn, void *ctx);

struct scsi_disk_config {
	const char *serial;  /* 1..32 printable ASCII characters without blanks; names the disk in
				the guest */
	const char *product; /* at most 16 characters; NULL: "Virtual Disk" */
};

/* Loop's thread. Takes blk over on success. -EBUSY: the LUN exists; -EINVAL: bad LUN, geometry or
 * serial. */
int scsi_attach(
	struct scsi_target *t, unsigned lun, struct blk *blk, const struct scsi_disk_config *cfg);
/* Loop's thread, without the transport's lock. Waits for the LUN's requests, then frees its back
 * end. -ENOENT. */
int scsi_detach(struct scsi_target *t, unsigned lun);
/* Loop's thread. The back end's geo.size has changed. -ENOENT. */
int scsi_resized(struct scsi_target *t, unsigned lun);
bool scsi_lun_exists(struct scsi_target *t, unsigned lun);
/* Lowest free LUN, or -ENOSPC. */
int scsi_free_lun(struct scsi_target *t);

/* Any thread. True: finished, done() is not called. False: done() is called later; r is not to be
 * touched. */
bool scsi_submit(struct scsi_target *t, struct scsi_req *r);

/* Task management (SAM-5 §7). */
enum scsi_tmf_op {
	SCSI_TMF_ABORT_TASK, /* by tag */
	SCSI_TMF_ABORT_TASK_SET,
	SCSI_TMF_CLEAR_TASK_SET,
	SCSI_TMF_LUN_RESET,
	SCSI_TMF_NEXUS_RESET, /* every LUN */
	SCSI_TMF_QUERY_TASK,  /* by tag */
	SCSI_TMF_QUERY_TASK_SET,
};

enum scsi_tmf_result {
	SCSI_TMF_COMPLETE,  /* done; for a query: there is no such task */
	SCSI_TMF_SUCCEEDED, /* query: the task is there */
	SCSI_TMF_BAD_LUN,
};

struct scsi_tmf {
	enum scsi_tmf_op op;
	unsigned lun;
	uint64_t tag;
	void (*done)(struct scsi_tmf *m);
	enum scsi_tmf_result result;

	/* The target's. */
	struct scsi_tmf *next;
	uint64_t seq;
	unsigned waiting;
};

/* As scsi_submit(). A function that ends requests is finished after they are: their done() calls
 * come first. */
bool scsi_tmf(struct scsi_target *t, struct scsi_tmf *m);

/* Loop's thread, VM stopped: waits for every request in flight, calling done() inside. */
void scsi_drain(struct scsi_target *t);
/* The transport was reset and has nothing in flight: power-on state. Any thread. */
void scsi_reset(struct scsi_target *t);

/* The state the guest can see (unit attentions, stopped units); LUNs themselves are attached by the
 * program first. */
void scsi_save(struct scsi_target *t, struct state_w *w);
int scsi_load(struct scsi_target *t, struct state_r *r);

#endif
