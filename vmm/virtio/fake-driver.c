/* SPDX-License-Identifier: MIT */
/* The test driver for virtio devices; see fake-driver.h. */
#include "vmm/virtio/fake-driver.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "lib/base/le.h"
#include "vmm/core/state.h"

static void must(bool ok)
{
	if (!ok)
		abort();
}

/* The device may run on other threads: shared fields are accessed as a real driver does. */
static uint16_t get16(struct fake *f, gpa_t gpa)
{
	return le16toh(__atomic_load_n((uint16_t *)fake_ptr(f, gpa, 2), __ATOMIC_ACQUIRE));
}

static void put16(struct fake *f, gpa_t gpa, uint16_t v)
{
	__atomic_store_n((uint16_t *)fake_ptr(f, gpa, 2), htole16(v), __ATOMIC_RELEASE);
}

static void queue_irq(struct virtio_dev *v, unsigned q)
{
	struct fake *f = v->transport_ctx;

	f->irqs[q]++;
}

static void config_irq(struct virtio_dev *v)
{
	struct fake *f = v->transport_ctx;

	f->config_irqs++;
}

static const struct virtio_transport_ops fake_transport = {queue_irq, config_irq};

void fake_init(struct fake *f)
{
	memset(f, 0, sizeof(*f));
	must(gmem_new(&f->gm, FAKE_RAM) == 0);
	os_mutex_init(&f->lock);
	f->heap = FAKE_HEAP;
}

void fake_done(struct fake *f)
{
	if (f->v)
		f->v->ops->free(f->v);
	gmem_free(f->gm);
	os_mutex_done(&f->lock);
}

void fake_attach(struct fake *f, struct virtio_dev *v, struct loop *loop)
{
	must(v->n_queues <= FAKE_MAX_QUEUES);
	f->v = v;
	must(virtio_attach(v, &fake_transport, f, &f->lock, loop) == 0);
}

bool fake_start(struct fake *f, uint64_t features)
{
	struct virtio_dev *v = f->v;
	gpa_t at = FAKE_RINGS;
	OS_GUARD(&f->lock);

	virtio_set_status(v, 0);
	must(v->status == 0);
	virtio_set_status(v, VIRTIO_ST_ACKNOWLEDGE | VIRTIO_ST_DRIVER);
	virtio_set_features(v, features & v->offered);
	virtio_set_status(v, v->status | VIRTIO_ST_FEATURES_OK);
	if (!(v->status & VIRTIO_ST_FEATURES_OK))
		return false;
	for (unsigned i = 0; i < v->n_queues; i++) {
		struct fake_q *q = &f->q[i];

		*q = (struct fake_q){.size = v->q[i].ring.max_size};
		q->desc = at;
		q->avail = at + 0x1000;
		q->used = at + 0x2000;
		memset(fake_ptr(f, at, 0x3000), 0, 0x3000);
		at += 0x3000;
		v->q[i].ring.size = q->size;
		v->q[i].ring.desc_addr = q->desc;
		v->q[i].ring.avail_addr = q->avail;
		v->q[i].ring.used_addr = q->used;
		virtio_queue_enable(v, i);
	}
	virtio_set_status(v, v->status | VIRTIO_ST_DRIVER_OK);
	return virtio_live(v);
}

void fake_reset(struct fake *f)
{
	OS_GUARD(&f->lock);
	virtio_set_status(f->v, 0);
}

void *fake_ptr(struct fake *f, gpa_t gpa, size_t len)
{
	void *p = gmem_ptr(f->gm, gpa, len);

	must(p != NULL);
	return p;
}

gpa_t fake_alloc(struct fake *f, size_t len)
{
	gpa_t at = f->heap;

	f->heap = ALIGN_UP(at + len, 16);
	memset(fake_ptr(f, at, len), 0, len);
	return at;
}

static void put_desc(uint8_t *p, uint64_t addr, uint32_t len, uint16_t flags, uint16_t next)
{
	le64_put(p, addr);
	le32_put(p + 8, len);
	le16_put(p + 12, flags);
	le16_put(p + 14, next);
}

void fake_desc(struct fake *f, unsigned q, uint16_t i, uint64_t addr, uint32_t len, uint16_t flags,
	uint16_t next)
{
	put_desc(fake_ptr(f, f->q[q].desc + i * 16u, 16), addr, len, flags, next);
}

void fake_avail_index(struct fake *f, unsigned q, uint16_t idx)
{
	put16(f, f->q[q].avail + 2, idx);
}

void fake_avail(struct fake *f, unsigned q, uint16_t head)
{
	struct fake_q *fq = &f->q[q];

	le16_put(fake_ptr(f, fq->avail + 4 + (fq->avail_idx % fq->size) * 2u, 2), head);
	fake_avail_index(f, q, ++fq->avail_idx);
}

uint16_t fake_add(struct fake *f, unsigned q, const struct fake_buf *b, unsigned n, bool indirect)
{
	struct fake_q *fq = &f->q[q];
	uint16_t head = fq->next_free;

	must(n > 0);
	if (indirect) {
		gpa_t table = fake_alloc(f, n * 16);

		for (unsigned i = 0; i < n; i++)
			put_desc(fake_ptr(f, table + i * 16u, 16), b[i].gpa, b[i].len,
				(b[i].write ? FAKE_WRITE : 0) | (i + 1 < n ? FAKE_NEXT : 0),
				(uint16_t)(i + 1));
		fake_desc(f, q, head, table, n * 16, FAKE_INDIRECT, 0);
		fq->next_free = (head + 1u) % fq->size;
	} else {
		for (unsigned i = 0; i < n; i++) {
			uint16_t at = fq->next_free;

			fq->next_free = (at + 1u) % fq->size;
			fake_desc(f, q, at, b[i].gpa, b[i].len,
				(b[i].write ? FAKE_WRITE : 0) | (i + 1 < n ? FAKE_NEXT : 0),
				fq->next_free);
		}
	}
	fake_avail(f, q, head);
	return head;
}

void fake_notify(struct fake *f, unsigned q)
{
	OS_GUARD(&f->lock);
	f->q[q].kicked_idx = f->q[q].avail_idx;
	virtio_notify(f->v, q);
}

bool fake_kick(struct fake *f, unsigned q)
{
	struct fake_q *fq = &f->q[q];
	uint16_t now = fq->avail_idx, old = fq->kicked_idx;
	bool want;

	if (virtio_has(f->v, VIRTIO_F_EVENT_IDX)) {
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		uint16_t event = get16(f, fq->used + 4 + fq->size * 8u);

		want = (uint16_t)(now - event - 1) < (uint16_t)(now - old);
	} else {
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		want = !(get16(f, fq->used) & 1);
	}
	fq->kicked_idx = now;
	if (want)
		fake_notify(f, q);
	return want;
}

unsigned fake_settle(struct fake *f)
{
	unsigned rounds = 0;

	for (; f->v->again && rounds < 10000; rounds++) {
		OS_GUARD(&f->lock);
		uint64_t again = f->v->again;

		f->v->again = 0;
		for (unsigned i = 0; i < f->v->n_queues; i++)
			if (again & BIT(i))
				virtio_notify(f->v, i);
	}
	must(rounds < 10000);
	return rounds;
}

bool fake_used(struct fake *f, unsigned q, uint32_t *ret_head, uint32_t *ret_len)
{
	struct fake_q *fq = &f->q[q];
	const uint8_t *used = fake_ptr(f, fq->used, 4 + fq->size * 8u);
	const uint8_t *e = used + 4 + (fq->last_used % fq->size) * 8u;

	if (get16(f, fq->used + 2) == fq->last_used)
		return false;
	fq->last_used++;
	if (ret_head)
		*ret_head = le32_get(e);
	if (ret_len)
		*ret_len = le32_get(e + 4);
	return true;
}

void fake_want_irq(struct fake *f, unsigned q, bool want)
{
	struct fake_q *fq = &f->q[q];

	put16(f, fq->avail, want ? 0 : 1);
	put16(f, fq->avail + 4 + fq->size * 2u,
		want ? fq->last_used : (uint16_t)(fq->last_used - 1));
}

int fake_migrate(struct fake *f, struct virtio_dev *into)
{
	struct state_w *w = state_w_new();
	struct virtio_dev *old = f->v;
	struct state_r *r;
	size_t len;
	int e;

	must(w != NULL);
	virtio_save(old, w);
	const void *data = state_w_data(w, &len);
	fake_reset(f);
	old->ops->free(old);
	fake_attach(f, into, NULL);
	r = state_r_new(data, len);
	must(r != NULL);
	/* The interrupt controllers were saved before the devices. */
	memset(f->irqs, 0, sizeof(f->irqs));
	e = virtio_load(into, r);
	if (e == 0)
		e = state_check(r, NULL);
	state_r_free(r);
	state_w_free(w);
	return e;
}
