/* SPDX-License-Identifier: MIT */
/*
 * The SCSI target: logical units coming and going, dispatch of commands, unit attentions and task
 * management (SAM-5 §5.14, §7; SPC-4 §6.33 REPORT LUNS). Sizes and formats of commands are checked
 * here and in the handlers; the transport has copied the CDB already.
 */
#include "vmm/scsi/scsi-internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "lib/base/attr.h"
#include "lib/base/le.h"
#include "vmm/core/state.h"

static bool test_unit_ready(struct scsi_req *r);
static bool request_sense(struct scsi_req *r);
static bool report_luns(struct scsi_req *r);

enum cmd_flags {
	NO_LUN = 1, /* answered even where there is no such LUN */
	NO_UA = 2,  /* answered while a unit attention is pending */
	MEDIUM = 4, /* the unit must be started */
	WRITES = 8, /* the disk must be writable */
};

/* PERSISTENT RESERVE IN/OUT, RESERVE and RELEASE are refused like everything not listed. */
static const struct cmd {
	bool (*fn)(struct scsi_req *r);
	uint8_t flags;
} commands[256] = {
	[0x00] = {test_unit_ready, MEDIUM},
	[0x03] = {request_sense, NO_LUN | NO_UA},
	[0x08] = {scsi_rw, MEDIUM},	     /* READ (6) */
	[0x0a] = {scsi_rw, MEDIUM | WRITES}, /* WRITE (6) */
	[0x12] = {scsi_inquiry, NO_LUN | NO_UA},
	[0x1a] = {scsi_mode_sense, 0},
	[0x1b] = {scsi_start_stop, 0},
	[0x25] = {scsi_read_capacity10, MEDIUM},
	[0x28] = {scsi_rw, MEDIUM},	     /* READ (10) */
	[0x2a] = {scsi_rw, MEDIUM | WRITES}, /* WRITE (10) */
	[0x2f] = {scsi_verify, MEDIUM},	     /* VERIFY (10) */
	[0x35] = {scsi_sync_cache, MEDIUM},
	[0x41] = {scsi_write_same, MEDIUM | WRITES},
	[0x42] = {scsi_unmap, MEDIUM | WRITES},
	[0x5a] = {scsi_mode_sense, 0},
	[0x88] = {scsi_rw, MEDIUM},	     /* READ (16) */
	[0x8a] = {scsi_rw, MEDIUM | WRITES}, /* WRITE (16) */
	[0x8f] = {scsi_verify, MEDIUM},	     /* VERIFY (16) */
	[0x91] = {scsi_sync_cache, MEDIUM},
	[0x93] = {scsi_write_same, MEDIUM | WRITES},
	[0x9e] = {scsi_service_action_in, MEDIUM},
	[0xa0] = {report_luns, NO_LUN | NO_UA},
	[0xa8] = {scsi_rw, MEDIUM},	     /* READ (12) */
	[0xaa] = {scsi_rw, MEDIUM | WRITES}, /* WRITE (12) */
	[0xaf] = {scsi_verify, MEDIUM},	     /* VERIFY (12) */
};

static unsigned cdb_size(uint8_t opcode)
{
	static const uint8_t by_group[8] = {6, 10, 10, 0, 16, 12, 0, 0};

	return by_group[opcode >> 5];
}

/* Takes the most important pending unit attention, or SENSE_NONE. The target's lock is held. */
static enum scsi_sense take_ua(struct scsi_lun *l)
{
	static const enum scsi_sense sense[] = {
		SENSE_POWER_ON, SENSE_RESET, SENSE_CAPACITY_CHANGED, SENSE_LUNS_CHANGED};

	if (!l->ua)
		return SENSE_NONE;
	unsigned bit = __builtin_ctz(l->ua);
	l->ua &= ~(1u << bit);
	return sense[bit];
}

static bool test_unit_ready(struct scsi_req *r)
{
	return scsi_good(r);
}

static bool request_sense(struct scsi_req *r)
{
	uint8_t buf[SCSI_SENSE_LEN];
	enum scsi_sense sense = SENSE_NO_LUN;

	if (r->l) {
		OS_GUARD(&r->t->lock);
		sense = take_ua(r->l);
		if (sense == SENSE_NONE && r->l->stopped)
			sense = SENSE_STOPPED;
	}
	unsigned n = scsi_sense_build(buf, sense, /* descriptor= */ r->cdb[1] & 1);
	return scsi_reply(r, buf, n, r->cdb[4]);
}

static bool report_luns(struct scsi_req *r)
{
	uint8_t buf[8 + 8 * SCSI_MAX_LUNS] = {0};
	uint32_t alloc = be32_get(r->cdb + 6);
	size_t n = 0;

	if (r->cdb[2] > 2 || alloc < 16)
		return scsi_check(r, SENSE_BAD_CDB);
	os_mutex_lock(&r->t->lock);
	for (unsigned i = 0; i < SCSI_MAX_LUNS && r->cdb[2] != 1; i++)
		if (r->t->luns[i])
			buf[8 + 8 * n++ + 1] = i;
	if (r->l)
		r->l->ua &= ~UA_LUNS;
	os_mutex_unlock(&r->t->lock);
	if (r->cdb[2] == 1)
		memcpy(buf + 8 + 8 * n++, (const uint8_t[2]){0xc1, 0x01}, 2);
	be32_put(buf, 8 * n);
	return scsi_reply(r, buf, 8 + 8 * n, alloc);
}

static bool dispatch(struct scsi_req *r)
{
	const struct cmd *c = &commands[r->cdb[0]];
	unsigned size = cdb_size(r->cdb[0]);
	enum scsi_sense sense = SENSE_NONE;
	bool stopped = false;

	if (!r->l && !(c->flags & NO_LUN))
		return scsi_check(r, SENSE_NO_LUN);
	if (r->l && !(c->flags & NO_UA)) {
		OS_GUARD(&r->t->lock);
		sense = take_ua(r->l);
		stopped = r->l->stopped;
	}
	if (sense != SENSE_NONE)
		return scsi_check(r, sense);
	if (!c->fn)
		return scsi_check(r, SENSE_BAD_OPCODE);
	if (r->cdb_len < size || r->cdb[size - 1] & 0x04) /* NACA */
		return scsi_check(r, SENSE_BAD_CDB);
	if (stopped && c->flags & MEDIUM)
		return scsi_check(r, SENSE_STOPPED);
	if (c->flags & WRITES && r->l->blk->geo.readonly)
		return scsi_check(r, SENSE_WRITE_PROTECTED);
	return c->fn(r);
}

static bool tmf_covers(const struct scsi_tmf *m, const struct scsi_req *r)
{
	bool by_tag = m->op == SCSI_TMF_ABORT_TASK || m->op == SCSI_TMF_QUERY_TASK;

	if (m->op == SCSI_TMF_NEXUS_RESET)
		return true;
	return r->lun == m->lun && (!by_tag || r->tag == m->tag);
}

/* Takes r off the list. Returns the task management functions that waited for it, as a list. */
static struct scsi_tmf *unlink_req(struct scsi_req *r)
{
	struct scsi_target *t = r->t;
	struct scsi_tmf *ready = NULL;

	OS_GUARD(&t->lock);
	*r->prev = r->next;
	if (r->next)
		r->next->prev = r->prev;
	for (struct scsi_tmf **p = &t->tmfs, *m; (m = *p);) {
		if (r->seq < m->seq && tmf_covers(m, r) && --m->waiting == 0) {
			*p = m->next;
			m->next = ready;
			ready = m;
		} else {
			p = &m->next;
		}
	}
	if (r->cancelled != SCSI_DONE) {
		r->result = r->cancelled;
		r->moved = 0;
	}
	if (r->l && --r->l->busy == 0 && r->l->leaving)
		os_event_set(&r->l->idle);
	return ready;
}

static void finish_tmfs(struct scsi_tmf *ready)
{
	while (ready) {
		struct scsi_tmf *m = ready;

		ready = m->next;
		m->done(m);
	}
}

void scsi_finish(struct scsi_req *r)
{
	struct scsi_tmf *ready = unlink_req(r);

	r->done(r);
	finish_tmfs(ready);
}

bool scsi_submit(struct scsi_target *t, struct scsi_req *r)
{
	r->t = t;
	r->result = SCSI_DONE;
	r->cancelled = SCSI_DONE;
	r->status = SCSI_GOOD;
	r->sense_len = 0;
	r->moved = 0;
	r->flush_after = false;
	r->left = 0;
	r->unmap_next = r->unmap_count = 0;
	r->blk = (struct blk_req){0};
	os_mutex_lock(&t->lock);
	r->l = r->lun < SCSI_MAX_LUNS ? t->luns[r->lun] : NULL;
	if (r->l)
		r->l->busy++;
	r->seq = t->seq++;
	r->next = t->flight;
	if (r->next)
		r->next->prev = &r->next;
	r->prev = &t->flight;
	t->flight = r;
	os_mutex_unlock(&t->lock);

	if (!dispatch(r))
		return false;
	finish_tmfs(unlink_req(r));
	return true;
}

static unsigned cancel_covered(struct scsi_target *t, struct scsi_tmf *m, enum scsi_result how)
{
	unsigned n = 0;

	for (struct scsi_req *r = t->flight; r; r = r->next) {
		if (tmf_covers(m, r)) {
			if (how != SCSI_DONE)
				r->cancelled = how;
			n++;
		}
	}
	return n;
}

static void reset_lun(struct scsi_lun *l)
{
	l->stopped = false;
	l->ua |= UA_RESET;
}

bool scsi_tmf(struct scsi_target *t, struct scsi_tmf *m)
{
	struct scsi_lun *l;

	OS_GUARD(&t->lock);
	l = m->lun < SCSI_MAX_LUNS ? t->luns[m->lun] : NULL;
	m->result = SCSI_TMF_COMPLETE;
	m->seq = t->seq++;
	if (!l && m->op != SCSI_TMF_NEXUS_RESET) {
		m->result = SCSI_TMF_BAD_LUN;
		return true;
	}
	switch (m->op) {
	case SCSI_TMF_QUERY_TASK:
	case SCSI_TMF_QUERY_TASK_SET:
		if (cancel_covered(t, m, SCSI_DONE))
			m->result = SCSI_TMF_SUCCEEDED;
		return true;
	case SCSI_TMF_ABORT_TASK:
	case SCSI_TMF_ABORT_TASK_SET:
	case SCSI_TMF_CLEAR_TASK_SET: m->waiting = cancel_covered(t, m, SCSI_ABORTED); break;
	case SCSI_TMF_LUN_RESET:
		m->waiting = cancel_covered(t, m, SCSI_RESET);
		reset_lun(l);
		break;
	case SCSI_TMF_NEXUS_RESET:
		m->waiting = cancel_covered(t, m, SCSI_RESET);
		for (unsigned i = 0; i < SCSI_MAX_LUNS; i++)
			if (t->luns[i])
				reset_lun(t->luns[i]);
		break;
	}
	if (!m->waiting)
		return true;
	m->next = t->tmfs;
	t->tmfs = m;
	return false;
}

void scsi_drain(struct scsi_target *t)
{
	for (unsigned i = 0; i < SCSI_MAX_LUNS; i++)
		if (t->luns[i])
			blk_drain(t->luns[i]->blk);
}

void scsi_reset(struct scsi_target *t)
{
	OS_GUARD(&t->lock);
	for (unsigned i = 0; i < SCSI_MAX_LUNS; i++) {
		if (t->luns[i]) {
			t->luns[i]->stopped = false;
			t->luns[i]->ua = UA_POWER_ON;
		}
	}
}

/* FNV-1a: stable, well spread; no secret. */
static uint64_t hash(const char *s)
{
	uint64_t h = 0xcbf29ce484222325ull;

	for (; *s; s++)
		h = (h ^ (uint8_t)*s) * 0x100000001b3ull;
	return h;
}

static bool geometry_ok(const struct blk_geometry *g)
{
	return (g->block_size == 512 || g->block_size == 4096) &&
	       g->phys_block_size >= g->block_size && g->phys_block_size <= 65536 &&
	       (g->phys_block_size & (g->phys_block_size - 1)) == 0 && g->size >= g->block_size &&
	       g->size <= INT64_MAX;
}

static bool serial_ok(const char *s)
{
	size_t n = strlen(s);

	for (size_t i = 0; i < n; i++)
		if (s[i] <= ' ' || s[i] > '~')
			return false;
	return n >= 1 && n <= 32;
}

/* Others are told that the list of LUNs has changed; the new one that it was just powered on. */
static void luns_changed(struct scsi_target *t, struct scsi_lun *but)
{
	for (unsigned i = 0; i < SCSI_MAX_LUNS; i++)
		if (t->luns[i] && t->luns[i] != but)
			t->luns[i]->ua |= UA_LUNS;
}

/* The receiver takes its own lock, which comes before ours. */
static void tell(struct scsi_target *t, enum scsi_event ev, unsigned lun)
{
	scsi_event_fn fn;
	void *ctx;

	os_mutex_lock(&t->lock);
	fn = t->event;
	ctx = t->event_ctx;
	os_mutex_unlock(&t->lock);
	if (fn)
		fn(ctx, ev, lun);
}

int scsi_attach(
	struct scsi_target *t, unsigned lun, struct blk *blk, const struct scsi_disk_config *cfg)
{
	struct scsi_lun *l;

	if (lun >= SCSI_MAX_LUNS || !geometry_ok(&blk->geo) || !serial_ok(cfg->serial))
		return -EINVAL;
	if (scsi_lun_exists(t, lun))
		return -EBUSY;
	l = calloc(1, sizeof(*l));
	if (!l)
		return -ENOMEM;
	l->blk = blk;
	l->number = lun;
	l->blocks = blk->geo.size / blk->geo.block_size;
	l->ua = UA_POWER_ON;
	l->naa = hash(cfg->serial);
	strcpy(l->serial, cfg->serial);
	strncpy(l->product, cfg->product ? cfg->product : "Virtual Disk", sizeof(l->product) - 1);
	os_event_init(&l->idle);
	os_mutex_lock(&t->lock);
	t->luns[lun] = l;
	luns_changed(t, l);
	os_mutex_unlock(&t->lock);
	tell(t, SCSI_EV_ATTACHED, lun);
	return 0;
}

static void lun_free(struct scsi_lun *l)
{
	blk_free(l->blk);
	os_event_done(&l->idle);
	free(l);
}

/* Waits for l's requests; nobody can submit more. */
static void lun_leave(struct scsi_target *t, struct scsi_lun *l)
{
	bool busy;

	blk_drain(l->blk);
	os_mutex_lock(&t->lock);
	l->leaving = true;
	busy = l->busy;
	os_mutex_unlock(&t->lock);
	/* What is left is inside scsi_submit() on another thread, or has just become pending from
	 * there. */
	while (busy) {
		os_event_wait(&l->idle, os_now() + 1000000);
		blk_drain(l->blk);
		os_mutex_lock(&t->lock);
		busy = l->busy;
		os_mutex_unlock(&t->lock);
	}
}

int scsi_detach(struct scsi_target *t, unsigned lun)
{
	struct scsi_lun *l;

	if (lun >= SCSI_MAX_LUNS)
		return -ENOENT;
	os_mutex_lock(&t->lock);
	l = t->luns[lun];
	t->luns[lun] = NULL;
	if (l)
		luns_changed(t, NULL);
	os_mutex_unlock(&t->lock);
	if (!l)
		return -ENOENT;
	lun_leave(t, l);
	lun_free(l);
	tell(t, SCSI_EV_DETACHED, lun);
	return 0;
}

int scsi_resized(struct scsi_target *t, unsigned lun)
{
	struct scsi_lun *l;

	os_mutex_lock(&t->lock);
	l = lun < SCSI_MAX_LUNS ? t->luns[lun] : NULL;
	if (l) {
		l->blocks = l->blk->geo.size / l->blk->geo.block_size;
		l->ua |= UA_CAPACITY;
	}
	os_mutex_unlock(&t->lock);
	if (!l)
		return -ENOENT;
	tell(t, SCSI_EV_RESIZED, lun);
	return 0;
}

bool scsi_lun_exists(struct scsi_target *t, unsigned lun)
{
	OS_GUARD(&t->lock);
	return lun < SCSI_MAX_LUNS && t->luns[lun];
}

int scsi_free_lun(struct scsi_target *t)
{
	OS_GUARD(&t->lock);
	for (int i = 0; i < SCSI_MAX_LUNS; i++)
		if (!t->luns[i])
			return i;
	return -ENOSPC;
}

int scsi_target_new(struct scsi_target **ret)
{
	struct scsi_target *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	os_mutex_init(&t->lock);
	*ret = t;
	return 0;
}

void scsi_target_free(struct scsi_target *t)
{
	if (!t)
		return;
	t->event = NULL;
	for (unsigned i = 0; i < SCSI_MAX_LUNS; i++)
		if (t->luns[i])
			scsi_detach(t, i);
	os_mutex_done(&t->lock);
	free(t);
}

void scsi_set_events(struct scsi_target *t, scsi_event_fn fn, void *ctx)
{
	OS_GUARD(&t->lock);
	t->event = fn;
	t->event_ctx = ctx;
}

void scsi_save(struct scsi_target *t, struct state_w *w)
{
	OS_GUARD(&t->lock);
	state_begin(w, "scsi", 1);
	for (unsigned i = 0; i < SCSI_MAX_LUNS; i++) {
		const struct scsi_lun *l = t->luns[i];

		if (!l)
			continue;
		state_put_u16(w, i);
		state_put_u64(w, l->blocks);
		state_put_u8(w, l->ua);
		state_put_u8(w, l->stopped);
	}
	state_put_u16(w, 0xffff);
	state_end(w);
}

/* The same LUNs must be attached as when the state was saved; a disk that has grown since reports
 * that. */
int scsi_load(struct scsi_target *t, struct state_r *r)
{
	OS_GUARD(&t->lock);
	if (!state_enter(r, "scsi", 1))
		return -EBADMSG;
	for (unsigned i = state_get_u16(r), n = 0; i != 0xffff; i = state_get_u16(r), n++) {
		struct scsi_lun *l = i < SCSI_MAX_LUNS ? t->luns[i] : NULL;

		if (!l || n >= SCSI_MAX_LUNS) {
			state_fail(r, "a disk of the saved machine is not attached");
			return -EBADMSG;
		}
		uint64_t blocks = state_get_u64(r);
		l->ua = state_get_u8(r) & 0xf;
		l->stopped = state_get_u8(r);
		if (blocks > l->blocks) {
			state_fail(r, "a disk is smaller than when the machine was saved");
			return -EBADMSG;
		}
		if (blocks != l->blocks)
			l->ua |= UA_CAPACITY;
	}
	state_leave(r);
	return state_check(r, NULL);
}
