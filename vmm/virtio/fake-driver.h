/* SPDX-License-Identifier: MIT */
/*
 * The driver's half of virtio in a test: sets a device up through the transport's functions, builds
 *split rings in guest memory, honours notification suppression, and lets a test write nonsense
 *anywhere. No VM and no threads.
 *
 *	fake_init(&f); foo_new(&v, f.gm, ...); fake_attach(&f, v, NULL); fake_start(&f, FAKE_ALL);
 */
#ifndef WSLX_VMM_VIRTIO_FAKE_DRIVER_H
#define WSLX_VMM_VIRTIO_FAKE_DRIVER_H

#include "vmm/virtio/dev.h"

#define FAKE_ALL UINT64_MAX /* every feature the device offers */

enum { FAKE_RAM = 4 << 20, FAKE_MAX_QUEUES = 8, FAKE_RINGS = 0x1000, FAKE_HEAP = 0x100000 };
enum { FAKE_NEXT = 1, FAKE_WRITE = 2, FAKE_INDIRECT = 4 };

struct fake_q {
	gpa_t desc, avail, used;
	uint16_t size;
	uint16_t next_free; /* descriptors are taken in turn; a test must not have more than size in
			       use */
	uint16_t avail_idx, kicked_idx;
	uint16_t last_used;
};

struct fake {
	struct gmem *gm;
	struct virtio_dev *v;
	struct os_mutex lock;
	struct fake_q q[FAKE_MAX_QUEUES];
	unsigned irqs[FAKE_MAX_QUEUES], config_irqs;
	gpa_t heap;
};

struct fake_buf {
	gpa_t gpa;
	uint32_t len;
	bool write; /* the device writes it */
};

/* Guest memory and an unattached driver; aborts on failure, as all of these do. */
void fake_init(struct fake *f);
void fake_done(struct fake *f); /* the device, too, when attached */
void fake_attach(struct fake *f, struct virtio_dev *v, struct loop *loop);

/* Reset, negotiation, all queues at their largest size, DRIVER_OK. False: the device refused. */
bool fake_start(struct fake *f, uint64_t features);
void fake_reset(struct fake *f);

gpa_t fake_alloc(struct fake *f, size_t len); /* zeroed, 16-byte aligned */
void *fake_ptr(struct fake *f, gpa_t gpa, size_t len);

/* Makes a chain available; returns its head. indirect: through a table. */
uint16_t fake_add(struct fake *f, unsigned q, const struct fake_buf *b, unsigned n, bool indirect);
/* The pieces, for tests that build wrong ones. */
void fake_desc(struct fake *f, unsigned q, uint16_t i, uint64_t addr, uint32_t len, uint16_t flags,
	uint16_t next);
void fake_avail(struct fake *f, unsigned q, uint16_t head);
void fake_avail_index(struct fake *f, unsigned q, uint16_t idx); /* the published index, as it is */

/* Notifies the device if it wants that; returns whether it did. fake_notify() always does. */
bool fake_kick(struct fake *f, unsigned q);
void fake_notify(struct fake *f, unsigned q);
/* Serves virtio_again() as the loop would, up to a bound; returns the rounds. */
unsigned fake_settle(struct fake *f);

/* Takes the next used entry. */
bool fake_used(struct fake *f, unsigned q, uint32_t *ret_head, uint32_t *ret_len);
/* Asks for an interrupt at the next used entry (EVENT_IDX) or any (flags). */
void fake_want_irq(struct fake *f, unsigned q, bool want);

/* Saves the device, makes it forget, loads it into "into" (the same kind of device on the same
 * memory), which the fake drives from then on; the old device is freed. */
int fake_migrate(struct fake *f, struct virtio_dev *into);

#endif
