/* SPDX-License-Identifier: MIT */
/*
 * The buses: which device answers at which port or GPA. A device embeds a struct dev for each bus
 * range set it owns; accesses arrive on vCPU threads with the device's lock held. Devices never
 * hold their lock while calling another device's register handlers.
 *
 * Lock order: bus (read side, internal) -> dev.lock -> ioapic -> CPU back end.
 */
#ifndef WSLX_VMM_CORE_BUS_H
#define WSLX_VMM_CORE_BUS_H

#include <stdbool.h>
#include <stdint.h>
#include "lib/os/thread.h"
#include "vmm/core/gmem.h"

struct bus;
struct dev;
struct state_w;
struct state_r;

enum bus_kind { BUS_PORT, BUS_MMIO };

/*
 * region: the number given to bus_add(). off: offset in the region. len: 1, 2, 4 or 8. All optional
 * but name; an absent read yields all ones, an absent write is dropped. save, load and reset are
 * called with the VM stopped.
 */
struct dev_ops {
	const char *name;
	uint64_t (*read)(struct dev *d, unsigned region, uint64_t off, unsigned len);
	void (*write)(struct dev *d, unsigned region, uint64_t off, unsigned len, uint64_t val);
	void (*reset)(struct dev *d);
	void (*save)(struct dev *d, struct state_w *w);
	int (*load)(struct dev *d,
		struct state_r *r); /* negative errno; the state reader may also be failed */
	void (*free)(struct dev *d);
};

struct dev {
	const struct dev_ops *ops;
	struct os_mutex lock;
	char id[24]; /* unique in the VM: "serial0", "pci0", "virtio-scsi0"; names the saved section
		      */
};

void dev_init(struct dev *d, const struct dev_ops *ops, const char *id);
void dev_done(struct dev *d);

int bus_new(struct bus **ret);
void bus_free(struct bus *b);

/* -EBUSY when the range overlaps another; -EINVAL when it is empty or wraps. Any thread; not from a
 * device handler. */
int bus_add(struct bus *b, enum bus_kind kind, uint64_t start, uint64_t len, struct dev *d,
	unsigned region);
/* Removes the range that starts at start. After return no handler of d runs in that range. May be
 * called, like bus_move(), from a handler of another device (PCI configuration space moving a BAR).
 */
void bus_remove(struct bus *b, enum bus_kind kind, uint64_t start);

/* Nobody there, or not wholly inside one range: reads are all ones, writes vanish; logged at debug
 * level. */
uint64_t bus_read(struct bus *b, enum bus_kind kind, uint64_t addr, unsigned len);
void bus_write(struct bus *b, enum bus_kind kind, uint64_t addr, unsigned len, uint64_t val);

#endif
