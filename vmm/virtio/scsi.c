/* SPDX-License-Identifier: MIT */
/*
 * virtio-scsi (virtio 1.2 §5.6). Target 0 of bus 0 is the SCSI target; nothing else exists.
 *
 * Requests and task management functions live in fixed pools; when a pool is empty the queue waits until something
 * completes. While the target works the device's lock is not held: commands of several vCPUs run side by side, and a
 * completion can come on the loop's thread. A reset waits for all of them (dev.inflight).
 */
#include "vmm/virtio/scsi.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "lib/base/le.h"
#include "vmm/core/state.h"

#define F_HOTPLUG BIT(1)
#define F_CHANGE  BIT(2)

enum { Q_CONTROL, Q_EVENT, Q_REQUEST };
enum { POOL = 128, TMF_POOL = 8, EVENTS = 64, BUDGET = 256 };

/* Sizes of the structures of §5.6.6, before the parts whose length the driver configures. */
enum { CMD_HEAD = 19, RESP_HEAD = 12, EVENT_LEN = 16, CONFIG_LEN = 36 };
enum { CDB_DEFAULT = 32, SENSE_DEFAULT = 96, CDB_LIMIT = 255, SENSE_LIMIT = 255 };

enum {
	S_OK = 0,
	S_OVERRUN = 1,
	S_ABORTED = 2,
	S_BAD_TARGET = 3,
	S_RESET = 4,
	S_FAILURE = 9,
	S_FUNCTION_SUCCEEDED = 10,
	S_FUNCTION_REJECTED = 11,
	S_INCORRECT_LUN = 12,
};

enum { T_TRANSPORT_RESET = 1, T_PARAM_CHANGE = 3 };
#define T_EVENTS_MISSED 0x80000000u
enum { RESET_RESCAN = 1, RESET_REMOVED = 2 };
enum { CAPACITY_CHANGED = 0x092a }; /* ASC 2Ah, ASCQ 09h */

struct vscsi;

struct request {
	struct vscsi *d;
	struct request *next; /* free list */
	struct vq *q;
	struct scsi_req s;
	struct vring_chain c;
	struct iovec data[VRING_MAX_PIECES];
};

struct control {
	struct vscsi *d;
	struct control *next;
	struct scsi_tmf m;
	struct vring_chain c;
};

struct vscsi {
	struct virtio_dev v;
	struct scsi_target *t; /* borrowed */
	struct request *pool, *idle;
	unsigned fresh; /* pool[fresh..POOL) was never used: it takes no memory yet */
	struct control tmf_pool[TMF_POOL], *tmf_idle;
	unsigned inflight; /* requests and functions popped and not yet pushed */
	uint64_t starved;  /* queues that found their pool empty */
	unsigned sense_size, cdb_size;
	/* Events the driver had no buffer for, oldest first. */
	struct {
		uint32_t event, reason;
		uint16_t lun;
	} events[EVENTS];
	unsigned n_events;
	bool missed; /* and more than fit */
};

static struct vscsi *to_vscsi(struct virtio_dev *v)
{
	return container_of(v, struct vscsi, v);
}

/* --- completions; lock held --- */

static void wake_starved(struct vscsi *d)
{
	uint64_t starved = d->starved;

	d->starved = 0;
	for (unsigned i = 0; i < d->v.n_queues; i++)
		if (starved & BIT(i))
			virtio_again(&d->v, i);
}

static struct request *take_request(struct vscsi *d)
{
	struct request *r = d->idle;

	if (r) {
		d->idle = r->next;
	} else if (d->fresh < POOL) {
		r = &d->pool[d->fresh++];
		r->d = d;
	}
	return r;
}

static void put_request(struct request *r)
{
	r->next = r->d->idle;
	r->d->idle = r;
}

/* Power-on state; nothing is in flight. */
static void forget(struct vscsi *d)
{
	d->sense_size = SENSE_DEFAULT;
	d->cdb_size = CDB_DEFAULT;
	d->starved = 0;
	d->n_events = 0;
	d->missed = false;
	scsi_reset(d->t);
}

/* One thing less in flight; the last one ends a pending reset. */
static void landed(struct vscsi *d)
{
	d->inflight--;
	if (d->v.resetting) {
		if (!d->inflight) {
			forget(d);
			virtio_reset_done(&d->v);
		}
		return;
	}
	wake_starved(d);
}

static void respond(struct request *r, uint8_t response)
{
	struct vscsi *d = r->d;
	struct scsi_req *s = &r->s;
	uint8_t resp[RESP_HEAD + SENSE_LIMIT] = {0};
	uint32_t head = RESP_HEAD + d->sense_size, moved = 0;
	uint64_t len = s->in_len + s->out_len; /* one of them is 0 */

	if (response == S_OK) {
		unsigned n = MIN(s->sense_len, d->sense_size);

		le32_put(resp, n);
		le32_put(resp + 4, (uint32_t)(len - MIN(s->moved, len)));
		resp[10] = s->status;
		memcpy(resp + RESP_HEAD, s->sense, n);
		if (s->in_len)
			moved = s->moved;
	}
	resp[11] = response;
	if (!d->v.resetting) {
		vring_write(&r->c, 0, resp, head);
		vq_push(r->q, &r->c, head + moved);
	}
	put_request(r);
	landed(d);
}

static uint8_t response_of(const struct scsi_req *s)
{
	static const uint8_t response[] = {
		[SCSI_DONE] = S_OK,
		[SCSI_OVERRUN] = S_OVERRUN,
		[SCSI_ABORTED] = S_ABORTED,
		[SCSI_RESET] = S_RESET,
	};

	return response[s->result];
}

/* From the target, on the loop's thread, lock not held. */
static void on_done(struct scsi_req *s)
{
	struct request *r = container_of(s, struct request, s);
	struct vq *q = r->q;

	VIRTIO_GUARD(&r->d->v);
	respond(r, response_of(s));
	vq_flush(q);
}

/* --- commands --- */

/* §5.6.6.1: 1, target, single-level LUN, 4 zeroes; or the REPORT LUNS well-known unit. False: nobody there. */
static bool parse_lun(const uint8_t *p, unsigned *ret)
{
	if (p[0] == 0xc1 && p[1] == 0x01) {
		*ret = SCSI_LUN_REPORT_LUNS;
		return true;
	}
	*ret = (p[2] & 0x3fu) << 8 | p[3];
	return p[0] == 1 && p[1] == 0 && p[2] >> 6 <= 1;
}

/* Fills r->s from the popped chain. S_OK, or the response; negative: the chain cannot be answered. */
static int parse_command(struct request *r)
{
	struct vscsi *d = r->d;
	struct scsi_req *s = &r->s;
	uint8_t cmd[CMD_HEAD + CDB_LIMIT];
	uint32_t head = CMD_HEAD + d->cdb_size, resp = RESP_HEAD + d->sense_size;
	size_t got;

	s->in_len = s->out_len = 0;
	if (r->c.rd_len < head || r->c.wr_len < resp)
		return -EBADMSG;
	vring_read(&r->c, 0, cmd, head);
	s->tag = le64_get(cmd + 8);
	s->cdb_len = MIN(d->cdb_size, SCSI_CDB_MAX);
	memcpy(s->cdb, cmd + CMD_HEAD, s->cdb_len);
	memset(s->cdb + s->cdb_len, 0, SCSI_CDB_MAX - s->cdb_len);
	s->out_len = r->c.rd_len - head;
	s->in_len = r->c.wr_len - resp;
	s->in = s->out = r->data;
	s->in_n = s->out_n = 0;
	s->done = on_done;
	if (s->in_len && s->out_len) { /* both ways needs VIRTIO_SCSI_F_INOUT */
		s->out_len = 0;
		return S_FAILURE;
	}
	if (s->out_len)
		s->out_n = vring_slice(vring_rd(&r->c), r->c.n_rd, head, s->out_len, r->data,
			VRING_MAX_PIECES, &got);
	else if (s->in_len)
		s->in_n = vring_slice(vring_wr(&r->c), r->c.n_wr, resp, s->in_len, r->data,
			VRING_MAX_PIECES, &got);
	return parse_lun(cmd, &s->lun) ? S_OK : S_BAD_TARGET;
}

static void run_commands(struct vscsi *d, unsigned qi)
{
	struct vq *q = &d->v.q[qi];

	for (unsigned n = 0; virtio_live(&d->v); n++) {
		struct request *r;
		bool finished;
		int e;

		if (n == BUDGET) {
			virtio_again(&d->v, qi);
			break;
		}
		r = take_request(d);
		if (!r) {
			d->starved |= BIT(qi);
			break;
		}
		if (vq_pop(q, &r->c) <= 0) {
			put_request(r);
			break;
		}
		d->inflight++;
		r->q = q;
		e = parse_command(r);
		if (e < 0) {
			virtio_broken(&d->v, "a request shorter than its header");
			vq_push(q, &r->c, 0);
			put_request(r);
			landed(d);
			break;
		}
		if (e != S_OK) {
			respond(r, e);
			continue;
		}
		virtio_unlock(&d->v);
		finished = scsi_submit(d->t, &r->s);
		virtio_lock(&d->v);
		if (finished)
			respond(r, response_of(&r->s));
	}
	vq_flush(q);
}

/* --- control queue --- */

static void answer_control(struct control *k, const void *resp, size_t len)
{
	struct vscsi *d = k->d;

	if (!d->v.resetting)
		vq_push(&d->v.q[Q_CONTROL], &k->c, vring_write(&k->c, 0, resp, len));
	k->next = d->tmf_idle;
	d->tmf_idle = k;
	landed(d);
}

static void answer_tmf(struct control *k)
{
	static const uint8_t response[] = {
		[SCSI_TMF_COMPLETE] = S_OK,
		[SCSI_TMF_SUCCEEDED] = S_FUNCTION_SUCCEEDED,
		[SCSI_TMF_BAD_LUN] = S_INCORRECT_LUN,
	};

	answer_control(k, &response[k->m.result], 1);
}

static void on_tmf_done(struct scsi_tmf *m)
{
	struct control *k = container_of(m, struct control, m);
	struct vscsi *d = k->d;

	VIRTIO_GUARD(&d->v);
	answer_tmf(k);
	vq_flush(&d->v.q[Q_CONTROL]);
}

static void tmf(struct control *k, const uint8_t *req)
{
	static const int ops[] = {
		[0] = SCSI_TMF_ABORT_TASK,
		[1] = SCSI_TMF_ABORT_TASK_SET,
		[2] = -1, /* CLEAR ACA: there is none */
		[3] = SCSI_TMF_CLEAR_TASK_SET,
		[4] = SCSI_TMF_NEXUS_RESET,
		[5] = SCSI_TMF_LUN_RESET,
		[6] = SCSI_TMF_QUERY_TASK,
		[7] = SCSI_TMF_QUERY_TASK_SET,
	};
	uint32_t subtype = le32_get(req + 4);
	uint8_t failed = S_FUNCTION_REJECTED;
	struct virtio_dev *v = &k->d->v;
	bool finished;

	k->m = (struct scsi_tmf){.tag = le64_get(req + 16), .done = on_tmf_done};
	if (subtype >= ARRAY_LEN(ops) || ops[subtype] < 0) {
		answer_control(k, &failed, 1);
		return;
	}
	k->m.op = ops[subtype];
	if (!parse_lun(req + 8, &k->m.lun)) {
		failed = S_BAD_TARGET;
		answer_control(k, &failed, 1);
		return;
	}
	virtio_unlock(v);
	finished = scsi_tmf(k->d->t, &k->m);
	virtio_lock(v);
	if (finished)
		answer_tmf(k);
}

/* Requests of §5.6.6.2. False: cannot be answered. */
static bool run_one_control(struct control *k)
{
	uint8_t req[24] = {0}, resp[5] = {0};
	size_t n = vring_read(&k->c, 0, req, sizeof(req));

	switch (le32_get(req)) {
	case 0:
		if (n < 24 || k->c.wr_len < 1)
			return false;
		tmf(k, req);
		return true;
	case 1: /* asynchronous notifications: none is supported, none is enabled */
	case 2:
		if (n < 16 || k->c.wr_len < sizeof(resp))
			return false;
		answer_control(k, resp, sizeof(resp));
		return true;
	default:
		if (k->c.wr_len < 1)
			return false;
		resp[0] = S_FAILURE;
		answer_control(k, resp, 1);
		return true;
	}
}

static void run_control(struct vscsi *d)
{
	struct vq *q = &d->v.q[Q_CONTROL];

	for (unsigned n = 0; virtio_live(&d->v); n++) {
		struct control *k = d->tmf_idle;

		if (!k) {
			d->starved |= BIT(Q_CONTROL);
			break;
		}
		if (n == BUDGET) {
			virtio_again(&d->v, Q_CONTROL);
			break;
		}
		if (vq_pop(q, &k->c) <= 0)
			break;
		d->tmf_idle = k->next;
		d->inflight++;
		if (!run_one_control(k)) {
			virtio_broken(&d->v, "a control request shorter than its type");
			answer_control(k, NULL, 0);
			break;
		}
	}
	vq_flush(q);
}

/* --- events --- */

static void send_events(struct vscsi *d)
{
	struct vq *q = &d->v.q[Q_EVENT];
	struct vring_chain c;
	unsigned n = 0;

	while (virtio_live(&d->v) && (n < d->n_events || d->missed)) {
		uint8_t ev[EVENT_LEN] = {0};

		if (vq_pop(q, &c) <= 0)
			break;
		if (d->missed)
			le32_put(ev, T_EVENTS_MISSED);
		d->missed = false;
		if (n < d->n_events) {
			le32_put(ev, le32_get(ev) | d->events[n].event);
			ev[4] = 1;
			be16_put(ev + 6, d->events[n].lun);
			le32_put(ev + 12, d->events[n].reason);
			n++;
		}
		if (c.wr_len < EVENT_LEN)
			virtio_broken(&d->v, "an event buffer too short for an event");
		vq_push(q, &c, vring_write(&c, 0, ev, EVENT_LEN));
	}
	d->n_events -= n;
	memmove(d->events, d->events + n, d->n_events * sizeof(d->events[0]));
	vq_flush(q);
}

/* From the target, on the loop's thread. A driver that is not up yet will scan the target anyway. */
static void on_event(void *ctx, enum scsi_event ev, unsigned lun)
{
	static const struct {
		uint64_t feature;
		uint32_t event, reason;
	} kinds[] = {
		[SCSI_EV_ATTACHED] = {F_HOTPLUG, T_TRANSPORT_RESET, RESET_RESCAN},
		[SCSI_EV_DETACHED] = {F_HOTPLUG, T_TRANSPORT_RESET, RESET_REMOVED},
		[SCSI_EV_RESIZED] = {F_CHANGE, T_PARAM_CHANGE, CAPACITY_CHANGED},
	};
	struct vscsi *d = ctx;

	VIRTIO_GUARD(&d->v);
	if (!virtio_live(&d->v) || !virtio_has(&d->v, kinds[ev].feature))
		return;
	if (d->n_events == EVENTS) {
		d->missed = true;
		return;
	}
	d->events[d->n_events].event = kinds[ev].event;
	d->events[d->n_events].reason = kinds[ev].reason;
	d->events[d->n_events++].lun = lun;
	send_events(d);
}

/* --- the device --- */

static void vscsi_ready(struct virtio_dev *v)
{
	scsi_set_events(to_vscsi(v)->t, on_event, to_vscsi(v));
}

static void vscsi_notify(struct virtio_dev *v, unsigned q)
{
	struct vscsi *d = to_vscsi(v);

	if (q == Q_CONTROL)
		run_control(d);
	else if (q == Q_EVENT)
		send_events(d);
	else
		run_commands(d, q);
}

/* struct virtio_scsi_config, §5.6.4. */
static void vscsi_config_read(struct virtio_dev *v, uint32_t off, void *buf, uint32_t len)
{
	struct vscsi *d = to_vscsi(v);
	uint8_t cfg[CONFIG_LEN] = {0};

	le32_put(cfg, v->n_queues - Q_REQUEST);
	le32_put(cfg + 4, VQ_MAX_SIZE - 2);   /* seg_max: less the two headers */
	le32_put(cfg + 8, (16u << 20) / 512); /* max_sectors */
	le32_put(cfg + 12, POOL);	      /* cmd_per_lun */
	le32_put(cfg + 16, EVENT_LEN);
	le32_put(cfg + 20, d->sense_size);
	le32_put(cfg + 24, d->cdb_size);
	le32_put(cfg + 32, SCSI_MAX_LUNS - 1); /* max_lun; one channel, one target */
	memset(buf, 0, len);
	if (off < sizeof(cfg))
		memcpy(buf, cfg + off, MIN(len, sizeof(cfg) - off));
}

/* The driver may change the sizes of sense and CDB; what we cannot serve leaves them as they are. */
static void vscsi_config_write(struct virtio_dev *v, uint32_t off, const void *buf, uint32_t len)
{
	struct vscsi *d = to_vscsi(v);
	uint32_t val = len == 4 ? le32_get(buf) : 0;

	if (d->inflight || !val)
		return;
	if (off == 20 && val <= SENSE_LIMIT)
		d->sense_size = val;
	else if (off == 24 && val <= CDB_LIMIT)
		d->cdb_size = val;
}

static bool vscsi_reset(struct virtio_dev *v)
{
	struct vscsi *d = to_vscsi(v);

	if (d->inflight)
		return false;
	forget(d);
	return true;
}

static void vscsi_drain(struct virtio_dev *v)
{
	scsi_drain(to_vscsi(v)->t);
}

static void vscsi_save(struct virtio_dev *v, struct state_w *w)
{
	struct vscsi *d = to_vscsi(v);

	state_begin(w, "virtio-scsi", 1);
	state_put_u32(w, d->sense_size);
	state_put_u32(w, d->cdb_size);
	state_put_u8(w, d->missed);
	state_put_u32(w, d->n_events);
	for (unsigned i = 0; i < d->n_events; i++) {
		state_put_u32(w, d->events[i].event);
		state_put_u32(w, d->events[i].reason);
		state_put_u16(w, d->events[i].lun);
	}
	scsi_save(d->t, w);
	state_end(w);
}

static int vscsi_load(struct virtio_dev *v, struct state_r *r)
{
	struct vscsi *d = to_vscsi(v);
	int e;

	if (!state_enter(r, "virtio-scsi", 1))
		return -EBADMSG;
	d->sense_size = state_get_u32(r);
	d->cdb_size = state_get_u32(r);
	d->missed = state_get_u8(r);
	d->n_events = state_get_u32(r);
	if (d->sense_size > SENSE_LIMIT || d->cdb_size > CDB_LIMIT || d->n_events > EVENTS) {
		state_fail(r, "virtio-scsi state out of range");
		d->n_events = 0;
		return -EBADMSG;
	}
	for (unsigned i = 0; i < d->n_events; i++) {
		d->events[i].event = state_get_u32(r);
		d->events[i].reason = state_get_u32(r);
		d->events[i].lun = state_get_u16(r);
	}
	e = scsi_load(d->t, r);
	if (e < 0)
		return e;
	state_leave(r);
	return state_check(r, NULL);
}

static void vscsi_free(struct virtio_dev *v)
{
	struct vscsi *d = to_vscsi(v);

	scsi_set_events(d->t, NULL, NULL);
	scsi_drain(d->t);
	virtio_dev_done(v);
	free(d->pool);
	free(d);
}

static const struct virtio_dev_ops vscsi_ops = {
	.name = "virtio-scsi",
	.id = VIRTIO_ID_SCSI,
	.on_vcpu = true,
	.features = F_HOTPLUG | F_CHANGE,
	.config_read = vscsi_config_read,
	.config_write = vscsi_config_write,
	.ready = vscsi_ready,
	.notify = vscsi_notify,
	.reset = vscsi_reset,
	.drain = vscsi_drain,
	.save = vscsi_save,
	.load = vscsi_load,
	.free = vscsi_free,
};

int virtio_scsi_new(
	struct virtio_dev **ret, struct gmem *gm, struct scsi_target *t, unsigned request_queues)
{
	struct vscsi *d;
	int e;

	if (request_queues < 1 || request_queues > VIRTIO_SCSI_MAX_REQUEST_QUEUES)
		return -EINVAL;
	d = calloc(1, sizeof(*d));
	if (!d)
		return -ENOMEM;
	d->pool = calloc(POOL, sizeof(*d->pool));
	e = d->pool ? virtio_dev_init(&d->v, &vscsi_ops, "virtio-scsi0", gm,
			      Q_REQUEST + request_queues, VQ_MAX_SIZE)
		    : -ENOMEM;
	if (e < 0) {
		free(d->pool);
		free(d);
		return e;
	}
	for (unsigned i = 0; i < TMF_POOL; i++) {
		d->tmf_pool[i].d = d;
		d->tmf_pool[i].next = d->tmf_idle;
		d->tmf_idle = &d->tmf_pool[i];
	}
	d->t = t;
	d->sense_size = SENSE_DEFAULT;
	d->cdb_size = CDB_DEFAULT;
	*ret = &d->v;
	return 0;
}
